"""Folders of new patients: nothing half written, nobody else's file replaced, and going on where it ended."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from ruled import quiet, split, stored

from lab.deploy import patient_folder
from lab.deploy.new_patients import synthesize, synthesize_folder
from lab.deploy.patient_folder import REPORT
from lab.inference.settings import SYNTHESIS


def test_a_table_with_odd_rows_costs_only_those(rule, tmp_path):
    images, mask = split(stored(tmp_path / "scans"))
    paths = [str(path) for path in (*images.values(), mask)]
    rows = [[",".join(["case_id", *images, "MASK", "enhancing_label"])]]
    for case_id, label in (("good", "9"), ("../evil", ""), ("x" * 300, ""), ("odd", "999")):
        rows.append([",".join([case_id, *paths, label])])
    rows.append([",".join(["maskless", *paths[:-1], "nowhere.nii.gz", ""])])
    (tmp_path / "new.csv").write_text("\n".join(row for (row,) in rows))
    done = synthesize_folder("rule:0.5", tmp_path / "new.csv", out=tmp_path / "out", say=quiet)
    assert list(done.reports) == ["good", "maskless"]
    assert "nowhere.nii.gz: file not found; the mask is not used" in done.reports["maskless"]["warnings"][0]
    assert "holds 9; found 1; " in done.reports["good"]["warnings"][0]
    assert set(done.left_out) == {"../evil", "x" * 300, "odd"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.csv", "out", "scans"]


def test_another_persons_folder_is_left_alone(rule, tmp_path):
    images, mask = split(stored(tmp_path / "scans"))
    with pytest.raises(ValueError, match="holds other files"):
        synthesize("rule:0.5", images, mask=mask, out=tmp_path / "scans", say=quiet)


def test_a_second_run_replaces_the_first_and_no_file_of_somebody_else(rule, tmp_path):
    images, mask = split(stored(tmp_path / "scans"))
    out = tmp_path / "out"
    synthesize("rule:0.5", images, mask=mask, out=out, say=quiet)
    (out / "thesis.docx").write_text("mine")
    synthesize("rule:0.4", images, mask=mask, out=out, say=quiet)
    assert json.loads((out / REPORT).read_text())["models"][0]["model"] == "rule:0.4"
    (out / REPORT).write_text("my notes")
    before = {path.name: path.read_bytes() for path in out.glob("[!.]*")}
    with pytest.raises(ValueError, match=r"report\.json was changed since it was written"):
        synthesize("nowhere", images, mask=mask, out=out, say=quiet)  # told before the model is looked for
    assert {path.name: path.read_bytes() for path in out.glob("[!.]*")} == before
    (tmp_path / "older").mkdir()
    shutil.copy(out / SYNTHESIS, tmp_path / "older" / REPORT)  # as versions before 0.4.0 left it: without a record
    with pytest.raises(ValueError, match="name a new folder"):
        synthesize("rule:0.4", images, mask=mask, out=tmp_path / "older", say=quiet)
    assert [path.name for path in (tmp_path / "older").iterdir()] == [REPORT]


def brats(folder: Path, number: int, without: str = "") -> None:
    names = {"T1": "t1n", "T2": "t2w", "FLAIR": "t2f", "MASK": "seg"}
    case = f"BraTS-GLI-{number:05d}-000"
    for name, path in stored(folder / case, seed=number).items():
        path.rename(path.with_name(f"{case}-{names[name]}.nii.gz"))
        if name == without:
            path.with_name(f"{case}-{names[name]}.nii.gz").unlink()


def test_a_patient_whose_folder_is_somebody_elses_is_left_out(rule, tmp_path):
    for number in range(2):
        brats(tmp_path / "scans", number)
    taken = tmp_path / "out" / "BraTS-GLI-00000-000"
    taken.mkdir(parents=True)
    (taken / REPORT).write_text("mine")
    done = synthesize_folder("rule:0.5", tmp_path / "scans", out=tmp_path / "out", say=quiet)
    assert list(done.reports) == ["BraTS-GLI-00001-000"]
    assert "holds other files (report.json)" in done.left_out["BraTS-GLI-00000-000"]
    assert [(path.name, path.read_text()) for path in taken.iterdir()] == [(REPORT, "mine")]
    (tmp_path / "out" / "patients.csv").write_text("mine")
    with pytest.raises(ValueError, match=r"patients\.csv was changed"):
        synthesize_folder("rule:0.5", tmp_path / "scans", out=tmp_path / "out", say=quiet)
    with pytest.raises(ValueError, match="holds the scans"):
        synthesize_folder("rule:0.5", tmp_path / "scans", out=tmp_path / "scans", say=quiet)


def test_a_failure_while_writing_leaves_nothing_half(rule, tmp_path, monkeypatch):
    images, mask = split(stored(tmp_path / "scans"))
    synthesize("rule:0.5", images, mask=mask, out=tmp_path / "out", say=quiet)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("[!.]*")}

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    for place in ("write_like", "_picture"):
        with monkeypatch.context() as patch:
            patch.setattr(patient_folder, place, full)
            with pytest.raises(OSError, match="No space left"):
                synthesize("rule:0.2", images, mask=mask, out=tmp_path / "out", say=quiet)
            with pytest.raises(OSError, match="No space left"):
                synthesize("rule:0.2", images, mask=mask, out=tmp_path / "new", say=quiet)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").glob("[!.]*")} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "scans"]


def test_a_folder_of_patients_goes_on_where_it_ended(rule, tmp_path):
    for number in range(3):
        brats(tmp_path / "scans", number, without="FLAIR" if number == 1 else "")
    told: list[str] = []
    done = synthesize_folder("rule:0.5", tmp_path / "scans", out=tmp_path / "out", say=told.append)
    cases = [f"BraTS-GLI-{number:05d}-000" for number in range(3)]
    assert list(done.reports) == [cases[0], cases[2]]
    assert "FLAIR missing" in done.left_out[cases[1]]
    assert sorted(path.name for path in (tmp_path / "out").glob("[!.]*")) == sorted(
        [cases[0], cases[2], "left_out.csv", "patients.csv"]
    )
    table = pd.read_csv(tmp_path / "out" / "patients.csv")
    assert table["case_id"].tolist() == [cases[0], cases[2]]
    assert table["enhancement_ml"].gt(1).all()
    shutil.rmtree(done.folders[cases[2]])
    before = (done.folders[cases[0]] / REPORT).stat().st_mtime_ns
    told.clear()
    synthesize_folder("rule:0.5", tmp_path / "scans", out=tmp_path / "out", say=told.append)
    assert "there already" in told[0]
    assert "there already" not in told[2]
    assert (done.folders[cases[0]] / REPORT).stat().st_mtime_ns == before
    synthesize_folder("rule:0.4", tmp_path / "scans", out=tmp_path / "out", say=quiet)  # another model: made anew
    assert (done.folders[cases[0]] / REPORT).stat().st_mtime_ns != before
    for case in (cases[0], cases[2]):
        shutil.rmtree(tmp_path / "scans" / case)
    with pytest.raises(ValueError, match=r"none of 1 patient could be synthesized .FLAIR missing"):
        synthesize_folder("rule:0.5", tmp_path / "scans", out=tmp_path / "other", say=quiet)
    assert not (tmp_path / "other").exists()
