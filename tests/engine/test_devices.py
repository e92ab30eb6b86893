"""Inputs and weights that already live on several devices, and on those of several processes."""

import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from scorecam_jax import METHODS, score_cam
from scorecam_jax._internal.signatures import accepts
from tests.networks import images, network

BATCH = 8
# One for each way in which a network is run: masked inputs, edited layers, gradients, once.
PATHS = {"score-cam", "recipro-cam", "grad-cam", "eigen-cam"}


@pytest.fixture(params=["Auto", "Explicit"])
def mesh(request, cpus):
    return jax.make_mesh((8,), ("devices",), axis_types=(AxisType[request.param],), devices=cpus)


def put(values, mesh, *spec):
    sharding = NamedSharding(mesh, PartitionSpec(*spec))
    return jax.tree.map(lambda value: jax.device_put(value, sharding), values)


def is_one_devices(heatmap):
    expected = score_cam(network(), images(batch=BATCH), 1).heatmap
    assert np.ptp(expected) == 1
    np.testing.assert_allclose(heatmap, expected, atol=1e-6)


@pytest.mark.parametrize("given", [True, False])
def test_a_sharded_batch_is_explained_with_or_without_naming_its_mesh(mesh, given):
    model, inputs = put(network(), mesh), put(images(batch=BATCH), mesh, "devices")
    found = score_cam(model, inputs, 1, mesh=mesh if given else None, batch_size=2)
    is_one_devices(found.heatmap)


@pytest.mark.parametrize(
    ("name", "named"),
    [
        pytest.param(name, named, marks=[pytest.mark.slow] * (name not in PATHS))
        for name in METHODS.of_any_network()
        for named in {False, accepts(METHODS[name], "mesh")}
    ],
)
def test_every_method_takes_sharded_inputs_and_a_mesh(name, named, cpus):
    kinds = (AxisType.Explicit,)
    method, mesh = METHODS[name], jax.make_mesh((2,), ("d",), axis_types=kinds, devices=cpus[:2])
    options = {"steps": 3} if accepts(method, "steps") else {}
    options |= {"key": jax.random.key(0)} if accepts(method, "key") else {}
    expected = method(network(), images(), 1, **options).heatmap
    if named:
        heatmap = method(network(), images(), 1, mesh=mesh, **options).heatmap
    else:
        heatmap = method(network(), put(images(), mesh, "d"), 1, **options).heatmap
    np.testing.assert_allclose(heatmap, expected, atol=2e-6)


def test_sharded_weights_are_gathered(mesh):
    kernel, bias, head = (np.repeat(weights, 8, -1) for weights in network().args)
    head = np.repeat(head[:, ::8], 8, 0) / 8
    wide = jax.tree_util.Partial(network().func, kernel, bias, head)
    sharded = jax.tree_util.Partial(
        network().func,
        put(kernel, mesh, None, None, None, "devices"),
        put(bias, mesh, "devices"),
        put(head, mesh, "devices"),
    )
    inputs = images()
    found = score_cam(sharded, inputs, 1, mesh=mesh, batch_size=2)
    np.testing.assert_allclose(found.heatmap, score_cam(wide, inputs, 1).heatmap, atol=1e-6)


def test_each_device_explains_its_own_images_in_a_shard_map(mesh):
    def explain(model, inputs):
        return score_cam(model, inputs, 1, batch_size=2).heatmap

    whole, split = PartitionSpec(), PartitionSpec("devices")
    parallel = jax.shard_map(explain, mesh=mesh, in_specs=(whole, split), out_specs=split)
    heatmap = jax.jit(parallel)(put(network(), mesh), put(images(batch=BATCH), mesh, "devices"))
    assert heatmap.sharding.spec[0] == "devices"
    is_one_devices(heatmap)


def test_two_processes_give_what_one_does():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.engine.devices_of_two_processes", str(port), str(rank)],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]
    reports = [process.communicate(timeout=120)[0] for process in processes]
    for process, report in zip(processes, reports, strict=True):
        assert process.returncode == 0, report
        assert "2 processes, 8 devices" in report
