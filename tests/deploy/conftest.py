"""Models that are rules, patients without a picture, and a network that is served."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from patients import KNOWN, SEQUENCES, logged, named, stored
from ruled import MODEL, Rule

from lab.deploy import patient_folder
from lab.deploy.new_patients import synthesize
from lab.inference.settings import How
from lab.tracking.models import verify
from lab.tracking.models.network import Package, attach_code


@pytest.fixture
def rule(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Models that are rules: `rule:0.5` draws that much more; what comes after them is the lab's own."""
    known = dict(KNOWN)

    def load(uri: str) -> Package:
        kind, _, more = uri.partition(":")
        assert kind == "rule"
        record = {"model": MODEL, **known}
        return Package(network=Rule(float(more)), known=record, weights_sha256=uri, package_sha256=uri, calibration={})

    monkeypatch.setattr(verify, "load_package", load)
    return known


@pytest.fixture(autouse=True)
def picture(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What draws a patient's picture, which takes most of a small patient's time and is left out."""
    draw = patient_folder._picture
    monkeypatch.setattr(patient_folder, "_picture", lambda path, *_: path.write_bytes(b"blank"))
    return draw


@pytest.fixture(scope="session")
def uri(fresh_databases: Path) -> str:
    """A registered network as it is served."""
    network = logged("served")
    attach_code(network)  # as `promote` does
    return named(network, "sct1-served")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The allowed folder, with a patient and ways out of it; what must not be read lies beside it."""
    root = tmp_path_factory.mktemp("scans") / "root"
    stored(root / "one")
    (root.parent / "outside").mkdir()
    shutil.copy(root / "one" / "T1.nii.gz", root.parent / "outside" / "T1.nii.gz")
    (root / "link.nii.gz").symlink_to(root.parent / "outside" / "T1.nii.gz")
    (root / "dangling.nii.gz").symlink_to(root.parent / "outside" / "nothing.nii.gz")
    (root / "circle").symlink_to(root / "circle")
    (root / "linked").symlink_to(root.parent / "outside")
    (root / "within.nii.gz").symlink_to(root / "one" / "T1.nii.gz")
    (root / "text.nii.gz").write_text("hello")
    return root


@pytest.fixture(scope="module")
def drawn(uri: str, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `lab.synthesize` writes for the same patient."""
    out = tmp_path_factory.mktemp("drawn") / "one"
    images = {name: folder / "one" / f"{name}.nii.gz" for name in SEQUENCES}
    synthesize(uri, images, mask=folder / "one" / "mask.nii.gz", out=out, how=How(looks=2), say=lambda _: None)
    return out
