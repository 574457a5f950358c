"""The patients on whom the tests of training train."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training import INPUTS

from lab.data.batches import CaseStore
from lab.data.cohort import Cohort
from lab.synthesis.train import Fitted


@pytest.fixture(scope="module")
def stores(tiny_cohort: Cohort) -> tuple[CaseStore, CaseStore]:
    cases = tiny_cohort.index.index
    return CaseStore(tiny_cohort, cases[:5], **INPUTS), CaseStore(tiny_cohort, cases[5:8], **INPUTS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trained")


@pytest.fixture(scope="module")
def fitted(request: pytest.FixtureRequest, tiny_cohort: Cohort, folder: Path) -> Fitted:
    """The module's `train` run through, its checkpoint in `folder`; on one thread as those that are killed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return request.module.train(tiny_cohort, folder / "whole")
    finally:
        torch.set_num_threads(threads)
