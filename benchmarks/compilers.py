"""Compile Score-CAM for TPUs and GPUs on a machine that has neither, and read the costs."""

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from scorecam_jax._internal.trees import split_arrays
from scorecam_jax.engine.score_masks import score_masks
from scorecam_jax.engine.tuning import default_batch_size, even_size
from scorecam_jax.methods.score_cam import score_cam
from scorecam_jax.methods.variants import OFFICIAL
from scorecam_jax.models import Classifier
from scorecam_jax.program.jaxprs import bodies

ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_STDERR_LOG_LEVEL": "3",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # several processes at a time
}
"""Variables that stop compilers from looking for a TPU or GPU. Set them before JAX is used."""


class Peak(NamedTuple):
    """A chip's peak rates: bfloat16 operations, and bytes of main memory, per second."""

    flops: float
    bandwidth: float


# By JAX's names of the chips; from cloud.google.com/tpu/docs/v5e, v5p and v6e, and from NVIDIA's
# data sheet of the H100 SXM, without sparsity.
_PEAKS = {
    "TPU v5 lite": Peak(197e12, 819e9),
    "TPU v5": Peak(459e12, 2765e9),
    "TPU v6 lite": Peak(918e12, 1640e9),
    "NVIDIA H100 80GB HBM3": Peak(989e12, 3350e9),
}

# The properties that XLA reads from a GPU if there is one.
_H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  shared_memory_per_block: 49152 shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 device_memory_size: 84929347584
  cuda_compute_capability { major: 9 }
}
platform_name: "CUDA"
runtime_version { major: 12 minor: 8 }
dnn_version_info { major: 9 minor: 7 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""

_COLLECTIVE = re.compile(
    r" (all-gather|all-reduce|all-to-all|collective-broadcast|collective-permute|reduce-scatter)"
    r"(?:-start)?\("
)


def chips(name: str) -> list[Any]:
    """Devices to compile for, which need not be present.

    Args:
        name: `"h100"`, or a TPU slice: its generation and the chips along each axis, such as
            `"v5e:2x2"`.

    Raises:
        ImportError: the compiler is not installed.
        ValueError: there is no such slice.
    """
    from jax.experimental import topologies

    if name == "h100":
        if not any(find_spec(f"jax_cuda{version}_plugin") for version in (12, 13)):
            raise ImportError(
                "programs for GPUs are compiled by JAX's CUDA plugin, which is not installed: "
                "pip install 'scorecam_jax[cuda]' (Linux)"
            )
        gpu = topologies.get_topology_desc(
            name, platform="cuda", target_config=_H100, topology="1x1x1"
        )
        return list(gpu.devices)
    if find_spec("libtpu") is None:
        raise ImportError(
            "programs for TPUs are compiled by libtpu, which is not installed: "
            "pip install 'scorecam_jax[tpu]' (Linux on x86-64)"
        )
    try:
        return list(topologies.get_topology_desc(platform="tpu", topology_name=name).devices)
    except jax.errors.JaxRuntimeError as error:
        if "INVALID_ARGUMENT" not in str(error):
            raise
        raise ValueError(
            f"no TPU slice {name!r}; wanted a generation and the chips along each axis, such as "
            f"v5e:1x1, v5e:2x2, v6e:16x16 or v5p:2x2x1 ({error}), or the GPU h100"
        ) from error


def compile_for(devices: Sequence[Any], function: Callable[..., Any], *args: Any) -> Any:
    """Compile a function for devices that need not be present.

    Args:
        devices: some or all of the devices from `chips`.
        function: the function. The arrays in `args` are traced; everything else is static.
        *args: pytrees of arrays or of `jax.ShapeDtypeStruct`, replicated on every device.
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
    """Count the collective operations in a compiled program's text; those in a loop count once."""
    return Counter(_COLLECTIVE.findall(program))


def forecast(
    classifier: Classifier,
    topology: str,
    *,
    channels: int | None = None,
    batch_size: int | None = None,
    progress: Callable[[str], None] = lambda task: None,
) -> dict[str, Any]:
    """Compute the cost of an exact heatmap of one image on the chips of a TPU slice, or on a GPU.

    Compilers count a loop's body once. Therefore one chunk of masked inputs is also compiled
    separately, and counted once per run of the loop. This is the cost if all channels are live.

    A TPU's compiler states operations and bytes. A GPU's does not: there, the operations are those
    of the network's products and convolutions, and the bytes are those that all kernels read and
    write.

    Args:
        classifier: a classifier from `models.load` or `models.random`.
        topology: as in `chips`.
        channels: the number of channels to score; None scores all.
        batch_size: masked inputs at a time on each chip; None: the library's choice.
        progress: called with a description of each task before it starts.

    Returns:
        A dictionary of figures, ready for JSON. All but `collectives` are per chip, in bytes,
        operations and seconds. `kernels` is the number of kernels that a GPU runs for a chunk; None
        for a TPU. `arithmetic_seconds` and `memory_seconds` divide operations and bytes by the
        chip's published peaks (for a GPU and a network in float32, the peak of TF32);
        `floor_seconds` is the larger one. Bytes include those that the compiler keeps in the chip's
        fast memory, so a chip that keeps many there may need less than `memory_seconds`. The three
        are None for a chip whose peaks are unknown.

    Raises:
        ImportError: the compiler is not installed.
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
    text = whole.as_text()
    activations = jax.eval_shape(lambda inputs: model(inputs)[1], inputs)
    passes = (channels or activations.shape[-1]) + 1
    most = batch_size or default_batch_size(model, inputs, mesh)
    size = even_size(-(-passes // len(devices)), most)
    chunks = -(-passes // (size * len(devices)))
    flops, moved = _counts(whole)
    if chunks > 1:
        progress(f"compiling one chunk of {size} masked inputs")
        masks = jax.ShapeDtypeStruct((*activations.shape[:-1], size), jnp.float32)
        target = jax.ShapeDtypeStruct((1, 1), jnp.int32)
        chunk = compile_for(devices[:1], score_chunk, model, inputs, masks, target)
        chunk_flops, chunk_moved = _counts(chunk)
        flops += (chunks - 1) * chunk_flops
        moved += (chunks - 1) * chunk_moved
    kernels = None
    if devices[0].platform == "gpu":
        kernels = len(kernels_of_loop(text))
        flops = 2 * (1 + passes) * _products(jax.make_jaxpr(lambda inputs: model(inputs))(inputs))
    peak = _PEAKS.get(devices[0].device_kind)
    if peak and devices[0].platform == "gpu" and not _is_narrow(model):
        peak = peak._replace(flops=peak.flops / 2)  # TF32
    seconds = (flops / peak.flops, moved / peak.bandwidth) if peak else ()
    return {
        "topology": topology,
        "device": devices[0].device_kind,
        "devices": len(devices),
        "jax": jax.__version__,
        "passes": passes,
        "batch_size": size,
        "chunks": chunks,
        "temporary_bytes": whole.memory_analysis().temp_size_in_bytes,
        "kernels": kernels,
        "flops": flops,
        "bytes_accessed": moved,
        "collectives": dict(collectives(text)),
        "peak_flops": peak.flops if peak else None,
        "peak_bandwidth": peak.bandwidth if peak else None,
        "arithmetic_seconds": seconds[0] if seconds else None,
        "memory_seconds": seconds[1] if seconds else None,
        "floor_seconds": max(seconds, default=None),
    }


def _is_narrow(model: Any) -> bool:
    """Whether a network computes in 16 bits."""
    weights = jax.tree.leaves(split_arrays(model)[0])
    return all(
        leaf.dtype.itemsize <= 2 for leaf in weights if jnp.issubdtype(leaf.dtype, jnp.floating)
    )


def _counts(compiled: Any) -> tuple[int, int]:
    """The operations (0 if the compiler does not state them) and bytes of a program."""
    stated = compiled.cost_analysis()
    if stated:
        return round(stated.get("flops", 0)), round(stated.get("bytes accessed", 0))
    kernels = itertools.chain.from_iterable(kernels_of(compiled.as_text()).values())
    return 0, sum(kernel.moved for kernel in kernels)


class Kernel(NamedTuple):
    """A kernel of a GPU program.

    Attributes:
        name: the library function that it calls, such as `__cudnn$convForward`, or XLA's name for
            the operation.
        line: its line in the program.
        moved: the bytes that it reads and writes.
    """

    name: str
    line: str
    moved: int


_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.-]+) \(.*?\) -> .*? \{\n(.*?)^}", re.S | re.M)
_INSTRUCTION = re.compile(r"^ *(?:ROOT )?%?([\w.-]+) = (\(.*?\)|\S+) ([\w-]+)\((.*?)\)")
_ARRAY = re.compile(r"([a-z]+)(\d+)?\w*\[([\d,]*)\]")
_NO_KERNELS = {
    "bitcast", "call", "conditional", "constant", "get-tuple-element", "parameter", "tuple",
    "while",
}  # fmt: skip


def kernels_of_loop(program: str) -> list[Kernel]:
    """The kernels of the longest loop body; all kernels of a program without loops."""
    *bodies, entry = kernels_of(program).values()  # the entry is written last
    return max([*bodies, [] if any(bodies) else entry], key=len)


def kernels_of(program: str) -> dict[str, list[Kernel]]:
    """The kernels of each computation in the text of a program compiled for a GPU."""
    within = set(re.findall(r"(?:calls|to_apply)=%?([\w.-]+)", program))
    found: dict[str, list[Kernel]] = {}
    for computation, body in _COMPUTATION.findall(program):
        if computation in within:
            continue
        found[computation] = []
        sizes: dict[str, int] = {}
        for line in body.splitlines():
            instruction = _INSTRUCTION.match(line)
            if not instruction:
                continue
            result, shape, operation, operands = instruction.groups()
            sizes[result] = _bytes(shape)
            if operation not in _NO_KERNELS:
                called = re.search(r'custom_call_target="([^"]+)"', line)
                taken = sum(sizes.get(name.lstrip("%"), 0) for name in operands.split(", "))
                name = called[1] if called else operation
                found[computation].append(Kernel(name, line.strip(), taken + sizes[result]))
    return found


def _bytes(shape: str) -> int:
    return sum(
        math.prod(int(length) for length in lengths.split(",") if length)
        * max(1, int(bits or 8) // 8)
        for _, bits, lengths in _ARRAY.findall(shape)
    )


def _products(jaxpr: Any) -> int:
    """The number of multiplications in a traced program's products and convolutions.

    Of a conditional's branches, such as those for several platforms, the one with the most
    multiplications counts: it computes the layer as it is defined. The body of a loop counts once.
    """
    total = 0
    for eqn in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        inner = [_products(body) for body in bodies(eqn)]
        if eqn.primitive.name == "cond":
            total += max(inner)
        elif eqn.primitive.name == "dot_general":
            (contracted, _), _ = eqn.params["dimension_numbers"]
            terms = math.prod(eqn.invars[0].aval.shape[axis] for axis in contracted)
            total += terms * math.prod(eqn.outvars[0].aval.shape)
        elif eqn.primitive.name == "conv_general_dilated":
            kernel = eqn.invars[1].aval.shape
            outputs = kernel[eqn.params["dimension_numbers"].rhs_spec[0]]
            total += math.prod(kernel) // outputs * math.prod(eqn.outvars[0].aval.shape)
        else:
            total += sum(inner)
    return total
