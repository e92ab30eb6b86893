"""Series and sound on their way into a network and back."""

import numpy as np
import pytest

from scorecam_jax.models import SeriesPreprocess, SpectrogramPreprocess

SERIES = np.arange(20.0).reshape(10, 2)


def test_the_middle_of_a_long_series_is_taken_and_a_short_one_filled_up():
    preprocess = SeriesPreprocess(4, channels=2, mean=(1.0, 2.0), std=2.0)
    np.testing.assert_allclose(preprocess(SERIES), (SERIES[3:7] - [1, 2]) / 2)
    short = preprocess(SERIES[:3])
    np.testing.assert_allclose(short[:3], (SERIES[:3] - [1, 2]) / 2)
    assert not short[3].any()


def test_heatmaps_go_back_to_the_steps_they_are_of():
    heatmap = np.array([0.1, 0.2, 0.3, 0.4])
    preprocess = SeriesPreprocess(4)
    np.testing.assert_allclose(
        preprocess.restore(heatmap, (10,)), [0, 0, 0, *heatmap, 0, 0, 0], atol=1e-6
    )
    np.testing.assert_allclose(preprocess.restore(heatmap[None], (3,)), heatmap[:3], atol=1e-6)
    stretched = SeriesPreprocess(4, fit="stretch").restore(heatmap, (8,))
    np.testing.assert_allclose(stretched[3], 0.225, atol=1e-6)  # as pixel centres at halves


def test_a_stretched_series_is_all_there():
    line = np.linspace(0, 1, 11)[:, None]
    found = SeriesPreprocess(5, fit="stretch")(line)[:, 0]
    np.testing.assert_allclose(found, ((np.arange(5) + 0.5) * 11 / 5 - 0.5) / 10, atol=1e-6)


def test_layouts():
    assert SeriesPreprocess(4, channels=2, row=True)(SERIES).shape == (1, 4, 2)
    assert SeriesPreprocess(4, channels=2, channels_first=True)(SERIES).shape == (2, 4)
    mixed = SeriesPreprocess(10, mix=True)(SERIES)
    np.testing.assert_allclose(mixed[:, 0], SERIES.mean(1))
    with pytest.raises(ValueError, match=r"has 2 channels, but the network takes 1; .*mix=True"):
        SeriesPreprocess(10)(SERIES)


@pytest.mark.parametrize("frequency", [1000, 3000])
def test_a_tone_is_a_line_at_its_frequency_and_time(frequency):
    preprocess = SpectrogramPreprocess(frames=20, rate=8000, window=256, hop=128)
    at = np.arange(8000) / 8000
    tone = np.sin(2 * np.pi * frequency * at) * (at < 0.16)
    found = preprocess(tone[:, None])
    assert found.shape == (*preprocess.size, 1)
    (time, start, stop), (pitch, top, bottom) = preprocess.axes
    assert (time, pitch) == ("time (s)", "frequency (Hz)")
    rows, columns = preprocess.size
    heights = top + (np.arange(rows) + 0.5) / rows * (bottom - top)
    times = start + (np.arange(columns) + 0.5) / columns * (stop - start)
    loudest = found[:, :8, 0].argmax(0)
    np.testing.assert_allclose(heights[loudest], frequency, atol=8000 / 256 / 2 + 1e-6)
    assert found[..., 0].max() == pytest.approx(1, abs=1e-6)
    assert (found[:, times > 0.18].max(), found.min()) == (0, 0)
    assert preprocess.picture(tone[:, None]).size == (columns, rows)
