from pathlib import Path

import pytest

from scorecam_jax.reading import Source
from scorecam_jax.study import outputs


@pytest.mark.parametrize(
    ("out", "written"),
    [
        ("why.png", "why.png"),
        ("new/deep/why.jpg", "new/deep/why.jpg"),
        ("maps/", "maps/photo-scorecam.png"),
        ("maps", "maps/photo-scorecam.png"),
        ("maps.old/", "maps.old/photo-scorecam.png"),
        ("there.is", "there.is/photo-scorecam.png"),
        (".", "photo-scorecam.png"),
        ("WHY.PNG", "WHY.PNG"),
    ],
)
def test_output_goes_where_it_is_wanted(here, out, written):
    (here / "there.is").mkdir()
    photos = [Source(Path("some/photo.jpg"), 1, "some/photo.jpg", "photo")]
    assert outputs.output_paths(photos, out, "-scorecam.png") == [Path(written)]


def test_suffixes_of_heatmaps_may_be_in_capitals():
    photos = [Source(Path("photo.jpg"), 1, "photo.jpg", "photo")]
    assert outputs.output_paths(photos, "MAP.NPY", "-map.npy") == [Path("MAP.NPY")]
    with pytest.raises(outputs.OutputError, match=r"written as \.npy; name map\.npy"):
        outputs.output_paths(photos, "map.png", "-map.npy")
