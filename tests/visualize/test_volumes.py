"""Slices, moving pictures and NIfTI files of a small network's heatmaps of a phantom."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from scorecam_jax import score_cam
from scorecam_jax.visualize import (
    animate,
    overlay,
    read_nifti,
    sheet,
    show,
    slices,
    write_nifti,
)
from scorecam_jax.visualize.volumes import as_slices

SHAPE = (12, 16, 20)


def phantom():
    """A dim ellipsoid with a bright ball in it, around (8, 5, 14)."""
    z, y, x = np.ogrid[:12, :16, :20]
    body = ((z - 5.5) / 6) ** 2 + ((y - 7.5) / 8) ** 2 + ((x - 9.5) / 10) ** 2 < 1
    ball = (z - 8) ** 2 + (y - 5) ** 2 + (x - 14) ** 2 <= 4
    return (300.0 * body + 700.0 * ball).astype(np.float32)


def network(inputs):
    """Two classes, bright and dim, from means over blocks of 2 x 2 x 2 voxels."""
    blocks = inputs[..., 0].reshape(-1, 6, 2, 8, 2, 10, 2).mean((2, 4, 6)) / 1000
    activations = jax.nn.relu(jnp.stack([blocks - 0.4, blocks], -1))
    return activations.mean((1, 2, 3)) * jnp.array([[500.0, 5.0]]), activations


@pytest.fixture(scope="module")
def explained():
    return score_cam(network, jnp.asarray(phantom())[None, ..., None], 0)


def test_the_map_of_a_volume_finds_the_ball_and_its_slices_are_shown(explained):
    heatmap = np.asarray(explained.heatmap[0])
    assert heatmap.shape == SHAPE
    deepest = np.unravel_index(heatmap.argmax(), SHAPE)
    assert np.abs(np.array(deepest) - [8, 5, 14]).max() <= 2
    found = slices(phantom(), heatmap, most=3)
    best = sorted(np.argsort(-heatmap.sum((1, 2)))[:3])
    scaled = phantom() / 1000
    wanted = sheet([overlay(scaled[at], heatmap[at]) for at in best], [str(at) for at in best])
    np.testing.assert_array_equal(np.asarray(found), np.asarray(wanted))


def test_each_nth_slice_along_another_axis():
    volume = phantom()
    found = slices(volume, np.zeros(SHAPE), every=8, axis=2)
    panels = [overlay(volume[..., at] / 1000, np.zeros(SHAPE[:2])) for at in (0, 8, 16)]
    wanted = sheet(panels, ["0", "8", "16"])
    np.testing.assert_array_equal(np.asarray(found), np.asarray(wanted))


def test_a_window_sets_black_and_white():
    first = as_slices(np.array([[[-5.0, 0.0, 50.0, 100.0, 900.0]]]), window=(0, 100))[0]
    assert np.asarray(first)[0, :, 0].tolist() == [0, 0, 128, 255, 255]


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_a_moving_picture_has_a_frame_for_each_slice(tmp_path, explained, suffix):
    path = tmp_path / f"ball{suffix}"
    heatmap = np.asarray(explained.heatmap[0])
    animate(path, phantom(), heatmap, rate=5)
    with Image.open(path) as found:
        assert found.n_frames == 12
        assert found.size == (20, 16)
        found.seek(8)
        frame = np.asarray(found.convert("RGB"), float)
        assert found.info.get("duration", 200) == 200
    wanted = np.asarray(overlay(phantom()[8] / 1000, heatmap[8]), float)
    assert np.abs(frame - wanted).mean() < 12  # both formats lose some colours


def test_a_heatmap_is_written_over_the_volume_it_explains(tmp_path, explained):
    nibabel = pytest.importorskip("nibabel")
    affine = np.array([[-2.0, 0, 0, 90], [0, 0, 3.0, -40], [0, 1.5, 0, 7], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(phantom(), affine), tmp_path / "head.nii.gz")
    volume = read_nifti(tmp_path / "head.nii.gz")
    np.testing.assert_array_equal(volume.values, phantom())
    heatmap = np.asarray(explained.heatmap[0])
    write_nifti(tmp_path / "map.nii.gz", heatmap, volume.affine)
    written = nibabel.load(tmp_path / "map.nii.gz")
    np.testing.assert_array_equal(written.affine, affine)
    np.testing.assert_array_equal(written.get_fdata(dtype=np.float32), heatmap)


def test_the_notebooks_viewer_slides_through_the_slices(explained):
    viewer = show(explained, phantom()[None], labels=["bright", "dim"])
    (shown,) = viewer._photographs
    assert len(shown.frames) == 12
    assert list(shown.maps["heatmap"][0].shape) == [12, 8, 10]
    assert viewer._repr_jpeg_().startswith(b"\xff\xd8")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: slices(phantom(), np.zeros((3, 3, 3))), "heatmap has shape"),
        (lambda: slices(phantom(), np.zeros(SHAPE), most=0), "most is 0"),
        (lambda: slices(phantom(), np.zeros(SHAPE), every=0), "every is 0"),
        (lambda: slices(phantom(), np.zeros(SHAPE), axis=3), "axis is 3"),
        (lambda: slices(phantom(), np.full(SHAPE, np.nan)), "NaN"),
        (lambda: slices(np.zeros((3, 3)), np.zeros((3, 3))), "a volume has the shape"),
        (lambda: slices(np.full(SHAPE, np.inf), np.zeros(SHAPE)), "NaN or infinite"),
        (lambda: animate("a.mp4", phantom(), np.zeros(SHAPE)), "wanted .webp or .gif"),
        (lambda: animate("a.gif", phantom(), np.zeros(SHAPE), rate=0), "rate is 0"),
        (lambda: write_nifti("a.nii", np.zeros((2, 2)), np.eye(4)), r"wanted \(x, y, z\)"),
        (lambda: write_nifti("a.png", np.zeros(SHAPE), np.eye(4)), "should end in .nii"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    if ".nii" in message or "x, y, z" in message:
        pytest.importorskip("nibabel")
    with pytest.raises(ValueError, match=message):
        call()


def test_a_file_that_is_not_nifti_is_named(tmp_path):
    pytest.importorskip("nibabel")
    (tmp_path / "a.nii").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match=r"a\.nii is not a NIfTI file"):
        read_nifti(tmp_path / "a.nii")
