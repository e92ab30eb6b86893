"""Programs for the compilers of both TPUs and GPUs."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from benchmarks.compilers import chips, compile_for
from scorecam_jax import score_cam
from scorecam_jax._internal.signatures import accepts
from tests.compilers.networks import SIDE

SMALL = jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32)


def compiled(slice_of, model, inputs=SMALL, method=score_cam, **options):
    """Compile a method for a slice, with its masks split over all chips."""
    devices = chips(slice_of)
    if accepts(method, "mesh"):
        options["mesh"] = Mesh(np.array(devices), ("masks",))
    if accepts(method, "key"):
        options["key"] = jax.random.key(0)
    explain = partial(method, **options)
    return compile_for(devices, lambda *args: explain(*args).heatmap, model, inputs)


def temporaries(program):
    return program.memory_analysis().temp_size_in_bytes
