"""Fault injection: the share of injected faults that the OOD checks detect, in patients with sound scans.

This module needs neither torch nor MLflow, whose import takes longer than the check of a small cohort: a study runs it
in a process beside its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from lab.data.case import REFERENCE
from lab.data.cohort import Cohort
from lab.data.contract import Contract
from lab.evaluation.faults import FAULTS, Fault, ScanCase
from lab.io.files import canonical
from lab.qc.image_quality import measure
from lab.qc.ood import OodReference, OodResult, fit_reference

NONE = "none"
"""The row of unchanged patients; a detection there is a false alarm."""
OOD_CASES, FAULT_CASES = 300, 10
"""Maximum numbers of training cases for the OOD reference, and of test cases for fault injection."""
Ood: TypeAlias = tuple[dict[str, Any], pd.DataFrame]
"""The OOD reference, and its detection rates without a fault and for each injected one."""


@dataclass(frozen=True, kw_only=True)
class OodFit:
    """The fit of a network's OOD reference and its test by injected faults; plain data that a process can receive."""

    contract: Contract
    cohort: Cohort
    parts: Mapping[str, Sequence[str]]
    """Case ids of `train` and `test`."""
    seed: int = 0

    def run(self) -> Ood:
        """The reference of the training scans, and its detection of faults injected into the test patients' scans."""
        reference = fit_to_training(self.cohort, self.parts["train"], self.contract)
        test = cases_of(self.cohort, self.parts["test"], self.contract.channels, self.contract.target)
        faults = score_faults(test, reference, np.random.default_rng(self.seed), injected_into=FAULT_CASES)
        return reference.as_dict(), faults

    @property
    def voxels(self) -> int:
        """Number of voxels to process."""
        cases = len(self.parts["train"]) + len(self.parts["test"]) + FAULT_CASES * len(FAULTS)
        return cases * int(np.prod(self.cohort.shape))


def fit_to_training(cohort: Cohort, case_ids: Sequence[str], contract: Contract) -> OodReference:
    """OOD reference of training cases, at most `OOD_CASES` of them, by the scans that a new patient has."""
    train, rows = evenly(case_ids, OOD_CASES), []
    places = [cohort.channel(name) for name in contract.channels]
    for case_id in train:
        image, masks = cohort.load(case_id)
        rows.append(measure(image[places], np.asarray(masks), contract.channels, cohort.spacing_mm))
    return fit_reference(rows, [str(cohort.index.loc[case, "patient_id"]) for case in train])


def cases_of(cohort: Cohort, case_ids: Sequence[str], inputs: Sequence[str], target: str) -> Iterator[ScanCase]:
    """Prepared patients one by one, with the channels that a model gets for a new patient."""
    names = {canonical(name): name for name in (*inputs, REFERENCE)}
    channels = tuple(names.values())
    places = [cohort.channel(name) for name in channels]
    for case_id in case_ids:
        image, masks = cohort.load(case_id)
        yield ScanCase(
            image=image[places],
            masks=np.asarray(masks),
            channels=channels,
            spacing_mm=cohort.spacing_mm,
            clip_sigma=float(cohort.manifest["settings"]["clip_sigma"]),
            contrast=np.asarray(image[cohort.channel(target)]),
        )


def score_faults(
    cases: Iterable[ScanCase],
    reference: OodReference,
    rng: np.random.Generator,
    *,
    faults: Mapping[str, Fault] = FAULTS,
    injected_into: int | None = None,
) -> pd.DataFrame:
    """A row for unchanged patients ("none") and one for each fault, with the share of cases that is detected.

    Columns: `fault`, `what`; `n` cases; `seen`, the share that is OOD or refused, and of it `warned` (OOD) and
    `refused`; `named`, the share of all whose reasons name the fault. Rates are NaN where n is 0.

    Args:
        cases: patients outside the fit of the reference.
        reference: that of the training patients.
        rng: draws the lobes, the thickness of skulls, and noise.
        faults: those to inject.
        injected_into: the number of cases, from the first, that get faults; all by default. False alarms are counted on
            all cases.
    """
    found: dict[str, list[OodResult]] = {NONE: [], **{name: [] for name in faults}}
    for number, case in enumerate(cases):
        found[NONE].append(ood_result(case, reference))
        for name, fault in faults.items() if injected_into is None or number < injected_into else ():
            faulty = fault.inject(case, rng)
            if faulty is not None:
                found[name].append(ood_result(faulty, reference))
    rows = []
    for name, results in found.items():
        count, injected = len(results), faults.get(name)
        levels = [result.level for result in results]
        warned, refused = (levels.count(level) / count if count else np.nan for level in ("unlike", "refused"))
        named = [bool(injected and {*injected.suspects} & {*result.suspects}) for result in results]
        rows.append(
            {
                "fault": name,
                "what": injected.text if injected else "the patients as they are",
                "n": count,
                "seen": warned + refused,
                "warned": warned,
                "refused": refused,
                "named": float(np.mean(named)) if injected and count else np.nan,
            }
        )
    return pd.DataFrame(rows)


def ood_result(case: ScanCase, reference: OodReference) -> OodResult:
    """OOD result of a case against the training patients."""
    return reference.assess(measure(case.image, case.masks, case.channels, case.spacing_mm))


def evenly(cases: Sequence[str], count: int) -> list[str]:
    """At most `count` of the cases, evenly spread over their list."""
    if len(cases) <= count:
        return list(cases)
    return [cases[int(place)] for place in np.linspace(0, len(cases) - 1, count)]
