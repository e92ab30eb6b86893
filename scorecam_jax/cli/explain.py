"""`scorecam explain`: what made a photograph look like a class."""

import argparse
import functools
from typing import Any

from scorecam_jax import score_cam
from scorecam_jax.cli.common import percent, short
from scorecam_jax.cli.photographs import Found, Page, explain_photos
from scorecam_jax.methods.variants import BY_NAME
from scorecam_jax.visualize import sheet


def run(options: argparse.Namespace) -> int:
    """Draw a sheet of each photograph: itself, and its heatmap for each class."""
    method = functools.partial(
        score_cam,
        variant=BY_NAME[options.variant],
        channels=options.channels,
        batch_size=options.batch_size,
    )
    return explain_photos(
        options,
        {"score-cam": method},
        ending="-scorecam",
        present=_present,
        remarks=_remarks,
        asked={"variant": options.variant, "channels": options.channels},
    )


def _present(found: Found) -> Page:
    (maps,), (drawn,) = found.maps, found.drawn
    targets = [
        {**target, "empty": not heatmap.any()}
        for target, heatmap in zip(found.targets, maps, strict=True)
    ]
    titles = [
        f"{short(target['name'])} {percent(target['probability'])}"
        + ", nothing found" * target["empty"]
        for target in targets
    ]
    return Page(sheet([found.photo, *drawn], ["photograph", *titles]), targets, maps)


def _remarks(targets: list[dict[str, Any]]) -> list[str]:
    return [
        f"nothing in it speaks for {short(target['name'])}: that heatmap is empty"
        for target in targets
        if target["empty"]
    ]
