"""Data sets: where samples come from, and in which order they are shown."""
