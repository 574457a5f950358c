"""What MLflow runs to load a logged classifier ("models from code"): skops and JSON, no pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel

from lab.radiomics.pipeline.fitted import Final


class Classifier(PythonModel):
    """A table of features, a row a patient -> probability with its interval, decision and distance from training."""

    def load_context(self, context: Any) -> None:
        """Read the fitted pipelines."""
        self.final = Final.load(Path(context.artifacts["classifier"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """What is to be said of each patient."""
        return self.final.predict(model_input)


mlflow.models.set_model(Classifier())
