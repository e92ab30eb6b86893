"""Methods that read attention against transformers' own matrices, and against torchcam's LeGrad."""

import functools
import importlib

import numpy as np
import pytest

from scorecam_jax import (
    attention_rollout,
    from_nnx,
    generic_attention,
    grad_eclip,
    legrad,
    raw_attention,
)
from scorecam_jax.models.networks import vit
from tests import reference
from tests.agreement import note_method
from tests.peers.test_transformers import entries, filled, randomised

torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")

pytestmark = pytest.mark.peers

SIDE, TARGET, GRID = 64, 3, (4, 4)
INPUTS = np.random.default_rng(0).normal(size=(1, SIDE, SIDE, 3)).astype("float32")


def shown(peer):
    """The same network of two blocks, two heads and 32 features here."""
    return from_nnx(filled(vit, functools.partial(vit.ViT, 32, 2, 2, 16), entries(peer)))


def first():
    return torch.from_numpy(INPUTS.transpose(0, 3, 1, 2).copy())


@pytest.fixture(scope="module")
def transformers_vit(torchvision):
    """A ViT of the package transformers, and what it tells of its attention."""
    package = pytest.importorskip("transformers", reason="compares with it")
    config = package.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128,
        image_size=SIDE, patch_size=16, num_labels=7, attn_implementation="eager",
    )  # fmt: skip
    peer = randomised(package.ViTForImageClassification(config))
    read = {}

    def keep(name):
        return lambda _, __, output: read.__setitem__(name, output)

    last = peer.vit.encoder.layer[-1].attention
    for name in ("query", "key", "value"):
        getattr(last.attention, name).register_forward_hook(keep(name))
    last.output.dense.register_forward_pre_hook(
        lambda _, inputs: (inputs[0].retain_grad(), read.__setitem__("made", inputs[0]))[1]
    )
    found = peer(first(), output_attentions=True)
    for matrix in found.attentions:
        matrix.retain_grad()
    found.logits[0, TARGET].backward()
    matrices = [matrix.detach().numpy()[0].astype(float) for matrix in found.attentions]
    slopes = [matrix.grad.numpy()[0].astype(float) for matrix in found.attentions]
    tokens = {name: value.detach().numpy()[0].astype(float) for name, value in read.items()}
    tokens["slope"] = read["made"].grad.numpy()[0].astype(float)
    return shown(peer), matrices, slopes, tokens


def finished(row):
    """A heatmap of what is told of the patches."""
    return reference.finish(np.asarray(row)[1:].reshape(GRID), (SIDE, SIDE))


def rollout(matrices, slopes, tokens):
    total = np.eye(len(matrices[0][0]))
    for matrix in matrices:
        mean = matrix.mean(0) + np.eye(len(total))
        total = mean / mean.sum(-1, keepdims=True) @ total
    return total[0]


def generic(matrices, slopes, tokens):
    total = np.eye(len(matrices[0][0]))
    for matrix, slope in zip(matrices, slopes, strict=True):
        total = total + np.maximum(matrix * slope, 0).mean(0) @ total
    return total[0]


def raw(matrices, slopes, tokens):
    return matrices[-1].mean(0)[0]


def eclip(matrices, slopes, tokens):
    query, keys = tokens["query"][0], tokens["key"][1:]
    cosines = keys @ query / np.linalg.norm(keys, axis=1) / np.linalg.norm(query)
    taken = tokens["value"][1:] @ tokens["slope"][0]
    return np.concatenate([[0], np.maximum(taken * reference.scale(cosines), 0)])


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (attention_rollout, rollout),
        (generic_attention, generic),
        (raw_attention, raw),
        (grad_eclip, eclip),
    ],
    ids=lambda each: each.__name__,
)
def test_equals_the_formula_on_matrices_of_transformers(
    transformers_vit, method, expected, record_property
):
    model, *told = transformers_vit
    heatmap = method(model, INPUTS, TARGET).heatmap[0]
    difference = np.abs(heatmap - finished(expected(*told))).max()
    note_method(record_property, method, "transformers' matrices", "ViT, random", difference)
    assert difference < 5e-4


def test_legrad_equals_torchcams(torchvision, record_property):
    package = pytest.importorskip("torchcam.methods", reason="torchcam is not installed")
    module = importlib.import_module("torchvision.models.vision_transformer")
    peer = randomised(module.VisionTransformer(SIDE, 16, 2, 2, 32, 128, num_classes=7))
    with package.LeGrad(peer, list(peer.encoder.layers)) as extractor:
        scores = peer(first())
        cams = extractor(TARGET, scores, normalized=False)
    # Their mean over blocks is the sum after scaling.
    low = sum(cam[0].detach().numpy().astype(float) for cam in cams)
    expected = reference.finish(low, (SIDE, SIDE))
    difference = np.abs(legrad(shown(peer), INPUTS, TARGET).heatmap[0] - expected).max()
    note_method(record_property, legrad, "torchcam 0.5.0", "ViT, random", difference)
    assert difference < 5e-4
