"""SigLIP's image tower: CLIP's without a class token, with attention pooling."""

from scorecam_jax.models.checkpoints.clip import SIGLIP, arguments
from scorecam_jax.models.networks.clip import HEAD, image_base, image_large

__all__ = ["HEAD", "LAYOUTS", "arguments", "image_base", "image_large"]

LAYOUTS = (SIGLIP,)
