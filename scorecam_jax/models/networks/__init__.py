"""The bundled networks, one module per architecture."""
