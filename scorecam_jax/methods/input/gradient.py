"""The gradient with respect to the input (Simonyan et al. 2014, arXiv 1312.6034)."""

from typing import Any, Unpack

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.options import Output
from scorecam_jax.methods.base import Context, Explanation, Found, run
from scorecam_jax.methods.input.base import finish_pixels, input_gradients, largest_of_channels
from scorecam_jax.steps.scores import logits


def gradient(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    **question: Unpack[Output],
) -> Explanation:
    """Show how strongly each pixel influences the score: max_c |∂y/∂x_c| over its channels.

    The sign is lost. `weights` and `scores` are None. The map is scaled to [0, 1].

    Args:
        model: any function `inputs -> (outputs, activations)` that JAX can differentiate, or a
            model from an adapter. The layer does not matter.
        inputs: as in `score_cam`.
        targets: as in `score_cam`. T targets take T backward passes after one forward pass.
        **question: see `Output`. The default score is the outputs themselves, the logits.

    Source: Simonyan, Vedaldi and Zisserman 2014 (arXiv 1312.6034), Section 3.1.
    """
    return run(
        gradient, _gradient, model, inputs, targets, question,
        score=logits, reads_layer=False, in_frame=False,
    )  # fmt: skip


def _gradient(context: Context) -> Found:
    return finish_pixels(largest_of_channels(input_gradients(context, context.inputs)))
