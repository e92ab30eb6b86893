"""Checkpoints: reading files, and filling networks with their tensors."""
