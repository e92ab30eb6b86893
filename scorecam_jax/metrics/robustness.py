"""Robustness: whether the heatmap stays the same when the input hardly changes.

Both metrics explain several perturbed copies of the input, so they cost that many times as much as
the method. They do not measure faithfulness: a map that ignores the input, such as the uniform map,
is perfectly robust.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.options import Output
from scorecam_jax.metrics.masked import PerImage, classes_of, fitting
from scorecam_jax.steps.outputs import in_full_precision


class _Settings(NamedTuple):
    radius: float
    samples: int
    relative: bool


_FORMS: dict[str, _Settings] = {
    "captum": _Settings(0.02, 10, True),
    "quantus": _Settings(0.2, 200, True),
    "paper": _Settings(0.02, 10, False),
}


def max_sensitivity(
    model: AnyModel,
    inputs: Any,
    heatmaps: Any,
    targets: Any = None,
    *,
    explain: Callable[[Array, Array], Array],
    key: PRNGKeyArray,
    form: str = "captum",
    radius: float | None = None,
    samples: int | None = None,
    **reading: Unpack[Output],
) -> PerImage:
    """The largest change of the heatmap over slightly perturbed inputs; lower is better.

    max ‖map(x + ε) − map(x)‖ / ‖map(x)‖, with ε uniform in [−radius, radius] at each value, and
    Euclidean norms over all pixels. If the map is 0 everywhere, the denominator is 1.

    The maximum grows with `samples`, and `radius` is in the units of the preprocessed inputs, so
    compare only values of the same settings. Maps scaled to [0, 1] show changes of shape alone.
    Even if noise changes the prediction, the maps of the same class are compared.

    Args:
        model: see `faithfulness`.
        inputs: see `faithfulness`.
        heatmaps: see `faithfulness`.
        targets: see `faithfulness`.
        explain: (inputs, targets (B,)) -> heatmaps, the method that made the heatmaps. Example:
            `lambda x, t: score_cam(model, x, t).heatmap`. Under `jit`, each sample adds a call of
            it to the program to compile.
        key: the key of the noise. All images get the same noise.
        form: the formula, and the defaults of `radius` and `samples`: "captum" (0.02 and 10),
            "quantus" (0.2 and 200), or "paper", which does not divide by ‖map(x)‖ and states no
            settings, so captum's are used. Quantus first divides maps by their largest absolute
            value, which does not change maps whose maximum is 1.
        radius: the radius of the noise.
        samples: the number of perturbed inputs.
        **reading: see `Output`; the score chooses the class where `targets` is None.

    Raises:
        ValueError: an option is none of these, or the heatmaps do not fit the inputs.

    Source: Yeh et al. 2019 (arXiv 1901.09392); captum's `sensitivity_max`,
    Quantus's `MaxSensitivity`.
    """
    return _changes(
        model, inputs, heatmaps, targets, explain, key, form, radius, samples, reading
    ).max(0)


def average_sensitivity(
    model: AnyModel,
    inputs: Any,
    heatmaps: Any,
    targets: Any = None,
    *,
    explain: Callable[[Array, Array], Array],
    key: PRNGKeyArray,
    form: str = "captum",
    radius: float | None = None,
    samples: int | None = None,
    **reading: Unpack[Output],
) -> PerImage:
    """The mean change of the heatmap over slightly perturbed inputs; lower is better.

    As `max_sensitivity`, with the mean over the perturbed inputs instead of the maximum. Unlike the
    maximum, the mean does not grow with their number.

    Source: Yeh et al. 2019 (arXiv 1901.09392); Quantus's `AvgSensitivity`.
    """
    return _changes(
        model, inputs, heatmaps, targets, explain, key, form, radius, samples, reading
    ).mean(0)


def _changes(
    model: AnyModel,
    inputs: Any,
    heatmaps: Any,
    targets: Any,
    explain: Callable[[Array, Array], Array],
    key: PRNGKeyArray,
    form: str,
    radius: float | None,
    samples: int | None,
    reading: Output,
) -> Float[Array, "samples batch"]:
    """The distance of each perturbed input's map from the input's own."""
    if form not in _FORMS:
        raise ValueError(f"form is {form!r}, wanted one of {', '.join(map(repr, _FORMS))}")
    settings = _FORMS[form]
    radius = settings.radius if radius is None else radius
    samples = settings.samples if samples is None else samples
    if not radius > 0 or samples < 1:
        raise ValueError(
            f"radius is {radius} and samples is {samples}, wanted a positive radius, in the units "
            "of the inputs, and at least one sample"
        )
    model, inputs, heatmaps, _ = fitting(
        model, inputs, heatmaps, reading, tuple(Output.__annotations__)
    )
    targets = classes_of(model, inputs, targets, reading)
    space = tuple(range(1, heatmaps.ndim))

    def norm(maps: Float[Array, "batch *spatial"]) -> PerImage:
        maps = in_full_precision(maps)
        largest = jnp.abs(maps).max(space)
        unit = jnp.where(largest > 0, largest, 1)  # so that no square overflows or vanishes
        return unit * jnp.sqrt(((maps / jnp.expand_dims(unit, space)) ** 2).sum(space))

    changes = []
    for own in jax.random.split(key, samples):
        noise = jax.random.uniform(own, (1, *inputs.shape[1:]), inputs.dtype, -radius, radius)
        changes.append(norm(explain(inputs + noise, targets) - heatmaps))
    if not settings.relative:
        return jnp.stack(changes)
    own_norm = norm(heatmaps)
    return jnp.stack(changes) / jnp.where(own_norm > 0, own_norm, 1)[None]
