"""Changes that must not affect an explanation: (case, random) -> changed case, and the inverse."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.fuzz.cases import CHANNELS


def batch_order(case, random):
    """Reverse the images."""
    changed = case._replace(inputs=case.inputs[::-1].copy(), targets=case.targets[::-1].copy())
    return changed, lambda found: {
        name: values[::-1] for name, values in found.items() if name != "slopes"
    }


def channel_order(case, random):
    """Permute the channels."""
    order = random.permutation(CHANNELS)
    parameters = case.parameters
    changed = case._replace(
        inputs=case.inputs[..., order],
        parameters=parameters._replace(layer=parameters.layer[order], head=parameters.head[order]),
    )

    # Sums in another order round differently, and a slope is not continuous where values tie.
    return changed, lambda found: {"heatmap": found["heatmap"]}


def flip(case, random):
    """Flip the images upside down or mirror them."""
    axis = random.integers(1, 3)
    changed = case._replace(inputs=np.flip(case.inputs, axis).copy())
    return changed, lambda found: {"heatmap": np.flip(found["heatmap"], axis)}


def size(case, random):
    """Multiply the layer's activations by a power of two that keeps them in the type's range."""
    layer, rate = case.parameters.layer, case.parameters.rate
    values = np.abs(case.inputs.astype(float))
    tiny = float(jnp.finfo(case.inputs.dtype).tiny)
    half = case.inputs.dtype == np.float16
    span, most = (4, 10) if half else (20, 100)  # a network's derivatives shrink as much
    least = -span if (values[values > 0] >= tiny).all() else 0  # denormal values would be lost
    values = values[values >= tiny]
    power = random.integers(least, span + 1)
    if values.size:
        low, high = np.log2(values.min()), np.log2(values.max())
        back = np.log2(float(rate))
        least, largest = max(-most - low, back - most, -most), min(most - high, back + most, most)
        power = round(np.clip(power, least, largest)) if least < 0 < largest else 0
    else:
        power = 0
    parameters = case.parameters._replace(
        layer=(layer * 2.0**power).astype(layer.dtype), rate=(rate / 2.0**power).astype(rate.dtype)
    )
    fields = ("heatmap", "slope")
    changed = case._replace(parameters=parameters)
    return changed, lambda found: {field: found[field] for field in fields}


CHANGES = {"batch order": batch_order, "channel order": channel_order, "flip": flip, "size": size}


def nudged(case, random):
    """Change all values by at most one unit in the last place, as rounding might."""

    def nudge(values):
        if not jnp.issubdtype(values.dtype, jnp.floating):
            return values
        eps = float(jnp.finfo(values.dtype).eps)
        shifts = 1 + eps * random.integers(-1, 2, values.shape)
        return (values.astype(np.float64) * shifts).astype(values.dtype)

    return jax.tree.map(nudge, case)
