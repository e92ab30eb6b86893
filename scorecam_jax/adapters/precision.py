"""A network with the factors of its products rounded to bfloat16."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from scorecam_jax.adapters.adapted import Adapted
from scorecam_jax.contract.model import AnyModel
from scorecam_jax.program.rounding import round_factors


def with_bfloat16_products(model: AnyModel) -> AnyModel:
    """Round the factors of a network's matrix products and convolutions to bfloat16.

    Products are summed in float32, and everything else is in float32 as before. CPUs with units
    for bfloat16 (AMX, or AVX-512 with BF16) multiply such matrices up to twice as fast or more, and
    GPUs and TPUs use their matrix units. XLA rounds like this on a TPU already, unless
    `jax.default_matmul_precision` is set. Gradients pass through the rounded products as well.

    `scorecam bench --shortcuts` measures on your photographs how similar the heatmaps are to those
    in float32. Where a CPU has no such units, this is slower than float32.

    Args:
        model: a model that an adapter such as `from_linen` returned, in float32. Products in other
            types stay as they are, as do those that state `precision="highest"` themselves, those
            inside `while` loops, and those inside functions with a derivative of their own.

    Raises:
        TypeError: `model` was not made by an adapter.
    """
    if not isinstance(model, Adapted):
        raise TypeError(
            f"cannot round the products of a {type(model).__name__}: only models made by an "
            "adapter are traced. Wrap the network in from_function, or another adapter"
        )
    call: Any = model.func
    run = dataclasses.replace(call.run, run=_Rounded(call.run.run))
    return Adapted(dataclasses.replace(call, run=run), *model.args)


@dataclasses.dataclass(frozen=True)
class _Rounded:
    run: Callable[[Any, Any], Any]

    def __call__(self, weights: Any, inputs: Any) -> Any:
        # Only products that state their precision themselves keep it.
        with jax.default_matmul_precision("default"):
            traced, shapes = jax.make_jaxpr(self.run, return_shape=True)(weights, inputs)
        arrays = jax.tree.leaves((weights, inputs))
        count = len(jax.tree.leaves(weights))
        outputs = round_factors(traced.jaxpr, traced.consts, arrays, count)
        return jax.tree.unflatten(jax.tree.structure(shapes), outputs)
