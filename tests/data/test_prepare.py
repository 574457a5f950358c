"""Many subjects -> a cohort: every wrong input, doing it again, and being killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scan_trees import (
    AFFINE,
    BRATS_2023,
    ONE_CLASS,
    SETTINGS,
    SHAPE,
    brats_case,
    brats_tree,
    head,
    left_out,
    run,
    save,
)

from lab.config import DataConfig
from lab.data import prepare as preparation
from lab.data.cohort import Cohort, is_cohort, open_cohort
from lab.data.cohort_folder import TABLES
from lab.data.prepare import prepare


def files(folder: Path) -> dict[str, int]:
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != "files.json")
    return {str(path): path.stat().st_mtime_ns for path in found}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return brats_tree(tmp_path_factory.mktemp("brats"), enhancing=1, others=1)


# --- wrong input: one clear reason for the subject, and the others go on

AIR = np.random.default_rng(0).integers(1, 20, SHAPE, dtype=np.int16)
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
        "holds the labels 0, 4, which do not fit the label book brats2023",
    ),
    "half a label": (lambda v, f: save(f["MASK"], v["MASK"] / 2.0), "holds the value"),
    "flat brain": (lambda v, f: save(f["T2"], (v["T1"] != 0) * 1.0), "T2: the brain has the same value everywhere"),
    "nothing in common": (lambda v, f: save(f["T2"], (v["T1"] == 0) * AIR), "of the brain is seen in it and in the"),
    "small field of view": (
        lambda v, f: save(f["T2"], np.where(np.arange(46) < 22, 0, v["T2"])),
        "of the brain is seen in it and in the T1",
    ),
    "not skull-stripped": (
        lambda v, f: [save(f[name], v[name] + AIR) for name in ("T1", "T2", "FLAIR", "T1GD")],
        "the scan is not skull-stripped",
    ),
}


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory):
    """Cohort of two good subjects and one of each kind of `WRONG`, in its order, and the lines of the progress."""
    folder, lines = tmp_path_factory.mktemp("spoiled"), []
    scans = brats_tree(folder / "scans", enhancing=1, others=1)
    volumes = head(0)
    for number, (spoil, _) in enumerate(WRONG.values(), start=2):
        case = brats_case(scans, f"BraTS-GLI-{number:05d}-000", volumes)
        spoil(volumes, {name: case / f"{case.name}{suffix}.nii.gz" for name, suffix in BRATS_2023.items()})
    return run(scans, folder / "out", progress=lambda done, total, line: lines.append(line)), lines


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_subject_is_left_out_with_its_reason(kind, spoiled):
    cohort, lines = spoiled
    wrong, reason = f"BraTS-GLI-{list(WRONG).index(kind) + 2:05d}-000", WRONG[kind][1]
    assert reason in left_out(cohort.path)[wrong]
    assert any(line.startswith(f"{wrong}: left out, ") and reason in line for line in lines)


def test_wrong_subjects_cost_only_themselves(spoiled):
    cohort, lines = spoiled
    assert cohort.index.index.tolist() == ["BraTS-GLI-00000-000", "BraTS-GLI-00001-000"]
    assert all("\n" not in line for line in lines)
    wrong = len(WRONG)
    counts = {"found": wrong + 2, "used": 2, "left_out": wrong, "patients": 2, "enhancing": 1}
    assert cohort.manifest["counts"] == counts


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


def test_odd_patients_cost_only_themselves(tmp_path, capsys):
    brats_tree(tmp_path / "scans", enhancing=1, others=1)
    odd = {
        "a": "3;63y;WHO IV",
        "b": "3;67M;II-III",
        "x" * 300: "3;;",
        "../x": "3;;",
        "c": "999;;",
        "": "3;;",
        "d\0": "3;;",
    }
    rows = ["sep=;", "Case ID;T1;T2;FLAIR;T1GD;MASK;enhancing_label;age;grade", ";;;;"]
    for number, (case_id, rest) in enumerate(odd.items()):
        stem = f"BraTS-GLI-{number % 2:05d}-000"
        paths = [f"scans/{stem}/{stem}{BRATS_2023[name]}.nii.gz" for name in ("T1", "T2", "FLAIR", "T1GD", "MASK")]
        rows.append(";".join([case_id, *paths, rest]))
    (tmp_path / "scans.csv").write_text("\n".join(rows))
    cohort = run(tmp_path / "scans.csv", tmp_path / "out")
    assert cohort.index.index.tolist() == ["a", "b"]
    assert cohort.index["age"].iloc[0] == 63
    assert cohort.index["age"].isna().iloc[1]
    assert "age not understood, taken as unknown: '67M'" in cohort.index["remarks"]["b"]
    assert "1 of 7 scans: grade not understood, taken as unknown ('II-III' of b)" in capsys.readouterr().out
    reasons = left_out(tmp_path / "out")
    assert len(reasons) == 5
    assert "'999' is not a whole number from 1 to 255" in reasons["c"]
    assert not (tmp_path / "x.json").exists()
    written = files(tmp_path / "out")
    assert run(tmp_path / "scans.csv", tmp_path / "out").digest == cohort.digest
    assert files(tmp_path / "out") == written


def test_names_that_are_no_text_cost_their_patients(tmp_path):
    brats_tree(tmp_path / "scans", enhancing=1, others=1)
    for folder, stem in ((b"fine\xfe", b"a"), (b"b", b"b\xff")):  # neither is UTF-8
        place = os.path.join(os.fsencode(tmp_path / "scans"), folder)
        os.mkdir(place)
        for name in (b"-t1n", b"-t1c", b"-t2w", b"-t2f", b"-seg"):
            Path(os.fsdecode(os.path.join(place, stem + name + b".nii.gz"))).write_bytes(b"none")
    cohort = run(tmp_path / "scans", tmp_path / "out")
    assert len(cohort.index) == 2
    reasons = left_out(tmp_path / "out")
    assert "fine\\udcfe/a-t1n.nii.gz" in reasons["a"]
    assert "cannot be a file name" in reasons["b\\udcff"]


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
        (DataConfig(known_scale=(0.0, 0.0)), "the standard deviation 0 must be above 0"),
        (DataConfig(known_scale=(float("nan"), 1.0)), "the mean nan must be a number"),
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


# --- files of others in the output folder

CASES = ("cases/notes.json", "cases/weights.safetensors", "cases/.notes.tmp")
THEIRS = (*CASES, "left_out/why.json", ".notes.tmp", "a.txt")


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")


def texts(folder: Path, *names: str) -> list[str]:
    return [(folder / name).read_text() for name in names]


@pytest.mark.parametrize("name", ["cases/notes.json", "left_out/why.json", "manifest.json", "cases"])
def test_a_folder_that_is_no_cohort_is_refused_whatever_its_names(name, tree, tmp_path):
    put(tmp_path, name)
    if name != "cases":
        (tmp_path / "cases").mkdir(exist_ok=True)
    with pytest.raises((ValueError, OSError), match=r"holds other files|File exists"):
        run(tree, tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()] == [name]


def test_others_files_in_a_cohort_stay_and_are_told(tree, tmp_path):
    out, said = tmp_path / "out", []
    digest = run(tree, out).digest
    put(out, *THEIRS)
    assert prepare(tree, out, DataConfig(clip_sigma=3.0), processes=1, say=said.append).digest != digest
    assert texts(out, *THEIRS) == ["mine"] * len(THEIRS)
    assert "a.txt, cases/notes.json, cases/weights.safetensors and " in said[0]


@pytest.mark.parametrize("name", ["cases/{}.safetensors", "left_out/{}.json", *TABLES])
def test_a_file_with_our_name_that_is_not_ours_ends_it_before_the_work(name, tree, tmp_path):
    out = tmp_path / "out"
    run(tree, out)
    name = name.format("BraTS-GLI-00001-000")
    put(out, name)
    before = files(out)
    with pytest.raises(ValueError, match=f"{name} .*not replaced"):
        run(tree, out, DataConfig(clip_sigma=3.0))
    assert texts(out, name) == ["mine"]
    assert set(before) - set(files(out)) <= {str(out / "manifest.json")}


def test_a_cohort_of_a_version_without_records_goes_on_and_its_tables_are_kept(tree, tmp_path):
    out, said = tmp_path / "out", []
    digest = run(tree, out).digest
    shutil.rmtree(out / ".gadfree")
    index = (out / "index.csv").read_text() + "# my note\n"
    (out / "index.csv").write_text(index)
    assert run(tree, out).digest == digest
    assert texts(out, "index-before-1.csv") == [index]
    shutil.rmtree(out / ".gadfree")
    prepare(tree, out, DataConfig(clip_sigma=3.0), processes=1, say=said.append)
    assert is_cohort(out)
    assert any("kept as manifest-before-1.json" in line for line in said)


# --- doing it again


def test_nothing_to_do_writes_nothing_and_changes_are_followed(tmp_path):
    source, out = brats_tree(tmp_path / "scans", 2, 1), tmp_path / "out"
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
    assert len(fewer.index) == 2
    assert not (out / "cases" / "BraTS-GLI-00000-000.safetensors").exists()


def test_a_cohort_of_other_patients_is_not_replaced_and_who_is_gone_is_told(tree, tmp_path):
    source, out, said = brats_tree(tmp_path / "scans", 1, 1), tmp_path / "out", []
    digest = run(source, out).digest
    for number in range(2):
        (source / f"BraTS-GLI-{number:05d}-000").rename(tmp_path / f"kept-{number}")
    brats_case(source, "BraTS-GLI-00007-000", head(7))
    before = files(out)
    with pytest.raises(ValueError, match=r"prepared cohort of other patients, such as BraTS-GLI-00000-000, .*new fol"):
        run(source, out)
    assert files(out) == before
    assert open_cohort(out).digest == digest
    (tmp_path / "kept-1").rename(source / "BraTS-GLI-00001-000")
    prepare(source, out, ONE_CLASS, processes=1, say=said.append)
    assert said == [f"Removed from {out}, for they are no longer among the scans: BraTS-GLI-00000-000"]


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


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Cohort of five subjects whose preparation nobody killed; its scans lie beside it."""
    folder = tmp_path_factory.mktemp("whole")
    return prepare(brats_tree(folder / "scans", 3, 2), folder / "cohort", SETTINGS, processes=2)


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_and_resumed_equals_never_killed(processes, whole, tmp_path):
    source = whole.path.parent / "scans"
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
        assert (tmp_path / "killed" / name).read_bytes() == (whole.path / name).read_bytes()


def test_a_killed_worker_costs_only_its_subject(tmp_path, monkeypatch):
    source, killed = brats_tree(tmp_path / "scans", 2, 1), "BraTS-GLI-00001-000"

    def one_dies(jobs, processes):
        yield from ((case_id, None if case_id == killed else job.run()) for case_id, job in jobs.items())

    with monkeypatch.context() as patch:
        patch.setattr(preparation, "run_all", one_dies)
        assert killed not in run(source, tmp_path / "out").index.index
    assert "was killed" in left_out(tmp_path / "out")[killed]
    assert len(run(source, tmp_path / "out").index) == 3  # not remembered: it may have more memory the next time


def test_the_manifest_names_the_data_set_and_old_cohorts_open_without(tmp_path):
    brats_tree(tmp_path / "scans", enhancing=1, others=1)
    cohort = run(tmp_path / "scans", tmp_path / "out")
    assert cohort.manifest["layout"] == "brats2023"
    assert (cohort.dataset, cohort.name) == ("BraTS 2023", "BraTS 2023 (scans)")
    old = Cohort(cohort.path, cohort.index, {k: v for k, v in cohort.manifest.items() if k != "layout"})
    assert (old.dataset, old.name) == ("scans of unknown origin", "scans")
    assert old.digest == cohort.digest
