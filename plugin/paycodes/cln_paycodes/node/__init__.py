"""The node as the plugin sees it: a port with only the calls it makes, and lightningd behind it."""
