"""An estimate of how long heatmaps will take, before they are made."""

from collections.abc import Callable, Mapping
from typing import Any

from scorecam_jax.methods import METHODS
from scorecam_jax.methods.score_cam import score_cam
from scorecam_jax.steps.interpolation import Interpolated
from scorecam_jax.study.layers import AtLayer
from scorecam_jax.study.sameness import unwrap

PATIENCE = 10.0
"""Seconds that a photograph may take without a word."""


def advice(
    methods: Mapping[str, Callable[..., Any]],
    *,
    live: int,
    seconds: int | float,
    targets: int,
    photographs: int,
) -> str | None:
    """Advice before a long wait; None if a photograph takes at most `PATIENCE`.

    The likenesses are those of docs/performance.md.

    Args:
        methods: by name.
        live: the number of live channels of a photograph.
        seconds: the duration of a pass.
        targets: the number of classes explained.
        photographs: the number of photographs.
    """
    costs = {name: passes(method, live, targets) for name, method in methods.items()}
    total = sum(costs.values()) * seconds
    if total <= PATIENCE:
        return None
    exact = any(
        function is score_cam and options.get("channels") is None
        for function, options in map(_below, methods.values())
    )
    several = f", {_duration(total * photographs)} in all" if photographs > 1 else ""
    if len(costs) == 1 and exact:
        text = (
            f"an exact heatmap takes {live} passes of this network, about {total:.0f} s per "
            f"photograph{several}."
        )
    else:
        most = sorted(costs.items(), key=lambda item: -item[1])[:3]
        listed = ", ".join(f"{name} {count:,.0f}" for name, count in most)
        text = (
            f"this takes {sum(costs.values()):,.0f} passes of the network per photograph "
            f"({listed}), about {_duration(total)}{several}."
        )
    if not exact or live <= 64:
        return text
    return (
        f"{text} --channels 64 takes 64 and interpolates the rest: on EfficientNet-Lite0 such "
        "heatmaps correlate with the exact ones to .999 for the likeliest class and .99 for the "
        "next, on average"
    )


def passes(method: Callable[..., Any], live: int, targets: int) -> int:
    """The approximate number of forward passes that a method needs for a photograph.

    A method that is not in `METHODS` counts as the one it is made of, or as one pass.
    """
    function, options = _below(method)
    known = {METHODS[one]: METHODS.entries[one] for one in METHODS}
    entry = known.get(function)
    if entry is None:
        return 1
    choice = options.get("channels")
    count = choice if isinstance(choice, int) else getattr(choice, "count", None)
    if isinstance(choice, Interpolated) and choice.tolerance is not None:
        count = None
    scored = live if count is None else min(live, count)
    fixed, per_channel, per_target = entry.passes
    return fixed + per_channel * scored + per_target * targets


def _below(method: Callable[..., Any]) -> tuple[Callable[..., Any], dict[str, Any]]:
    """A method's function and its options, at whatever layer."""
    return unwrap(method.method if isinstance(method, AtLayer) else method)


def _duration(seconds: int | float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
