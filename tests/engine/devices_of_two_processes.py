"""One of two processes that share eight devices; its arguments are a port and its rank."""

import sys

import jax
import numpy as np

from scorecam_jax import score_cam
from tests.networks import images, network

if __name__ == "__main__":
    port, rank = sys.argv[1:]
    jax.config.update("jax_num_cpu_devices", 4)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=int(rank))
    mesh = jax.make_mesh((8,), ("masks",))
    model, inputs = network(), images()
    alone = score_cam(model, inputs, 1)
    shared = score_cam(model, inputs, 1, mesh=mesh, batch_size=1)
    assert len(shared.heatmap.sharding.device_set) == 8
    for name in ("heatmap", "weights", "scores"):
        found = getattr(shared, name).addressable_data(0)
        np.testing.assert_allclose(found, getattr(alone, name), atol=1e-6)
    print(f"{jax.process_count()} processes, {jax.device_count()} devices")
