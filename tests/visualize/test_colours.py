import jax.numpy as jnp
import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from scorecam_jax.visualize import colorize

RAMP = np.linspace(0, 1, 256, dtype=np.float32)[None]


def test_default_colours_are_perceptually_uniform():
    lab = rgb2lab(colorize(RAMP)[0])
    assert (np.diff(lab[:, 0]) > 0).all()
    assert lab[0, 0] < 10
    assert lab[-1, 0] > 90
    distance = deltaE_ciede2000(lab[:-16], lab[16:])
    assert distance.max() / distance.min() < 1.5


def test_jet_is_not_perceptually_uniform():
    lab = rgb2lab(colorize(RAMP, colormap="jet")[0])
    assert (np.diff(lab[:, 0]) < 0).any()


def test_jet_is_matplotlibs():
    def segment(x, start, stop):
        return (x - start) / (stop - start)

    x = RAMP[0].astype(np.float64)
    red = np.minimum(segment(x, 0.35, 0.66), 0.5 + 0.5 * segment(x, 1, 0.89))
    green = np.minimum(segment(x, 0.125, 0.375), segment(x, 0.91, 0.64))
    blue = np.minimum(0.5 + 0.5 * segment(x, 0, 0.11), segment(x, 0.65, 0.34))
    expected = 255 * np.stack([red, green, blue], -1).clip(0, 1)
    np.testing.assert_allclose(colorize(RAMP, colormap="jet")[0], expected, atol=0.5001)


def test_gray_is_the_heatmap():
    np.testing.assert_array_equal(colorize(RAMP, colormap="gray")[0, :, 1], np.arange(256))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16, jnp.bfloat16])
def test_jax_arrays_of_any_precision_are_drawn(dtype):
    heatmap = jnp.array([[0, 0.25], [0.5, 1]], dtype)
    np.testing.assert_array_equal(colorize(heatmap), colorize(np.array([[0, 0.25], [0.5, 1]])))


@pytest.mark.parametrize(
    ("heatmap", "message"),
    [
        (np.array([[0, np.nan]]), "NaN in 1 place"),
        (np.zeros((1, 4, 4)), r"\(1, 4, 4\).*heatmap\[i\]"),
        (np.zeros(4), r"\(4,\)"),
        (np.zeros((0, 4)), r"\(0, 4\)"),
        (np.array([[0.0, 7.0]]), "0 to 7"),
        (np.array([[-0.5, 1.0]]), "-0.5 to 1"),
        (np.array([[0.0, np.inf]]), "inf"),
    ],
)
def test_heatmaps_that_cannot_be_drawn_are_refused(heatmap, message):
    with pytest.raises(ValueError, match=message):
        colorize(heatmap)


def test_unknown_colour_map_lists_the_known():
    with pytest.raises(ValueError, match=r"'hot'.*ember, jet, gray"):
        colorize(RAMP, colormap="hot")


def test_rounding_errors_beyond_the_range_are_forgiven():
    np.testing.assert_array_equal(
        colorize(np.array([[-1e-6, 1 + 1e-6]])), colorize(np.array([[0.0, 1.0]]))
    )


def test_signed_colours_have_no_colour_at_zero_and_differ_along_blue_and_yellow():
    table = colorize(np.linspace(-1, 1, 255)[None], colormap="signed")[0]
    assert table[127].min() > 250
    lab = rgb2lab(table)
    # Red-green blindness leaves the axis from blue to yellow.
    assert (lab[:120, 2] < -3).all()
    assert (lab[135:, 2] > 3).all()
    assert (np.diff(lab[:127, 0]) > -0.5).all()
    with pytest.raises(ValueError, match=r'signed values in \[-1, 1\] with colormap="signed"'):
        colorize(np.array([[-0.5, 1.0]]))
