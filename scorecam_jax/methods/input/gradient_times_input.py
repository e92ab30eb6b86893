"""Gradient times input (Shrikumar et al. 2016, arXiv 1605.01713)."""

from typing import Any, Unpack

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.options import Output
from scorecam_jax.methods.base import Context, Explanation, Found, run
from scorecam_jax.methods.input.base import channels_last, finish_pixels, input_gradients
from scorecam_jax.steps.outputs import in_full_precision
from scorecam_jax.steps.scores import logits


def gradient_times_input(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    **question: Unpack[Output],
) -> Explanation:
    """Multiply each pixel by its gradient: Σ_c x_c ∂y/∂x_c over its channels.

    For a piecewise linear network without biases, the products sum to the score. Evidence against
    the target is discarded: the map is rectified and scaled to [0, 1]. `weights` and `scores` are
    None.

    Args:
        model: as in `gradient`.
        inputs: as in `score_cam`.
        targets: as in `score_cam`. T targets take T backward passes after one forward pass.
        **question: see `Output`. The default score is the outputs themselves, the logits.

    Source: Shrikumar et al. 2016 (arXiv 1605.01713), Section 3.1.
    """
    return run(
        gradient_times_input, _product, model, inputs, targets, question,
        score=logits, reads_layer=False, in_frame=False,
    )  # fmt: skip


def _product(context: Context) -> Found:
    images = in_full_precision(channels_last(context, context.inputs))
    return finish_pixels((input_gradients(context, context.inputs) * images[:, None]).sum(-1))
