"""The trained network as an MLflow model: code and safetensors, loaded without pickle."""

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
"""Name of the distribution that contains `lab`."""
LOADER = Path(lab.__file__).parent / "deploy" / "serve" / "network_loader.py"
REQUIREMENTS = (
    "torch", "monai", "einops", "numpy", "scipy", "pandas", "nibabel", "nilearn", "pydicom", "safetensors", "mlflow",
    "optuna",
    "scikit-learn", "matplotlib", "SQLAlchemy", "alembic", "PyYAML", "filelock", "psutil", "tyro",
)  # fmt: skip
"""Requirements of the code in a logged model, including late imports."""
WEIGHTS, SETTINGS, CALIBRATION = "weights.safetensors", "network.json", "calibration.json"
"""Files in a logged model's folder `artifacts`; `attach_calibration` adds the last one."""
CODE = "code/lab"
"""Folder in a logged model from which MLflow imports modules, and the lab's folder in it."""


@dataclass(frozen=True, kw_only=True)
class Package:
    """Contents of a logged model."""

    network: nn.Module
    """On the CPU, ready to run."""
    known: dict[str, Any]
    """`model`, the network's name (`id`) and settings, and the contract logged with it."""
    weights_sha256: str
    """Hash of the weight file."""
    package_sha256: str
    """Hash of the calibration and the settings, which name the weights' hash."""
    calibration: dict[str, Any]
    """Calibration on the network's own patients, see `lab.inference.calibrate`; empty without one."""


def log_network(run: Run, network: nn.Module, contract: dict[str, Any]) -> str:
    """Log a network from `build_network` to a run; returns the model's URI.

    `contract` says how to prepare an image: inputs, target, voxel size, clip and so on. The logged model takes a list
    of patients and returns a list of answers, see `lab.deploy.serve.service`. `attach_code` adds the code for machines
    without this package.
    """
    # MLflow runs the example and a whole patient takes minutes: the smallest volume that all levels accept
    origin: Origin = network.origin  # type: ignore[assignment]
    example = np.zeros((len(contract["inputs"]), 2, 2, origin.spec.divisor(origin.settings) + 1))
    delete_models(run)  # left by a trial that was killed here
    with tempfile.TemporaryDirectory() as scratch, mlflow.start_run(run_id=run.id):
        weights, settings = Path(scratch) / WEIGHTS, Path(scratch) / SETTINGS
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}, weights)
        record = {"model": origin.record(), **contract, "weights_sha256": file_sha256(weights)}
        settings.write_text(json.dumps(seal(record), indent=2))
        version_alone = write_distribution(Path(scratch))
        with warnings.catch_warnings(record=True):  # MLflow warns of types that it does not check, see the loader
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
    """Add the code to a logged network (`models:/m-...`) that leaves its study, unless it has code already.

    The code is a hundred times larger than a small network's weights, so the many trials of a study do without.
    """
    client, model_id = connect(), model_uri.removeprefix("models:/")
    if any(entry.path == CODE for entry in client.list_logged_model_artifacts(model_id, str(Path(CODE).parent))):
        return
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "lab"
        shutil.copytree(LOADER.parents[2], copy, ignore=shutil.ignore_patterns("__pycache__"))
        client.log_model_artifacts(model_id, str(copy), CODE)


def pinned(names: tuple[str, ...]) -> list[str]:
    """Requirements pinned to the installed versions."""
    return [f"{name}=={version(name).partition('+')[0]}" for name in names]


def write_distribution(folder: Path) -> Path:
    """Write package metadata, so that `importlib.metadata` finds the version where only the code travels."""
    place = folder / f"{NAME}-{version(NAME)}.dist-info"
    place.mkdir()
    (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {version(NAME)}\n")
    return place


def attach_calibration(model_uri: str, calibration: dict[str, Any]) -> None:
    """Add or replace the calibration of a logged model (`models:/m-...`).

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
    """Package of a logged or registered model. Raises ValueError where its weights are not those of its study."""
    with downloaded(model_uri) as folder:
        return read_package(folder / "artifacts")


def read_package(folder: Path) -> Package:
    """Package from a logged model's folder `artifacts`; raises as `download_package`."""
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
