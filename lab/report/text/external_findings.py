"""What the tests on external cohorts found, in sentences for the page, the note, the card and the gate."""

from __future__ import annotations

from collections.abc import Sequence

from lab.io.files import plural
from lab.radiomics.assess.external import ExternalTest


def external_findings(test: ExternalTest, held_out: float) -> list[str]:
    """The findings of one test; `held_out` is the AUC on held-out patients of the training cohort."""
    text = (
        f"External test on {test.name} ({plural(test.patients, 'patient')}, {test.events} {test.event}): AUC "
        f"{test.figure('auc')}; {held_out:.2f} on held-out patients of the training cohort. {verdict(test, held_out)}."
    )
    shares = [
        f"{figure} {one['value']:.2f} ({one['low']:.2f} to {one['high']:.2f}, {one['hits']:.0f} of {one['n']:.0f})"
        for figure in ("sensitivity", "specificity")
        for one in [test.at_threshold(figure)]
    ]
    shift = (
        f"{100 * test.prevalence:.0f} % are {test.event}, in training {100 * test.training_prevalence:.0f} %; "
        f"calibration slope {test.figure('slope')}, in the large {test.figure('in_the_large')}"
    )
    far = f"{test.far} of {plural(test.patients, 'patient')} are out of distribution"
    more = f"{test.name}: {shift}; at the threshold of training {' and '.join(shares)}; {far}."
    if test.shared:
        more += f" Left out as patients of the training cohort: {plural(len(test.shared), 'case')}."
    return [text, more]


def verdict(test: ExternalTest, held_out: float) -> str:
    """What the AUC's interval says: above chance, too few patients to tell, or no better than chance."""
    if test.above_chance:
        return "The interval lies above 0.5: better than chance there, too"
    if test.inconclusive(held_out):
        return "The interval holds 0.5, but the AUC of training as well: too few patients to tell"
    low = test.row["auc_low"] <= 0.5 <= test.row["auc_high"]
    return f"The interval {'holds' if low else 'lies below'} 0.5: not shown to tell these patients apart"


def external_summary(tests: Sequence[ExternalTest]) -> str:
    """The sentences of a model card on the tests; says that there was none."""
    if not tests:
        return "No other hospital's patients were tested."
    return "Tested once on patients of other cohorts: " + "; ".join(one.describe() for one in tests) + "."
