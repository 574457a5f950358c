"""MLflow's loader of a logged classifier ("models from code"): skops and JSON, no pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel

from lab.radiomics.pipeline.fitted import Final


class Classifier(PythonModel):
    """Table of features, a row per patient -> probability, interval, decision, distance from the training data."""

    def load_context(self, context: Any) -> None:
        """Read the fitted pipelines."""
        self.final = Final.load(Path(context.artifacts["classifier"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Predictions, a row per patient."""
        return self.final.predict(model_input)


mlflow.models.set_model(Classifier())
