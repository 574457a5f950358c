"""Scans -> cohort: values, masks, orientation, every wrong input, resuming, and the real cases where present."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from scan_trees import AFFINE, BRATS_2021, BRATS_2023, SPACING, brats_case, brats_tree, head, save, save_as
from scipy import ndimage

from lab.config import DataConfig
from lab.data import brain, geometry, storage, workers
from lab.data.cohort import BRAIN, ENHANCEMENT, EXPERT, TUMOUR, is_cohort, open_cohort, read_index
from lab.data.prepare import prepare

REAL = Path(__file__).parents[3] / "shared" / "cases"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"the real cases are not in {REAL}")
SETTINGS = DataConfig()
ONE_CLASS = DataConfig(allow_one_class=True)


def run(source: Path, out: Path, settings: DataConfig = SETTINGS, **options):
    return prepare(source, out, settings, processes=1, **options)


def left_out(out: Path) -> dict[str, str]:
    table = read_index(out / "index.csv").set_index("case_id")
    return table.loc[table["status"] == "left out", "reason"].to_dict()


def files(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


# --- what a prepared case holds


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return brats_tree(tmp_path_factory.mktemp("brats"))


@pytest.fixture(scope="module")
def cohort(tree, tmp_path_factory):
    return run(tree, tmp_path_factory.mktemp("out") / "cohort")


def test_values_follow_the_paper(cohort):
    assert cohort.channels == ("T1", "T2", "FLAIR", "T1GD")
    assert (cohort.shape, cohort.spacing_mm) == ((40, 48, 40), SPACING)
    for number, case_id in enumerate(cohort.index.index):
        image, mask = cohort.load(case_id)
        assert (image.dtype, image.shape, mask.dtype) == (np.float16, (4, 40, 48, 40), np.uint8)
        truth = head(number, enhancing=number < 2)
        inside = (mask & BRAIN) > 0
        assert inside.sum() == (truth["T1"] != 0).sum()
        assert (image[:, ~inside] == -1).all()
        assert np.abs(image).max() <= 1
        for channel, name in zip(image, cohort.channels):
            values = truth[name][truth["T1"] != 0].astype(float)
            expected = np.clip((values - values.mean()) / values.std() / 4, -1, 1)
            np.testing.assert_allclose(np.sort(channel[inside]), np.sort(expected), atol=1e-3)
        contrast = image[3].astype(np.float32) - image[0]
        np.testing.assert_array_equal((mask & ENHANCEMENT) > 0, (contrast > 0.3) & inside)
        assert ((mask & TUMOUR) > 0).sum() == (truth["MASK"] > 0).sum()
        assert ((mask & EXPERT) > 0).sum() == (truth["MASK"] == 3).sum()


def test_case_files_are_safetensors_that_describe_themselves(cohort):
    path = cohort.path / "cases" / "BraTS-GLI-00000-000.safetensors"
    image, mask = cohort.load(path.stem)
    tensors = load_file(path)
    np.testing.assert_array_equal(tensors["image"], image)
    np.testing.assert_array_equal(tensors["mask"], mask)
    row = storage.read_record(path)["row"]
    assert row["tumour_ml"] == cohort.index.loc[path.stem, "tumour_ml"]
    assert row["sha256"] == storage.content_digest(image, mask) == cohort.index.loc[path.stem, "sha256"]
    with pytest.raises(ValueError, match="read-only"):
        image[0, 0, 0, 0] = 1


def test_the_window_is_an_exact_crop_round_the_brain(cohort):
    _, mask = cohort.load(cohort.index.index[0])
    box = geometry.bounding_box((mask & BRAIN) > 0)
    for side, size in zip(box, cohort.shape):
        assert abs(side.start - (size - side.stop)) <= 1
    truth = head(0)["MASK"]
    inside = geometry.bounding_box(truth)
    prepared = geometry.bounding_box((mask & TUMOUR) > 0)
    np.testing.assert_array_equal(truth[inside] > 0, (mask[prepared] & TUMOUR) > 0)


def test_index_says_who_enhances_and_how_much(cohort):
    index = cohort.index
    assert index["enhancing"].tolist() == [True, True, False, False]
    assert set(index["enhancing_by"]) == {"expert label"}
    for number, row in enumerate(index.itertuples()):
        truth = head(number, enhancing=number < 2)["MASK"]
        assert row.tumour_ml == pytest.approx((truth > 0).sum() * 0.064)
        assert row.label_enhancing_ml == pytest.approx((truth == 3).sum() * 0.064)
        assert row.brain_outside_ml == 0
    assert (index["rule_enhancing_ml"][:2] > 2).all()
    assert (index["rule_enhancing_ml"][2:] < 0.5).all()
    assert index["grade"].isna().all()


@pytest.mark.parametrize("axes", ["LPS", "PIR"])
def test_stored_orientation_changes_nothing(axes, cohort, tmp_path):
    for number in range(4):
        for name, data in head(number, enhancing=number < 2).items():
            if name in BRATS_2023:
                case_id = f"BraTS-GLI-{number:05d}-000"
                stored = axes if name != "T2" else "RAS"  # a mixture within one subject as well
                save_as(tmp_path / "scans" / case_id / f"{case_id}{BRATS_2023[name]}.nii.gz", data, stored)
    other = run(tmp_path / "scans", tmp_path / "out")
    assert other.digest == cohort.digest
    assert other.index["sha256"].tolist() == cohort.index["sha256"].tolist()


def test_both_codings_of_the_enhancing_label_agree(cohort, tmp_path):
    for number in range(4):
        volumes = head(number, enhancing=number < 2, label=4)
        brats_case(tmp_path / "scans", f"BraTS2021_{number:05d}", volumes, BRATS_2021)
    other = run(tmp_path / "scans", tmp_path / "out")
    assert other.index["sha256"].tolist() == cohort.index["sha256"].tolist()


def test_any_list_of_inputs_works(tmp_path):
    suffixes = {**BRATS_2023, "ADC": "-adc"}
    for number in range(2):
        brats_case(tmp_path / "scans", f"BraTS-GLI-{number:05d}-000", head(number, enhancing=number < 1), suffixes)
    cohort = run(tmp_path / "scans", tmp_path / "out", DataConfig(inputs=("t2", "Adc")))
    assert cohort.channels == ("t2", "Adc", "T1", "T1GD")
    assert cohort.channel("ADC") == 1
    default = run(tmp_path / "scans", tmp_path / "default")
    np.testing.assert_array_equal(cohort.load(cohort.index.index[0])[0][2], default.load(cohort.index.index[0])[0][0])
    with pytest.raises(ValueError, match="among the inputs"):
        run(tmp_path / "scans", tmp_path / "out", DataConfig(inputs=("T1", "t1gd")))


def test_coarser_grids_average_whole_blocks(tree, tmp_path):
    cohort = run(tree, tmp_path / "out", DataConfig(spacing_mm=8.0))
    assert cohort.shape == (20, 24, 20)
    image, mask = cohort.load(cohort.index.index[0])
    truth = head(0)
    solid = ndimage.binary_fill_holes(truth["T1"] != 0)
    window = geometry.window_round(geometry.bounding_box(solid), (SPACING,) * 3, cohort.shape, 8.0)
    padded = {name: np.pad(volume * 1.0, 20) for name, volume in {**truth, "brain": solid}.items()}
    start = np.array(window.start) + 20
    blocks = {
        name: volume[tuple(slice(first, first + 2 * size) for first, size in zip(start, cohort.shape))]
        .reshape(20, 2, 24, 2, 20, 2)
        .mean(axis=(1, 3, 5))
        for name, volume in padded.items()
    }
    inside = blocks["brain"] >= 0.5
    np.testing.assert_array_equal((mask & BRAIN) > 0, inside)
    values = blocks["T2"][inside] / blocks["brain"][inside]
    expected = np.clip((values - values.mean()) / values.std() / 4, -1, 1)
    np.testing.assert_allclose(image[1][inside], expected, atol=1e-3)
    assert cohort.index["tumour_ml"].iloc[0] == pytest.approx((truth["MASK"] > 0).sum() * 0.064)


def test_resampling_keeps_straight_lines_and_the_mean():
    ramp = np.broadcast_to(np.arange(40.0)[:, None, None], (40, 40, 40))
    for ratio in (0.5, 0.8, 1.5, 2.0, 2.5):
        size = int(24 / ratio)
        window = geometry.Window((8, 8, 8), (size, size, size), (ratio, ratio, ratio))
        centres = 8 + ratio * (np.arange(size) + 0.5) - 0.5
        tolerance = 0 if ratio in (0.5, 2.0) else 0.51  # a box over parts of voxels shifts a ramp by less than half
        np.testing.assert_allclose(window.apply(ramp)[:, 3, 3], centres, atol=1e-4 + tolerance)
        np.testing.assert_allclose(window.apply(np.ones((40, 40, 40)))[1:-1, 1:-1, 1:-1], 1, atol=1e-5)
    outside = geometry.Window((-30, 0, 0), (10, 10, 10), (1.5, 1.5, 1.5)).apply(ramp + 1)
    assert not outside.any()


def test_brain_is_what_every_sequence_shows_with_holes_filled(tmp_path):
    volumes = head(0)
    volumes["T2"][22, 26, 22] = 0  # a zero inside is a hole, not background
    volumes["T1GD"][:, :, :10] = 0  # the field of view of one sequence ends early
    volumes["T1"][0, 0, 0] = -1  # ringing far outside, in one sequence only
    brats_case(tmp_path / "scans", "BraTS-GLI-00000-000", volumes)
    cohort = run(tmp_path / "scans", tmp_path / "out", ONE_CLASS)
    expected = head(0)["T1"] != 0
    expected[:, :, :10] = False
    assert cohort.index["brain_ml"].iloc[0] == pytest.approx(expected.sum() * 0.064)


# --- wrong input: one clear reason for the subject, and the others go on

WRONG = {
    "missing sequence": (lambda v, f: f["T2"].unlink(), "T2 missing (found FLAIR, T1, T1GD)"),
    "missing mask": (lambda v, f: f["MASK"].unlink(), "tumour mask missing"),
    "truncated": (lambda v, f: f["FLAIR"].write_bytes(f["FLAIR"].read_bytes()[:2000]), "t2f.nii.gz: truncated"),
    "other grid": (lambda v, f: save(f["T1GD"], v["T1GD"][:-2]), "T1GD lies on another grid than T1: 42 x 52 x 46"),
    "other affine": (lambda v, f: save(f["T2"], v["T2"], AFFINE + np.eye(4, k=3) * 9), "T2 lies on another grid"),
    "mask on other grid": (lambda v, f: save(f["MASK"], v["MASK"][:-1]), "tumour mask lies on another grid"),
    "all zero": (lambda v, f: save(f["T1"], v["T1"] * 0), "t1n.nii.gz: every voxel is 0"),
    "NaN": (lambda v, f: save(f["T1"], np.where(v["T1"] > 500, np.nan, v["T1"])), "voxels are NaN or infinite"),
    "4D": (lambda v, f: save(f["T1"], np.stack([v["T1"]] * 2, -1)), "t1n.nii.gz: 4D with 44 x 52 x 46 x 2 voxels"),
    "2D": (lambda v, f: save(f["T1"], v["T1"][:, :, 20]), "t1n.nii.gz: 44 x 52 voxels is not a volume"),
    "not an image": (lambda v, f: f["T1"].write_text("nothing"), "t1n.nii.gz: not a NIfTI file"),
    "empty mask": (lambda v, f: save(f["MASK"], v["MASK"] * 0), "the tumour mask is empty"),
    "label of another year": (
        lambda v, f: save(f["MASK"], v["MASK"] // 3 * 4),
        "holds the labels 0, 4; this layout has",
    ),
    "half a label": (lambda v, f: save(f["MASK"], v["MASK"] / 2.0), "holds the value"),
    "flat brain": (lambda v, f: save(f["T2"], (v["T1"] != 0) * 1.0), "T2: the brain has the same value everywhere"),
    "nothing in common": (lambda v, f: save(f["T2"], (v["T1"] == 0) * v["T2"].max()), "no voxel holds signal"),
    "small field of view": (
        lambda v, f: save(f["T2"], np.where(np.arange(46) < 22, 0, v["T2"])),
        "of the brain is seen in every sequence",
    ),
    "not skull-stripped": (
        lambda v, f: [save(f[name], v[name] + 9) for name in ("T1", "T2", "FLAIR", "T1GD")],
        "the scan is not skull-stripped",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_subject_is_left_out_with_its_reason(kind, tmp_path):
    brats_tree(tmp_path / "scans", enhancing=2, others=1)
    volumes, wrong = head(0), "BraTS-GLI-00000-000"
    paths = {name: tmp_path / "scans" / wrong / f"{wrong}{suffix}.nii.gz" for name, suffix in BRATS_2023.items()}
    spoil, reason = WRONG[kind]
    spoil(volumes, paths)
    lines: list[str] = []
    cohort = run(tmp_path / "scans", tmp_path / "out", progress=lambda done, total, line: lines.append(line))
    assert cohort.index.index.tolist() == ["BraTS-GLI-00001-000", "BraTS-GLI-00002-000"]
    assert list(left_out(tmp_path / "out")) == [wrong]
    assert reason in left_out(tmp_path / "out")[wrong]
    assert any(line.startswith(f"{wrong}: left out, ") and reason in line for line in lines)
    assert all("\n" not in line for line in lines)
    assert cohort.manifest["counts"] == {"found": 3, "used": 2, "left_out": 1, "patients": 2, "enhancing": 1}


def test_a_path_in_a_table_that_does_not_exist(tmp_path):
    brats_tree(tmp_path, enhancing=1, others=1)
    rows = ["case_id,T1,T2,FLAIR,T1GD,MASK,enhancing_label"]
    for number in range(3):
        case_id = f"BraTS-GLI-{number:05d}-000"
        stems = [f"{case_id}/{case_id}{BRATS_2023[name]}.nii.gz" for name in ("T1", "T2", "FLAIR", "T1GD", "MASK")]
        rows.append(",".join([case_id, *stems, "3"]))
    (tmp_path / "scans.csv").write_text("\n".join(rows))
    cohort = run(tmp_path / "scans.csv", tmp_path / "out")
    assert len(cohort.index) == 2
    assert "BraTS-GLI-00002-000-t1n.nii.gz: file not found" in left_out(tmp_path / "out")["BraTS-GLI-00002-000"]


def test_two_scans_of_one_patient_stay_together(tmp_path):
    brats_tree(tmp_path / "scans")
    brats_case(tmp_path / "scans", "BraTS-GLI-00000-001", head(9))
    cohort = run(tmp_path / "scans", tmp_path / "out")
    assert (len(cohort.index), cohort.index["patient_id"].nunique()) == (5, 4)
    for seed in range(8):
        parts = cohort.split((0.5, 0.25, 0.25), seed).set_index("case_id")["split"]
        assert parts["BraTS-GLI-00000-000"] == parts["BraTS-GLI-00000-001"]
    assert pd.read_csv(tmp_path / "out" / "split.csv")["case_id"].tolist() == sorted(cohort.index.index)


# --- wrong input that ends the call, leaving nothing that claims to be a cohort


def test_sources_and_outputs_that_cannot_be_used(tree, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.docx").write_text("x")
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        run(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(ValueError, match="folder is empty"):
        run(tmp_path / "empty", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match="the prepared cohort cannot be written there"):
            run(tree, out)
    with pytest.raises(ValueError, match=r"holds other files \(thesis.docx\)"):
        run(tree, tmp_path / "full")
    with pytest.raises(ValueError, match="holds the scans"):
        run(tree, tree)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (DataConfig(spacing_mm=0.0), "must be above 0"),
        (DataConfig(spacing_mm=500.0), "has no voxel"),
        (DataConfig(clip_sigma=0.0), "must be above 0"),
        (DataConfig(split=(0.9, 0.2, 0.2)), "add up to 1"),
        (DataConfig(inputs=()), "names no sequence"),
    ],
)
def test_settings_are_checked_before_the_work(settings, message, tree, tmp_path):
    with pytest.raises(ValueError, match=message):
        run(tree, tmp_path / "out", settings)
    assert not (tmp_path / "out").exists()


def test_an_empty_cohort_says_so_with_reasons(tmp_path):
    brats_tree(tmp_path / "scans")
    for path in (tmp_path / "scans").rglob("*-t2w.nii.gz"):
        path.unlink()
    with pytest.raises(ValueError, match=r"none of 4 subjects can be used \(4 x T2 missing"):
        run(tmp_path / "scans", tmp_path / "out")
    assert not is_cohort(tmp_path / "out")
    assert len(left_out(tmp_path / "out")) == 4


def test_one_class_is_refused_unless_allowed(tmp_path):
    brats_tree(tmp_path / "scans", enhancing=2, others=0)
    with pytest.raises(ValueError, match=r"every patient enhances \(2 used\).*--allow-one-class"):
        run(tmp_path / "scans", tmp_path / "out")
    assert not is_cohort(tmp_path / "out")
    with pytest.raises(ValueError, match="did not finish"):
        open_cohort(tmp_path / "out")
    assert len(run(tmp_path / "scans", tmp_path / "out", ONE_CLASS).index) == 2
    with pytest.raises(ValueError, match="no patient enhances"):
        run(tmp_path / "scans", tmp_path / "out", DataConfig(enhancing_ml=1000.0))
    assert not is_cohort(tmp_path / "out")


# --- doing it again


def test_nothing_to_do_writes_nothing_and_changes_are_followed(tmp_path):
    source, out = brats_tree(tmp_path / "scans", 2, 2), tmp_path / "out"
    (source / "BraTS-GLI-00001-000" / "BraTS-GLI-00001-000-t2w.nii.gz").write_bytes(b"cut")
    first = run(source, out)
    before = files(out)
    assert run(source, out).digest == first.digest
    assert files(out) == before

    brats_case(source, "BraTS-GLI-00001-000", head(1))  # the damaged file is replaced
    second = run(source, out)
    changed = {name for name, stamp in files(out).items() if before.get(name) != stamp}
    assert {Path(name).name for name in changed} == {
        *("BraTS-GLI-00001-000.safetensors", "index.csv", "split.csv", "manifest.json")
    }
    assert not left_out(out)
    assert second.digest != first.digest

    third = run(source, out, DataConfig(clip_sigma=3.0))
    assert third.digest != second.digest
    assert run(source, out).digest == second.digest

    split_only = run(source, out, DataConfig(split_seed=5))
    assert split_only.digest == second.digest
    assert split_only.manifest["settings"]["split_seed"] == 5

    for path in (source / "BraTS-GLI-00000-000").iterdir():
        path.unlink()
    fewer = run(source, out)
    assert len(fewer.index) == 3
    assert not (out / "cases" / "BraTS-GLI-00000-000.safetensors").exists()


def test_a_damaged_case_file_is_made_again(tmp_path):
    source, out = brats_tree(tmp_path / "scans", 1, 1), tmp_path / "out"
    first = run(source, out)
    case = next((out / "cases").glob("*.safetensors"))
    case.write_bytes(case.read_bytes()[:-100])
    (out / "cases" / ".half.safetensors.123.tmp").write_bytes(b"half")
    with pytest.raises(ValueError, match="damaged"):
        first.load(case.stem)
    assert run(source, out).digest == first.digest
    assert len(list((out / "cases").iterdir())) == 2


CHILD = """
import sys, time
from pathlib import Path
from lab.config import DataConfig
from lab.data.prepare import prepare
if __name__ == "__main__":
    def slowly(done, total, line):
        print(done, flush=True)
        time.sleep(0.2)
    prepare(Path(sys.argv[1]), Path(sys.argv[2]), DataConfig(), processes=int(sys.argv[3]), progress=slowly)
"""


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_and_resumed_equals_never_killed(processes, tmp_path):
    source = brats_tree(tmp_path / "scans", 4, 4)
    whole = prepare(source, tmp_path / "whole", SETTINGS, processes=processes)
    (tmp_path / "child.py").write_text(CHILD)
    command = [sys.executable, tmp_path / "child.py", source, tmp_path / "killed", str(processes)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    assert child.stdout is not None
    while child.stdout.readline().strip() != "2":
        pass
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    done = len(list((tmp_path / "killed" / "cases").glob("*.safetensors")))
    assert done >= 2
    assert not is_cohort(tmp_path / "killed")
    kept = files(tmp_path / "killed" / "cases") if processes == 1 else {}
    resumed = run(source, tmp_path / "killed")
    assert resumed.digest == whole.digest
    assert kept.items() <= files(tmp_path / "killed" / "cases").items()
    for name in ("index.csv", "split.csv", "manifest.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


class Deadly(workers.Job):
    """Kills its process for one subject, as the kernel does when memory runs out."""

    def run(self):
        if self.subject.case_id == "BraTS-GLI-00001-000":
            time.sleep(0.5)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().run()


def test_a_killed_worker_costs_only_its_subject(tmp_path, monkeypatch):
    source = brats_tree(tmp_path / "scans", 2, 2)
    monkeypatch.setattr(workers, "Job", Deadly)
    cohort = prepare(source, tmp_path / "out", SETTINGS, processes=2)
    assert len(cohort.index) == 3
    assert "was killed" in left_out(tmp_path / "out")["BraTS-GLI-00001-000"]
    monkeypatch.undo()
    assert len(run(source, tmp_path / "out").index) == 4  # not remembered: it may have more memory the next time


# --- scans in MNI152 space that are not skull-stripped (EGD)


def egd_case(root: Path, case_id: str, shift_mm: float = 0.0) -> None:
    """A head of noise in air round the atlas' brain, at 4 mm; the tumour enhances by the rule."""
    rng = np.random.default_rng(3)
    atlas, affine = brain._atlas()
    coarse, spaced = atlas[::4, ::4, ::4], affine @ np.diag([4, 4, 4, 1.0])
    skin = ndimage.binary_dilation(coarse, iterations=2)
    distance = np.sqrt(((np.indices(coarse.shape) - np.array([30, 30, 25])[:, None, None, None]) ** 2).sum(0))
    spaced[2, 3] += shift_mm
    for name in ("T1", "T2", "FLAIR", "T1GD"):
        tissue = 300 + 80 * np.sin(np.indices(coarse.shape)[0] / 3) + rng.normal(0, 8, coarse.shape)
        values = np.where(coarse, tissue, np.where(skin, 700, rng.rayleigh(4, coarse.shape)))
        values[(distance < 3) & (name == "T1GD")] += 300
        save(root / "SUBJECTS" / case_id / f"{name}.nii.gz", values.astype(np.float32), spaced)
    save(root / "SUBJECTS" / case_id / "MASK.nii.gz", (distance < 5).astype(np.uint8), spaced)


def test_egd_takes_the_atlas_and_the_rule(tmp_path):
    egd_case(tmp_path / "egd", "EGD-0001")
    egd_case(tmp_path / "egd", "EGD-0002", shift_mm=60.0)
    egd_case(tmp_path / "egd", "EGD-0003", shift_mm=-200.0)
    (tmp_path / "egd" / "phantom.json").write_text(json.dumps({"phantom": True, "seed": 0}))
    cohort = run(tmp_path / "egd", tmp_path / "out", ONE_CLASS)
    assert cohort.index.index.tolist() == ["EGD-0001"]
    reasons = left_out(tmp_path / "out")
    assert "not registered to MNI152" in reasons["EGD-0002"]
    assert "not registered to MNI152" in reasons["EGD-0003"]
    row = cohort.index.iloc[0]
    assert row["brain_ml"] == pytest.approx(brain._atlas()[0][::4, ::4, ::4].sum() * 0.064, rel=0.01)
    assert row["enhancing_by"] == "paper's rule"
    assert row["enhancing"]
    assert pd.isna(row["label_enhancing_ml"])
    assert row["rule_enhancing_ml"] == pytest.approx(7, rel=0.2)
    assert cohort.phantom
    assert not ((cohort.load("EGD-0001")[1] & EXPERT) > 0).any()


# --- real patients


@needs_real
def test_real_2mm_volumes_agree_with_the_published_table(tmp_path):
    cohort = prepare(REAL / "brats2023-2mm", tmp_path / "out", SETTINGS, processes=2)
    assert cohort.shape == (80, 96, 80)
    truth = pd.read_csv(REAL / "subjects.csv", index_col="case")
    table = cohort.index.join(truth, rsuffix="_true")
    assert len(table) == 28
    assert (table["tumour_ml"] - table["tumour_ml_true"]).abs().max() <= 0.0051
    assert (table["label_enhancing_ml"] - table["enhancing_ml"]).abs().max() <= 0.0051
    assert (table["enhancing"] == (table["enhancing_ml"] >= 0.5)).all()
    assert (table["brain_outside_ml"] == 0).all()
    for case_id in cohort.index.index:
        image, mask = cohort.load(case_id)
        inside = (mask & BRAIN) > 0
        assert 1000 < inside.sum() * 0.008 < 2000
        assert not ((mask & TUMOUR > 0) & ~inside).any()
        assert not ((mask & EXPERT > 0) & ~(mask & TUMOUR > 0)).any()
        values = image[:, inside].astype(np.float32)
        assert np.abs(values.mean(axis=1)).max() < 0.01
        assert ((values.std(axis=1) > 0.2) & (values.std(axis=1) < 0.251)).all()


@needs_real
def test_real_lps_case_equals_its_ras_copy(tmp_path):
    source = REAL / "brats2021-1mm" / "BraTS2021_01481"
    for path in source.iterdir():
        copy = tmp_path / "scans" / source.name / path.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        image = nib.load(path)
        assert nib.aff2axcodes(image.affine) == ("L", "P", "S")
        nib.save(nib.as_closest_canonical(image), copy)
    settings = DataConfig(allow_one_class=True, spacing_mm=4.0)
    copy = run(tmp_path / "scans", tmp_path / "ras", settings)
    original = run(source, tmp_path / "lps", settings)
    assert copy.digest == original.digest
