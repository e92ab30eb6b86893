"""Algorithms for convolutions, and the choice between them for each platform."""

from scorecam_jax.models.convolutions.by_platform import convolve

__all__ = ["convolve"]
