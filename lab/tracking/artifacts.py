"""The name of every artifact and tag of a run, of every artifact of a registered version, and of the tags of a version.

Old runs have these names, so none of them changes.
"""

from __future__ import annotations

from enum import StrEnum

SPLIT = "split.csv"
"""Of a trial and of a study: who is trained, validated and tested on."""
REPORT = "report.html"

# a trial of a synthesis study
CONFIG, FAILURE, SLICES = "config.json", "failure.txt", "slices.png"
VAL_PATIENTS, TEST_PATIENTS = "val_patients.csv", "test_patients.csv"
TEST_OWN_PATCH, TEST_SAME_VOXELS = "test_own_patch.csv", "test_same_voxels.csv"
"""Test patients inside patches: of the size that the network was trained on, and of the study's smallest."""
COVERAGE, COVERAGE_SUMMARY = "calibration/coverage.csv", "calibration/coverage_summary.csv"
OOD_PATIENTS, RELIABILITY = "calibration/strangers.csv", "calibration/reliability.png"

# a synthesis study
STUDY = "study.json"
BASELINES = {"val": "rivals/val_patients.csv", "test": "rivals/test_patients.csv"}
"""Part of the split and the baselines' figures of its patients."""

# a classifier experiment
CLASSIFIER, PATIENTS, LEFT_OUT = "classifier.json", "patients.csv", "left_out.csv"
PREDICTIONS, TRIALS, CHOSEN = "predictions.csv", "trials.csv", "chosen.csv"
"""Of one split: its test patients, the trials of its search, and the features it chose."""
FEATURES, ROC_SMALL, ROC_NOTE = "figures/features.png", "figures/roc_small.png", "figures/roc_note.png"

# a registered version
GATE, MODEL_CARD, MODEL_FIGURES = "gate.json", "model_card.md", "figures.csv"


def table(name: str) -> str:
    """A study's table of this name, from which its report is made."""
    return f"tables/{name}.csv"


def figure(name: str) -> str:
    """A study's figure of this name."""
    return f"figures/{name}.png"


def version_folder(name: str, version: str) -> str:
    """Where the run of a registered version keeps the version's card, figures and gate."""
    return f"registered/{name}-version-{version}"


class Tag(StrEnum):
    """Tags of a run."""

    PARENT = "mlflow.parentRunId"
    NOTE = "mlflow.note.content"
    COMMIT = "mlflow.source.git.commit"
    SOURCE = "mlflow.source.name"
    GIT_DIRTY = "git_dirty"

    ROLE = "role"
    """"study", "split", "final" or "trial"."""
    STUDY_KEY = "study_key"
    STATE = "state"
    """"finished", "failed", "pruned" or "interrupted"."""
    FAILURE = "failure"
    PHANTOM = "phantom"
    COHORT = "cohort_digest"
    DATASET = "dataset_digest"
    SEED = "seed"
    LABEL = "label"
    """Of a trial the network's name in the report."""
    BEST = "best"

    PHASE = "phase"
    """"grid", "search" or "confirm"."""
    SLOT = "slot"
    FOLD = "fold"
    DEVICE = "device"
    THREADS = "threads"
    STOPPED_EARLY = "stopped_early"
    TESTED = "tested"
    CALIBRATED = "calibrated"

    MODEL = "model_uri"
    KIND = "kind"
    """"classifier" where the model is one."""
    EVENT = "event"
    REGISTERED = "registered"
    SPLIT = "split"
    NUMBER = "number"


class VersionTag(StrEnum):
    """Tags of a registered version, besides those of its run and its run's metrics."""

    PACKAGE = "package_sha256"
    PREPARATION = "preparation"
    COMMIT = "commit"
    CAUTION = "caution"
    CARD = "model_card"
    GATE = "gate"
    """"passed", "refused" or "forced"."""
    GATE_WHEN = "gate_when"
    GATE_AGAINST = "gate_against"
    GATE_TESTS = "gate_tests"
    GATE_FAILED = "gate_failed"
    FORCED = "forced"
    FORCED_REASON = "forced_reason"
    FORCED_BY = "forced_by"
    FORCED_WHEN = "forced_when"
