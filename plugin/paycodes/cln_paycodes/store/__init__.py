"""The sidecar database: SQL in, frozen records out. Nothing outside this package touches SQLite."""
