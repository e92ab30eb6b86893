"""LaFAM (Karjauv and Albayrak 2024, arXiv 2407.06059)."""

from typing import Any, Unpack

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.options import Question
from scorecam_jax.methods.base import Context, Explanation, Found, run
from scorecam_jax.steps.combine import peak_of
from scorecam_jax.steps.masks import normalize, resize
from scorecam_jax.steps.scores import logits


def lafam(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    **question: Unpack[Question],
) -> Explanation:
    """Average the maps, whatever the class: mean_k A_k.

    Made for networks without classes, such as self-supervised ones. The mean is resized to the
    input's size and scaled to [0, 1], without rectification. `weights` are None.

    Args:
        model: as in `score_cam`.
        inputs: as in `score_cam`.
        targets: as in `score_cam`; the map does not depend on them.
        **question: see `Question`. The score only determines the best class.

    Source: Karjauv and Albayrak 2024 (arXiv 2407.06059). It is also the "ActivationMap" of
    openvino-xai.
    """
    return run(lafam, _lafam, model, inputs, targets, question, score=logits)


def _lafam(context: Context) -> Found:
    mean = context.activations.mean(-1)[:, None]
    heatmap = normalize(resize(mean, context.shape), len(context.shape))
    return Found(heatmap, peak=peak_of(mean))
