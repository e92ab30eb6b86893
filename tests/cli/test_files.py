from pathlib import Path

import pytest

from scorecam_jax.cli import files


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
    ],
)
def test_output_goes_where_it_is_wanted(here, out, written):
    (here / "there.is").mkdir()
    photos = files.pages_of(Path("some/photo.jpg"), 1)
    assert files.output_paths(photos, out, "-scorecam.png") == [Path(written)]
