"""What to tell somebody who is about to wait long for an exact heatmap."""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax

from scorecam_jax.methods.score_cam import score_cam

PATIENCE = 10.0
"""Seconds that an exact heatmap may take without a word."""


def is_exact(method: Callable[..., Any]) -> bool:
    """Whether a method is Score-CAM with all channels."""
    keywords: dict[str, Any] = {}
    while isinstance(method, functools.partial):
        keywords = {**method.keywords, **keywords}
        method = method.func
    return method is score_cam and keywords.get("channels") is None


def shortcut(predict: Callable[..., Any], model: Callable[..., Any], inputs: Any) -> str | None:
    """Advice for a network whose exact heatmap takes longer than `PATIENCE`; None for others.

    Every live channel takes a pass, and a pass about as long as `predict` takes; see `Programs`.
    The likenesses are those of docs/performance.md.
    """
    live = int(predict(model, inputs)[2])  # the first run of a program is slow
    began = time.perf_counter()
    jax.block_until_ready(predict(model, inputs))
    seconds = time.perf_counter() - began
    if live <= 64 or seconds * live < PATIENCE:
        return None
    return (
        f"an exact heatmap takes {live} passes of this network, about {seconds * live:.0f} s per "
        "photograph. --channels 64 takes 64 and interpolates the rest: on EfficientNet-Lite0 such "
        "heatmaps correlate with the exact ones to .999 for the likeliest class and .99 for the "
        "next, on average"
    )
