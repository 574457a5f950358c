"""What is believed of networks: their own calibration, one made for just these, or nothing, and that is said."""

from __future__ import annotations

import json

import pytest
from torch import nn

from lab.data.contract import Contract
from lab.inference.calibration import calibration_for
from lab.inference.load import Networks
from lab.io.sealed_json import seal

CONTRACT = Contract(
    inputs=("T1", "T2", "FLAIR"),
    target="T1GD",
    spacing_mm=4.0,
    shape=(40, 48, 40),
    preparation={"brain_mask": "auto", "clip_sigma": 4.0, "enhancement_threshold": 0.3, "enhancing_ml": 0.5},
    layout="brats2023",
    cohort_digest="c0",
    phantom=False,
)


def record(*weights: str, patients: int = 20, **changes) -> dict:
    """A calibration of networks with these hashes."""
    factors = {"brain": {"0.9": 2.0}, "tumour": {"0.9": 3.0}}
    intervals = {"floor": 0.1, "factors": factors, "patients": patients}
    rows = [
        {"looks": looks, "level": level, "region": "everywhere", "value": level, "low": 0.7, "high": 1.0, "n": 8}
        for looks in (1, 4)
        for level in (0.5, 0.9)
    ]
    test = {"n": 8, "auc": 0.9, "auc_low": 0.7, "auc_high": 1.0}
    known = {
        "weights_sha256": list(weights),
        "intervals": {"1": intervals, "4": intervals},
        "coverage": rows,
        "probability": {"slope": 4.0, "intercept": -2.0, "patients": 20, "flat": False, "test": test},
        "likeness": None,
    }
    return known | changes


def networks(*weights: str, calibrations: tuple[dict, ...]) -> Networks:
    return Networks(
        networks=tuple(nn.Identity() for _ in weights),
        contract=CONTRACT,
        about=tuple({"model": f"models:/{name}@champion", "weights_sha256": name} for name in weights),
        patches=(None,) * len(weights),
        calibrations=calibrations,
    )


def test_a_network_brings_its_own():
    found = calibration_for(networks("a", calibrations=(record("a"),)), 4)
    assert found.intervals is not None
    assert found.intervals.factor("tumour", 0.9) == 3.0
    assert found.probability_of(0.5) == pytest.approx(0.5)
    assert found.probability_of(0.8) > found.probability_of(0.5)
    assert [(row["looks"], row["level"]) for row in found.coverage] == [(4, 0.9)]
    assert found.warnings == ()


def test_other_looks_have_no_intervals():
    found = calibration_for(networks("a", calibrations=(record("a"),)), 3)
    assert found.intervals is None
    assert any("made for --looks 1, 4, not for 3" in warning for warning in found.warnings)
    assert found.probability_of(0.5) is not None  # by the plain look, whatever the others


def test_few_patients_promise_nothing():
    found = calibration_for(networks("a", calibrations=(record("a", patients=2),)), 4)
    assert any("2 validation patients, too few to promise that 90%" in warning for warning in found.warnings)


def test_without_a_class_there_is_no_probability():
    missing = {"missing": "all 6 validation scans enhance"}
    assert (
        calibration_for(networks("a", calibrations=(record("a", probability=missing),)), 4).probability_of(0.5) is None
    )


def test_a_reference_of_version_0_4_0_is_not_used_and_that_is_said():
    older = record("a", likeness={"patients": 20, "names": ["volume"], "aspects": {}, "trials": {}})
    found = calibration_for(networks("a", calibrations=(older,)), 4)
    assert found.reference is None
    assert found.intervals is not None
    (warning,) = found.warnings
    assert "python -m lab calibrate" in warning


def test_without_a_calibration_that_is_said():
    found = calibration_for(networks("a", calibrations=({},)), 4)
    assert found.intervals is None
    assert found.reference is None
    assert "lab calibrate --model models:/a@champion" in found.warnings[0]


def test_an_ensemble_needs_one_made_for_it(tmp_path):
    both = networks("a", "b", calibrations=(record("a"), record("b")))
    found = calibration_for(both, 4)
    assert found.intervals is None
    assert "2 networks were not calibrated together" in found.warnings[0]
    file = tmp_path / "calibration.json"
    file.write_text(json.dumps(record("b", "a")))
    assert calibration_for(both, 4, file).intervals is not None
    assert calibration_for(networks("a", calibrations=({},)), 4).intervals is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps(record("a", "c")), "made for other networks"),
        ("{}", "is no calibration"),
        ("[]", "is no calibration"),
        ("no json", "is no calibration"),
        (json.dumps(seal(record("a", "b"))).replace('"a"', '"b"', 1), "was changed since it was made"),
        (None, "cannot be read"),
    ],
)
def test_what_was_made_for_others_is_refused(text, message, tmp_path):
    file = tmp_path / "calibration.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ValueError, match=f"calibration.json: .*{message}"):
        calibration_for(networks("a", "b", calibrations=({}, {})), 4, file)


def test_a_package_with_the_calibration_of_another_is_refused():
    with pytest.raises(ValueError, match="models:/a@champion: was made for other networks"):
        calibration_for(networks("a", calibrations=(record("z"),)), 4)
