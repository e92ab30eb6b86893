"""What is scored, in how many passes, in how much memory."""

import itertools
import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorecam_jax import score_cam, score_masks, variants
from scorecam_jax.engine import tuning
from scorecam_jax.engine.tuning import default_batch_size, even_size, streams
from scorecam_jax.steps import masks
from tests.networks import CHANNELS, images, network
from tests.reference import softmax

TARGETS = jnp.array([[2, 0], [1, 1]])


def random_masks(channels, empty=()):
    """(2, 4, 5, channels) in [0, 1]; `empty` lists (input, channel) pairs to zero."""
    drawn = np.random.default_rng(1).uniform(size=(2, 4, 5, channels)).astype("float32")
    for image, channel in empty:
        drawn[image, ..., channel] = 0
    return jnp.asarray(drawn)


def scored(model, maps, **options):
    options = {"score": jax.nn.softmax, "targets": TARGETS} | options
    return score_masks(model, jnp.asarray(images()), maps, masks.resize, **options)


def one_by_one(model, maps, baseline=0.0):
    inputs, full = images(), masks.resize(jnp.moveaxis(maps, -1, 1), (9, 14))
    scores = np.zeros((2, 2, maps.shape[-1]))
    for image, targets in enumerate(TARGETS):
        for channel in range(maps.shape[-1]):
            mask = np.asarray(full)[image, channel][..., None]
            masked = inputs[image] * mask + baseline * (1 - mask)
            probabilities = softmax(np.asarray(model(masked[None].astype("f"))[0]))
            scores[image, :, channel] = probabilities[0, np.asarray(targets)]
    return scores


@pytest.mark.parametrize("batch_size", [1, 4, None, 1000])
@pytest.mark.parametrize(
    "empty", [(), [(0, 0), (0, 3), (1, 1)], [(1, k) for k in range(5)]], ids=["0", "3", "all of 1"]
)
def test_equals_scoring_one_by_one(batch_size, empty):
    maps = random_masks(5, empty)
    np.testing.assert_allclose(
        scored(network(), maps, batch_size=batch_size, baseline=0.2),
        one_by_one(network(), maps, baseline=0.2),
        atol=1e-6,
    )


def counted(model):
    """The model, and the list of the sizes of the batches it is run on, as they are run."""
    passes = []

    def run(x):
        jax.debug.callback(lambda _: passes.append(len(x)), x[0, 0, 0, 0])
        return model(x)

    return run, passes


@pytest.mark.parametrize("batch_size", [1, 3, 4])
@pytest.mark.parametrize("live", [0, 1, 5, 9])
def test_only_live_masks_are_scored_and_one_empty_for_each_input(live, batch_size):
    channels = 9
    empty = [(1, channel) for channel in range(live, channels)]
    model, passes = counted(network())
    maps = random_masks(channels, empty)
    scores = scored(model, maps, batch_size=batch_size)
    jax.effects_barrier()
    needed = channels + live + bool(empty)
    parts = [len(part) for part in np.array_split(range(batch_size), min(batch_size, streams()))]
    assert sorted(passes) == sorted(parts * math.ceil(needed / batch_size))
    np.testing.assert_allclose(scores, one_by_one(network(), maps), atol=1e-6)


def test_targets_share_the_passes():
    model, passes = counted(network())
    counts = []
    for targets in ([1, 2], [[0, 1, 2], [2, 1, 0]]):
        score_cam(model, images(), targets, batch_size=2)
        jax.effects_barrier()
        counts.append(sum(passes))
        passes.clear()
    # Both inputs unmasked, and each under 4 live channels and an empty mask.
    assert counts == [2 * (1 + 5)] * 2


def loops(function, *args):
    text = str(jax.make_jaxpr(function)(*args))
    return text.count(" scan["), text.count(" while["), text.count(" cond[")


def test_no_loop_where_one_chunk_suffices_and_one_where_not():
    maps = random_masks(3)
    assert loops(lambda maps: scored(network(), maps, batch_size=6), maps) == (0, 0, 0)
    assert loops(lambda maps: scored(network(), maps, batch_size=5), maps) == (1, 0, 1)


def test_the_model_is_compiled_once_though_the_chunks_do_not_fit():
    traced = []

    def model(x):
        traced.append(len(x))
        return network()(x)

    jax.make_jaxpr(lambda maps: scored(model, maps, batch_size=4))(random_masks(5))
    assert set(traced) == {4 // streams()}  # the halves of a chunk on a CPU


def temporaries(channels, batch_size, size=64):
    """Peak bytes of temporaries, as the compiler states them."""
    kernel = jnp.ones((3, 3, 3, 16)) / 27
    head = jnp.ones((16, 5))

    def model(x):
        y = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jax.nn.relu(y).mean((1, 2)) @ head, x

    def run(inputs, maps):
        return score_masks(
            model, inputs, maps, masks.resize,
            score=jax.nn.softmax, targets=jnp.zeros((1, 1), int), batch_size=batch_size,
        )  # fmt: skip

    shapes = jnp.zeros((1, size, size, 3)), jnp.zeros((1, 4, 4, channels))
    return jax.jit(run).lower(*shapes).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.usefixtures("cpus")
def test_memory_grows_with_the_batch_and_not_with_the_channels():
    few, many, wide = temporaries(64, 4), temporaries(512, 4), temporaries(512, 32)
    # What remains of each of 448 more channels: its map, its place in the order, its score.
    assert many - few < 448 * 4 * (2 * 16 + 16)
    assert many < 1.2 * few
    assert wide > 4 * many


@pytest.mark.usefixtures("cpus")
@pytest.mark.parametrize("name", ["official", "pytorch-grad-cam", "torchcam", "tf-keras-vis"])
def test_the_maps_of_a_large_layer_are_stored_twice(name):
    channels, grid = 256, 32

    def explain(inputs, kernel):
        def model(x):  # the scores come by another way, so that passes store no maps of their own
            return x.mean((1, 2)), jax.nn.relu(x[:, ::2, ::2, :1] * kernel)

        return score_cam(model, inputs, 0, variant=variants.BY_NAME[name], batch_size=4).heatmap

    shapes = jnp.zeros((1, 2 * grid, 2 * grid, 3)), jnp.ones((1, 1, 1, channels))
    compiled = jax.jit(explain).lower(*shapes).compile()
    copies = compiled.memory_analysis().temp_size_in_bytes / (channels * grid**2 * 4)
    # The maps, the masks, and what tells which of them are live. JAX 0.10 turns the masks around.
    assert copies < (3.5 if jax.__version_info__ < (0, 11) else 2.5)


@pytest.mark.usefixtures("cpus")
def test_remat_stores_less_for_the_backward_pass():
    maps, model = random_masks(512), network()

    def bytes_for(remat):
        def loss(x):
            return score_masks(
                model, x, maps, masks.resize,
                score=jax.nn.softmax, targets=TARGETS, batch_size=4, remat=remat,
            ).sum()  # fmt: skip

        compiled = jax.jit(jax.grad(loss)).lower(jnp.asarray(images())).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert bytes_for(True) < bytes_for(False) / 10


@pytest.mark.parametrize("devices", [3, 8])
def test_devices_share_the_live_masks(devices, cpus):
    channels, live = 24, 12
    maps = random_masks(channels, [(i, k) for i in (0, 1) for k in range(live, channels)])
    mesh = jax.make_mesh((devices,), ("masks",), devices=cpus[:devices])
    model, passes = counted(network())
    scores = scored(model, maps, batch_size=1, mesh=mesh)
    jax.effects_barrier()
    needed = 2 * (live + 1)
    assert len(passes) == math.ceil(needed / devices) * devices
    np.testing.assert_allclose(scores, scored(network(), maps), atol=1e-6)


def test_batch_size_must_be_positive():
    with pytest.raises(ValueError, match="batch_size is -1"):
        scored(network(), random_masks(3), batch_size=-1)


def test_the_default_batch_size_fits_the_memory_that_is_free(monkeypatch):
    class Device:
        def __init__(self, platform, free):
            self.platform, self.free = platform, free

        def memory_stats(self):
            return self.free and {"bytes_limit": self.free + 1000, "bytes_in_use": 1000}

    def chosen(free, platform="gpu"):
        monkeypatch.setattr(jax, "local_devices", lambda backend: [Device(platform, free)])
        return default_batch_size(network(), jnp.asarray(images()))

    assert chosen(None, "cpu") <= 8  # as many as its caches hold
    most = chosen(None)
    assert most == chosen(2**40)
    some = chosen(4 * images()[:1].nbytes * most)
    assert 1 <= some < most
    assert chosen(10) == 1


def test_the_default_batch_size_is_found_without_compiling(monkeypatch):
    class Device:
        platform = "gpu"

        def memory_stats(self):
            return {"bytes_limit": 4 * 40 * images()[:1].nbytes}

    def refuse(*asked, **options):
        raise AssertionError("compiled")

    sizes = []

    def explain(model, inputs):
        sizes.append(default_batch_size(model, inputs))
        return inputs

    monkeypatch.setattr(tuning, "device_of", lambda mesh=None: Device())
    monkeypatch.setattr(jax.stages.Lowered, "compile", refuse)
    jax.make_jaxpr(explain)(network(), jnp.asarray(images()))  # with traced weights
    assert 1 < sizes[0] < 40


@pytest.mark.parametrize("parts", [1, 2])
def test_chunks_are_as_small_as_their_number_allows(parts):
    for count, most in itertools.product(range(1, 40), range(parts, 20, parts)):
        chunks = math.ceil(count / most)
        sizes = range(parts, most + 1, parts)
        smallest = next(size for size in sizes if math.ceil(count / size) == chunks)
        assert even_size(count, most, parts) == min(smallest, count)


def test_the_devices_of_a_mesh_decide_or_else_the_default_one(monkeypatch):
    cpus = jax.devices("cpu")
    mesh = jax.make_mesh((2,), ("masks",), devices=cpus[:2])
    accelerator = types.SimpleNamespace(platform="gpu", memory_stats=lambda: None)
    devices = {None: [accelerator], "cpu": cpus}
    monkeypatch.setattr(jax, "local_devices", lambda backend: devices[backend])

    def choices(mesh=None):
        return default_batch_size(network(), jnp.asarray(images()), mesh), streams(mesh)

    few, halves = choices(mesh)
    many, whole = choices()
    assert many > few
    assert (whole, halves) == (1, 2)
    for default in ("cpu", cpus[0]):
        with jax.default_device(default):
            assert choices() == (few, halves)


def test_scores_are_single_precision_for_half_precision_models():
    halved = jax.tree.map(lambda w: w.astype(jnp.bfloat16), network())
    maps = random_masks(CHANNELS)
    scores = score_masks(
        halved, jnp.asarray(images(), jnp.bfloat16), maps, masks.resize,
        score=jax.nn.softmax, targets=TARGETS,
    )  # fmt: skip
    assert scores.dtype == jnp.float32
    np.testing.assert_allclose(scores, one_by_one(network(), maps), atol=0.02)
