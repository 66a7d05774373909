"""What the plugin does: core decisions, carried out on the store and the node."""
