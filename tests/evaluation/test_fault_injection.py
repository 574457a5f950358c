"""Every fault is what it says, and is noticed where measurement says that it is."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from lab.config import DataConfig
from lab.data.cohort import BRAIN, Cohort
from lab.data.prepare import prepare
from lab.evaluation.fault_injection import NONE, cases_of, ood_result, score_faults
from lab.evaluation.faults import FAULTS, ScanCase, noisy, renormalise
from lab.phantom.cohort import write_cohort
from lab.qc.findings import SUSPECTS
from lab.qc.image_quality import measure
from lab.qc.ood import OodReference, fit_reference

INPUTS, TARGET = ("T1", "T2", "FLAIR"), "T1GD"
REAL = Path(__file__).parents[3] / "shared" / "cases" / "brats2023-2mm"


def measures(case: ScanCase) -> dict[str, float]:
    return measure(case.image, case.masks, case.channels, case.spacing_mm)


def split(cohort: Cohort, tested: int) -> tuple[OodReference, list[ScanCase]]:
    """A reference of all but the last patients, and these."""
    ids = sorted(cohort.index.index)
    train = ids[:-tested]
    return fit_reference([measures(case) for case in cases_of(cohort, train, INPUTS, TARGET)], train), list(
        cases_of(cohort, ids[-tested:], INPUTS, TARGET)
    )


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> tuple[OodReference, list[ScanCase]]:
    """A reference of 20 phantoms of 4 mm, and four more."""
    folder = tmp_path_factory.mktemp("planted")
    tree = write_cohort(folder / "tree", subjects=24, seed=3, spacing_mm=4.0, processes=1)
    return split(prepare(tree, folder / "prepared", DataConfig(spacing_mm=4.0), processes=1), 4)


@pytest.fixture(scope="module")
def case(tiny_cohort: Cohort) -> ScanCase:
    return next(cases_of(tiny_cohort, sorted(tiny_cohort.index.index)[:1], INPUTS, TARGET))


def test_a_case_has_what_a_new_patient_has(tiny_cohort, case):
    assert case.channels == INPUTS
    assert case.image.shape == (3, *tiny_cohort.shape)
    assert case.contrast is not None
    whole, _ = tiny_cohort.load(sorted(tiny_cohort.index.index)[0])
    np.testing.assert_array_equal(case.contrast, whole[tiny_cohort.channel(TARGET)])
    only = next(cases_of(tiny_cohort, sorted(tiny_cohort.index.index)[:1], ("FLAIR",), TARGET))
    assert only.channels == ("FLAIR", "T1")


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_gives_a_case_prepared_as_any(name, case):
    before = case.image.copy()
    faulty = FAULTS[name].inject(case, np.random.default_rng(0))
    assert faulty is not None
    np.testing.assert_array_equal(case.image, before)  # the sound case stays
    brain = faulty.brain
    assert faulty.image.dtype == np.float16
    assert faulty.image.shape == case.image.shape
    assert (faulty.image[:, ~brain] == -1).all()
    assert np.abs(faulty.image.astype(float)).max() <= 1
    for values in faulty.image[:, brain].astype(float):
        assert values.mean() == pytest.approx(0, abs=0.03)
        assert values.std() == pytest.approx(1 / case.clip_sigma, rel=0.15)  # less what is cut off
    assert not np.array_equal(faulty.image, case.image)
    assert set(FAULTS[name].suspects) <= set(SUSPECTS)


def test_a_fault_that_a_case_cannot_have_is_left_out(case):
    lone = dataclasses.replace(case, image=case.image[:1], channels=("T1",), contrast=None)
    rng = np.random.default_rng(0)
    for name in ("T1 and T2 swapped", "T1 with contrast agent"):
        assert FAULTS[name].inject(lone, rng) is None


def test_faults_do_what_they_say(case):
    rng = np.random.default_rng(0)
    brain = np.count_nonzero(case.brain)

    def share(name: str) -> float:
        faulty = FAULTS[name].inject(case, rng)
        assert faulty is not None
        return np.count_nonzero(faulty.brain) / brain

    assert share("skull left") > 1.2
    assert 0.8 < share("lobe missing") < 0.97
    assert 0.4 < share("half missing") < 0.6
    assert share("brain of 0.8") == pytest.approx(0.8**3, abs=0.05)
    assert share("SNR 10") == share("bias field") == share("upside down") == 1
    noise = FAULTS["SNR 10"].inject(case, rng)
    assert noise is not None
    assert measures(noise)["snr_z:T1"] < measures(case)["snr_z:T1"]


def test_without_a_fault_normalising_anew_changes_nothing(case):
    signal = np.where(case.brain, case.image.astype(np.float32) + 1, 0)
    again = renormalise(case, signal, case.brain)
    np.testing.assert_allclose(again.image.astype(float), case.image.astype(float), atol=0.03)
    np.testing.assert_array_equal(again.masks & BRAIN, case.masks & BRAIN)


def test_noise_is_rician(case):
    flat = dataclasses.replace(case, image=np.where(case.brain, 0.5, -1).astype(np.float16)[None].repeat(3, 0))
    faulty = noisy(2.0, flat, np.random.default_rng(0))
    eroded = ndimage.binary_erosion(case.brain)
    values = faulty.image[0][eroded].astype(float)
    assert np.mean((values - values.mean()) ** 3) / values.std() ** 3 == pytest.approx(0.2, abs=0.2)


def test_too_small_a_cohort_judges_nothing_and_says_so(tiny_cohort, case):
    like = fit_reference([measures(case)], ["one"])
    assert ood_result(case, like).level == "unjudged"
    table = score_faults([case], like, np.random.default_rng(0), faults={"bias field": FAULTS["bias field"]})
    assert table["seen"].tolist() == [0, 0]


@pytest.mark.slow
def test_faults_are_seen_in_phantoms_and_sound_ones_pass(phantom):
    like, cases = phantom
    table = score_faults(cases, like, np.random.default_rng(0), injected_into=2).set_index("fault")
    assert list(table.index) == [NONE, *FAULTS]
    assert table.loc[NONE, "n"] == 4
    assert table.loc["SNR 10", "n"] == 2
    assert table.loc[NONE, "seen"] <= 1 / 4
    assert table.loc[NONE, "refused"] == 0
    np.testing.assert_allclose(table["seen"], table["warned"] + table["refused"])
    subtle = ["T1 with contrast agent", "bias field"]
    assert (table["seen"].drop([NONE, *subtle]) == 1).all(), table["seen"]


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="the real cases are not here")
def test_faults_are_seen_in_real_patients_and_phantoms_are_no_patients(tmp_path, phantom):
    (tmp_path / "scans").mkdir()
    for folder in sorted(REAL.iterdir())[:17]:
        (tmp_path / "scans" / folder.name).symlink_to(folder)
    settings = DataConfig(spacing_mm=4.0, allow_one_class=True)
    cohort = prepare(tmp_path / "scans", tmp_path / "prepared", settings, processes=1)
    like, cases = split(cohort, 4)
    sure = ("half missing", "skull left", "SNR 10", "one sequence empty")
    faults = {name: FAULTS[name] for name in sure}
    table = score_faults(cases, like, np.random.default_rng(0), faults=faults, injected_into=2).set_index("fault")
    assert table.loc[NONE, "refused"] == 0
    assert table.loc[NONE, "seen"] <= 1 / 4
    assert (table.loc[list(sure), "seen"] == 1).all(), table["seen"]
    assert "alike" not in [ood_result(one, phantom[0]).level for one in cases]
