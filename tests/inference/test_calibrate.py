"""A study measures its best network on its own patients, and new patients get the good of it."""

from __future__ import annotations

import json
import shutil

import mlflow
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from small import ran, settings

from lab.cli.models import Calibrate
from lab.data.layouts.find import find_subjects
from lab.deploy.new_patients import synthesize
from lab.deploy.patient_folder import format_report
from lab.evaluation.calibration_text import describe_coverage, describe_doubt
from lab.evaluation.conformal import NOMINAL
from lab.evaluation.fault_injection import cases_of
from lab.inference.calibrate_run import (
    calibrate_models,
    common_parts,
)
from lab.inference.settings import INTERVAL, SYNTHESIS, UNCERTAINTY, How
from lab.qc.image_quality import measure
from lab.qc.ood import fit_reference
from lab.registry.promotion import calibrate_before_promotion, promote
from lab.synthesis.device import choose
from lab.tracking.artifacts import COVERAGE, OOD_PATIENTS, RELIABILITY
from lab.tracking.models.network import attach_calibration
from lab.tracking.models.verify import load_package
from lab.tracking.run import Run

TWO = {"one": {"loss.name": "L1_brain"}, "two": {"loss.name": "SSIM"}}


@pytest.fixture(scope="module", autouse=True)
def faults_planted():
    """In one patient, which conftest.py spares all others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lab.evaluation.fault_injection.FAULT_CASES", 1)
        yield


@pytest.fixture(scope="module")
def study(tiny_cohort, no_drawing):
    """Two networks with two seeds each; only the better one is measured by the study."""
    plan, _ = ran("calibrated", settings(tiny_cohort, train__epochs=1, study__repeats=2), TWO)
    return plan


@pytest.fixture(scope="module")
def best(study):
    """The runs of the best network, one for each seed."""
    made = [run for run in study.parent.children() if run.tags.get("best") == "yes"]
    assert len(made) == 2
    return made


@pytest.fixture(scope="module")
def other(study):
    """A run of the network that is not the best."""
    return next(run for run in study.parent.children() if "best" not in run.tags)


@pytest.fixture(scope="module")
def patient(tiny_phantom):
    """A patient of the phantom as scanned."""
    return find_subjects(tiny_phantom, "egd")[0]


def drawn(uri, patient, out, **how):
    images = {name: patient.images[name] for name in ("T1", "T2", "FLAIR")}
    return synthesize(uri, images, mask=patient.mask, out=out, how=How(**how), say=lambda _: None)


def test_the_best_network_of_a_study_is_measured(study, best, tiny_cohort):
    for run in best:
        package = load_package(run.tags["model_uri"])
        record = package.calibration
        assert record["weights_sha256"] == [package.weights_sha256]
        assert record["cohort_digest"] == tiny_cohort.digest
        counts = {part: len(study.cases(part)) for part in ("train", "val", "test")}
        assert record["patients"] == counts
        assert set(record["intervals"]) == {"1", "2", "4"}
        clean, *faults = record["strangers"]
        assert clean["n"] == counts["test"]
        assert {row["n"] for row in faults} == {1}
        table = run.read_table(COVERAGE)
        assert set(table["case_id"]) == set(study.cases("test"))
        assert table["share"].between(0, 1).all()
        wide, narrow = (table[(table["level"] == level) & (table["looks"] == 4)] for level in (0.95, 0.5))
        assert wide["half_width"].mean() > narrow["half_width"].mean()
        assert {RELIABILITY, OOD_PATIENTS} <= set(run.files("calibration"))
        assert 0 <= run.metrics["coverage/everywhere"] <= 1
    pooled = study.parent.read_table("tables/coverage.csv")
    assert set(pooled["seed"]) == {int(run.params["train.seed"]) for run in best}
    page = study.parent.read_text("report.html")
    assert "Voxel intervals of" in page


def test_no_other_network_is(other):
    assert load_package(other.tags["model_uri"]).calibration == {}
    assert "calibrated" not in other.tags


def test_a_study_that_goes_on_does_not_measure_twice(study, best, tiny_cohort, monkeypatch):
    monkeypatch.setattr(
        "lab.inference.calibrate_run.calibrate_networks", lambda *_, **__: pytest.fail("measured again")
    )
    again, _ = ran("calibrated", settings(tiny_cohort, train__epochs=1, study__repeats=2), TWO)
    assert again.parent == study.parent


def test_a_study_comes_to_its_end_without(tiny_cohort, monkeypatch, capsys):
    def no_memory(*_, **__):
        raise ValueError("out of memory; use --tile 32")

    monkeypatch.setattr("lab.inference.calibrate_run.calibrate_networks", no_memory)
    plan, seen = ran("uncalibrated", settings(tiny_cohort, train__epochs=1), {"one": {"loss.name": "L1_brain"}})
    assert seen.statuses == {"FINISHED"}
    assert "is not calibrated: out of memory" in capsys.readouterr().out
    assert "Voxel intervals of" not in plan.parent.read_text("report.html")


def test_one_that_is_promoted_is_measured_before(other):
    told: list[str] = []
    calibrate_before_promotion(Run(other.id), told.append)
    assert load_package(other.tags["model_uri"]).calibration["intervals"]
    assert "validation patients" in "\n".join(told)
    told.clear()
    calibrate_before_promotion(Run(other.id), told.append)
    assert told == []


def test_a_new_patient_has_intervals_a_probability_and_is_compared(best, patient, tmp_path):
    uri = best[0].tags["model_uri"]
    record = load_package(uri).calibration
    report = drawn(uri, patient, tmp_path / "out")
    image, half, sd = (nib.load(tmp_path / "out" / name).get_fdata() for name in (SYNTHESIS, INTERVAL, UNCERTAINTY))
    assert half.shape == image.shape
    assert (half[sd > 0] > 0).all()
    assert half.max() > 0
    floor, factors = (record["intervals"]["2"][name] for name in ("floor", "factors"))
    away = nib.load(patient.mask).get_fdata() == 0
    least = factors["brain"][f"{NOMINAL:g}"] * floor * report["t1_span"] / 2
    assert half[away & (half > 0)].min() == pytest.approx(least, rel=0.5)
    found = report["enhancement"]
    if "slope" in record["probability"]:
        assert 0 < found["probability"] < 1
        assert found["probability_from"]["patients"] == record["probability"]["patients"]
    else:
        assert found["probability_missing"] == record["probability"]["missing"]
    assert report["likeness"]["level"] in ("alike", "unlike", "unjudged")
    assert report["uncertainty"]["coverage_on_test"][0]["region"] == "everywhere"
    assert report["uncertainty"]["held"] == describe_coverage(report["uncertainty"]["coverage_on_test"])
    reason = describe_doubt(record["probability"])
    assert (found["enhances"], found["enhances_missing"]) == (None, reason) if reason else found["enhances"] in (0, 1)
    assert reason in ("", *report["warnings"])
    assert f"90% intervals of +-{report['uncertainty']['median_half_width_in_brain']:.3g}" in format_report(report)
    assert report["uncertainty"]["held"] in format_report(report)


def test_a_single_look_has_intervals_too_and_three_have_none(best, patient, tmp_path):
    uri = best[0].tags["model_uri"]
    drawn(uri, patient, tmp_path / "one", looks=1)
    assert (tmp_path / "one" / INTERVAL).exists()
    assert not (tmp_path / "one" / UNCERTAINTY).exists()
    report = drawn(uri, patient, tmp_path / "three", looks=3)
    assert not (tmp_path / "three" / INTERVAL).exists()
    assert any("made for --looks 1, 2, 4" in warning for warning in report["warnings"])


@pytest.fixture
def knowing(other, tiny_cohort):
    """A model that knows what all twelve patients look like: its own training patients are too few for that."""
    uri = other.tags["model_uri"]
    calibrate_before_promotion(Run(other.id), lambda _: None)
    own = load_package(uri).calibration
    scans = cases_of(tiny_cohort, list(tiny_cohort.index.index), ("T1", "T2", "FLAIR"), "T1GD")
    rows = [measure(scan.image, scan.masks, scan.channels, scan.spacing_mm) for scan in scans]
    likeness = fit_reference(rows, list(tiny_cohort.index["patient_id"]))
    attach_calibration(uri, own | {"likeness": likeness.as_dict()})
    yield uri
    attach_calibration(uri, own)


def test_swapped_scans_are_refused_or_warned_of(knowing, patient, tmp_path):
    assert drawn(knowing, patient, tmp_path / "right")["likeness"]["level"] == "alike"
    images = {"T1": patient.images["T2"], "T2": patient.images["T1"], "FLAIR": patient.images["FLAIR"]}
    with pytest.raises(ValueError, match=r"T1 and T2.*--strangers warn predicts all the same"):
        synthesize(knowing, images, out=tmp_path / "out", say=lambda _: None)
    assert not (tmp_path / "out").exists()
    report = synthesize(knowing, images, out=tmp_path / "out", how=How(strangers="warn"), say=lambda _: None)
    assert report["likeness"]["level"] == "refused"
    assert "T1 and T2" in report["warnings"][1]  # after the phantom's


def test_an_ensemble_is_measured_together(best, patient, tmp_path, capsys):
    uris = tuple(run.tags["model_uri"] for run in best)
    file = tmp_path / "calibration.json"
    with pytest.raises(ValueError, match="--out FILE"):
        Calibrate(model=uris).run()
    Calibrate(model=uris, out=file, device="cpu").run()
    assert "90% intervals hold" in capsys.readouterr().out
    assert len(json.loads(file.read_text())["weights_sha256"]) == 2
    report = drawn(uris, patient, tmp_path / "out", calibration=str(file))
    assert (tmp_path / "out" / INTERVAL).exists()
    assert not any("not calibrated" in warning for warning in report["warnings"])
    with pytest.raises(ValueError, match="made for other networks"):
        drawn(uris[0], patient, tmp_path / "alone", calibration=str(file))


@pytest.mark.parametrize(("out", "taken"), [("notes.json", "notes.json"), ("a.json", "a.png"), ("a.png", "")])
def test_no_file_of_somebody_else_is_replaced_by_a_calibration(out, taken, tmp_path):
    if taken:
        (tmp_path / taken).write_text("mine")
    with pytest.raises(ValueError, match=taken or "the picture beside the calibration gets this name"):
        Calibrate(model=("models:/nobody/1",), out=tmp_path / out).run()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(taken, "mine")] * bool(taken)


def test_a_cohort_that_was_moved_is_asked_for(best, tiny_cohort, tmp_path, monkeypatch):
    uri = best[0].tags["model_uri"]
    monkeypatch.setattr("lab.inference.calibrate_run.is_cohort", lambda _: False)
    with pytest.raises(ValueError, match="say with --cohort where it is now"):
        calibrate_models([uri], choose("cpu", "auto"))
    monkeypatch.undo()
    moved = shutil.copytree(tiny_cohort.path, tmp_path / "moved")
    before = load_package(uri).calibration
    calibrate_models([uri], choose("cpu", "auto"), cohort=moved)
    assert load_package(uri).calibration == before


def test_parts_of_several_splits():
    first = pd.DataFrame({"case_id": list("abcde"), "split": ["train", "train", "val", "val", "test"]})
    second = pd.DataFrame({"case_id": list("abcdf"), "split": ["train", "val", "val", "test", "test"]})
    assert common_parts([first, second]) == {"train": ["a", "b"], "val": ["c", "d"], "test": []}
    with pytest.raises(ValueError, match="no validation patient in common"):
        common_parts([first.iloc[:2], second])


def test_a_registered_version_brings_its_calibration(best, patient, tmp_path):
    done = promote(best[0].id, "calibrated-phantom")
    report = drawn(done.uri, patient, tmp_path / "out")
    assert (tmp_path / "out" / INTERVAL).exists()
    assert report["models"][0]["version"] == done.version


def test_the_calibration_of_another_is_refused(other, best, patient, tmp_path):
    uri = other.tags["model_uri"]
    own = load_package(uri).calibration
    attach_calibration(uri, load_package(best[0].tags["model_uri"]).calibration)
    try:
        with pytest.raises(ValueError, match="was made for other networks"):
            drawn(uri, patient, tmp_path / "out")
    finally:
        attach_calibration(uri, own)
    assert np.isfinite(mlflow.get_run(other.id).data.metrics["coverage/everywhere"])
