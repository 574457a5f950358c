"""MLflow's loader of a logged network ("models from code"): settings and safetensors, no pickle."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import mlflow
from mlflow.pyfunc import PythonModel

from lab.deploy.serve.service import Service

with warnings.catch_warnings(record=True):  # MLflow warns that it does not check a patient's fields: the lab does

    class Synthesis(PythonModel):
        """Patients -> synthetic images, see lab.deploy.serve.service and lab.deploy.serve.request."""

        def load_context(self, context: Any) -> None:
            """Read the weights."""
            self.service = Service(Path(context.artifacts["settings"]).parent)

        def predict(self, context: Any, model_input: list[dict[str, Any]]) -> list[dict[str, Any]]:
            """An answer for each patient."""
            return self.service.answer(model_input)


mlflow.models.set_model(Synthesis())
