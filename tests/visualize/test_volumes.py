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
from scorecam_jax.visualize.pictures import enlarged
from scorecam_jax.visualize.volumes import as_slices, planes, radiological

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
    panels = [enlarged(overlay(scaled[at], heatmap[at]), 12) for at in best]
    note = "Drawn at 12 times its size, without smoothing."
    wanted = sheet(panels, [str(at) for at in best], note=note)
    np.testing.assert_array_equal(np.asarray(found), np.asarray(wanted))


def test_each_nth_slice_along_another_axis():
    volume = phantom()
    found = slices(volume, np.zeros(SHAPE), every=8, axis=2)
    panels = [
        enlarged(overlay(volume[..., at] / 1000, np.zeros(SHAPE[:2])), 16) for at in (0, 8, 16)
    ]
    note = "Drawn at 16 times its size, without smoothing."
    wanted = sheet(panels, ["0", "8", "16"], note=note)
    np.testing.assert_array_equal(np.asarray(found), np.asarray(wanted))


def test_a_window_sets_black_and_white():
    first = as_slices(np.array([[[-5.0, 0.0, 50.0, 100.0, 900.0]]]), window=(0, 100))[0]
    assert np.asarray(first)[0, :, 0].tolist() == [0, 0, 128, 255, 255]


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_a_moving_picture_has_a_frame_for_each_slice(tmp_path, explained, suffix):
    path = tmp_path / f"ball{suffix}"
    heatmap = np.asarray(explained.heatmap[0])
    assert animate(path, phantom(), heatmap, rate=5) == 12
    with Image.open(path) as found:
        assert found.n_frames == 12
        assert found.size == (240, 192)
        found.seek(8)
        frame = np.asarray(found.convert("RGB"), float)
        assert found.info.get("duration", 200) == 200
    wanted = np.asarray(enlarged(overlay(phantom()[8] / 1000, heatmap[8]), 12), float)
    assert np.abs(frame - wanted).mean() < 12  # both formats lose some colours


def test_a_heatmap_is_written_over_the_volume_it_explains(tmp_path, explained):
    nibabel = pytest.importorskip("nibabel")
    affine = np.array([[-2.0, 0, 0, 90], [0, 0, 3.0, -40], [0, 1.5, 0, 7], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(phantom(), affine), tmp_path / "head.nii.gz")
    volume = read_nifti(tmp_path / "head.nii.gz")
    np.testing.assert_array_equal(volume.values, phantom())
    heatmap = np.asarray(explained.heatmap[0])
    for name in ("map.nii.gz", "MAP.NII.GZ"):
        write_nifti(tmp_path / name, heatmap, volume.affine)
        written = nibabel.load(tmp_path / name)
        np.testing.assert_array_equal(written.affine, affine)
        np.testing.assert_array_equal(written.get_fdata(dtype=np.float32), heatmap)


@pytest.mark.parametrize("codes", ["RAS", "LPI", "PIR", "SLA"])
def test_a_volume_is_turned_as_nibabel_orients_it(codes):
    nibabel = pytest.importorskip("nibabel")
    orientations = nibabel.orientations
    start = orientations.axcodes2ornt(codes)
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (way, sign) in enumerate(start):
        affine[int(way), axis] = sign * (2.0, 3.0, 5.0)[axis]
    affine[:3, :3] += 0.05  # slightly oblique
    values = np.random.default_rng(0).normal(size=(4, 5, 6))
    image = nibabel.Nifti1Image(values, affine)
    wanted = image.as_reoriented(
        orientations.ornt_transform(start, orientations.axcodes2ornt("SPL"))
    )
    turned, lengths = radiological(values, affine)
    np.testing.assert_array_equal(turned, wanted.get_fdata())
    np.testing.assert_allclose(lengths, wanted.header.get_zooms(), rtol=1e-6)


def test_the_three_planes_meet_in_the_peak_with_the_head_up():
    # To the patient's right, to the front, to the head.
    volume = np.random.default_rng(0).integers(0, 256, (132, 140, 136)).astype(np.float32)
    volume.flat[:2] = 0, 255
    heatmap = np.zeros(volume.shape)
    heatmap[100, 30, 20] = 1e-9
    page = np.asarray(planes(volume, heatmap, affine=np.eye(4)).convert("L"), float)
    wanted = [
        volume[::-1, ::-1, 20].T,  # from the feet: the patient's right to the left, the front up
        volume[::-1, 30, ::-1].T,  # from the front: the patient's right to the left, the head up
        volume[100, ::-1, ::-1].T,  # from the side: the front to the left, the head up
    ]
    for column, panel in enumerate(wanted):
        height, width = panel.shape
        left = 8 + column * 188 + (180 - width) // 2
        strips = np.lib.stride_tricks.sliding_window_view(page[:, left : left + width], height, 0)
        best = strips[(np.abs(strips - panel.T) <= 1).mean((1, 2)).argmax()].T
        wrong = np.argwhere(np.abs(best - panel) > 1)
        # Nothing but the lines through the peak differs.
        rows, columns = ({99, 109, 115}, {31, 109}) if column else ({109}, {31})
        assert 100 < len(wrong) < height + width
        assert all(row in rows or place in columns for row, place in wrong)


def test_slices_are_drawn_in_the_proportions_of_the_voxels():
    volume, heatmap = phantom(), np.zeros(SHAPE)
    found = slices(volume, heatmap, every=12, spacing=(4, 2, 1))
    panel = overlay(volume[0] / 1000, heatmap[0]).resize((20 * 8, 32 * 8), Image.Resampling.NEAREST)
    wanted = sheet([panel], ["0"], note="Drawn at 8 times its size, without smoothing.")
    np.testing.assert_array_equal(np.asarray(found), np.asarray(wanted))


def test_signed_maps_of_volumes_are_drawn():
    heatmap = np.zeros(SHAPE)
    heatmap[3, 4, 5], heatmap[9, 4, 5] = -1, 0.5
    page = np.asarray(slices(np.zeros(SHAPE), heatmap, most=2, colormap="signed", alpha=1))
    assert (page == (0, 105, 255)).all(-1).any()


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
        (lambda: slices(phantom(), np.zeros(SHAPE), spacing=(1, 0, 1)), "spacing is"),
        (lambda: slices(phantom(), np.zeros(SHAPE), affine=np.eye(3)), r"wanted \(4, 4\)"),
        (lambda: planes(phantom(), np.zeros(SHAPE), at=(0, 0, 20)), "at is"),
        (lambda: radiological(phantom(), np.zeros((4, 4))), "damaged"),
        (lambda: slices(phantom(), np.full(SHAPE, np.nan)), "NaN"),
        (lambda: slices(np.zeros((3, 3)), np.zeros((3, 3))), "a volume must have shape"),
        (lambda: slices(np.full(SHAPE, np.inf), np.zeros(SHAPE)), "NaN or infinite"),
        (lambda: animate("a.mp4", phantom(), np.zeros(SHAPE)), "wanted .webp or .gif"),
        (lambda: animate("a.gif", phantom(), np.zeros(SHAPE), rate=0), "rate is 0"),
        (lambda: write_nifti("a.nii", np.zeros((2, 2)), np.eye(4)), r"wanted \(x, y, z\)"),
        (lambda: write_nifti("a.png", np.zeros(SHAPE), np.eye(4)), "must end in .nii"),
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
