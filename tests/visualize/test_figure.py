"""Figures, transparent pictures and the layer's cells."""

import io
import xml.etree.ElementTree

import numpy as np
import pytest

from scorecam_jax.visualize import colorize, figure, grids, pixelate, transparent


def heatmap(low=0.0):
    return np.linspace(low, 1, 24).reshape(4, 6)


@pytest.mark.parametrize("low", [0.0, -1.0])
def test_a_figure_is_drawn_in_vectors_with_titles_and_a_colour_bar(low):
    pytest.importorskip("matplotlib")
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none"}):
        found = figure(np.zeros((4, 6, 3)), {"score-cam": heatmap(low)}, title="tabby")
        content = io.BytesIO()
        found.savefig(content, format="svg")
    texts = [
        element.text
        for element in xml.etree.ElementTree.fromstring(content.getvalue()).iter()
        if element.tag.endswith("}text")
    ]
    assert {"tabby", "score-cam", "photograph"} <= set(texts)
    assert {float(text.replace("−", "-")) for text in texts if text[-1] in "05"} >= {low, 1.0}
    shown = found.axes[1].images[1]
    np.testing.assert_array_equal(shown.get_array(), heatmap(low))
    assert shown.norm.vmin == low
    assert shown.cmap(shown.norm(0.0))[3] < 0.05


def test_a_spectrogram_has_axes_with_larger_values_above():
    pytest.importorskip("matplotlib")
    decibels = np.linspace(-80, 0, 24).reshape(4, 6)
    axes = [("time (s)", 0, 3), ("frequency (Hz)", 0, 8000)]
    found = figure(decibels, {"score-cam": heatmap()}, picture=0, axes=axes)
    plain, drawn, _ = found.axes
    assert plain.get_ylabel() == "frequency (Hz)"
    assert [plain.get_xlabel(), drawn.get_xlabel()] == ["time (s)"] * 2
    assert drawn.get_xlim() == (0, 3)
    assert drawn.get_ylim() == (0, 8000)
    # The first row, of the lowest frequency, lies at 0.
    assert drawn.images[1].get_extent() == [0, 3, 8000, 0]
    with pytest.raises(ValueError, match="one across, one down"):
        figure(decibels, {"score-cam": heatmap()}, picture=0, axes=axes[:1])


def test_a_figure_shows_itself_at_the_end_of_a_cell():
    pytest.importorskip("matplotlib")
    from PIL import Image

    found = figure(np.zeros((4, 6, 3)), {"a": heatmap()})
    with Image.open(io.BytesIO(found._repr_png_())) as shown:
        assert shown.width > 400


def test_a_figure_needs_a_heatmap_in_range():
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match="at least one heatmap"):
        figure(np.zeros((4, 6, 3)), {})
    with pytest.raises(ValueError, match="must lie in"):
        figure(np.zeros((4, 6, 3)), {"a": 2 * heatmap()})


def test_a_transparent_picture_has_the_colours_of_the_map_and_its_opacity():
    found = np.asarray(transparent(heatmap(), alpha=0.5))
    assert found.shape == (4, 6, 4)
    np.testing.assert_array_equal(found[..., :3], colorize(heatmap()))
    np.testing.assert_allclose(found[..., 3], 127.5 * np.sqrt(heatmap()), atol=1)


def test_a_transparent_picture_of_a_signed_map_tells_the_sign():
    found = np.asarray(transparent(np.array([[-0.25, 0.0, 0.25]])), int)
    assert found[0, :, 3].tolist() == [128, 0, 128]
    assert found[0, 0, 2] > found[0, 0, 0]
    assert found[0, 2, 0] > found[0, 2, 2]


@pytest.mark.parametrize("alpha", [-0.1, 1.1])
def test_opacity_is_a_share(alpha):
    with pytest.raises(ValueError, match="alpha must lie in"):
        transparent(heatmap(), alpha=alpha)


def test_cells_are_those_of_the_layer():
    sums = np.random.default_rng(0).normal(0.2, 1, (3, 2))
    enlarged = grids.enlarge(sums, (12, 8)).clip(0)
    scale = enlarged.max()
    cells = pixelate(enlarged / scale, sums)
    wanted = np.kron((sums / scale).clip(0, 1), np.ones((4, 4)))
    np.testing.assert_allclose(cells, wanted, atol=1e-6)


def test_a_map_that_the_layer_did_not_make_has_no_cells():
    smooth = np.random.default_rng(1).uniform(0, 1, (12, 8))
    with pytest.raises(ValueError, match="no cells of the layer"):
        pixelate(smooth, np.ones((3, 2)))
    assert not pixelate(np.zeros((12, 8)), np.ones((3, 2))).any()


def test_sums_at_the_layer_are_none_without_weights():
    from scorecam_jax.methods.base import Explanation

    maps = np.random.default_rng(2).uniform(0, 1, (2, 3, 4, 5)).astype(np.float32)
    weights = np.random.default_rng(3).normal(size=(2, 7, 5)).astype(np.float32)
    found = Explanation(
        heatmap=np.zeros((2, 7, 12, 16), np.float32),
        weights=weights,
        scores=None,
        activations=maps,
        outputs=None,
        targets=np.zeros((2, 7), np.int32),
        peak=np.ones((2, 7), np.float32),
    )
    sums = grids.layer_sums(found)
    by_hand = sum(weights[..., None, None, k] * maps[:, None, ..., k] for k in range(5))
    np.testing.assert_allclose(sums, by_hand, atol=1e-5)
    first = grids.layer_sums(found._replace(activations=np.moveaxis(maps, -1, 1)), 1)
    np.testing.assert_allclose(first, by_hand, atol=1e-5)
    assert grids.layer_sums(found._replace(weights=None)) is None
