"""The digital patients and the tree they are written as."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lab.data.layouts.find import find_subjects
from lab.phantom import anatomy, lesion, scanner
from lab.phantom import cohort as phantom

FILES = ["FLAIR.nii.gz", "MASK.nii.gz", "T1.nii.gz", "T1GD.nii.gz", "T2.nii.gz", "metadata.json"]


@pytest.fixture(scope="module")
def atlas() -> anatomy.Atlas:
    return anatomy.load_atlas(4.0)


@pytest.fixture(scope="module")
def subjects(atlas: anatomy.Atlas) -> list[phantom.PhantomSubject]:
    return [phantom.make_subject(0, i, atlas=atlas) for i in range(40)]


def brain_of(atlas: anatomy.Atlas) -> np.ndarray:
    x, y, z = np.broadcast_arrays(*atlas.grid.axes_mm())
    return atlas.depth_at(x, y, z) > 0


def normalised(values: np.ndarray, brain: np.ndarray) -> np.ndarray:
    z = (values - values[brain].mean()) / values[brain].std()
    return np.clip(z, -4, 4) / 4


def digests(root: Path) -> dict[str, str]:
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in root.rglob("*.*z")} | {
        str(p.relative_to(root)): p.read_text() for p in root.rglob("*.json")
    }


def test_atlas_keeps_tissue_volumes_when_it_is_made_coarser(atlas: anatomy.Atlas) -> None:
    for name, millilitres in (("grey", 1008), ("white", 670)):  # of nilearn's maps at 1 mm
        assert getattr(atlas, name).sum(dtype=float) / 255 * 4**3 / 1000 == pytest.approx(millilitres, abs=1)
    assert brain_of(atlas).sum() * 4**3 / 1000 == pytest.approx(1883, rel=0.03)


def test_fractions_fill_the_brain_and_nothing_else(atlas: anatomy.Atlas) -> None:
    mass = anatomy.Mass(centre_mm=np.array([35.0, 0.0, 20.0]), radius_mm=20.0, push_mm=4.0)
    head = anatomy.create_head(np.random.default_rng(0), atlas, atrophy=0.1, mass=mass)
    total = sum(head.fractions.values())
    np.testing.assert_allclose(total[head.depth_mm > 0], 1, atol=1e-3)
    assert (total[head.depth_mm <= 0] == 0).all()
    assert all((part >= 0).all() for part in head.fractions.values())


def test_atrophy_widens_the_ventricles(atlas: anatomy.Atlas) -> None:
    far = anatomy.Mass(centre_mm=np.array([40.0, 30.0, 40.0]), radius_mm=15.0, push_mm=0.0)
    young, old = (
        anatomy.create_head(np.random.default_rng(0), atlas, atrophy=atrophy, mass=far) for atrophy in (0.0, 0.3)
    )
    deep = young.depth_mm > 35
    assert old.fractions["csf"][deep].sum() > 1.3 * young.fractions["csf"][deep].sum()


def test_a_patient_is_a_pure_function_of_seed_and_index(atlas: anatomy.Atlas) -> None:
    first, again = phantom.make_subject(7, 3, atlas=atlas), phantom.make_subject(7, 3, 4.0, with_truth=False)
    for name, values in first.images.items():
        np.testing.assert_array_equal(values, again.images[name])
    np.testing.assert_array_equal(first.mask, again.mask)
    assert first.metadata == again.metadata
    other, other_seed = phantom.make_subject(7, 4, atlas=atlas), phantom.make_subject(8, 3, atlas=atlas)
    assert not np.array_equal(first.images["T1"], other.images["T1"])
    assert not np.array_equal(first.images["T1"], other_seed.images["T1"])


def test_scans_are_scans(subjects: list[phantom.PhantomSubject], atlas: anatomy.Atlas) -> None:
    brain = brain_of(atlas)
    for subject in subjects[:5]:
        assert list(subject.images) == ["T1", "T2", "FLAIR", "T1GD"]
        assert subject.mask.dtype == np.uint8
        assert set(np.unique(subject.mask)) == {0, 1}
        for values in subject.images.values():
            assert values.dtype == np.float32
            assert values.shape == subject.mask.shape == (49, 58, 47)
            assert np.isfinite(values).all()
            assert values.min() == 0
            assert values.max() < 32767
            assert values[0, 0, 0] == 0  # air
        scalp = subject.images["T1"][~brain]
        assert scalp.max() > subject.images["T1"][brain].mean()  # not skull-stripped
    np.testing.assert_array_equal(
        subjects[0].affine, [[4, 0, 0, -96.5], [0, 4, 0, -132.5], [0, 0, 4, -70.5], [0, 0, 0, 1]]
    )


def test_tissue_contrast_is_that_of_the_textbook(subjects: list[phantom.PhantomSubject], atlas: anatomy.Atlas) -> None:
    white, grey = atlas.white > 250, atlas.grey > 225
    fluid = brain_of(atlas) & (atlas.white.astype(int) + atlas.grey < 60)
    swollen = {name: [] for name in ("T2", "FLAIR")}
    for subject in subjects:
        free = subject.mask == 0
        mean = {n: [v[t & free].mean() for t in (white, grey, fluid)] for n, v in subject.images.items()}
        assert mean["T1"][0] > mean["T1"][1] > mean["T1"][2]
        assert mean["T2"][0] < mean["T2"][1] < mean["T2"][2]
        assert mean["FLAIR"][2] < mean["FLAIR"][0]
        for name, ratios in swollen.items():
            oedema = subject.truth["oedema"] > 0.7
            if oedema.sum() > 20:
                ratios.append(subject.images[name][oedema].mean() / mean[name][0])
    assert min(swollen["T2"]) > 1.2
    assert min(swollen["FLAIR"]) > 1.15


def test_without_contrast_agent_the_second_t1_is_the_first(atlas: anatomy.Atlas) -> None:
    rng = np.random.default_rng(0)
    plan = lesion.plan_lesion(rng, atlas, grade=4)
    head = anatomy.create_head(rng, atlas, atrophy=0.1, mass=plan.mass)
    tumour = lesion.grow_lesion(rng, head, dataclasses.replace(plan, leakiness=1.0))
    sample = scanner.create_sample(rng, head, tumour, field_t=1.5)
    sequence = scanner.draw_protocol(rng, "Siemens")["T1"]
    before, after = scanner.simulate_scan(sample, "T1", sequence), scanner.simulate_scan(sample, "T1GD", sequence)
    assert (after - before).max() > 0.1
    dry = dataclasses.replace(tumour, concentration_mm=np.zeros_like(tumour.concentration_mm))
    none = scanner.simulate_scan(dataclasses.replace(sample, tumour=dry, dose_mm=0.0), "T1GD", sequence)
    np.testing.assert_array_equal(none, before)


def test_an_intact_barrier_leaks_nothing_and_an_open_one_much(atlas: anatomy.Atlas) -> None:
    for grade in (2, 4):
        plan = lesion.plan_lesion(np.random.default_rng(1), atlas, grade)
        leaks = []
        for leakiness in (0.0, 0.4, 1.0):
            head = anatomy.create_head(np.random.default_rng(1), atlas, atrophy=0.1, mass=plan.mass)
            changed = dataclasses.replace(plan, leakiness=leakiness)
            tumour = lesion.grow_lesion(np.random.default_rng(1), head, changed)
            leaks.append(float((tumour.concentration_mm * tumour.fractions["tumour"]).sum()))
        assert leaks[0] == 0
        assert leaks[0] < leaks[1] < leaks[2]


def test_about_half_enhance_by_grade_with_overlap(subjects: list[phantom.PhantomSubject], atlas: anatomy.Atlas) -> None:
    brain, rows = brain_of(atlas), []
    for subject in subjects:
        gain = normalised(subject.images["T1GD"], brain) - normalised(subject.images["T1"], brain)
        inside = (subject.mask > 0) & brain
        leak = (subject.truth["gadolinium_mm"] * subject.truth["tumour"]).sum() * 0.064
        grade = subject.metadata["Genetic_and_Histological_labels"]["Grade"]
        rows.append(
            (grade, (gain[inside] > 0.3).sum() * 0.064, (gain[inside] > 0.3).mean(), leak, np.abs(gain[brain]).mean())
        )
    grade, ml, part, leak, copy = (np.array(column) for column in zip(*rows))
    enhancing = ml >= 0.5
    assert 0.35 < enhancing.mean() < 0.65
    assert enhancing[grade == 2].mean() < enhancing[grade == 3].mean() < enhancing[grade == 4].mean()
    assert (~enhancing[grade == 4]).any()
    assert enhancing[(grade == 2) | (grade == 3)].any()
    assert np.median(part[enhancing]) > 0.05
    assert (part[leak < 0.05] < 0.01).mean() > 0.95
    assert 0.06 < copy.mean() < 0.13  # real cases: 0.10


def test_vessels_and_fissure_enhance(subjects: list[phantom.PhantomSubject], atlas: anatomy.Atlas) -> None:
    brain, x = brain_of(atlas), atlas.grid.axes_mm()[0]
    for subject in subjects[:5]:
        gain = normalised(subject.images["T1GD"], brain) - normalised(subject.images["T1"], brain)
        vessels = brain & (subject.truth["blood"] > 0.5) & (subject.mask == 0)
        rest = brain & (subject.truth["blood"] < 0.05) & (subject.mask == 0)
        assert gain[vessels].mean() > 0.25 + gain[rest].mean()
        fissure = (subject.truth["blood"] > 0.3) & (np.abs(x) < 6)
        assert fissure.sum() > 50


@pytest.mark.slow
def test_the_same_patient_at_egd_resolution(atlas: anatomy.Atlas, subjects: list[phantom.PhantomSubject]) -> None:
    fine = phantom.make_subject(0, 0, 1.0)
    assert fine.mask.shape == (197, 233, 189)
    np.testing.assert_array_equal(fine.affine[:3, 3], [-98, -134, -72])
    block = fine.mask[:196, :232, :188].reshape(49, 4, 58, 4, 47, 4).mean(axis=(1, 3, 5)) > 0.5
    coarse = subjects[0].mask > 0
    assert 2 * (block & coarse).sum() / (block.sum() + coarse.sum()) > 0.75
    assert fine.metadata == subjects[0].metadata


@pytest.mark.parametrize(("seed", "index", "spacing"), [(-1, 0, 4.0), (0, -1, 4.0), (0, 0, 0.5), (0, 0, 20.0)])
def test_senseless_patients_are_refused(seed: int, index: int, spacing: float) -> None:
    with pytest.raises(ValueError, match="Phantom with"):
        phantom.make_subject(seed, index, spacing)


def test_cohort_is_an_egd_tree(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    out = phantom.write_cohort(
        tmp_path / "new" / "cohort", subjects=3, seed=5, spacing_mm=8, processes=1, progress=lambda *a: calls.append(a)
    )
    assert calls == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert json.loads((out / "phantom.json").read_text()) == {
        "phantom": True,
        "seed": 5,
        "subjects": 3,
        "spacing_mm": 8.0,
        "version": phantom.VERSION,
    }
    made = phantom.make_subject(5, 1, 8.0)
    folder = out / "SUBJECTS" / "EGD-0002"
    assert sorted(p.name for p in folder.iterdir()) == FILES
    image = nib.load(folder / "T1GD.nii.gz")
    np.testing.assert_array_equal(np.asarray(image.dataobj), made.images["T1GD"])
    np.testing.assert_array_equal(image.affine, made.affine)
    np.testing.assert_array_equal(np.asarray(nib.load(folder / "MASK.nii.gz").dataobj), made.mask)
    assert b"phantom" in image.header["descrip"].item()


def test_cohort_is_read_as_egd(tmp_path: Path) -> None:
    phantom.write_cohort(tmp_path, subjects=2, seed=0, spacing_mm=8, processes=1)
    found = find_subjects(tmp_path)
    assert [s.case_id for s in found] == ["EGD-0001", "EGD-0002"]
    assert {"T1", "T2", "FLAIR", "T1GD"} <= set(found[0].images)
    assert found[0].mask is not None
    assert not found[0].skull_stripped
    written = json.loads((tmp_path / "SUBJECTS" / "EGD-0001" / "metadata.json").read_text())
    assert found[0].age == written["Clinical_data"]["Age"]
    assert found[0].vendor == written["Scan_characteristics"]["Manufacturer"]
    assert found[0].field_strength_t == written["Scan_characteristics"]["Field"]


def test_cohort_is_the_same_for_any_number_of_processes(tmp_path: Path) -> None:
    for processes in (1, 2):
        phantom.write_cohort(tmp_path / str(processes), subjects=4, seed=1, spacing_mm=8, processes=processes)
    assert digests(tmp_path / "1") == digests(tmp_path / "2")
    assert len(digests(tmp_path / "1")) == 4 * 6 + 1


def test_cohort_goes_on_where_it_stopped_and_grows(tmp_path: Path) -> None:
    phantom.write_cohort(tmp_path, subjects=3, seed=1, spacing_mm=8, processes=1)
    before = digests(tmp_path)
    folder = tmp_path / "SUBJECTS" / "EGD-0002"
    (folder / "metadata.json").unlink()
    (folder / "T1.nii.gz").unlink()
    (folder / ".T2.nii.gz.123.tmp").write_bytes(b"half")
    kept = (tmp_path / "SUBJECTS" / "EGD-0001" / "T1.nii.gz").stat().st_mtime_ns
    phantom.write_cohort(tmp_path, subjects=3, seed=1, spacing_mm=8, processes=1)
    assert digests(tmp_path) == before
    assert sorted(p.name for p in folder.iterdir()) == FILES
    assert (tmp_path / "SUBJECTS" / "EGD-0001" / "T1.nii.gz").stat().st_mtime_ns == kept
    phantom.write_cohort(tmp_path, subjects=4, seed=1, spacing_mm=8, processes=1)
    assert {k: v for k, v in digests(tmp_path).items() if k in before and k != "phantom.json"}.items() <= before.items()
    assert (tmp_path / "SUBJECTS" / "EGD-0004" / "metadata.json").exists()


def test_somebodys_files_in_its_folders_stay(tmp_path: Path) -> None:
    phantom.write_cohort(tmp_path, subjects=1, seed=1, spacing_mm=8, processes=1)
    folder = tmp_path / "SUBJECTS" / "EGD-0002"
    folder.mkdir()
    (folder / ".notes.tmp").write_text("mine")
    phantom.write_cohort(tmp_path, subjects=2, seed=1, spacing_mm=8, processes=1)
    assert (folder / ".notes.tmp").read_text() == "mine"
    folder = tmp_path / "SUBJECTS" / "EGD-0003"
    folder.mkdir()
    (folder / "T1.nii.gz").write_text("my patient")
    with pytest.raises(ValueError, match=r"EGD-0003/T1\.nii\.gz: not a file of this phantom"):
        phantom.write_cohort(tmp_path, subjects=3, seed=1, spacing_mm=8, processes=1)
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [("T1.nii.gz", "my patient")]


@pytest.mark.parametrize("change", [{"seed": 2}, {"spacing_mm": 4.0}, {"subjects": 1}])
def test_a_folder_with_another_phantom_is_refused(tmp_path: Path, change: dict[str, float]) -> None:
    settings = {"subjects": 2, "seed": 1, "spacing_mm": 8.0}
    phantom.write_cohort(tmp_path, processes=1, **settings)
    with pytest.raises(ValueError, match="holds a phantom with seed 1, subjects 2"):
        phantom.write_cohort(tmp_path, processes=1, **(settings | change))


def test_other_folders_and_senseless_numbers_are_refused(tmp_path: Path) -> None:
    (tmp_path / "scan.nii.gz").touch()
    with pytest.raises(ValueError, match="holds other files"):
        phantom.write_cohort(tmp_path, subjects=1, seed=0, spacing_mm=8)
    (tmp_path / "phantom.json").write_text("{")
    with pytest.raises(ValueError, match="not the card of a phantom"):
        phantom.write_cohort(tmp_path, subjects=1, seed=0, spacing_mm=8)
    with pytest.raises(PermissionError, match="cannot write a phantom here"):
        phantom.write_cohort(tmp_path / "scan.nii.gz" / "below", subjects=1, seed=0, spacing_mm=8)
    with pytest.raises(PermissionError, match="cannot write a phantom here"):
        phantom.write_cohort(tmp_path / "scan.nii.gz", subjects=1, seed=0, spacing_mm=8)
    with pytest.raises(ValueError, match="at least 1"):
        phantom.write_cohort(tmp_path / "a", subjects=0, seed=0)
    with pytest.raises(ValueError, match="from 0 on"):
        phantom.write_cohort(tmp_path / "a", subjects=1, seed=-1)
    with pytest.raises(ValueError, match="Choose 1 to 8 mm"):
        phantom.write_cohort(tmp_path / "a", subjects=1, seed=0, spacing_mm=0.5)
    assert not (tmp_path / "a").exists()


@pytest.mark.slow
def test_killed_and_called_again_equals_never_killed(tmp_path: Path) -> None:
    call = "import sys; from pathlib import Path; from lab.phantom.cohort import write_cohort; "
    call += "write_cohort(Path(sys.argv[1]), subjects=7, seed=3, spacing_mm=6, processes=1)"
    out = tmp_path / "killed"
    child = subprocess.Popen([sys.executable, "-c", call, str(out)], cwd=Path(__file__).parents[2])
    limit = time.monotonic() + 60
    while not (out / "SUBJECTS" / "EGD-0003").exists() and time.monotonic() < limit and child.poll() is None:
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    left = [p for p in out.rglob("*.nii.gz") if not p.name.startswith(".")]
    assert 0 < len(left) < 7 * 5
    for path in left:
        gzip.decompress(path.read_bytes())  # whole
    for card in out.glob("SUBJECTS/*/metadata.json"):
        assert sorted(p.name for p in card.parent.iterdir()) == FILES
    phantom.write_cohort(out, subjects=7, seed=3, spacing_mm=6, processes=1)
    phantom.write_cohort(tmp_path / "whole", subjects=7, seed=3, spacing_mm=6, processes=1)
    assert digests(out) == digests(tmp_path / "whole")
