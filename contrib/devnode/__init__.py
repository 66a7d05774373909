"""devnode: a stand-in for lightningd that runs one plugin, for demos and tests without Bitcoin.

It speaks the plugin protocol on a child's stdin and stdout, serves JSON-RPC on a unix socket, signs real BOLT
11 invoices, keeps its state in one file, plays the payer, and fails on demand. What it answers follows Core
Lightning v26.06; the same scenarios run on it and on a real node (``tests/scenarios``), and where the two
differ it is the one that is wrong. It holds no money and opens no channel.
"""

#: The release whose answers devnode copies; the plugin sees it in ``getinfo`` and ``LIGHTNINGD_VERSION``.
VERSION = "v26.06.6"
