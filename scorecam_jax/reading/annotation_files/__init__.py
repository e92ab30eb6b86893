"""The files that annotations come in, a format each."""
