"""The patients on whom the tests of training train."""

from __future__ import annotations

import pytest
from training import INPUTS

from lab.data.batches import CaseStore
from lab.data.cohort import Cohort


@pytest.fixture(scope="module")
def stores(tiny_cohort: Cohort) -> tuple[CaseStore, CaseStore]:
    cases = tiny_cohort.index.index
    return CaseStore(tiny_cohort, cases[:5], **INPUTS), CaseStore(tiny_cohort, cases[5:8], **INPUTS)
