"""``python -m contrib.bench``: measure, print the table, and keep table, JSON and plot in a folder."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from network import KINDS, available_kinds, open_network

from . import REPOSITORY, report
from .filling import Filling
from .machine import described
from .plot import plot
from .rows import MEASUREMENTS
from .stage import Stage
from .suite import SHOP, Figure, Measurement, Setting, run

#: git ignores it.
OUT = REPOSITORY / "contrib" / "bench" / "out"

GROWTH = (1_000, 10_000, 100_000)

#: Of the invoices that a network is filled with.
PAID = 200

TOO_SLOW = "devnode takes too long to be filled with invoices"

#: On the disk even where /tmp is memory (hier(7)).
DISK = "/var/tmp"


def main() -> None:
    given = _arguments()
    # What is open is closed, and its files are gone, when it is told to end as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    chosen = [measurement for measurement in MEASUREMENTS if _is_chosen(measurement, given)]
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="paycodes-bench-", dir=given.directory) as name:
        directory = Path(name)
        machine = described(given.node, directory)
        if given.growth:
            by_size = measure_growth(chosen, directory, given)
            text = report.growth_table(by_size, machine)
            kept = {"txt": text, "json": report.growth_document(by_size, machine)}
        else:
            figures = measure(chosen, directory, given)
            text = report.table(figures, machine)
            kept = {"txt": text, "json": report.document(figures, machine)}
            kept |= {"md": report.markdown(figures), "svg": plot(figures, machine)}
    word = f"growth-{given.node}" if given.growth else given.node
    given.out.mkdir(parents=True, exist_ok=True)
    for kind, content in kept.items():
        (given.out / f"{word}.{kind}").write_text(content)
    print(text)
    print(f"{given.rounds} rounds, {time.monotonic() - began:.0f} s; kept in {given.out}/{word}.*")


def _arguments() -> argparse.Namespace:
    best = available_kinds()[-1]
    names = [row.name for measurement in MEASUREMENTS for row in measurement.rows]
    parser = argparse.ArgumentParser(
        prog="python -m contrib.bench", description=__doc__, epilog="rows: " + " ".join(names)
    )
    parser.add_argument("--rows", help="names with commas; those that are measured with them come along")
    parser.add_argument("--rounds", type=int, default=3, help="the median one counts (default: 3)")
    parser.add_argument("--node", choices=KINDS, default=best, help=f"default: {best}")
    parser.add_argument("--growth", action="store_true", help=f"the same at {', '.join(map(str, GROWTH))} invoices")
    parser.add_argument("--sizes", type=_sizes, default=GROWTH, help="other numbers for --growth, with commas")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--directory", default=DISK, help=f"on the disk to measure (default: {DISK})")
    given = parser.parse_args()
    given.rows = set(names if given.rows is None else given.rows.split(","))
    if unknown := given.rows - set(names):
        parser.error(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    if given.growth and given.node == "devnode":
        parser.error(TOO_SLOW)
    return given


def _sizes(words: str) -> tuple[int, ...]:
    return tuple(int(word) for word in words.split(","))


def _is_chosen(measurement: Measurement, given: argparse.Namespace) -> bool:
    return not given.rows.isdisjoint(row.name for row in measurement.rows) and (measurement.grows or not given.growth)


def measure(chosen: Sequence[Measurement], directory: Path, given: argparse.Namespace) -> list[Figure]:
    """In the order of the table, whichever network is opened first."""
    found: dict[str, Figure] = {}
    for place, setting in enumerate(dict.fromkeys(measurement.setting for measurement in chosen)):
        here = [measurement for measurement in chosen if measurement.setting == setting]
        if setting.invoices and given.node == "devnode":
            found |= {row.name: Figure(row, missing=TOO_SLOW) for each in here for row in each.rows}
            continue
        with staged(setting, directory / str(place), given) as stage:
            if setting.invoices:
                _say(f"{setting.invoices:,} invoices ...")
                Filling(stage).fill(setting.invoices, expired=setting.invoices // 10, paid=PAID)
            for measurement in here:
                (figures,) = _run(measurement, [stage])
                found |= {figure.row.name: figure for figure in figures}
    return [found[row.name] for measurement in chosen for row in measurement.rows]


def measure_growth(
    chosen: Sequence[Measurement], directory: Path, given: argparse.Namespace
) -> dict[int, list[Figure]]:
    """A network for each number of invoices, all open at once."""
    by_size: dict[int, list[Figure]] = {size: [] for size in given.sizes}
    with ExitStack() as opened:
        stages = [opened.enter_context(staged(SHOP, directory / str(size), given)) for size in given.sizes]
        for size, stage in zip(given.sizes, stages, strict=True):
            _say(f"{size:,} invoices ...")
            Filling(stage).fill(size)
        for measurement in chosen:
            for size, figures in zip(given.sizes, _run(measurement, stages), strict=True):
                by_size[size] += figures
    return by_size


@contextmanager
def staged(setting: Setting, directory: Path, given: argparse.Namespace) -> Iterator[Stage]:
    _say(f"opening {given.node} ...")
    with open_network(given.node, directory, setting.plugin, dict(setting.options)) as network:
        yield Stage(network, given.rounds)


def _run(measurement: Measurement, stages: Sequence[Stage]) -> list[list[Figure]]:
    began = time.monotonic()
    by_stage = run(measurement, stages)
    took = f"{time.monotonic() - began:.0f} s"
    for figure in (figure for figures in by_stage for figure in figures):
        ratio = figure.missing or (f"{figure.ours:.4g}" if figure.ratio is None else f"{figure.ratio:.2f}")
        _say(f"{figure.row.name:<20} {ratio} {figure.verdict} ({took})")
    return by_stage


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
