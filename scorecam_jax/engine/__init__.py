"""The engine: many masked inputs, a chunk at a time."""
