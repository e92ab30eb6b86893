"""Emulate a machine with one accelerator: `python -m pytest -p tests.accelerator`.

The arrays of JAX's default device then do not mix with those of the CPU's devices, and its platform
is not "cpu". As on a TPU, the factors of products are rounded to bfloat16 unless another precision
is requested. Everything else is the CPU's: compiler, kernels and rounding.
"""

from typing import Any

import jax
from jax._src import xla_bridge
from jax._src.lax.convolution import conv_general_dilated_p
from jax._src.lax.lax import dot_general_p
from jax.interpreters import mlir
from jaxlib import xla_client

NAME = "accelerator"


def _platform(device: Any) -> str:
    return "cpu" if device.client is jax.devices("cpu")[0].client else NAME


def _round_factors(primitive: Any) -> None:
    usual = mlir._platform_specific_lowerings["cpu"].get(primitive)
    usual = (usual or mlir._lowerings[primitive]).rule

    def rounded(*factors: Any, **params: Any) -> Any:
        factors = tuple(jax.lax.reduce_precision(factor, 8, 7) for factor in factors)
        params["precision"] = (jax.lax.Precision.HIGHEST,) * 2
        return primitive.bind(*factors, **params)

    def lower(ctx: Any, *factors: Any, **params: Any) -> Any:
        default = params["precision"] in (None, (jax.lax.Precision.DEFAULT,) * 2)
        if default and all(aval.dtype == "float32" for aval in ctx.avals_in):
            return mlir.lower_fun(rounded, multiple_results=False)(ctx, *factors, **params)
        return usual(ctx, *factors, **params)

    mlir.register_lowering(primitive, lower, platform="cpu")


def pytest_configure() -> None:
    """Set up the emulation, only if this is a plugin: pytest imports all modules for doctests."""
    xla_bridge.register_backend_factory(
        NAME, lambda: xla_client.make_cpu_client(num_devices=1), priority=1000
    )
    xla_client.Device.platform = property(_platform)
    for primitive in (dot_general_p, conv_general_dilated_p):
        _round_factors(primitive)
