"""What MLflow runs to load a logged network ("models from code"): its settings and safetensors, no pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import torch
from mlflow.pyfunc import PythonModel

from lab.track.package import read_package


class Synthesis(PythonModel):
    """(B, C, X, Y, Z) float32 in [-1, 1], prepared as the contract says -> (B, 1, X, Y, Z)."""

    def load_context(self, context: Any) -> None:
        """Read the weights."""
        self.network = read_package(Path(context.artifacts["settings"]).parent).network

    def predict(self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None) -> np.ndarray:
        """The synthetic images."""
        with torch.no_grad():
            return self.network(torch.from_numpy(np.ascontiguousarray(model_input, np.float32))).numpy()


mlflow.models.set_model(Synthesis())
