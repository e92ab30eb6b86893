"""SS-CAM (Wang et al. 2020, arXiv 2006.14255)."""

from typing import Any, Unpack

import jax
import jax.numpy as jnp
from jaxtyping import Array

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.options import Masking
from scorecam_jax.methods.base import Context, Explanation, Found, run
from scorecam_jax.methods.score_cam import sum_maps
from scorecam_jax.methods.variants import Variant, default_of
from scorecam_jax.steps.channels import Channels
from scorecam_jax.steps.masks import is_live, value_range, with_empty_mask


def ss_cam(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    *,
    key: Array,
    samples: int = 35,
    deviation: float = 2.0,
    relative: bool = False,
    channels: int | Channels | None = None,
    **masking: Unpack[Masking],
) -> Explanation:
    """Weight each map by its mean score under noise: w_k = mean_n f(X ∘ s(Up(A_k + ε_n)))_c.

    ε is Gaussian noise on the activation maps, the same for all inputs. Constant maps are left out.
    The sum is finished as in OFFICIAL. If the score is not a probability, its increase over the
    baseline's score is the weight; see `variants.default_for`.

    In the paper the noise has the unit of the activations, so the effect of the default 2 depends
    on the layer; `relative=True` makes it a share of each map's range. The paper's last step, a
    softmax of the weights over all maps, is left out, because it would make weights that are
    probabilities nearly equal. `SSCAM` of torch-cam takes the softmax, of logits, and adds its
    noise to full-size masks in [0, 1], of which a deviation of 2 leaves little.

    Args:
        model: as in `score_cam`.
        inputs: as in `score_cam`.
        targets: as in `score_cam`.
        key: the key of the noise.
        samples: the number of draws of the noise. Each draw costs as much as Score-CAM.
        deviation: the noise's standard deviation.
        relative: whether `deviation` is a share of each map's range instead of in the activations'
            unit.
        channels: None: all; n or `Gradient(n)`: n of them alone. n means `Deviation(n)`.
        **masking: see `Masking`. The default score is `jax.nn.softmax`.

    Source: Wang et al. 2020 (arXiv 2006.14255), the form with noise on the activation maps.
    """
    variant = default_of(model, inputs, masking.get("score"))
    return run(
        ss_cam, _ss_cam, model, inputs, targets, masking, score=variant.score, channels=channels,
        variant=variant, key=key, samples=samples, deviation=deviation, relative=relative,
    )  # fmt: skip


def _ss_cam(
    context: Context, *, variant: Variant, key: Array, samples: int, deviation: Any, relative: bool
) -> Found:
    masks = variant.prepare(context.activations)
    space = tuple(range(1, masks.ndim - 1))
    live = jnp.expand_dims(is_live(masks), space)
    if relative:
        low, high = value_range(context.activations, space)
        deviation = deviation * (high - low)

    def score(key: Array) -> Array:
        # All inputs share the noise, so that a map does not depend on the input's place in a batch.
        noise = deviation * jax.random.normal(key, (1, *masks.shape[1:]), masks.dtype)
        noisy = jnp.where(live, masks + noise, 0)
        return context.score_masks(with_empty_mask(noisy), variant.render)

    scores = jax.lax.map(score, jax.random.split(key, samples)).mean(0)
    return sum_maps(context, variant, masks, scores[..., :-1], scores[..., -1:])
