"""The options that methods and metrics share, declared once.

A function takes the widest set that makes sense for it, as `**options: Unpack[Masking]`. Methods
that read a layer take `Question`, `Passes` or `Masking`, which have `fuse`. Methods that read none,
and metrics, have no maps to fuse: they take `Output`, `Running` or `Scoring`.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypedDict

from jax.sharding import Mesh


class Output(TypedDict, total=False):
    """How outputs become scores.

    Attributes:
        score: outputs -> (N, classes). None: the method's own.
        channel_axis: the channel axis of inputs and activations. None: the model's own, and -1 for
            a plain function. Pass 1 for a function that takes channels first.
    """

    score: Callable[..., Any] | None
    channel_axis: int | None


class Running(Output, total=False):
    """How passes are run.

    Attributes:
        batch_size: the most inputs per pass. None: chosen for the platform by
            `scorecam_jax.engine.tuning`. Memory grows with it.
        mesh: split the passes over all devices of this `jax.sharding.Mesh`. None: if inputs are
            sharded over explicit mesh axes, that mesh.
        remat: recompute the passes in the backward pass, to save memory. Default: False.
    """

    batch_size: int | None
    mesh: Mesh | None
    remat: bool


class Scoring(Running, total=False):
    """How masked inputs are made and scored, by metrics too.

    Attributes:
        baseline: the values shown where a mask is 0; broadcasts against the inputs. Default: 0.
    """

    baseline: Any


class Fusing(TypedDict, total=False):
    """How the maps of a model's several layers become one.

    Attributes:
        fuse: "product" (what all layers agree on), "geometric" (the product's root), "mean",
            "maximum" or "poly-cam" (coarse to fine, with a local normalisation), or a function of
            the heatmaps, stacked along a first axis, that takes `axis=0`; see
            `scorecam_jax.steps.fuse`. Default: the product; the mean of layers that all have one
            grid. It has no effect on a single layer.
    """

    fuse: str | Callable[..., Any]


class Question(Output, Fusing, total=False):
    """Options of methods without masked passes: `Output` and `Fusing`."""


class Passes(Running, Fusing, total=False):
    """How passes are run: `Running` and `Fusing`."""


class Masking(Scoring, Fusing, total=False):
    """How masked inputs are made and scored: `Scoring` and `Fusing`."""


def check_options(called: str, known: Collection[str], options: Mapping[str, Any]) -> None:
    """TypeError that names the known options, if one is unknown."""
    for name in options:
        if name not in known:
            raise TypeError(f"{called} has no option {name!r}; it takes {', '.join(known)}")
    score = options.get("score")
    if score is not None and (not callable(score) or isinstance(score, type)):
        raise TypeError(
            f"score is {score!r}, wanted a function of the model's outputs, such as "
            "jax.nn.softmax, or scores.sigmoid and others of scorecam_jax.scores"
        )
