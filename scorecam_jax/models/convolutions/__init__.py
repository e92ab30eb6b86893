"""Ways to compute a convolution, and which of them each platform gets."""

from scorecam_jax.models.convolutions.by_platform import convolve

__all__ = ["convolve"]
