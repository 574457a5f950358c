"""The final classifier as an MLflow model: code, skops and JSON, loaded without pickle."""

from __future__ import annotations

import json
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

import mlflow
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema

from lab.data.contract import Contract, read_contract
from lab.io.case_file import file_sha256
from lab.io.sealed_json import read_sealed, seal
from lab.qc.ood import OodReference
from lab.radiomics.features.image_features import PARAMETERS
from lab.radiomics.pipeline.fitted import PERFORMANCE, Final
from lab.tracking.models.registered import delete_models
from lab.tracking.run import Run
from lab.tracking.store import connect

LOADER = Path(__file__).with_name("classifier_loader.py")
REQUIREMENTS = ("scikit-learn", "skops", "numpy", "scipy", "pandas", "mlflow", "tyro")
CONTRACT, FEATURES, LIKENESS = "contract.json", "features.yaml", "likeness.json"
OUTPUTS = {
    "probability": "double",
    "low": "double",
    "high": "double",
    "positive": "boolean",
    "novelty": "double",
    "far": "boolean",
    "strangest": "string",
    "caution": "string",
    **dict.fromkeys(PERFORMANCE, "double"),
}


def log_classifier(
    run: Run,
    folder: Path,
    contract: Contract,
    example: pd.DataFrame,
    reference: OodReference | None = None,
    *,
    parameters: Path = PARAMETERS,
) -> str:
    """Log the classifier files in `folder` to a run, with feature settings and contract; returns the model's URI.

    The packaged model takes a table of features, a row per patient; `example` is such a table with one row. A new
    patient's scans are compared with `reference`, that of the training scans.
    """
    final = Final.load(folder)
    columns = list(final.facts.features)
    signature = ModelSignature(
        inputs=Schema([ColSpec("string" if name == final.facts.combat else "double", name) for name in columns]),
        outputs=Schema([ColSpec(kind, name) for name, kind in OUTPUTS.items()]),
    )
    delete_models(run)  # left by a kill at this point
    with tempfile.TemporaryDirectory() as scratch, mlflow.start_run(run_id=run.id):
        packed = Path(shutil.copytree(folder, Path(scratch) / "classifier"))
        (packed / CONTRACT).write_text(json.dumps(seal(contract.as_dict()), indent=2))
        shutil.copyfile(parameters, packed / FEATURES)
        if reference is not None:
            (packed / LIKENESS).write_text(json.dumps(seal(reference.as_dict())))
        info = mlflow.pyfunc.log_model(
            name="classifier",
            python_model=str(LOADER),
            artifacts={"classifier": str(packed)},
            code_paths=[str(LOADER.parents[2])],
            signature=signature,
            input_example=example[columns],
            pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in REQUIREMENTS],
        )
    return info.model_uri


def load_classifier(model_uri: str) -> tuple[Final, Contract, Path]:
    """Classifier, contract and feature settings of a logged or registered model.

    Raises ValueError for a model that is not from this lab or needs another preparation, or whose files were changed.
    """
    connect()
    return classifier_in(Path(mlflow.artifacts.download_artifacts(model_uri)) / "artifacts" / "classifier", model_uri)


def classifier_in(folder: Path, uri: str) -> tuple[Final, Contract, Path]:
    """The classifier from the files of a folder. Raises ValueError as `load_classifier`."""
    if not (folder / CONTRACT).is_file():
        raise ValueError(f"{uri} is not a classifier of this lab (no {CONTRACT} in it)")
    final, settings = Final.load(folder), folder / FEATURES
    try:
        contract = read_contract(read_sealed(folder / CONTRACT))
    except ValueError as error:
        raise ValueError(f"{uri}: {CONTRACT}: {error}") from None
    if final.facts.parameters_sha256 not in ("", file_sha256(settings)):
        raise ValueError(f"{settings}: these are not the settings that the classifier's features were measured with")
    return final, contract, settings


def read_reference(folder: Path) -> tuple[OodReference | None, list[str]]:
    """Reference of the training scans among a classifier's files; None with a warning where there is none to use."""
    if not (folder / LIKENESS).is_file():
        return None, ["no out-of-distribution detection: this classifier has no reference of its training scans"]
    try:
        return OodReference.read(read_sealed(folder / LIKENESS)), []
    except ValueError as error:
        return None, [f"no out-of-distribution detection: {error}"]
