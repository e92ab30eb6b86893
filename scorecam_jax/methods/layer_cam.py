"""LayerCAM (Jiang et al. 2021, IEEE Transactions on Image Processing 30)."""

from typing import Any, Unpack

import jax

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.options import Question
from scorecam_jax.methods.base import Context, Explanation, Found, run
from scorecam_jax.steps.scores import logits


def layer_cam(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    **question: Unpack[Question],
) -> Explanation:
    """Multiply maps and positive gradients place by place: Σ_k ReLU(g_k) ∘ A_k.

    It serves early layers, where one weight for a whole map is too coarse. `weights` are None.
    The sum is resized to the input's size, rectified, and scaled to [0, 1].

    Args:
        model: as in `score_cam`; it must take `edit`.
        inputs: as in `score_cam`.
        targets: as in `score_cam`. T targets take T backward passes after one forward pass.
        **question: see `Question`. The default score is the outputs themselves, the logits.

    Source: Jiang et al. 2021 (IEEE Transactions on Image Processing 30), Eqs. 5 to 7.
    """
    return run(
        layer_cam, _layer_cam, model, inputs, targets, question, score=logits, gradients=True
    )


def _layer_cam(context: Context) -> Found:
    return context.finish_products(jax.nn.relu(context.gradients))
