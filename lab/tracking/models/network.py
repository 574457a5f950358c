"""The trained network as an MLflow model: code and safetensors, nothing that is unpickled to load it."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from safetensors.torch import load_file, save_file
from torch import nn

import lab
from lab.io.case_file import file_sha256
from lab.io.sealed_json import SEAL, read_sealed, seal
from lab.synthesis.networks import Origin, build_from_record
from lab.tracking.models.registered import delete_models, downloaded
from lab.tracking.run import Run
from lab.tracking.store import connect

NAME = "gadfree"
"""Of the distribution that `lab` comes in."""
LOADER = Path(lab.__file__).parent / "deploy" / "serve" / "network_loader.py"
REQUIREMENTS = (
    "torch", "monai", "einops", "numpy", "scipy", "pandas", "nibabel", "nilearn", "pydicom", "safetensors", "mlflow",
    "optuna",
    "scikit-learn", "matplotlib", "SQLAlchemy", "alembic", "PyYAML", "filelock", "psutil", "tyro",
)  # fmt: skip
"""What the code in a logged model imports, at once or late."""
WEIGHTS, SETTINGS, CALIBRATION = "weights.safetensors", "network.json", "calibration.json"
"""Files in a logged model's folder `artifacts`; the last one comes with `attach_calibration`."""
CODE = "code/lab"
"""Folder in a logged model that MLflow looks for modules in, and ours in it."""


@dataclass(frozen=True, kw_only=True)
class Package:
    """What a logged model holds."""

    network: nn.Module
    """On the CPU, ready to run."""
    known: dict[str, Any]
    """`model`, the network's name (`id`) and settings, and the contract that it was logged with."""
    weights_sha256: str
    """Of the weight file."""
    package_sha256: str
    """Of settings, which name the weights' hash, and calibration."""
    calibration: dict[str, Any]
    """What was measured on its own patients, see `lab.inference.calibrate`; empty where nothing was."""


def log_network(run: Run, network: nn.Module, contract: dict[str, Any]) -> str:
    """Log a network that `build_network` made to a run; returns the model's URI.

    `contract` is what a caller must know to prepare an image for it: inputs, target, voxel size, clip and so on. The
    logged model takes a list of patients and gives one of answers, see `lab.deploy.serve.service`. The code that it
    needs where this package is not installed comes with `attach_code`.
    """
    # MLflow tries the example, and a patient takes minutes: as few voxels as leave the deepest level more than one
    origin: Origin = network.origin  # type: ignore[assignment]
    example = np.zeros((len(contract["inputs"]), 2, 2, origin.spec.divisor(origin.settings) + 1))
    delete_models(run)  # of a trial that was killed just then
    with tempfile.TemporaryDirectory() as scratch, mlflow.start_run(run_id=run.id):
        weights, settings = Path(scratch) / WEIGHTS, Path(scratch) / SETTINGS
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}, weights)
        record = {"model": origin.record(), **contract, "weights_sha256": file_sha256(weights)}
        settings.write_text(json.dumps(seal(record), indent=2))
        version_alone = write_distribution(Path(scratch))
        with warnings.catch_warnings(record=True):  # of types that it does not check, as the loader says
            info = mlflow.pyfunc.log_model(
                name="network",
                python_model=str(LOADER),
                artifacts={"weights": str(weights), "settings": str(settings)},
                code_paths=[str(version_alone)],
                input_example=[{"prepared": example.tolist()}],
                pip_requirements=pinned(REQUIREMENTS),
            )
    return info.model_uri


def attach_code(model_uri: str) -> None:
    """Add the code to a logged network (`models:/m-...`) that leaves its study; what has it already keeps its own.

    It is a hundred times a small network's weights, so that the many trials of a study go without.
    """
    client, model_id = connect(), model_uri.removeprefix("models:/")
    if any(entry.path == CODE for entry in client.list_logged_model_artifacts(model_id, str(Path(CODE).parent))):
        return
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "lab"
        shutil.copytree(LOADER.parents[2], copy, ignore=shutil.ignore_patterns("__pycache__"))
        client.log_model_artifacts(model_id, str(copy), CODE)


def pinned(names: tuple[str, ...]) -> list[str]:
    """Requirements in the versions that are installed."""
    return [f"{name}=={version(name).partition('+')[0]}" for name in names]


def write_distribution(folder: Path) -> Path:
    """What tells our version where only the code travels: `importlib.metadata` looks beside it."""
    place = folder / f"{NAME}-{version(NAME)}.dist-info"
    place.mkdir()
    (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {version(NAME)}\n")
    return place


def attach_calibration(model_uri: str, calibration: dict[str, Any]) -> None:
    """Add what was measured on a model's own patients to a logged model (`models:/m-...`), in place of what was there.

    Raises ValueError for a model that is not a logged one.
    """
    model_id = model_uri.removeprefix("models:/")
    if not model_id.startswith("m-"):
        raise ValueError(f"{model_uri} is no logged model such as models:/m-0123")
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / CALIBRATION
        file.write_text(json.dumps(seal(calibration), indent=2))
        connect().log_model_artifact(model_id, str(file), "artifacts")


def download_package(model_uri: str) -> Package:
    """The package of a logged or registered model. Raises ValueError where its weights are not those of its study."""
    with downloaded(model_uri) as folder:
        return read_package(folder / "artifacts")


def read_package(folder: Path) -> Package:
    """From a logged model's folder `artifacts`; raises as `download_package`."""
    weights, settings, calibration = (folder / name for name in (WEIGHTS, SETTINGS, CALIBRATION))
    known = read_sealed(settings)
    if "weights_sha256" not in known:
        raise ValueError(f"{settings}: was logged by an older version, which kept no hash of weights; train it again")
    digest = file_sha256(weights)
    if digest != known["weights_sha256"]:
        raise ValueError(
            f"{weights}: the weights were changed after the network was logged (SHA-256 {digest[:12]}, and "
            f"{SETTINGS} asks for {known['weights_sha256'][:12]}); fetch the model again, or train it again"
        )
    network = build_from_record(known["model"], len(known["inputs"]))
    network.load_state_dict(load_file(weights))
    content, said = settings.read_bytes(), b""
    measured: dict[str, Any] = {}
    if calibration.is_file():
        said, measured = calibration.read_bytes(), read_sealed(calibration, needed=f'"{SEAL}"'.encode() in content)
    return Package(
        network=network.eval(),
        known=known,
        weights_sha256=digest,
        package_sha256=hashlib.sha256(content + said).hexdigest(),
        calibration=measured,
    )
