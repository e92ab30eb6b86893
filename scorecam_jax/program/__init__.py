"""Traced programs, for adapters and engine alike: running them, hoisting, finding layers."""
