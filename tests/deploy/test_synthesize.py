"""A new patient from files to files: the T1's own grid, a report that says where it comes from, and clear refusals."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from patients import KNOWN, SHAPE, SPACING
from ruled import FILES, REAL, quiet, split, stored

from lab.deploy import patient_folder
from lab.deploy.new_patients import synthesize
from lab.deploy.patient_folder import PICTURE, REPORT
from lab.inference.settings import ENHANCEMENT, SYNTHESIS, UNCERTAINTY, How


@pytest.mark.parametrize(("axes", "ending"), [("RAS", ".nii.gz"), ("LPS", ".nii.gz"), ("PIR", ".nii")])
def test_the_truth_on_the_t1s_own_grid(axes, ending, rule, tmp_path):
    images, mask = split(stored(tmp_path / "scans", axes, ending))
    told = []
    report = synthesize("rule:0.5", images, mask=mask, out=tmp_path / "out", say=told.append)
    assert sorted(path.name for path in (tmp_path / "out").glob("[!.]*")) == sorted(FILES)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    t1, made = nib.load(images["T1"]), nib.load(tmp_path / "out" / SYNTHESIS)
    np.testing.assert_array_equal(made.affine, t1.affine)
    assert nib.aff2axcodes(made.affine) == tuple(axes)
    assert made.get_data_dtype() == np.float32
    assert b"SYNTHETIC" in made.header["descrip"].item()
    assert made.header["intent_name"].item() == b"SYNTHETIC"
    ball = nib.load(mask).get_fdata() > 0
    values, true = made.get_fdata(), t1.get_fdata()
    scale = report["t1_span"] / 2
    np.testing.assert_allclose(values - true, 0.5 * scale * ball, atol=scale * 6e-4)
    np.testing.assert_array_equal(values == 0, true == 0)
    drawn = nib.load(tmp_path / "out" / ENHANCEMENT).get_fdata()
    np.testing.assert_array_equal(drawn, ball)
    assert report["enhancement"]["ml"] == pytest.approx(ball.sum() * 0.064)
    assert report["enhancement"]["enhances"] is None  # nobody has measured whether it can tell
    assert "was not calibrated" in report["enhancement"]["enhances_missing"]
    assert np.abs(nib.load(tmp_path / "out" / UNCERTAINTY).get_fdata()).max() == 0  # it draws the same every time
    assert f"{ball.sum() * 0.064:.2f} ml predicted as enhancing (in the tumour and 3 mm round it)" in told[-1]


def test_the_report_says_what_it_comes_of(rule, picture, monkeypatch, tmp_path):
    images, mask = split(stored(tmp_path / "scans"))
    monkeypatch.setattr(patient_folder, "_picture", picture)
    told = synthesize("rule:0.5", images, mask=mask, out=tmp_path / "out", say=quiet)
    report = json.loads((tmp_path / "out" / REPORT).read_text())
    assert report == told
    assert (tmp_path / "out" / PICTURE).read_bytes()[:4] == b"\x89PNG"
    assert "SYNTHETIC" in report["what"]
    assert report["synthetic"] is True
    assert report["models"][0]["cohort_digest"] == KNOWN["cohort_digest"]
    assert report["contract"]["spacing_mm"] == SPACING
    assert len(report["inputs"]["T1"]["sha256"]) == 64
    assert set(report["inputs"]) == {"T1", "T2", "FLAIR", "MASK"}
    (warning,) = report["warnings"]
    assert "not calibrated" in warning
    assert set(report["seconds"]) == {"prepare", "network", "rest", "total"}
    assert report["versions"]["numpy"] == np.__version__


def test_how_a_scan_is_stored_changes_nothing(rule, tmp_path):
    voxels = []
    for axes, ending in (("RAS", ".nii"), ("LPS", ".nii.gz"), ("SAL", ".nii.gz")):
        images, mask = split(stored(tmp_path / axes, axes, ending))
        synthesize("rule:0.5", images, mask=mask, out=tmp_path / f"{axes}-out", say=quiet)
        voxels.append(
            [nib.as_closest_canonical(nib.load(tmp_path / f"{axes}-out" / name)).get_fdata() for name in FILES[::4]]
        )
    for other in voxels[1:]:
        np.testing.assert_array_equal(voxels[0], other)


def test_without_a_mask_the_brain_is_searched(rule, tmp_path):
    images, _ = split(stored(tmp_path / "scans"))
    report = synthesize("rule:0.5", images, out=tmp_path / "out", how=How(looks=1), say=quiet)
    assert report["enhancement"]["region"] == "in the whole brain"
    assert report["enhancement"]["enhances"] is None
    assert "vessels count too" in report["warnings"][0]
    assert not (tmp_path / "out" / UNCERTAINTY).exists()  # a single look knows nothing of it
    assert UNCERTAINTY not in report["files"]


def test_an_ensemble_is_its_mean_and_tells_where_it_disagrees(rule, tmp_path):
    images, mask = split(stored(tmp_path / "scans"))
    report = synthesize(["rule:0.2", "rule:0.6"], images, mask=mask, out=tmp_path / "out", how=How(looks=1), say=quiet)
    ball, t1 = (nib.load(path).get_fdata() for path in (mask, images["T1"]))
    scale = report["t1_span"] / 2
    spread = nib.load(tmp_path / "out" / UNCERTAINTY).get_fdata()
    np.testing.assert_allclose(spread, np.where(ball, np.std([0.2, 0.6], ddof=1) * scale, 0), rtol=1e-3, atol=1e-3)
    made = nib.load(tmp_path / "out" / SYNTHESIS).get_fdata()
    np.testing.assert_allclose((made - t1)[ball > 0], 0.4 * scale, atol=scale * 1e-3)
    assert report["uncertainty"]["networks"] == 2
    assert len(report["models"]) == 2
    assert report["models"][0]["weights_sha256"] != report["models"][1]["weights_sha256"]


def test_phantom_models_are_loud(rule, tmp_path):
    rule["phantom"] = True
    images, mask = split(stored(tmp_path / "scans"))
    told = []
    report = synthesize("rule:0.5", images, mask=mask, out=tmp_path / "out", say=told.append)
    assert "PHANTOM" in told[0]
    assert "PHANTOM" in report["warnings"][0]
    assert report["phantom"] is True
    for name in (SYNTHESIS, UNCERTAINTY, ENHANCEMENT):
        assert b"PHANTOM" in nib.load(tmp_path / "out" / name).header["descrip"].item()


REFUSED = {
    "missing sequence": (lambda images: images.pop("T2"), r"T2 missing .found FLAIR, T1"),
    "no T1": (lambda images: images.pop("T1"), "T1 missing"),
    "other channel": (
        lambda images: images.update(ADC=images["T2"]),
        "ADC is given, but the model takes T1, T2, FLAIR",
    ),
    "twice the same": (lambda images: images.update(T2=images["T1"]), "T2 and T1 are the same image"),
    "no file": (lambda images: images.update(T2=Path("nowhere.nii")), "nowhere.nii does not exist"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_does_not_fit_is_refused_and_leaves_nothing(fault, rule, tmp_path):
    spoil, message = REFUSED[fault]
    images, mask = split(stored(tmp_path / "scans"))
    spoil(images)
    with pytest.raises((ValueError, OSError), match=message):
        synthesize("rule:0.5", images, mask=mask, out=tmp_path / "out", say=quiet)
    assert [path.name for path in tmp_path.iterdir()] == ["scans"]


def resaved(path: Path, change) -> None:
    image = nib.load(path)
    data = np.array(image.dataobj)
    nib.save(nib.Nifti1Image(change(data), image.affine), path)


def test_scans_that_do_not_fit_are_refused(rule, tmp_path):
    for number, (name, change, message) in enumerate(
        (
            (("T2",), lambda data: data[:-1], "T2 lies on another grid than T1"),
            (("T2",), lambda data: np.where(np.arange(SHAPE[2]) < 22, 0, data), "field of view too small"),
            (("T1", "T2", "FLAIR"), lambda data: np.where(np.arange(SHAPE[2]) < 22, 0, data), "flat at its bottom"),
            (("FLAIR",), lambda data: data * 0, "the image is empty"),
        )
    ):
        paths = stored(tmp_path / str(number))
        for one in name:
            resaved(paths[one], change)
        images, mask = split(paths)
        with pytest.raises(ValueError, match=message):
            synthesize("rule:0.5", images, mask=mask, out=tmp_path / "out", say=quiet)
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        (lambda data: data * 0, "the tumour mask is empty; the mask is not used"),
        (lambda data: data[:-1], "tumour mask lies on another grid than T1"),
        (lambda data: data / 2.0, "the mask is not used"),
    ],
)
def test_a_mask_that_cannot_be_used_costs_nothing_but_itself(rule, tmp_path, change, warning):
    images, mask = split(stored(tmp_path / "scans"))
    plain = synthesize("rule:0.5", images, out=tmp_path / "plain", say=quiet)
    resaved(mask, change)
    report = synthesize("rule:0.5", images, mask=mask, out=tmp_path / "out", say=quiet)
    assert any(warning in said for said in report["warnings"])
    assert report["enhancement"] == plain["enhancement"]
    assert report["inputs"].keys() == {*images, "MASK"}
    drawn, expected = (nib.load(tmp_path / name / SYNTHESIS).get_fdata() for name in ("out", "plain"))
    np.testing.assert_array_equal(drawn, expected)


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason=f"the real cases are not in {REAL.parent}")
def test_a_real_patient_in_native_orientation(rule, tmp_path):
    """The network is a rule; the scans are real, stored LPS, every second voxel of them."""
    rule |= {"spacing_mm": 2.0, "shape": [80, 96, 80]}
    paths = {}
    for name, ending in (("T1", "t1"), ("T2", "t2"), ("FLAIR", "flair"), ("MASK", "seg")):
        paths[name] = tmp_path / f"{name}.nii"
        nib.save(nib.load(REAL / f"{REAL.name}_{ending}.nii.gz").slicer[::2, ::2, ::2], paths[name])
    images, mask = split(paths)
    report = synthesize("rule:0", images, mask=mask, out=tmp_path / "out", how=How(looks=1), say=quiet)
    t1, made = nib.load(images["T1"]), nib.load(tmp_path / "out" / SYNTHESIS)
    np.testing.assert_array_equal(made.affine, t1.affine)
    true, drawn = t1.get_fdata(), made.get_fdata()
    brain = drawn != 0
    scale = report["t1_span"] / 2
    kept = brain & (np.abs(true - true[brain].mean()) < 0.9 * scale)  # the core's mean is another
    np.testing.assert_allclose(drawn[kept], true[kept], atol=scale * 6e-4)
    assert kept.sum() > 0.99 * np.count_nonzero(true)
    (warning,) = report["warnings"]
    assert "not calibrated" in warning
    assert report["enhancement"]["ml"] == 0
