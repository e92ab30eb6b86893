"""Feature-based explanation (Fuad et al. 2020, hal-02963298)."""

from typing import Any, Unpack

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.options import Question
from scorecam_jax.methods.base import Context, Explanation, Found, run
from scorecam_jax.steps.scores import logits


def fem(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    *,
    deviations: float = 2.0,
    **question: Unpack[Question],
) -> Explanation:
    """Weight each map by the share of its places that stand out, whatever the class.

    w_k is the share of the places where A_k exceeds its mean by `deviations` standard deviations.
    The sum is resized to the input's size, rectified, and scaled to [0, 1].

    Args:
        model: as in `score_cam`.
        inputs: as in `score_cam`.
        targets: as in `score_cam`; the map does not depend on them.
        deviations: the threshold, in standard deviations above the mean.
        **question: see `Question`. The default score is the outputs themselves, the logits.

    Source: Fuad et al. 2020 (hal-02963298), with the share as in pytorch-grad-cam and Xplique.
    """
    return run(
        fem, _fem, model, inputs, targets, question, score=logits, deviations=float(deviations)
    )


def _fem(context: Context, deviations: Any) -> Found:
    maps = context.activations
    space = tuple(range(1, maps.ndim - 1))
    bar = maps.mean(space, keepdims=True) + deviations * maps.std(space, keepdims=True)
    return context.finish_weighted((maps > bar).mean(space, dtype=maps.dtype)[:, None])
