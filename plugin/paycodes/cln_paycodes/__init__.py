"""Paycodes: static payment codes issued by a Core Lightning node itself."""

__version__ = "0.1.0"
