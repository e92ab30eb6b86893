"""Classifiers to explain: their networks, weights and preprocessing."""

from scorecam_jax.models.checkpoints.read import load_checkpoint
from scorecam_jax.models.classifier import Classifier
from scorecam_jax.models.embeddings import Head, embed, few_shot, likeness, with_head
from scorecam_jax.models.loading import load, packaged_weights, random, takes_prompts
from scorecam_jax.models.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from scorecam_jax.models.prompts import NEUTRAL as NEUTRAL_PROMPTS
from scorecam_jax.models.registry import names
from scorecam_jax.models.series import SeriesPreprocess, SpectrogramPreprocess
from scorecam_jax.models.volumes import VolumePreprocess
from scorecam_jax.reading import Dicom, as_rgb, read_dicom, window_of

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "NEUTRAL_PROMPTS",
    "Classifier",
    "Dicom",
    "Head",
    "Preprocess",
    "SeriesPreprocess",
    "SpectrogramPreprocess",
    "VolumePreprocess",
    "as_rgb",
    "embed",
    "few_shot",
    "likeness",
    "load",
    "load_checkpoint",
    "names",
    "packaged_weights",
    "random",
    "read_dicom",
    "takes_prompts",
    "window_of",
    "with_head",
]
