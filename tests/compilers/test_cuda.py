"""Programs for an H100, compiled where there is none: what becomes a kernel of its own."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks.compilers import (
    chips,
    compile_for,
    forecast,
    kernels_of,
    kernels_of_loop,
)
from scorecam_jax import METHODS, Deviation, models, variants
from scorecam_jax.engine.memory import estimate_temporaries
from tests.compilers.networks import SIDE, bundled_vit, cnn, vit
from tests.compilers.programs import compiled, temporaries

pytestmark = pytest.mark.cuda

CONVOLUTION = "__cudnn$convBiasActivationForward"


@pytest.fixture(scope="module", autouse=True)
def compiler():
    pytest.importorskip("jax_cuda12_plugin")


def chunk_of(name, dtype, size=64):
    """The program for two chunks of masked inputs, and the kernels of one."""
    model = models.random(name, dtype=dtype).model
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    program = compiled("h100", model, images, channels=2 * size - 1, batch_size=size).as_text()
    return program, kernels_of_loop(program)


def adds_a_shortcut(kernel):
    return '"side_input_scale":1' in kernel.line


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_resnet_runs_a_kernel_for_each_layer(dtype):
    _, kernels = chunk_of("resnet50", dtype)
    # cuDNN adds bias and shortcut and rectifies within each of the 53 convolutions.
    layers = [kernel for kernel in kernels if kernel.name == CONVOLUTION]
    assert len(layers) == 53
    assert sum(map(adds_a_shortcut, layers)) == 16
    # Besides, masks are resized and their extremes found, and the last activations averaged. One
    # kernel masks, pads and makes the stem's blocks of pixels; one pools.
    assert len(kernels) <= 53 + 17
    images = 64 * 224 * 224 * 3 * jnp.dtype(dtype).itemsize
    large = [kernel for kernel in kernels if kernel.moved > images and kernel not in layers]
    assert len(large) == 2


def test_efficientnet_has_no_grouped_convolutions():
    program, kernels = chunk_of("efficientnet_lite0", jnp.float32)
    assert "feature_group_count" not in program
    # All but the depthwise layers: the stem, 16 projections, 15 expansions and the last one.
    layers = [kernel for kernel in kernels if kernel.name == CONVOLUTION]
    assert len(layers) == 33
    assert sum(map(adds_a_shortcut, layers)) == 9


@pytest.mark.parametrize("name", METHODS)
def test_every_method_compiles(name):
    compiled("h100", cnn(32), method=METHODS[name])


@pytest.mark.parametrize("name", variants.BY_NAME)
def test_every_variant_compiles(name):
    program = compiled("h100", cnn(32), variant=variants.BY_NAME[name]).as_text()
    # PyTorch's rounding errors are computed in double precision, by this variant alone.
    assert ("f64[" in program) == (name == "pytorch-grad-cam")


@pytest.mark.parametrize("network", [vit, bundled_vit])
def test_a_vision_transformer_compiles(network):
    assert "f64[" not in compiled("h100", network()).as_text()


@pytest.mark.parametrize("network", [cnn, bundled_vit])
def test_temporaries_do_not_grow_with_the_number_of_channels(network):
    few, many = 128, 1024
    grown = temporaries(compiled("h100", network(many), batch_size=16)) - temporaries(
        compiled("h100", network(many), batch_size=16, channels=Deviation(few))
    )
    assert grown < (many - few) * SIDE**2 * 4 / 4


def test_a_forecast_counts_operations_bytes_and_kernels():
    preprocess = models.Preprocess((SIDE, SIDE), (0.0,) * 3, (255.0,) * 3)
    classifier = models.Classifier(cnn(63), preprocess, ("",) * 10, (SIDE, SIDE), "features")
    found = forecast(classifier, "h100", batch_size=16)
    assert (found["device"], found["chunks"]) == ("NVIDIA H100 80GB HBM3", 4)
    products = 32 * 32 * 8 * 27 + 16 * 16 * 63 * 8 * 9 + 63 * 10
    assert found["flops"] == 2 * 65 * products
    assert 4 < found["kernels"] < 40
    # At least, each of 64 masked inputs is written and read, and so are both layers.
    places = SIDE * SIDE * 3 + 32 * 32 * 8 + 16 * 16 * 63
    assert found["bytes_accessed"] > 64 * 2 * 4 * places


def test_a_forecast_counts_those_of_a_transformer():
    width, depth, patches = 64, 2, 64
    preprocess = models.Preprocess((SIDE, SIDE), (0.0,) * 3, (255.0,) * 3)
    layer = f"blocks/{depth - 1}/norm1"
    network = bundled_vit(width, depth)
    classifier = models.Classifier(network, preprocess, ("",) * 10, (SIDE, SIDE), layer)
    found = forecast(classifier, "h100", batch_size=16)
    assert (found["passes"], found["batch_size"], found["chunks"]) == (width + 1, 13, 5)
    tokens = patches + 1
    block = tokens * 12 * width**2 + 2 * tokens**2 * width
    products = patches * 8 * 8 * 3 * width + depth * block + width * 10
    assert found["flops"] == 2 * (1 + found["passes"]) * products
    # Products: of queries, keys and values; of keys by queries; of the matrix by the values; the
    # projection; two of the MLP. At most, as many kernels again prepare them and as many make the
    # masks.
    assert 6 * depth <= found["kernels"] <= 3 * 6 * depth + 20


@pytest.mark.parametrize(
    "name", ["efficientnet_lite0", "resnet50", "vgg16", "vit_small_patch16_224"]
)
def test_memory_is_estimated_within_a_factor_of_two(name):
    model = models.random(name, dtype=jnp.bfloat16).model
    images = jax.ShapeDtypeStruct((32, 224, 224, 3), jnp.float32)
    program = compile_for(chips("h100"), lambda model, images: model(images), model, images)
    estimated = estimate_temporaries(jax.make_jaxpr(lambda images: model(images))(images), "cuda")
    assert 1 / 2 < estimated / temporaries(program) < 2


def test_kernels_are_read_with_what_they_move():
    program = """HloModule m

%inner (p: f32[2,3]) -> f32[2,3] {
  %p = f32[2,3]{1,0} parameter(0)
  ROOT %n = f32[2,3]{1,0} negate(%p)
}

ENTRY %main (a: f32[2,3], b: bf16[4]) -> (f32[2,3], u8[0]) {
  %a = f32[2,3]{1,0} parameter(0)
  %f = f32[2,3]{1,0} fusion(%a), kind=kLoop, calls=%inner
  ROOT %c = (bf16[4]{0}, u8[0]{0}) custom-call(%f), custom_call_target="__cudnn$convForward"
}
"""
    (kernels,) = kernels_of(program).values()
    found = [(kernel.name, kernel.moved) for kernel in kernels]
    assert found == [("fusion", 48), ("__cudnn$convForward", 32)]
    assert kernels_of_loop(program) == kernels
