"""`python -m lab serve` and `export`: a registered model behind HTTP, or as a MONAI bundle."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Serve:
    """Serve a registered network or classifier over HTTP, within limits; see docs/models.md.

    It gives the answers of `mlflow models serve`, which has only the limits on voxels and patients.
    """

    model: str
    """The model, such as models:/sct1@champion."""
    host: str = "127.0.0.1"
    """Address to listen on; everybody who can reach it can send requests."""
    port: int = 5001
    """Port to listen on."""
    root: Path | None = None
    """Folder that paths in requests may point into; without it paths are refused, and scans must be sent."""
    max_body_mb: int = 64
    """Maximum size of a request (MiB)."""
    max_voxels: int = 30_000_000
    """Maximum number of voxels of a scan."""
    max_patients: int = 8
    """Maximum number of patients, or rows of a classifier's table, in a request."""
    max_seconds: int = 600
    """Maximum time until an answer (s), including the wait in the queue."""
    waiting: int = 4
    """Maximum number of waiting requests; more are refused with status 503."""

    def run(self) -> None:
        """Load the model and answer until it is stopped."""
        numbers = (self.max_body_mb, self.max_voxels, self.max_patients, self.max_seconds)
        if min(numbers) < 1 or self.waiting < 0 or not 0 < self.port < 65536:
            raise ValueError("limits are 1 or more, --waiting is 0 or more, and --port lies between 1 and 65535")
        if self.root is not None and not self.root.is_dir():
            raise ValueError(f"--root {self.root}: is no folder")
        import uvicorn

        from lab.deploy.serve.app import Limits, application
        from lab.deploy.serve.request import PATIENTS, ROOT, VOXELS
        from lab.deploy.serve.service import open_served
        from lab.tracking.store import clear_errors

        if self.root is not None:
            os.environ[ROOT] = str(self.root.resolve())
        os.environ |= {VOXELS: str(self.max_voxels), PATIENTS: str(self.max_patients)}
        with clear_errors():
            model = open_served(self.model)
        limits = Limits(
            body_mb=self.max_body_mb, patients=self.max_patients, seconds=self.max_seconds, waiting=self.waiting
        )
        print(f"{self.model} answers at http://{self.host}:{self.port}/invocations", flush=True)
        many = limits.waiting + 32  # connections, those for /ping included
        uvicorn.run(
            application(model, limits), host=self.host, port=self.port, log_level="warning", limit_concurrency=many
        )


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a network as a MONAI bundle, a folder that `python -m monai.bundle run` runs without this lab."""

    model: str
    """The model, such as models:/sct1@champion."""
    bundle: Path
    """Folder of the bundle; an older one is replaced."""

    def run(self) -> None:
        """Write the bundle and print the command that runs it."""
        from lab.deploy.export.bundle import export_bundle
        from lab.tracking.store import clear_errors

        with clear_errors():
            metadata = export_bundle(self.model, self.bundle)
        for warning in metadata["warnings"]:
            print(warning)
        flags = " ".join(f"--{name.lower()} FILE" for name in metadata["contract"]["inputs"])
        print(f"{metadata['name']} written to {self.bundle}; in that folder:")
        print(f"  python -m monai.bundle run --config_file configs/inference.json {flags} --output_dir DIR")
