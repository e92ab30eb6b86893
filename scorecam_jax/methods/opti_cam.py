"""Opti-CAM (Zhang et al. 2023, arXiv 2301.07002)."""

from typing import Any, Unpack

import jax
import jax.numpy as jnp
from jaxtyping import Array

from scorecam_jax._internal import checks
from scorecam_jax.contract.model import AnyModel
from scorecam_jax.contract.per_input import take_rows
from scorecam_jax.engine.options import Masking
from scorecam_jax.engine.sharding import explicit_mesh, replicate
from scorecam_jax.methods.base import Context, Explanation, Found, run
from scorecam_jax.methods.variants import OFFICIAL
from scorecam_jax.steps.channels import Channels
from scorecam_jax.steps.combine import into_range, sum_activations
from scorecam_jax.steps.masks import apply_masks, normalize, resize
from scorecam_jax.steps.outputs import class_scores, of_targets
from scorecam_jax.steps.scores import logits


def opti_cam(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    *,
    steps: int = 100,
    learning_rate: float = 0.1,
    channels: int | Channels | None = None,
    **masking: Unpack[Masking],
) -> Explanation:
    """Find the mixture of maps that, used as a mask, has the highest score.

    Adam maximises f(X ∘ s(Up(Σ_k softmax(u)_k A_k)))_c from u = 0. The heatmap is that mask, and
    `weights` are softmax(u); `scores` are None. All inputs and targets are optimised together, in
    `steps` forward and backward passes of B·T masked inputs. `batch_size` and `mesh` have no
    effect.

    Args:
        model: as in `score_cam`.
        inputs: as in `score_cam`.
        targets: as in `score_cam`.
        steps: the number of steps of Adam.
        learning_rate: Adam's learning rate.
        channels: None: all; n or `Gradient(n)`: n of them alone. n means `Deviation(n)`.
        **masking: see `Masking`. The default score is the outputs themselves, the logits.

    Source: Zhang et al. 2023 (arXiv 2301.07002).
    """
    masking.pop("mesh", None)
    return run(
        opti_cam, _opti_cam, model, inputs, targets, masking,
        score=logits, channels=channels, steps=steps, learning_rate=learning_rate,
    )  # fmt: skip


def _opti_cam(context: Context, *, steps: int, learning_rate: Any) -> Found:
    import optax

    batch, wanted = context.targets.shape
    shape = context.shape
    arrays = context.activations, context.inputs, context.targets, context.baseline
    maps, inputs, targets, baseline = replicate(arrays, explicit_mesh(context.inputs))
    # A common factor of the maps makes no difference, because the mask is scaled to [0, 1].
    maps, _ = into_range(maps, range(1, maps.ndim), limit=0)
    inputs = jnp.repeat(inputs, wanted, 0)
    baseline = checks.check_baseline(baseline, context.inputs)
    baseline = jnp.repeat(jnp.broadcast_to(baseline, context.inputs.shape), wanted, 0)
    model = take_rows(context.model, jnp.repeat(jnp.arange(batch), wanted))
    # Without eps_root, the derivative of the root is infinite where the gradient is 0.
    optimizer = optax.adam(learning_rate, eps_root=1e-30)

    def mask(mixture: Array) -> Array:
        sums = sum_activations(maps, maps, jax.nn.softmax(mixture), OFFICIAL.render, shape)
        return normalize(resize(sums, shape), len(shape))

    def loss(mixture: Array) -> Array:
        masks = mask(mixture).reshape(batch * wanted, *shape)
        masks = context.into_image(masks)
        outputs, _ = model(apply_masks(inputs, masks, baseline, context.channel_axis))
        scores = class_scores(context.score, outputs, batch * wanted)
        return -of_targets(scores, targets.reshape(batch * wanted, 1)).sum()

    if context.passes["remat"]:
        loss = jax.checkpoint(loss)

    def step(carry: tuple[Array, Any], _: None) -> tuple[tuple[Array, Any], None]:
        mixture, state = carry
        change, state = optimizer.update(jax.grad(loss)(mixture), state)
        return (mixture + change, state), None

    start = jnp.zeros((batch, wanted, maps.shape[-1]), maps.dtype)
    (mixture, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), None, length=steps)
    return Found(mask(mixture), jax.nn.softmax(mixture))
