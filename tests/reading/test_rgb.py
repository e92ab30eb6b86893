import numpy as np
import pytest
from PIL import Image

from scorecam_jax.models import as_rgb, window_of

GREY = np.linspace(0, 255, 12, dtype=np.uint8).reshape(3, 4)


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(GREY),
        Image.fromarray(GREY).convert("P"),
        Image.fromarray(GREY).convert("LA"),
        Image.fromarray(GREY).convert("RGBA"),
        Image.fromarray(GREY).convert("RGB").convert("CMYK"),
        Image.fromarray(GREY.astype(np.uint16) * 257),
        Image.fromarray(GREY.astype(np.int32) * 257),
    ],
    ids=lambda image: image.mode,
)
def test_every_mode_becomes_the_same_rgb(image):
    rgb = as_rgb(image)
    assert rgb.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(rgb), np.repeat(GREY[..., None], 3, -1))


def test_transparency_becomes_white():
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (200, 0, 0, 255))
    np.testing.assert_array_equal(np.asarray(as_rgb(image)), [[[255] * 3, [200, 0, 0]]])
    palette = Image.new("P", (1, 1), 0)
    palette.putpalette([9, 9, 9])
    palette.info["transparency"] = 0
    assert as_rgb(palette).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(("orientation", "turn"), [(6, -1), (8, 1), (3, 2)])
def test_exif_orientation_turns_the_photograph(tmp_path, orientation, turn):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.repeat(GREY[..., None], 3, -1)
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(np.asarray(as_rgb(image)), np.rot90(pixels, turn))


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="NaN or infinity"):
        as_rgb(Image.fromarray(np.array([[0, np.nan]], np.float32)))


@pytest.mark.parametrize(
    ("values", "window"),
    [
        (np.array([[0, 1000, 4095]], np.uint16), (0, 4095)),
        (np.array([[0, 1000, 4096]], np.uint16), (0, 16383)),
        (np.array([[0, 40000]], np.uint16), (0, 65535)),
        (np.array([[0, 700]], np.int32), (0, 1023)),
        (np.array([[-1000, 0, 2000]], np.int32), (-1000, 2000)),
        (np.array([[0, 1 << 20]], np.int32), (0, 1 << 20)),
        (np.array([[0.25, 0.5]], np.float32), (0, 1)),
        (np.array([[-2.5, 7.5]], np.float32), (-2.5, 7.5)),
        (np.array([[7, 7]], np.int32) - 100, (-93, -92)),
    ],
)
def test_deep_greyscale_is_scaled_by_its_window(values, window):
    image = Image.fromarray(values)
    assert window_of(image) == window
    low, high = window
    expected = np.rint(255 * (values.astype(float) - low) / (high - low))
    np.testing.assert_array_equal(np.asarray(as_rgb(image))[..., 0], expected)


def test_a_window_may_be_named():
    image = Image.fromarray(np.array([[-1000, 0, 40, 80, 2000]], np.int32))
    shown = np.asarray(as_rgb(image, window=(0, 80)))[0, :, 0]
    np.testing.assert_array_equal(shown, [0, 0, 128, 255, 255])
    with pytest.raises(ValueError, match="lower value first"):
        as_rgb(image, window=(5, 5))
    with pytest.raises(ValueError, match="this image has 8"):
        as_rgb(Image.new("L", (2, 2)), window=(0, 80))


def test_eight_bits_have_no_window():
    assert window_of(Image.new("RGB", (2, 2))) is None
