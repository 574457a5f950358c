"""`python -m lab export`: a model for use elsewhere. Imports are late, so that `--help` answers at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a network as a MONAI bundle, a folder that `python -m monai.bundle run` runs without this lab."""

    model: str
    """The model, such as models:/sct1@champion."""
    bundle: Path
    """Folder of the bundle; an older one is replaced."""

    def run(self) -> None:
        """Write it and say how it is run."""
        from lab.deploy.export.bundle import export_bundle
        from lab.tracking.store import clear_errors

        with clear_errors():
            metadata = export_bundle(self.model, self.bundle)
        for warning in metadata["warnings"]:
            print(warning)
        flags = " ".join(f"--{name.lower()} FILE" for name in metadata["contract"]["inputs"])
        print(f"{metadata['name']} written to {self.bundle}; in that folder:")
        print(f"  python -m monai.bundle run --config_file configs/inference.json {flags} --output_dir DIR")
