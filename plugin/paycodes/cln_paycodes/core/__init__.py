"""Pure decisions: no node, no SQLite, no HTTP, no clock. Time and randomness are arguments."""
