"""A model's files for as long as they are read: of a local store or from a server, never left half for another time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow

from lab.tracking.store import connect


@contextmanager
def fetched(uri: str) -> Iterator[Path]:
    """A copy of an artifact's file or folder, such as that of `models:/sct1@champion`, gone again after the block.

    What a download that was killed leaves behind lies in a folder of its own and is never looked at again. Raises as
    MLflow does where there is nothing.
    """
    connect()
    with tempfile.TemporaryDirectory(prefix="lab-model-") as scratch:
        yield Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=scratch))
