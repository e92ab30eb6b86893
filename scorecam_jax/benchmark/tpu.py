"""What a TPU's compiler says of Score-CAM, on a machine that has no TPU."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from scorecam_jax.engine.score_masks import score_masks
from scorecam_jax.engine.tuning import default_batch_size
from scorecam_jax.methods.score_cam import score_cam
from scorecam_jax.methods.variants import OFFICIAL
from scorecam_jax.models import Classifier

ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_STDERR_LOG_LEVEL": "3",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # several processes at a time
}
"""Variables that keep the compiler from looking for a TPU. Set them before JAX is first used."""


class Peak(NamedTuple):
    """What a chip can do at most: bfloat16 operations and bytes of its main memory, per second."""

    flops: float
    bandwidth: float


# By what JAX calls the chips; from cloud.google.com/tpu/docs/v5e, v5p and v6e.
_PEAKS = {
    "TPU v5 lite": Peak(197e12, 819e9),
    "TPU v5": Peak(459e12, 2765e9),
    "TPU v6 lite": Peak(918e12, 1640e9),
}

_COLLECTIVE = re.compile(
    r" (all-gather|all-reduce|all-to-all|collective-broadcast|collective-permute|reduce-scatter)"
    r"(?:-start)?\("
)


def chips(topology: str) -> list[Any]:
    """The chips of a TPU slice, to compile for.

    Args:
        topology: the generation and the chips along each axis, such as `"v5e:2x2"`.

    Raises:
        ImportError: the TPU compiler is not installed.
        ValueError: there is no such slice.
    """
    from jax.experimental import topologies

    try:
        import libtpu  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "TPU programs are compiled by libtpu, which is not installed: "
            "pip install 'scorecam_jax[tpu]' (Linux on x86-64)"
        ) from error
    try:
        return list(topologies.get_topology_desc(platform="tpu", topology_name=topology).devices)
    except jax.errors.JaxRuntimeError as error:
        if "INVALID_ARGUMENT" not in str(error):
            raise
        raise ValueError(
            f"no TPU slice {topology!r}; wanted is a generation and its chips along each axis, "
            f"such as v5e:1x1, v5e:2x2, v6e:16x16 or v5p:2x2x1 ({error})"
        ) from error


def compile_for(devices: Sequence[Any], function: Callable[..., Any], *args: Any) -> Any:
    """Compile a function for devices that need not be there.

    Args:
        devices: what `chips` returns, or some of it.
        function: is traced with the arrays in `args`; what else they hold is static.
        *args: pytrees of arrays or of `jax.ShapeDtypeStruct`, whole on every device.
    """
    everywhere = NamedSharding(Mesh(np.array(devices), ("devices",)), PartitionSpec())
    leaves, tree = jax.tree.flatten(args)
    shapes = {
        place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere)
        for place, leaf in enumerate(leaves)
        if hasattr(leaf, "dtype")
    }

    def run(arrays: dict[int, Any]) -> Any:
        filled = [arrays.get(place, leaf) for place, leaf in enumerate(leaves)]
        return function(*jax.tree.unflatten(tree, filled))

    return jax.jit(run).lower(shapes).compile()


def collectives(program: str) -> Counter[str]:
    """Count the collective operations in a compiled program's text; one in a loop counts once."""
    return Counter(_COLLECTIVE.findall(program))


def forecast(
    classifier: Classifier,
    topology: str,
    *,
    channels: int | None = None,
    batch_size: int | None = None,
    progress: Callable[[str], None] = lambda task: None,
) -> dict[str, Any]:
    """State what an exact heatmap of one image costs on the chips of a TPU slice.

    The compiler counts a loop's body once. So one chunk of masked inputs is compiled by itself too,
    and counted as often as the loop runs, which is what all channels alive would need.

    Args:
        classifier: a classifier from `models.load` or `models.random`.
        topology: as for `chips`.
        channels: the number of channels to score; None scores all.
        batch_size: masked inputs at a time on each chip; None: the library's choice.
        progress: called with a description of each task before it starts.

    Returns:
        A dictionary of figures, ready for JSON. All but `collectives` are per chip, in bytes,
        operations and seconds. `arithmetic_seconds` and `memory_seconds` divide operations and
        bytes by the chip's published peaks; the larger one is the `floor_seconds`. Bytes include
        those that the compiler keeps in the chip's fast memory, so a chip that keeps many there
        may need less than `memory_seconds`. The three are None for a chip whose peaks are unknown.

    Raises:
        ImportError: the TPU compiler is not installed.
        ValueError: there is no such slice.
    """
    devices = chips(topology)
    mesh, chip = (Mesh(np.array(some), ("masks",)) for some in (devices, devices[:1]))
    model = classifier.model
    inputs = jnp.zeros((1, *classifier.input_size, 3))

    def explain(model: Any, inputs: Any) -> Any:
        explanation = score_cam(model, inputs, channels=channels, batch_size=batch_size, mesh=mesh)
        return explanation.heatmap, explanation.weights

    def score_chunk(model: Any, inputs: Any, masks: Any, target: Any) -> Any:
        return score_masks(
            model, inputs, masks, OFFICIAL.render,
            score=OFFICIAL.score, targets=target, batch_size=size, mesh=chip,
        )  # fmt: skip

    progress(f"compiling for {topology}")
    whole = compile_for(devices, explain, model, inputs)
    activations = jax.eval_shape(lambda inputs: model(inputs)[1], inputs)
    passes = (channels or activations.shape[-1]) + 1
    size = min(batch_size or default_batch_size(model, inputs, mesh), -(-passes // len(devices)))
    chunks = -(-passes // (size * len(devices)))
    counts = _counts(whole)
    if chunks > 1:
        progress(f"compiling one chunk of {size} masked inputs")
        masks = jax.ShapeDtypeStruct((*activations.shape[:-1], size), jnp.float32)
        target = jax.ShapeDtypeStruct((1, 1), jnp.int32)
        chunk = _counts(compile_for(devices[:1], score_chunk, model, inputs, masks, target))
        counts = {name: counts[name] + (chunks - 1) * chunk[name] for name in counts}
    peak = _PEAKS.get(devices[0].device_kind)
    seconds = (counts["flops"] / peak.flops, counts["bytes"] / peak.bandwidth) if peak else ()
    return {
        "topology": topology,
        "device": devices[0].device_kind,
        "devices": len(devices),
        "jax": jax.__version__,
        "passes": passes,
        "batch_size": size,
        "chunks": chunks,
        "temporary_bytes": whole.memory_analysis().temp_size_in_bytes,
        "flops": counts["flops"],
        "bytes_accessed": counts["bytes"],
        "collectives": dict(collectives(whole.as_text())),
        "peak_flops": peak.flops if peak else None,
        "peak_bandwidth": peak.bandwidth if peak else None,
        "arithmetic_seconds": seconds[0] if seconds else None,
        "memory_seconds": seconds[1] if seconds else None,
        "floor_seconds": max(seconds, default=None),
    }


def _counts(compiled: Any) -> dict[str, int]:
    stated = compiled.cost_analysis() or {}
    names = {"flops": "flops", "bytes": "bytes accessed"}
    return {name: round(stated.get(key, 0)) for name, key in names.items()}
