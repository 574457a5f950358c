"""A new patient from DICOM: the voxels are those of the same scans as NIfTI, and the export is them again."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicom_series import store
from patients import AFFINE, SHAPE
from ruled import FILES, REAL, head, quiet, split, stored

from lab.cli.patients import SynthesizeNewPatients
from lab.data.native import read_grid_header
from lab.deploy.new_patients import synthesize, synthesize_folder
from lab.deploy.patient_folder import DICOM, REPORT
from lab.inference.settings import ENHANCEMENT, SYNTHESIS, UNCERTAINTY, How
from lab.tracking.models import verify as synthesis_models

pytestmark = pytest.mark.usefixtures("rule")
TURN = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.12, -0.2, 0.1) @ AFFINE[:3, :3], AFFINE[:3, 3])


def whole(seed: int = 0) -> dict[str, np.ndarray]:
    """The head with whole numbers, as a scanner stores it."""
    return {name: np.rint(data).astype(np.int16) for name, data in head(seed).items()}


def nifti(folder: Path, affine: np.ndarray = AFFINE, axes: str = "RAS", ending: str = ".nii.gz") -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    turn = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(axes))
    for name, data in whole().items():
        nib.save(nib.Nifti1Image(data, affine).as_reoriented(turn), folder / f"{name}{ending}")
    return {name: folder / f"{name}{ending}" for name in whole()}


def dicom(folder: Path, planes: tuple[str, str, str] = ("axial",) * 3, affine: np.ndarray = AFFINE, **options):
    volumes = whole()
    return {
        name: store(folder / name, volumes[name], affine, plane=plane, name=name, **options)
        for name, plane in zip(("T1", "T2", "FLAIR"), planes)
    }


def voxels(out: Path) -> list[np.ndarray]:
    """The three volumes in RAS."""
    return [
        nib.as_closest_canonical(nib.load(out / name)).get_fdata() for name in (SYNTHESIS, UNCERTAINTY, ENHANCEMENT)
    ]


@pytest.mark.parametrize("affine", [AFFINE, TURN], ids=["straight", "oblique"])
def test_dicom_and_every_storage_of_nifti_give_the_same_voxels(affine, tmp_path):
    given = {
        "plain": nifti(tmp_path / "plain", affine, ending=".nii"),
        "lps": nifti(tmp_path / "lps", affine, "LPS"),
        "axial": dicom(tmp_path / "axial", affine=affine),
        "shuffled": dicom(tmp_path / "shuffled", affine=affine, seed=5),
        "planes": dicom(tmp_path / "planes", ("sagittal", "axial", "coronal"), affine),
    }
    mask = given["plain"]["MASK"]
    for name, paths in given.items():
        images = {key: path for key, path in paths.items() if key != "MASK"}
        synthesize("rule:0.5", images, mask=mask, out=tmp_path / f"{name}-out", say=quiet)
    first = voxels(tmp_path / "plain-out")
    assert first[2].any()
    for name in list(given)[1:]:
        for one, other in zip(first, voxels(tmp_path / f"{name}-out")):
            np.testing.assert_array_equal(one, other)
    made = nib.load(tmp_path / "planes-out" / SYNTHESIS)
    assert nib.aff2axcodes(made.affine) == ("P", "I", "R")  # as the sagittal T1's pixels are stored
    np.testing.assert_array_equal(made.affine, read_grid_header(given["planes"]["T1"]).get_best_affine())
    np.testing.assert_allclose(nib.as_closest_canonical(made).affine, affine, atol=1e-5)


def test_the_export_holds_the_synthesis_and_the_rest_holds_no_names(tmp_path):
    images = dicom(tmp_path / "scans", ("sagittal", "axial", "axial"))
    mask = nifti(tmp_path / "nifti")["MASK"]
    report = synthesize("rule:0.5", images, mask=mask, out=tmp_path / "out", how=How(export="dicom"), say=quiet)
    assert sorted(path.name for path in (tmp_path / "out").glob("[!.]*")) == sorted([*FILES, DICOM])
    slices = [pydicom.dcmread(path) for path in sorted((tmp_path / "out" / DICOM).iterdir())]
    assert len(slices) == report["dicom"]["files"] == SHAPE[0]
    stack = np.stack([one.pixel_array.T for one in slices], axis=-1)
    values = stack * float(slices[0].RescaleSlope) + float(slices[0].RescaleIntercept)
    made = nib.load(tmp_path / "out" / SYNTHESIS).get_fdata()
    np.testing.assert_allclose(values, made, atol=np.ptp(made) / 3e4)
    np.testing.assert_array_equal(values == 0, made == 0)
    assert {one.SeriesInstanceUID for one in slices} == {report["dicom"]["series_instance_uid"]}
    assert len(slices[0].SourceImageSequence) == 1 + 2 * SHAPE[2]  # T2 and FLAIR are stacked otherwise
    for path in (tmp_path / "out").iterdir():
        if path.is_file():
            content = nib.load(path).to_bytes() if path.suffix == ".gz" else path.read_bytes()
            assert b"Jane" not in content
            assert b"4711" not in content
    assert slices[0].PatientID == "4711"


def test_repeating_gives_the_same_series(tmp_path):
    images = dicom(tmp_path / "scans")
    for name in ("one", "two"):
        synthesize("rule:0.5", images, out=tmp_path / name, how=How(looks=1, export="dicom"), say=quiet)
        for folder in images.values():  # in between, files get other names
            for number, path in enumerate(sorted(folder.iterdir())):
                path.rename(folder / f"{name}-{number}.dcm")
    synthesize("rule:0.4", images, out=tmp_path / "three", how=How(looks=1, export="dicom"), say=quiet)
    found = [[path.read_bytes() for path in sorted((tmp_path / name / DICOM).iterdir())] for name in ("one", "two")]
    assert found[0] == found[1]
    reports = [json.loads((tmp_path / name / REPORT).read_text()) for name in ("one", "two", "three")]
    assert reports[0]["inputs"]["T1"]["sha256"] == reports[1]["inputs"]["T1"]["sha256"]
    assert len({report["dicom"]["series_instance_uid"] for report in reports}) == 2


def test_scans_that_do_not_fit_are_refused(tmp_path):
    images = dicom(tmp_path / "scans")
    with pytest.raises(ValueError, match="T2 and T1 are the same image"):
        synthesize("rule:0.5", images | {"T2": images["T1"]}, out=tmp_path / "out", say=quiet)
    with pytest.raises(ValueError, match=r"more than one series .*'T1 tra'"):
        synthesize("rule:0.5", images | {"T2": tmp_path / "scans"}, out=tmp_path / "out", say=quiet)
    volumes = whole()
    for name in images:  # as a scan that ends in the middle of the head
        shutil.rmtree(images[name])
        store(images[name], volumes[name][:, :, :23], AFFINE, name=name)
    with pytest.raises(ValueError, match="the brain ends flat at its top"):
        synthesize("rule:0.5", images, out=tmp_path / "out", say=quiet)
    sagittal = store(tmp_path / "more", volumes["T1"], AFFINE, name="T1")
    with pytest.raises(ValueError, match="T2 lies on another grid than T1"):
        synthesize("rule:0.5", images | {"T1": sagittal}, out=tmp_path / "out", say=quiet)
    assert not (tmp_path / "out").exists()


def test_without_a_dicom_t1_nothing_is_computed(tmp_path, monkeypatch):
    images, mask = split(stored(tmp_path / "scans"))
    monkeypatch.setattr(synthesis_models, "load_package", None)  # not even the model is read
    how = How(export="dicom")
    with pytest.raises(ValueError, match=r"--export dicom needs a T1 that is a folder .*found .*T1.nii.gz"):
        synthesize("rule:0.5", images, mask=mask, out=tmp_path / "out", how=how, say=quiet)
    table = "case_id,T1,T2,FLAIR\n" + ",".join(["a", *(str(images[name]) for name in ("T1", "T2", "FLAIR"))])
    (tmp_path / "scans.csv").write_text(table)
    with pytest.raises(ValueError, match="--export dicom needs a T1"):
        synthesize_folder("rule:0.5", tmp_path / "scans.csv", out=tmp_path / "out", how=how, say=quiet)
    assert not (tmp_path / "out").exists()


def test_a_csv_may_name_folders(tmp_path):
    dicom(tmp_path / "a")
    nifti(tmp_path / "b")
    dicom(tmp_path / "c", change=lambda image, number: image.pop("PixelSpacing"))
    rows = [
        "case_id,T1,T2,FLAIR",
        "a,a/T1,a/T2,a/FLAIR",
        "b,b/T1.nii.gz,b/T2.nii.gz,b/FLAIR.nii.gz",
        "c,c/T1,c/T2,c/FLAIR",
    ]
    (tmp_path / "scans.csv").write_text("\n".join(rows))
    how = How(looks=1, export="dicom")
    done = synthesize_folder("rule:0.5", tmp_path / "scans.csv", out=tmp_path / "out", how=how, say=quiet)
    assert list(done.reports) == ["a"]
    assert "--export dicom needs a T1 that is a folder" in done.left_out["b"]
    assert "PixelSpacing is missing" in done.left_out["c"]
    told: list[str] = []
    synthesize_folder("rule:0.5", tmp_path / "scans.csv", out=tmp_path / "out", how=how, say=told.append)
    assert "there already" in told[0]
    shutil.rmtree(tmp_path / "out" / "a" / DICOM)
    synthesize_folder("rule:0.5", tmp_path / "scans.csv", out=tmp_path / "out", how=how, say=told.append)
    assert len(list((tmp_path / "out" / "a" / DICOM).iterdir())) == SHAPE[2]


def test_the_command_takes_folders(tmp_path, capsys):
    images = dicom(tmp_path / "scans")
    command = SynthesizeNewPatients(
        model=("rule:0.5",), out=tmp_path / "out", t1=images["T1"], t2=images["T2"], flair=images["FLAIR"], looks=1
    )
    command.run()
    assert not (tmp_path / "out" / DICOM).exists()
    dataclasses.replace(command, export="dicom").run()
    assert len(list((tmp_path / "out" / DICOM).iterdir())) == SHAPE[2]
    assert "ml predicted as enhancing" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason=f"the real cases are not in {REAL.parent}")
def test_a_real_patient_as_dicom_and_as_nifti(rule, tmp_path):
    """The network is a rule; the scans are real, every second voxel of them."""
    rule |= {"spacing_mm": 2.0, "shape": [80, 96, 80]}
    files, series = {}, {}
    for name, ending in (("T1", "t1"), ("T2", "t2"), ("FLAIR", "flair")):
        image = nib.load(REAL / f"{REAL.name}_{ending}.nii.gz").slicer[::2, ::2, ::2]
        values, files[name] = np.asarray(image.dataobj).astype(np.int16), tmp_path / f"{name}.nii"
        nib.save(nib.Nifti1Image(values, image.affine), files[name])
        series[name] = store(tmp_path / name, values, image.affine, name=name)
    report = synthesize("rule:0.4", files, out=tmp_path / "nifti", how=How(looks=1), say=quiet)
    other = synthesize("rule:0.4", series, out=tmp_path / "dicom", how=How(looks=1, export="dicom"), say=quiet)
    for name in (SYNTHESIS, ENHANCEMENT):
        one, two = (nib.load(tmp_path / kind / name) for kind in ("nifti", "dicom"))
        np.testing.assert_array_equal(one.get_fdata(), two.get_fdata())
        np.testing.assert_array_equal(one.affine, two.affine)
    assert report["enhancement"]["ml"] == other["enhancement"]["ml"]
    assert other["dicom"]["files"] == nib.load(files["T1"]).shape[2]
