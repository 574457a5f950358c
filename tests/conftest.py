"""One tiny phantom cohort for all tests of a session: 12 patients, 20 x 24 x 20 voxels of 8 mm."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.config import DataConfig
from lab.data.cohort import Cohort
from lab.data.prepare import prepare
from lab.phantom.cohort import write_cohort

SUBJECTS, SPACING_MM = 12, 8.0


@pytest.fixture(scope="session")
def tiny_phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The EGD tree. Read only: tests share it."""
    out = tmp_path_factory.mktemp("phantom") / "tree"
    return write_cohort(out, subjects=SUBJECTS, seed=0, spacing_mm=SPACING_MM, processes=1)


@pytest.fixture(scope="session")
def tiny_cohort(tiny_phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """The same patients prepared: 7 enhance, 5 do not. Read only: tests share it."""
    out = tmp_path_factory.mktemp("cohort") / "prepared"
    return prepare(tiny_phantom, out, DataConfig(spacing_mm=SPACING_MM), processes=1)
