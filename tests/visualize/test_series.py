"""Series under their heatmaps: as pictures, as figures and in the viewer."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorecam_jax import score_cam
from scorecam_jax.visualize import colorize, draw_series, figure, grids, show
from scorecam_jax.visualize.report import is_line
from scorecam_jax.visualize.series import as_series, plot_area

STEPS = 64
HEATMAP = np.linspace(0, 1, STEPS) ** 2


def signal(channels=1):
    at = np.linspace(0, 20, STEPS)
    return np.stack([np.sin(at + number) for number in range(channels)], -1)


def explanation(shape=(STEPS,), targets=2):
    heatmap = np.random.default_rng(0).uniform(0, 1, (1, targets, *shape)).astype(np.float32)
    return SimpleNamespace(heatmap=heatmap, weights=None, targets=np.arange(targets)[None])


def test_the_line_has_the_colours_of_the_heatmap():
    flat = np.zeros(STEPS)
    page = np.asarray(draw_series(flat, HEATMAP, colormap="jet")).astype(int)
    left, top, right, bottom = plot_area(1)
    line = page[(top + bottom) // 2]
    for step in (5, 20, 40, 60):
        x = round(left + (step + 1) / STEPS * (right - left)) - 1
        value = (HEATMAP[step] + HEATMAP[step + 1]) / 2
        wanted = colorize(np.full((1, 1), value), colormap="jet")[0, 0].astype(int)
        assert np.abs(line[x - 3] - wanted).max() < 12


def test_channels_stand_below_one_another_with_their_ranges():
    series = np.stack([np.zeros(STEPS), np.linspace(0, 1, STEPS)], -1)
    page = np.asarray(draw_series(series).convert("L"))
    left, top, right, bottom = plot_area(2)
    middle = (top + bottom) // 2
    upper = page[top:middle, left : right - 40] < 100
    rows = np.flatnonzero(upper.any(1))
    assert np.ptp(rows) < 4  # constant: one flat line, in the middle of its lane
    assert abs(rows.mean() - (middle - top) / 2) < 3
    lower = page[middle + 1 : bottom - 1, left : right - 40] < 100
    heights = [np.flatnonzero(column).mean() for column in lower.T[10::40]]
    assert (np.diff(heights) < 0).all()  # rises
    assert (page[:, : left - 2] < 128).any()  # the ranges


def test_of_very_many_steps_neither_extremes_nor_heat_are_lost():
    steps = 200_000
    series, heatmap = np.zeros(steps), np.zeros(steps)
    series[50_001], heatmap[150_001:150_003] = 1, 1
    page = np.asarray(draw_series(series, heatmap, colormap="jet", seen=(0, 180_000))).astype(int)
    left, top, right, bottom = plot_area(1)
    rows = np.flatnonzero((page[top:bottom, left:right].max(-1) < 140).any(1))
    assert np.ptp(rows) > 0.8 * (bottom - top)  # the spike
    redness = (page[..., 0] - page[..., 1])[top:bottom, left:right].max(0)
    assert abs(redness.argmax() - 0.75 * (right - left)) < 2
    assert np.sort(redness)[-4] <= 0  # as nothing else is red
    unseen = page[top:bottom, left + round(0.92 * (right - left)) : right].reshape(-1, 3)
    assert np.ptp(unseen, axis=1).max() == 0  # grey


def test_names_stand_beside_their_channels():
    plain, named = (
        draw_series(np.zeros((9, 2)), names=names) for names in ((), ("lead I", "lead II"))
    )
    left, *_ = plot_area(2)
    assert plain.size == named.size
    corner = (left + 2, 4, left + 60, 18)
    assert np.ptp(np.asarray(plain.crop(corner))) == 0
    assert np.asarray(named.crop(corner)).min() < 100


def test_many_channels_are_bounded():
    assert draw_series(np.zeros((STEPS, 20))).height < 1300


@pytest.mark.parametrize("shape", [(STEPS,), (STEPS, 2), (1, STEPS, 2)])
def test_series_of_every_shape_are_shown(shape):
    series = np.random.default_rng(1).normal(size=shape)
    assert as_series(series).shape == (STEPS, shape[-1] if len(shape) > 1 else 1)
    spatial = (1, STEPS) if len(shape) == 3 else (STEPS,)
    viewer = show(explanation(spatial), series[None], labels=["a", "b"])
    (shown,) = viewer._photographs
    assert show(explanation(spatial), series, labels=["a", "b"])._photographs == [shown]
    assert is_line(shown)
    assert list(shown.seen) == list(plot_area(as_series(series).shape[1]))
    drawn = grids.draw(shown.maps["heatmap"][1], (1, STEPS))
    np.testing.assert_allclose(drawn[0], explanation().heatmap[0, 1], atol=0.005)
    assert viewer._repr_jpeg_().startswith(b"\xff\xd8")
    assert shown.name == "series 0"


@pytest.mark.parametrize("spatial", ["time", "1 x time"])
def test_a_networks_series_are_explained_and_shown_at_the_layers_resolution(spatial):
    def network(inputs):
        values = inputs.reshape(-1, 16, 4, 2).mean(2)
        activations = jax.nn.relu(values)
        scores = activations.mean(1)
        return scores, activations[:, None] if spatial == "1 x time" else activations

    series = signal(2)[None]
    inputs = series[:, None] if spatial == "1 x time" else series
    found = score_cam(network, jnp.asarray(inputs, jnp.float32), 1)
    (shown,) = show(found, inputs)._photographs
    assert list(shown.maps["heatmap"][0].shape) == [1, 16]
    drawn = grids.draw(shown.maps["heatmap"][0], (1, STEPS))[0]
    np.testing.assert_allclose(drawn, np.ravel(found.heatmap), atol=1.5 / 255)


@pytest.mark.parametrize("low", [0.0, -1.0])
def test_a_figure_of_a_series_has_lines_in_the_heatmaps_colours(low):
    matplotlib = pytest.importorskip("matplotlib")
    heatmap = np.linspace(low, 1, STEPS)
    maps = {"score-cam": heatmap, "grad-cam": heatmap[None]}
    found = figure(signal(2), maps, axes=[("time (s)", 0, 3)])
    *panels, bar = found.axes
    assert len(panels) == 4
    assert panels[-1].get_xlabel() == "time (s)"
    assert [panels[0].get_title(), panels[2].get_title()] == list(maps)
    (lines,) = (
        one
        for one in panels[1].collections
        if isinstance(one, matplotlib.collections.LineCollection)
    )
    between = (heatmap[1:] + heatmap[:-1]) / 2
    np.testing.assert_allclose(lines.get_array(), between, atol=1e-6)
    assert bar.get_ylim() == (low, 1)
    ends = np.array(lines.get_segments())[:, 0]
    np.testing.assert_allclose(ends[:, 1], signal(2)[:-1, 1])
    np.testing.assert_allclose(ends[:, 0], 3 * (np.arange(STEPS - 1) + 0.5) / STEPS)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: draw_series(np.zeros((2, 3, 4))), r"\(1, time, channels\); found \(2, 3, 4\)"),
        (lambda: draw_series(np.full(5, np.nan)), "NaN or infinite"),
        (lambda: draw_series(np.zeros(5), 2 * np.ones(5)), "must lie in"),
        (lambda: figure(np.zeros(5), {"a": np.ones(5)}, axes=[("a", 0, 1)] * 2), "one, of time"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
