"""The trained network as an MLflow model: code and safetensors, nothing that is unpickled to load it."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from safetensors.torch import load_file, save_file
from torch import nn

from lab.config import ModelConfig
from lab.synthesis.models import build
from lab.track.store import connect

LOADER = Path(__file__).with_name("package_loader.py")
REQUIREMENTS = ("torch", "numpy", "safetensors", "mlflow", "nibabel", "pandas", "tyro")


def log_network(run_id: str, network: nn.Module, model: ModelConfig, contract: dict[str, Any]) -> str:
    """Log a network to a run; returns the model's URI.

    `contract` is what a caller must know to prepare an image for it: inputs, target, voxel size, clip and so on. The
    packaged model takes (B, C, X, Y, Z) float32 in [-1, 1] and gives (B, 1, X, Y, Z).
    """
    channels = len(contract["inputs"])
    edges = (2, 2, 2**model.depth + 1)  # written as JSON: as few voxels as leave the deepest level more than one
    example = np.zeros((1, channels, *edges), np.float32)
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.float32), (-1, channels, -1, -1, -1))]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, 1, -1, -1, -1))]),
    )
    client = connect()
    experiment = client.get_run(run_id).info.experiment_id
    for left in client.search_logged_models([experiment], filter_string=f"source_run_id = '{run_id}'"):
        client.delete_logged_model(left.model_id)  # of a trial that was killed just then
    with tempfile.TemporaryDirectory() as scratch, mlflow.start_run(run_id=run_id):
        weights, settings = Path(scratch) / "weights.safetensors", Path(scratch) / "network.json"
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}, weights)
        settings.write_text(json.dumps({"model": asdict(model), **contract}, indent=2))
        info = mlflow.pyfunc.log_model(
            name="network",
            python_model=str(LOADER),
            artifacts={"weights": str(weights), "settings": str(settings)},
            code_paths=[str(LOADER.parents[1])],
            signature=signature,
            input_example=example,
            pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in REQUIREMENTS],
        )
    return info.model_uri


def load_network(model_uri: str) -> tuple[nn.Module, dict[str, Any]]:
    """The network of a logged model, on the CPU, and the contract it was logged with."""
    connect()
    folder = Path(mlflow.artifacts.download_artifacts(model_uri)) / "artifacts"
    return read_network(folder / "weights.safetensors", folder / "network.json")


def read_network(weights: Path, settings: Path) -> tuple[nn.Module, dict[str, Any]]:
    """A network from its two files."""
    contract = json.loads(Path(settings).read_text())
    model = contract["model"]
    network = build(
        model["id"],
        in_channels=len(contract["inputs"]),
        width=model["width"],
        depth=model["depth"],
        norm=model["norm"],
        dropout=model["dropout"],
    )
    network.load_state_dict(load_file(weights))
    return network.eval(), contract
