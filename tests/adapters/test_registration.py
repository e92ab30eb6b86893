"""Places that are measured: networks whose cells look elsewhere than their grid lies."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

from scorecam_jax import (
    diagnose,
    from_function,
    from_linen,
    grad_cam,
    list_layers,
    register,
    registration,
    score_cam,
)
from scorecam_jax.adapters import model as adapter_model

SIDE, CELL = 24, 3
CELLS = SIDE // CELL
IMAGE = jnp.asarray(np.random.default_rng(0).normal(size=(1, SIDE, SIDE, 3)), jnp.float32)
MIX = jnp.asarray(np.random.default_rng(1).normal(size=(3, 6)), jnp.float32)


def pool(x):
    """The mean of each patch, in six channels."""
    sides = (1, *[CELL] * (x.ndim - 2), 1)
    sums = jax.lax.reduce_window(x, 0.0, jax.lax.add, sides, sides, "VALID")
    return jnp.tanh(sums @ MIX)


def shown(layer):
    """A plain function that shows what `layer` makes of its inputs."""

    def model(x):
        activations = layer(x)
        return activations.mean(tuple(range(1, x.ndim - 1))), activations

    return model


def pad(x, *sides):
    return jnp.pad(x, ((0, 0), *sides, (0, 0)))


KINDS = {
    "aligned": pool,
    "axes swapped": lambda x: pool(x.swapaxes(1, 2)),
    "mirrored": lambda x: pool(x[:, ::-1]),
    "cropped: parts of the image are not seen": lambda x: pool(x[:, 6:-6, 6:-6]),
    "shifted or padded": lambda x: pool(pad(x, (0, 12), (0, 12))),
    "no places along an axis": lambda x: jnp.repeat(pool(x).mean(1, keepdims=True), 8, 1),
    "no places: what changes does not follow what was changed": lambda x: pool(x)[
        :, np.random.default_rng(0).permutation(8)
    ][:, :, np.random.default_rng(1).permutation(8)],
}  # fmt: skip


@pytest.mark.parametrize("verdict", KINDS)
def test_the_verdict_names_what_is_wrong(verdict):
    found = registration(shown(KINDS[verdict]), IMAGE)
    assert found.verdict == verdict
    assert found.aligned == (found.finding is None) == (verdict == "aligned")
    if not found.aligned:
        assert found.finding.kind == "places"
        assert verdict in found.finding.text


def test_slope_and_offset_are_those_of_the_line():
    # A crop of the middle half: a cell's share of the grid is twice its share of the image.
    found = registration(shown(KINDS["cropped: parts of the image are not seen"]), IMAGE)
    np.testing.assert_allclose(found.slope, 2 * np.eye(2), atol=0.6)
    np.testing.assert_allclose(found.offset, 0, atol=0.1)
    found = registration(shown(KINDS["axes swapped"]), IMAGE)
    np.testing.assert_allclose(found.slope, [[0, 1], [1, 0]], atol=0.05)
    assert found.r2 > 0.98


@pytest.mark.parametrize("space", [(40,), (12, 9, 15)])
def test_signals_and_volumes(space):
    inputs = jnp.asarray(np.random.default_rng(0).normal(size=(2, *space, 3)), jnp.float32)
    found = registration(shown(pool), inputs)
    assert found.verdict == "aligned"
    assert found.patches == (25 if len(space) == 1 else 27)
    assert found.heard >= 25
    assert registration(shown(lambda x: pool(x[:, ::-1])), inputs).verdict == "mirrored"


def test_channels_first_and_black_images():
    def first(x):
        activations = jnp.moveaxis(pool(jnp.moveaxis(x, 1, -1)), -1, 1)
        return activations.mean((2, 3)), activations

    images = jnp.moveaxis(0 * IMAGE, -1, 1)
    assert registration(first, images, channel_axis=1).verdict == "aligned"


def test_values_must_be_known_and_the_layer_have_a_grid():
    with pytest.raises(ValueError, match="call it outside jit"):
        jax.jit(lambda x: registration(shown(pool), x).r2)(IMAGE)
    with pytest.raises(ValueError, match=r"shape \(7, 6\), wanted a grid"):
        registration(lambda x: (x.mean((1, 2)), pool(x).mean((1, 2))), IMAGE)


# What the program tells, and what is measured because it does not.
HEAD = jnp.asarray(np.random.default_rng(2).normal(size=(6, 4)), jnp.float32)


SCATTER = jnp.asarray(np.random.default_rng(3).normal(size=(64, 64)), jnp.float32)


def network(layer, grid=None):
    """A network whose layer "places" is followed by mixing and by weights."""

    def apply(params, x):
        activations = checkpoint_name(jax.nn.relu(layer(params, x)), "places")
        return activations.mean(tuple(range(1, activations.ndim - 1))) @ params["head"]

    return from_function(apply, {"head": HEAD, "mix": SCATTER}, grid=grid)


def blob(row, column, inside=IMAGE):
    """An image that is grey but for one cell."""
    at = (
        slice(None),
        slice(row * CELL, (row + 1) * CELL),
        slice(column * CELL, (column + 1) * CELL),
    )
    return jnp.zeros_like(inside).at[at].set(1)


def peak(heatmap):
    row, column = np.unravel_index(np.argmax(heatmap[0]), heatmap.shape[1:])
    return int(row) // CELL, int(column) // CELL


TURNED = {
    "width before height": lambda _, x: pool(x.swapaxes(1, 2)),
    "upside down": lambda _, x: pool(x[:, ::-1]),
    "padded": lambda _, x: pool(pad(x, (0, 12), (6, 6))),
    "crop": lambda _, x: pool(x[:, 3:-6, 3:-6]),
}


@pytest.mark.parametrize(("kind", "jit"), [*((kind, False) for kind in TURNED), ("crop", True)])
def test_maps_are_drawn_where_the_cells_look(kind, jit):
    model = network(TURNED[kind])
    explain = jax.jit(grad_cam) if jit else grad_cam
    image = blob(2, 4)
    target = int((pool(image)[0, 2, 4] @ HEAD).argmax())
    explanation = explain(model, image, target)
    assert peak(explanation.heatmap) == (2, 4)


def test_masks_are_put_where_the_cells_look_and_what_is_not_seen_is_marked():
    model = network(TURNED["crop"])
    image = blob(2, 4)
    explanation = score_cam(model, image, 0)
    seen = np.zeros((1, SIDE, SIDE), bool)
    seen[:, 3:-6, 3:-6] = True
    np.testing.assert_array_equal(explanation.seen, seen)
    assert not explanation.heatmap[~seen].any()
    # The same as cutting the image before the network.
    cut = score_cam(network(lambda _, x: pool(x)), image[:, 3:-6, 3:-6], 0)
    np.testing.assert_allclose(explanation.scores, cut.scores, rtol=1e-5)
    np.testing.assert_allclose(explanation.heatmap[:, 3:-6, 3:-6], cut.heatmap, atol=1e-5)
    (finding,) = [each for each in diagnose(explanation) if each.kind == "places"]
    assert finding.figure == pytest.approx(seen.mean())
    assert "39 %" in finding.text
    assert registration(model, IMAGE).aligned


def tokens(x):
    return pool(x).reshape(len(x), -1, 6)


def gathered(order):
    """Tokens in an order that the program does not tell."""
    return lambda _, x: tokens(x)[:, np.asarray(order)]


NUMBERS = np.arange(CELLS**2).reshape(CELLS, CELLS)
WINDOWS = NUMBERS.reshape(2, 4, 2, 4).swapaxes(1, 2).ravel()


def with_tokens(before, after):
    def layer(_, x):
        own = tokens(x)[:, NUMBERS.ravel()]
        new = [jnp.ones((len(x), count, 6)) for count in (before, after)]
        return jnp.concatenate([new[0], own, new[1]], 1)[:, np.arange(before + 64 + after)]

    return layer


ARRANGED = {
    "rows": gathered(NUMBERS.ravel()),
    "columns": gathered(NUMBERS.T.ravel()),
    "windows": gathered(WINDOWS),
    "class token last": with_tokens(0, 1),
    "text after": with_tokens(0, 6),
    "13 registers": with_tokens(13, 0),
    "class token and text": with_tokens(1, 9),
    "told": lambda _, x: jnp.concatenate([tokens(x), jnp.ones((len(x), 20, 6))], 1),
}


@pytest.mark.parametrize("kind", ARRANGED)
def test_tokens_of_the_image_are_found_in_the_sequence(kind):
    model = network(ARRANGED[kind], grid=(CELLS, CELLS))
    expected = jax.nn.relu(pool(IMAGE))
    np.testing.assert_allclose(model(IMAGE)[1], expected, atol=1e-6)


def test_places_that_were_measured_hold_under_jit_for_the_model_that_register_returns():
    model = network(ARRANGED["columns"])
    settled = register(model, IMAGE)
    expected = jax.nn.relu(pool(IMAGE))
    np.testing.assert_allclose(jax.jit(lambda m, x: m(x)[1])(settled, IMAGE), expected, atol=1e-6)
    assert register(settled, IMAGE).func == settled.func
    plain = shown(pool)
    assert register(plain, IMAGE) is plain


def test_scattered_places_are_refused_with_what_was_measured():
    def latents(params, x):
        return jnp.einsum("ntk,ts->nsk", tokens(x), params["mix"])

    with pytest.raises(ValueError, match=r"'places' \(1, 64, 6\).* no places.*r².*layer=.*grid="):
        score_cam(network(latents), IMAGE, 0)


def test_a_check_is_made_once_for_a_program_and_shape(monkeypatch):
    counts = []
    measure = adapter_model.respond
    monkeypatch.setattr(adapter_model, "_SETTLED", {})
    monkeypatch.setattr(adapter_model, "respond", lambda *args: counts.append(1) or measure(*args))
    model = network(ARRANGED["columns"])
    model(IMAGE), model(IMAGE + 1)
    assert len(counts) == 1
    network(lambda _, x: pool(x))(IMAGE)  # told by the program
    assert len(counts) == 1


class Strided(nn.Module):
    strides: tuple

    @nn.compact
    def __call__(self, x):
        for i, stride in enumerate(self.strides):
            kernel = (3,) * (x.ndim - 2)
            x = nn.relu(nn.Conv(4 * (i + 1), kernel, strides=stride, name=f"c{i}")(x))
        return nn.Dense(3)(x.mean(tuple(range(1, x.ndim - 1))))


@pytest.mark.parametrize(
    ("strides", "shape", "grid"),
    [
        (((2, 2), (1, 2), (1, 2)), (1, 16, 16, 1), (8, 2)),
        (((2, 1), (2, 1), (2, 1)), (1, 16, 8, 1), (2, 8)),
        (((2, 2, 2), (1, 2, 2)), (1, 8, 8, 8, 3), (4, 2, 2)),
        (((1, 1, 1), (1, 2, 2), (2, 2, 2)), (1, 4, 8, 8, 1), (2, 2, 2)),
    ],
    ids=["frequency", "time", "video", "few slices"],
)
def test_a_grid_may_shrink_differently_along_each_axis(strides, shape, grid):
    module = Strided(strides)
    variables = jax.eval_shape(module.init, jax.random.key(0), jnp.ones(shape))
    last = list_layers(from_linen(module, variables), jax.ShapeDtypeStruct(shape, "float32"))
    (default,) = [layer for layer in last if layer.default]
    assert default.path == f"c{len(strides) - 1}:relu"
    assert default.shape == (1, *grid, 4 * len(strides))
    assert default.grid == grid


class Streams(nn.Module):
    kind: str = "logits"

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (4, 4), strides=4, name="stem")(x)
        a, b = jnp.split(x, 2, -1)
        a = a + nn.relu(nn.Conv(2, (3, 3), name="f")(b))
        b = b + nn.relu(nn.Conv(2, (3, 3), name="g")(a))
        z = nn.Dense(3)(jnp.concatenate([a.mean((1, 2)), b.mean((1, 2))], -1))
        return {
            "logits": z, "labels": z.argmax(-1), "yes": z > 0, "nothing": None, "loss": z.mean(),
            "lists": [z, z[:, :2]], "number": 3,
        }[self.kind]  # fmt: skip


def streams(kind="logits", layer=None):
    module = Streams(kind)
    variables = module.init(jax.random.key(0), IMAGE)
    return from_linen(module, variables, layer)


def test_streams_that_are_pooled_apart_are_named():
    text = r"'stem' .* only place .* layer=\['f', 'g'\] explains"
    with pytest.warns(UserWarning, match=text) as caught:
        streams()(IMAGE)
    assert caught[0].filename == __file__
    streams(layer="stem")(IMAGE)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("labels", r"outputs are int32\[1\], wanted floating-point .*\(1, .*without argmax"),
        ("yes", r"outputs are bool\[1, 3\].*threshold"),
        ("nothing", r"returned no outputs"),
        ("loss", r"outputs are float32\[\].*not a loss"),
        ("number", r"outputs are int32\[\]"),
        ("lists", r"outputs are a list of 0 \(1, 3\), 1 \(1, 2\): choose one"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:.*is the only place")
@pytest.mark.parametrize("layer", [None, "stem"])
def test_errors_about_outputs_speak_of_outputs(kind, text, layer):
    with pytest.raises(ValueError, match=text):
        score_cam(streams(kind, layer), IMAGE, 0)


def test_a_path_beside_all_layers_is_named():
    class Checked(nn.Module):
        @nn.compact
        def __call__(self, x):
            y = nn.Dense(3)(nn.relu(nn.Conv(4, (3, 3), name="conv")(x)).mean((1, 2)))
            return jnp.where(jnp.isfinite(x).all(), y, 0)

    module = Checked()
    model = from_linen(module, module.init(jax.random.key(0), IMAGE))
    with pytest.raises(ValueError, match=r"'conv' .*not all paths .* \(is_finite of .* past it\)"):
        model(IMAGE)


VIDEO = jax.ShapeDtypeStruct((1, 4, 9, 12, 3), "float32")


def test_tubelets_are_arranged_as_the_video_and_frames_by_themselves_are_told_what_to_write():
    def apply(params, x, apart=False):
        patches = pool(x)[:, :1]
        tokens = patches.reshape(-1 if apart else len(x), 12, 6)
        return checkpoint_name(tokens, "tokens").mean(1).reshape(len(x), -1) @ params

    (layer,) = list_layers(from_function(apply, HEAD), VIDEO)
    assert layer.grid == (1, 3, 4)
    with pytest.raises(ValueError, match=r"layer=.*grid=\(t, h, w\)"):
        jax.eval_shape(
            from_function(lambda p, x: apply(p, x, True)[:, None] + x.mean(), HEAD), VIDEO
        )


def test_list_layers_measures_on_demand():
    model = network(lambda _, x: pool(x))
    (layer,) = list_layers(model, IMAGE)
    assert layer.registration is None
    (layer,) = list_layers(model, IMAGE, measure=True)
    assert layer.registration.aligned
