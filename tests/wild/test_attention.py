"""Other people's transformers: attention as it is found, and as their own code computes it."""

import jax
import numpy as np
import pytest

from scorecam_jax import list_layers, show_attention
from tests import reference
from tests.wild.networks import QUICK

pytestmark = [
    pytest.mark.wild,
    pytest.mark.canary,
    pytest.mark.filterwarnings("ignore:::(?!scorecam_jax)"),
]

# How many matrices each has, and how many windows the last of them.
NETWORKS = {
    "transformers ViT": (3, 0),
    "transformers BEiT": (3, 0),
    "transformers DINOv2": (3, 0),
    "transformers CLIP": (3, 0),
    "equimo ViT": (3, 0),
    "keras-hub ViT": (2, 0),
    "keras-hub Swin": (4, 4),
    "keras-hub MiT": (4, 0),
}


@pytest.fixture(params=NETWORKS)
def wild(request):
    with jax.numpy_rank_promotion("allow"):  # what other people's code needs
        yield request.param, QUICK[request.param]()


def softmaxes(found, monkeypatch):
    """What `jax.nn.softmax` returns, or is to in `jax.nn.dot_product_attention`, in a network."""
    seen, softmax, attend = [], jax.nn.softmax, jax.nn.dot_product_attention

    def recorded(*args, **kwargs):
        output = softmax(*args, **kwargs)
        jax.debug.callback(lambda value: seen.append(np.asarray(value)), output, ordered=False)
        return output

    def attended(query, key, *args, scale=None, **kwargs):
        logits = np.einsum("nqhd,nkhd->nhqk", np.asarray(query), np.asarray(key))
        seen.append(reference.softmax(logits * (scale or query.shape[-1] ** -0.5)))
        return attend(query, key, *args, scale=scale, **kwargs)

    with monkeypatch.context() as patched, jax.disable_jit():
        patched.setattr(jax.nn, "softmax", recorded)
        patched.setattr(jax.nn, "dot_product_attention", attended)
        for image in found.images:
            found.plain(image[None])
            jax.effects_barrier()
    return seen


def test_attention_is_what_the_network_computes(wild, monkeypatch):
    name, found = wild
    count, windows = NETWORKS[name]
    model = show_attention(found.model, found.images)
    _, matrices = model(found.images)
    assert len(matrices) == count
    assert matrices[-1].ndim == (5 if windows else 4)
    listed = [x.path for x in list_layers(found.model, found.images) if x.kind.startswith("att")]
    assert len(listed) == count
    # Of each image, the network's own matrices come in the same order.
    seen = [each for each in softmaxes(found, monkeypatch) if each.ndim > 2]
    assert len(seen) == 2 * count
    for number, matrix in enumerate(matrices):
        expected = np.stack([seen[number], seen[count + number]])
        np.testing.assert_allclose(matrix, expected.reshape(matrix.shape), atol=1e-6)
