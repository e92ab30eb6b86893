import jax.numpy as jnp
import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from scorecam_jax.visualize import colorize, overlay

RAMP = np.linspace(0, 1, 256, dtype=np.float32)[None]


def test_default_colours_are_perceptually_uniform():
    lab = rgb2lab(colorize(RAMP)[0])
    assert (np.diff(lab[:, 0]) > 0).all()
    assert lab[0, 0] < 10
    assert lab[-1, 0] > 90
    distance = deltaE_ciede2000(lab[:-16], lab[16:])
    assert distance.max() / distance.min() < 1.5


# Machado, Oliveira and Fernandes 2009, table 1: what people without one kind of cone see.
BLIND = {
    "none": np.eye(3),
    "red": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "green": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "blue": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def lab_as_seen(colours, blindness):
    """Colours (N, 3), uint8, in CIELAB, as they are seen with a colour blindness."""
    share = np.asarray(colours) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    seen = (linear @ np.transpose(BLIND[blindness])).clip(0, 1)
    share = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    return rgb2lab(share[None])[0]


@pytest.mark.parametrize("blindness", BLIND)
@pytest.mark.parametrize("colormap", ["ember", "viridis", "cividis"])
def test_the_scale_rises_and_its_steps_are_seen_by_the_colour_blind(colormap, blindness):
    lab = lab_as_seen(colorize(RAMP, colormap=colormap)[0], blindness)
    tenth = lab[:: 255 // 10]
    assert (np.diff(tenth[:, 0]) > 1).all()
    assert deltaE_ciede2000(tenth[:-1], tenth[1:]).min() > 3  # 1 is just noticeable


def test_jet_does_not_pass_that_check():
    lab = lab_as_seen(colorize(RAMP, colormap="jet")[0], "red")[:: 255 // 10]
    assert not (np.diff(lab[:, 0]) > 1).all()


@pytest.mark.parametrize("name", ["viridis", "cividis"])
def test_published_scales_are_matplotlibs(name):
    matplotlib = pytest.importorskip("matplotlib")
    expected = 255 * matplotlib.colormaps[name](np.arange(256))[:, :3]
    np.testing.assert_allclose(colorize(RAMP, colormap=name)[0], expected, atol=6)


@pytest.mark.parametrize("blindness", BLIND)
def test_signed_colours_stand_out_on_every_grey(blindness):
    grey = np.tile(np.arange(256, dtype=np.uint8)[:, None, None], (1, 1, 3))
    bare, against, faint, speaking = (
        lab_as_seen(
            np.asarray(overlay(grey, np.full((256, 1), value), colormap="signed"))[:, 0], blindness
        )
        for value in (0.0, -0.25, 0.1, 0.25)
    )
    assert deltaE_ciede2000(bare, faint).min() > 10
    assert deltaE_ciede2000(bare, against).min() > 15
    assert deltaE_ciede2000(bare, speaking).min() > 15
    assert deltaE_ciede2000(against, speaking).min() > 30


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
    with pytest.raises(ValueError, match=r"'hot'.*ember, viridis, cividis, jet, gray"):
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
