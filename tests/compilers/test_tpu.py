"""Programs for TPUs, compiled where there is none: what the compiler says of them."""

import re

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from benchmarks.compilers import chips, collectives, compile_for, forecast
from scorecam_jax import METHODS, Deviation, models, variants
from scorecam_jax.models.networks.vit import ViT
from tests.compilers.networks import SIDE, bundled_vit, cnn, vit
from tests.compilers.programs import compiled, temporaries

pytestmark = pytest.mark.tpu


@pytest.fixture(scope="module", autouse=True)
def compiler():
    pytest.importorskip("libtpu")


def is_of_single_precision(program):
    text = program.as_text()
    assert "f32[" in text
    return "f64[" not in text


def communicates_at_most_once(program):
    """Whether there is at most one collective, and that outside of all loops."""
    everywhere = collectives(program.as_text())
    return sum(everywhere.values()) <= 1 and collectives(entry(program)) == everywhere


def entry(program):
    """The text of a program without that of its loops and fusions."""
    return re.search(r"^ENTRY .*?^}", program.as_text(), re.S | re.M)[0]


@pytest.mark.slow
@pytest.mark.parametrize("slice_of", ["v5e:1x1", "v6e:1x1", "v5e:2x2"])
def test_efficientnet_compiles(slice_of):
    classifier = models.random("efficientnet_lite0", dtype=jnp.bfloat16)
    inputs = jax.ShapeDtypeStruct((1, *classifier.input_size, 3), jnp.float32)
    program = compiled(slice_of, classifier.model, inputs)
    assert is_of_single_precision(program)
    assert communicates_at_most_once(program)
    # The full-size masks of all 1280 channels would take more by themselves.
    assert temporaries(program) < 1280 * 224 * 224 * 4


@pytest.mark.parametrize("slice_of", ["v5e:1x1", "v6e:1x1", "v5e:2x2"])
@pytest.mark.parametrize("network", [vit, bundled_vit])
def test_a_vision_transformer_compiles(slice_of, network):
    program = compiled(slice_of, network())
    assert is_of_single_precision(program)
    assert communicates_at_most_once(program)


def test_a_transformer_copies_its_tokens_at_most_once_a_block():
    depth, tokens = 2, 197
    graph, weights = nnx.split(ViT(384, depth, 6, 16, rngs=nnx.Rngs(0)))
    weights = jax.tree.map(lambda array: array.astype(jnp.bfloat16), weights)
    images = jax.ShapeDtypeStruct((128, 224, 224, 3), jnp.bfloat16)
    program = compile_for(
        chips("v5e:1x1"), lambda *both: nnx.merge(graph, both[0])(both[1]), weights, images
    )
    # The means of the values; neither queries nor keys nor values.
    assert len(re.findall(rf"= bf16\[128,{tokens},\S+ copy\(", entry(program))) <= depth


def test_a_pod_compiles():
    program = compiled("v5e:16x16", cnn(2048))
    assert is_of_single_precision(program)
    assert sum(collectives(program.as_text()).values()) == 1
    assert communicates_at_most_once(program)


def test_temporaries_do_not_grow_with_the_number_of_channels():
    few, many = 128, 1024
    grown = temporaries(compiled("v5e:1x1", cnn(many), batch_size=16)) - temporaries(
        compiled("v5e:1x1", cnn(few), batch_size=16)
    )
    masks = (many - few) * SIDE**2 * 4
    assert grown < masks / 16


def test_temporaries_of_a_transformer_do_not_grow_with_the_number_of_channels():
    few, many = 64, 256
    grown = temporaries(compiled("v5e:1x1", bundled_vit(many), batch_size=16)) - temporaries(
        compiled("v5e:1x1", bundled_vit(many), batch_size=16, channels=Deviation(few))
    )
    assert grown < (many - few) * SIDE**2 * 4 / 4


def test_a_forecast_of_many_chunks_counts_what_one_chunk_does():
    preprocess = models.Preprocess((SIDE, SIDE), (0.0,) * 3, (255.0,) * 3)
    classifier = models.Classifier(cnn(63), preprocess, ("",) * 10, (SIDE, SIDE), "features")
    whole = forecast(classifier, "v5e:1x1", batch_size=64)
    parts = forecast(classifier, "v5e:1x1", batch_size=8)
    assert (whole["chunks"], parts["chunks"]) == (1, 8)
    assert whole["device"] == "TPU v5 lite"
    assert parts["flops"] == pytest.approx(whole["flops"], rel=0.3)
    # One product for each weight and place, at the least.
    products = 32 * 32 * 8 * 27 + 16 * 16 * 63 * 8 * 9 + 63 * 10
    assert whole["flops"] > 2 * 64 * products


def test_a_slice_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="no TPU slice 'v5e:many'; wanted a generation"):
        chips("v5e:many")


@pytest.mark.parametrize("name", METHODS)
def test_every_method_compiles(name):
    program = compiled("v5e:1x1", cnn(32), method=METHODS[name])
    assert is_of_single_precision(program)
    assert not collectives(program.as_text())


@pytest.mark.parametrize("name", variants.BY_NAME)
def test_every_variant_compiles(name):
    program = compiled("v5e:1x1", cnn(32), variant=variants.BY_NAME[name])
    assert is_of_single_precision(program)
    assert not collectives(program.as_text())
