"""Names of the artifacts and tags of runs and of registered versions.

Old runs have these names: do not change any.
"""

from __future__ import annotations

from enum import StrEnum

SPLIT = "split.csv"
"""Of a trial and of a study: who is trained, validated and tested on."""
REPORT = "report.html"

# artifacts of a trial and of a study: its split
CONFIG, FAILURE, SLICES = "config.json", "failure.txt", "slices.png"
VAL_PATIENTS, TEST_PATIENTS = "val_patients.csv", "test_patients.csv"
TEST_OWN_PATCH, TEST_SAME_VOXELS = "test_own_patch.csv", "test_same_voxels.csv"
"""Scores of the test patients inside patches: of the size used in training, and of the study's smallest."""
COVERAGE, COVERAGE_SUMMARY = "calibration/coverage.csv", "calibration/coverage_summary.csv"
OOD_PATIENTS, RELIABILITY = "calibration/strangers.csv", "calibration/reliability.png"

# artifacts of a synthesis study
STUDY = "study.json"
EPOCH_SECONDS = "epoch_seconds.json"
"""Label of a network -> seconds of an epoch, where networks train for an equal time."""
BASELINES = {"val": "rivals/val_patients.csv", "test": "rivals/test_patients.csv"}
"""Part of the split -> table of the baselines' figures of its patients."""

# artifacts of a classifier experiment
CLASSIFIER, PATIENTS, LEFT_OUT = "classifier.json", "patients.csv", "left_out.csv"
PREDICTIONS, TRIALS, CHOSEN = "predictions.csv", "trials.csv", "chosen.csv"
"""Artifacts of one split: test patients, trials of its search, chosen features."""
FEATURES, ROC_SMALL, ROC_NOTE = "figures/features.png", "figures/roc_small.png", "figures/roc_note.png"

EXTERNAL = "external"
"""Folder with a folder for each cohort on which the finished classifier was tested."""

# artifacts of a registered version
GATE, MODEL_CARD, MODEL_FIGURES = "gate.json", "model_card.md", "figures.csv"


def table(name: str) -> str:
    """Artifact name of a study's table."""
    return f"tables/{name}.csv"


def figure(name: str) -> str:
    """Artifact name of a study's figure."""
    return f"figures/{name}.png"


def external(slug: str) -> str:
    """Folder of a study's test on an external cohort."""
    return f"{EXTERNAL}/{slug}"


def version_folder(name: str, version: str) -> str:
    """Folder on a version's run that holds its card, figures and gate record."""
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
    """Name of a trial's network in the report."""
    BEST = "best"

    PHASE = "phase"
    """"grid", "search" or "confirm"."""
    SLOT = "slot"
    FOLD = "fold"
    DEVICE = "device"
    THREADS = "threads"
    STOPPED_EARLY = "stopped_early"
    START, START_WEIGHTS, START_TAKEN = "start", "start_weights_sha256", "start_taken"
    """Weights that training started from: where from, their hash, and what was taken."""
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
    """Tags of a registered version, besides those copied from its run."""

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
