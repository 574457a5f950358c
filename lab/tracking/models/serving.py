"""MLflow's protocol for models behind HTTP: parsing of requests, answers and errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.pyfunc import PyFuncModel, scoring_server
from mlflow.version import VERSION

__all__ = ["VERSION", "Refused", "Served", "identity"]
CODES = {413: "REQUEST_LIMIT_EXCEEDED", 415: "BAD_REQUEST", 500: "INTERNAL_ERROR", 503: "TEMPORARILY_UNAVAILABLE"}


class Refused(MlflowException):
    """A refused request: status and message for the client, without the request that MLflow would repeat."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason
        self.error_code = CODES.get(status, "INVALID_PARAMETER_VALUE")

    def get_http_status_code(self) -> int:
        """HTTP status of the answer."""
        return self.status

    def serialize_as_json(self) -> str:
        """Body of the answer."""
        return json.dumps({"error_code": self.error_code, "message": self.reason})


class Served:
    """A logged model that answers requests: `implementation` is called with patients or a table of features."""

    def __init__(self, metadata: Model, implementation: Any, method: str = "predict") -> None:
        self.model = PyFuncModel(metadata, implementation, predict_fn=method)
        self.schema = metadata.get_input_schema()
        named = self.schema is not None and self.schema.has_input_names()
        self.columns: frozenset[str] = frozenset(self.schema.input_names()) if named else frozenset()
        """Feature names of a classifier; empty for a network, which takes patients."""

    @classmethod
    def of(cls, folder: Path, implementation: Any, method: str = "predict") -> Served:
        """The model from the files of a folder."""
        return cls(Model.load(str(folder)), implementation, method)

    def answer(self, body: bytes) -> str:
        """Answer to a JSON request. Raises `Refused` for a client's fault, otherwise the model's own error."""
        try:
            return str(scoring_server.invocations(body, "application/json", self.model, self.schema).response)
        except Refused:
            raise
        except MlflowException as error:
            if "stack_trace" in error.json_kwargs and error.__context__ is not None:
                raise error.__context__ from None  # the model's own error, which MLflow reports as the client's fault
            if error.get_http_status_code() >= 500:
                raise
            raise Refused(error.get_http_status_code(), error.message.rpartition("Error: ")[2]) from error


def identity(folder: Path) -> dict[str, Any]:
    """Identity of a logged model: model and run_id, with name and version where it was fetched by name."""
    if not (folder / "MLmodel").is_file():
        return {"model": "not logged yet"}  # MLflow runs the example before it logs the model
    logged, named = Model.load(str(folder)), folder / "registered_model_meta"
    about: dict[str, Any] = {"model": f"models:/{logged.model_id}", "run_id": logged.run_id}
    found = yaml.safe_load(named.read_text()) if named.is_file() else {}
    if found.get("model_name"):
        name, version = str(found["model_name"]), str(found["model_version"])
        about |= {"model": f"models:/{name}/{version}", "name": name, "version": version}
    return about
