"""The bundled networks, one file each."""
