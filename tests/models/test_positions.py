import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from scorecam_jax.models.positions import resize, rotations, square, turned

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("cells", [(5, 12), (11, 3)])
def test_antialiased_resizing_is_pillows(cells):
    table = RNG.normal(size=(7, 9, 2)).astype(np.float32)
    channels = [Image.fromarray(table[..., channel]) for channel in range(2)]
    resized = [each.resize(cells[::-1], Image.Resampling.BICUBIC) for each in channels]
    ours = resize(jnp.asarray(table), cells, "antialiased")
    np.testing.assert_allclose(ours, np.stack(resized, -1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("resizing", ["antialiased", "centres", "offset", "corners"])
def test_a_constant_stays_and_a_table_of_the_right_size_too(resizing):
    ones = resize(jnp.ones((4, 5, 2)), (9, 3), resizing)
    np.testing.assert_allclose(ones, np.ones((9, 3, 2)), rtol=0, atol=1e-6)
    table = jnp.asarray(RNG.normal(size=(4, 5, 2)), jnp.float32)
    np.testing.assert_array_equal(resize(table, (4, 5), resizing), table)


def test_where_each_way_looks():
    """In the middle of a long ramp cubic interpolation, whatever its kernel, is symmetric."""
    ramp = jnp.broadcast_to(jnp.arange(9.0)[:, None, None], (9, 1, 1))
    assert resize(ramp, (3, 1), "centres")[1, 0, 0] == pytest.approx(4)
    assert resize(ramp, (3, 1), "corners")[:, 0, 0].tolist() == pytest.approx([0, 4, 8])
    # The middle of 9 places, each 3.1 / 9 of a new one, is looked for at 1.5 / 3.1 of them.
    impulse = jnp.zeros((31, 1, 1)).at[14].set(1)
    by_hand = 1.5 * 31 / 3.1 - 0.5 - 14
    a = -0.75
    weight = (a + 2) * by_hand**3 - (a + 3) * by_hand**2 + 1
    assert resize(impulse, (3, 1), "offset")[1, 0, 0] == pytest.approx(weight, abs=1e-6)


@pytest.mark.parametrize(
    ("places", "extra", "found"),
    [(197, 1, (1, 14)), (196, 1, (0, 14)), (198, 2, (2, 14)), (1370, 5, (1, 37)), (1, 1, (0, 1))],
)
def test_squares(places, extra, found):
    assert square(places, extra) == found


def test_features_turn_as_complex_numbers_do():
    """Half of the pairs turn with the row, half with the column, the first of each fastest."""
    rows, columns, features, base = 2, 3, 8, 100.0
    x = RNG.normal(size=(1, 1, 1 + rows * columns, features)).astype(np.float32)
    turns = rotations(rows, columns, prefix=1, features=features, base=base)
    ours = np.asarray(turned(jnp.asarray(x), turns))[0, 0]
    np.testing.assert_array_equal(ours[0], x[0, 0, 0])
    pairs = x[0, 0, 1:, :4] + 1j * x[0, 0, 1:, 4:]
    for place in range(rows * columns):
        row, column = divmod(place, columns)
        # From -1 at one border of the image to 1 at the other.
        across = [(row + 0.5) / rows * 2 - 1, (column + 0.5) / columns * 2 - 1]
        angles = 2 * np.pi * np.repeat(across, 2) * np.tile([1, base**-0.5], 2)
        expected = pairs[place] * np.exp(1j * angles)
        np.testing.assert_allclose(ours[1 + place, :4], expected.real, rtol=0, atol=1e-5)
        np.testing.assert_allclose(ours[1 + place, 4:], expected.imag, rtol=0, atol=1e-5)
