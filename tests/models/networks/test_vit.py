"""A tiny vision transformer against loops in NumPy; larger ones are tested beside PyTorch."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from scorecam_jax import list_layers
from scorecam_jax.adapters.nnx import from_nnx
from scorecam_jax.models.checkpoints.fill import from_checkpoint
from scorecam_jax.models.checkpoints.layout import layout_of
from scorecam_jax.models.networks import vit

RNG = np.random.default_rng(0)
WIDTH, DEPTH, HEADS, PATCH, CLASSES = 8, 2, 2, 4, 3


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def checkpoint(*, prefix=1, placed=1, scales=False, classes=CLASSES):
    """timm's names, for a grid of 2 x 2."""
    values = {
        "cls_token": normal(1, 1, WIDTH),
        "pos_embed": normal(1, placed + 4, WIDTH),
        "patch_embed.proj.weight": normal(WIDTH, 3, PATCH, PATCH) / 7,
        "patch_embed.proj.bias": normal(WIDTH),
        "norm.weight": normal(WIDTH),
        "norm.bias": normal(WIDTH),
    }
    if prefix > 1:
        values["reg_token"] = normal(1, prefix - 1, WIDTH)
    if classes:
        values |= {"head.weight": normal(classes, WIDTH), "head.bias": normal(classes)}
    for block in range(DEPTH):
        for layer, outputs, inputs in (
            ("attn.qkv", 3 * WIDTH, WIDTH),
            ("attn.proj", WIDTH, WIDTH),
            ("mlp.fc1", 4 * WIDTH, WIDTH),
            ("mlp.fc2", WIDTH, 4 * WIDTH),
        ):
            values[f"blocks.{block}.{layer}.weight"] = normal(outputs, inputs) / 3
            values[f"blocks.{block}.{layer}.bias"] = normal(outputs)
        for layer in ("norm1", "norm2"):
            values[f"blocks.{block}.{layer}.weight"] = normal(WIDTH)
            values[f"blocks.{block}.{layer}.bias"] = normal(WIDTH)
        if scales:
            values[f"blocks.{block}.ls1.gamma"] = normal(WIDTH)
            values[f"blocks.{block}.ls2.gamma"] = normal(WIDTH)
    return values


def network(values):
    found = vit.arguments(values, {})
    layout = layout_of(vit.LAYOUTS, values)
    return from_checkpoint(
        lambda rngs: vit.ViT(WIDTH, DEPTH, HEADS, PATCH, **found, rngs=rngs),
        layout.converted(values),
        layout.names,
    )


def norm(x, values, name):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return x * values[f"{name}.weight"] + values[f"{name}.bias"]


def product(x, values, name):
    return x @ values[f"{name}.weight"].T + values[f"{name}.bias"]


def tokens_by_hand(image, values, placed):
    """The normalised tokens of one image, by loops over places, heads and features."""
    patches = []
    for top in range(0, image.shape[0], PATCH):
        for left in range(0, image.shape[1], PATCH):
            patch = image[top : top + PATCH, left : left + PATCH].transpose(2, 0, 1)
            kernel = values["patch_embed.proj.weight"]
            patches.append((kernel * patch).sum((1, 2, 3)) + values["patch_embed.proj.bias"])
    prefix = [*values["cls_token"][0], *values.get("reg_token", np.zeros((1, 0, WIDTH)))[0]]
    x = np.array([*prefix, *patches], np.float64)
    places = values["pos_embed"][0]
    x[:placed] += places[:placed]
    x[len(prefix) :] += places[placed:]
    each = WIDTH // HEADS
    for block in range(DEPTH):
        name = f"blocks.{block}"
        scales = [values.get(f"{name}.ls{n}.gamma", 1.0) for n in (1, 2)]
        qkv = product(norm(x, values, f"{name}.norm1"), values, f"{name}.attn.qkv")
        mixed = np.zeros_like(x)
        for head in range(HEADS):
            part = slice(head * each, (head + 1) * each)
            q, k, v = (qkv[:, kind * WIDTH :][:, part] for kind in range(3))
            shares = np.exp(q @ k.T / math.sqrt(each))
            mixed[:, part] = shares / shares.sum(1, keepdims=True) @ v
        x = x + scales[0] * product(mixed, values, f"{name}.attn.proj")
        hidden = product(norm(x, values, f"{name}.norm2"), values, f"{name}.mlp.fc1")
        hidden = hidden * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2))) / 2
        x = x + scales[1] * product(hidden, values, f"{name}.mlp.fc2")
    return norm(x, values, "norm")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"prefix": 3, "placed": 1, "scales": True, "classes": None},
        {"prefix": 3, "placed": 0},
    ],
    ids=["classifier", "dinov2", "registers"],
)
def test_outputs_are_those_of_loops_in_numpy(options):
    values = checkpoint(**options)
    images = normal(2, 8, 8, 3)
    by_hand = [tokens_by_hand(image, values, options.get("placed", 1))[0] for image in images]
    expected = np.array(by_hand)
    if "head.weight" in values:
        expected = product(expected, values, "head")
    net = network(values)
    outputs = jax.jit(lambda images: net(images))(images)
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_pooling_reads_what_it_says():
    options = {"classes": None, "cells": (2, 2), "prefix": 2, "rngs": nnx.Rngs(0)}
    x = jnp.asarray(normal(1, 6, WIDTH))
    normed = norm(np.asarray(x[0]), {"n.weight": 1, "n.bias": 0}, "n")
    mean = norm(np.asarray(x[0, 2:].mean(0)), {"n.weight": 1, "n.bias": 0}, "n")
    for pool, expected in (
        ("class", normed[0]),
        ("mean", mean),
        ("class+mean", np.concatenate([normed[0], normed[2:].mean(0)])),
        ("class+distillation", np.concatenate([normed[0], normed[1]])),
    ):
        net = vit.ViT(WIDTH, 0, HEADS, PATCH, pool=pool, **options)
        np.testing.assert_allclose(net.pooled(x)[0], expected, rtol=0, atol=1e-5)


def test_the_default_layer_has_the_grid_of_the_patches():
    model = from_nnx(vit.ViT(WIDTH, DEPTH, HEADS, PATCH, cells=(2, 2), rngs=nnx.Rngs(0)))
    layers = list_layers(model, jax.ShapeDtypeStruct((1, 8, 12, 3), "float32"))
    default = next(layer for layer in layers if layer.default)
    assert (default.path, default.grid, default.alive) == ("blocks/0", (2, 3), True)
    last = next(layer for layer in layers if layer.path == "blocks/1/norm1")
    assert (last.grid, last.alive) == ((2, 3), True)


def test_bfloat16_stays_close():
    net = vit.ViT(32, DEPTH, HEADS, PATCH, cells=(3, 3), classes=6, rngs=nnx.Rngs(0))
    images = normal(2, 8, 16, 3)
    outputs, _ = jax.jit(lambda m, x: m(x))(from_nnx(net, "blocks/1/norm1"), images)
    half = from_nnx(net, "blocks/1/norm1", dtype=jnp.bfloat16)
    ours, activations = jax.jit(lambda m, x: m(x))(half, images)
    assert ours.dtype == activations.dtype == jnp.bfloat16
    assert np.corrcoef(np.ravel(ours.astype(jnp.float32)), np.ravel(outputs))[0, 1] > 0.99


def test_sides_are_multiples_of_the_patch():
    net = vit.ViT(WIDTH, 1, HEADS, PATCH, cells=(2, 2), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"10x8.*multiples of its 4-pixel patch, such as 8x8"):
        net(jnp.zeros((1, 10, 8, 3)))


@pytest.mark.parametrize(
    ("make", "parameters"),
    [
        # Published counts of timm's vit_*_patch16_224 with 1,000 classes.
        (vit.vit_tiny, 5_717_416),
        (vit.vit_base, 86_567_656),
        (vit.vit_large, 304_326_632),
    ],
)
def test_sizes_are_the_published_ones(make, parameters):
    state = nnx.state(nnx.eval_shape(lambda: make(rngs=nnx.Rngs(0))))
    # The position of the class token is folded into it.
    width = state["norm"]["scale"].shape[0]
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == parameters - width


def test_a_table_of_no_square_grid_is_refused():
    values = checkpoint()
    values["pos_embed"] = normal(1, 8, WIDTH)
    with pytest.raises(ValueError, match="8 positions fits no square grid"):
        vit.arguments(values, {})
