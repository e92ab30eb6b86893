"""Methods that read attention matrices, which adapters find in any transformer."""
