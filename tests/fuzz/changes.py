"""What must not change an explanation: (case, random) -> a case, and the way back from it."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.fuzz.cases import CHANNELS


def batch_order(case, random):
    """The images in the opposite order."""
    changed = case._replace(inputs=case.inputs[::-1].copy(), targets=case.targets[::-1].copy())
    return changed, lambda found: {
        name: values[::-1] for name, values in found.items() if name != "slopes"
    }


def channel_order(case, random):
    """The channels in another order."""
    order = random.permutation(CHANNELS)
    back = np.argsort(order)
    parameters = case.parameters
    changed = case._replace(
        inputs=case.inputs[..., order],
        parameters=parameters._replace(layer=parameters.layer[order], head=parameters.head[order]),
    )

    def restore(found):
        return {"heatmap": found["heatmap"], "slope": found["slope"][..., back]}

    return changed, restore


def flip(case, random):
    """The images upside down or mirrored."""
    axis = random.integers(1, 3)
    changed = case._replace(inputs=np.flip(case.inputs, axis).copy())
    return changed, lambda found: {"heatmap": np.flip(found["heatmap"], axis)}


def size(case, random):
    """The layer's activations times a power of two."""
    half = case.inputs.dtype == np.float16
    factor = 2.0 ** random.integers(-3 if half else -20, 4 if half else 21)
    layer, rate = case.parameters.layer, case.parameters.rate
    scaled = np.asarray(case.inputs, np.float64) * factor
    smallest, largest = jnp.finfo(case.inputs.dtype).tiny, jnp.finfo(case.inputs.dtype).max
    nonzero = np.abs(scaled[scaled != 0])
    if nonzero.size and (nonzero.min() < 4 * smallest or nonzero.max() > largest / 4):
        factor = 1.0  # the type does not hold it
    parameters = case.parameters._replace(
        layer=(layer * factor).astype(layer.dtype), rate=(rate / factor).astype(rate.dtype)
    )
    restore = ("heatmap", "slope")
    return case._replace(parameters=parameters), lambda found: {n: found[n] for n in restore}


CHANGES = {"batch order": batch_order, "channel order": channel_order, "flip": flip, "size": size}


def nudged(case, random):
    """All values changed by at most one unit in the last place, as rounding might."""

    def nudge(values):
        if not jnp.issubdtype(values.dtype, jnp.floating):
            return values
        eps = float(jnp.finfo(values.dtype).eps)
        shifts = 1 + eps * random.integers(-1, 2, values.shape)
        return (values.astype(np.float64) * shifts).astype(values.dtype)

    return jax.tree.map(nudge, case)
