"""Integrated gradients (Sundararajan et al. 2017, arXiv 1703.01365)."""

from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from scorecam_jax._internal import checks
from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.options import Output
from scorecam_jax.methods.base import Context, Explanation, Found, run
from scorecam_jax.methods.input.base import channels_last, finish_pixels, input_gradients
from scorecam_jax.steps.outputs import class_scores, in_full_precision, of_targets
from scorecam_jax.steps.scores import logits


def integrated_gradients(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    *,
    steps: int = 50,
    baseline: Any = 0.0,
    **question: Unpack[Output],
) -> Explanation:
    """Integrate the gradient along the path from a baseline to the input.

    A pixel's attribution is Σ_c (x_c − x'_c) ∫ ∂y/∂x_c(x' + α (x − x')) dα, with α from 0 to 1, by
    the Gauss–Legendre rule. Up to the rule's error, the attributions of all pixels sum to
    y(x) − y(x'). `shortfall` is their sum minus this difference, `confidence` is y(x), and `empty`
    is y(x'). Evidence against the target is discarded: the map is rectified and scaled to [0, 1].

    Args:
        model: as in `gradient`.
        inputs: as in `score_cam`.
        targets: as in `score_cam`. T targets take T backward passes per step.
        steps: the number of points along the path, at least 1.
        baseline: x', where the path begins; broadcasts against the inputs. 0 is the mean colour of
            normalised inputs.
        **question: see `Output`. The default score is the outputs themselves, the logits.

    Raises:
        ValueError: `steps` is not positive, or the baseline does not broadcast.

    Source: Sundararajan, Taly and Yan 2017 (arXiv 1703.01365), Eq. 1. Captum has the same default
    of 50 Gauss–Legendre steps.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}, wanted at least 1: 50 is usual")
    shared = {**question, "baseline": baseline}
    return run(
        integrated_gradients, _integrate, model, inputs, targets, shared,
        score=logits, reads_layer=False, in_frame=False, steps=steps,
    )  # fmt: skip


def _integrate(context: Context, steps: int) -> Found:
    blank = jnp.broadcast_to(
        checks.check_baseline(context.baseline, context.inputs), context.inputs.shape
    )
    way = context.inputs - blank
    # The rule is for [-1, 1].
    places, shares = np.polynomial.legendre.leggauss(steps)

    def add(total: Array, step: tuple[Array, Array]) -> tuple[Array, None]:
        place, share = step
        slopes = input_gradients(context, blank + place.astype(way.dtype) * way)
        return total + share.astype(slopes.dtype) * slopes, None

    shape = jax.eval_shape(lambda: input_gradients(context, context.inputs))
    points = jnp.asarray((places + 1) / 2, shape.dtype), jnp.asarray(shares / 2, shape.dtype)
    mean, _ = jax.lax.scan(add, jnp.zeros(shape.shape, shape.dtype), points)
    sums = (mean * in_full_precision(channels_last(context, way))[:, None]).sum(-1)
    empty = class_scores(context.score, context.model(blank)[0], len(blank))
    empty = of_targets(empty, context.targets)
    gained = of_targets(context.confidence, context.targets) - empty
    shortfall = sums.sum(tuple(range(2, sums.ndim))) - gained
    return finish_pixels(sums)._replace(empty=empty, shortfall=shortfall)
