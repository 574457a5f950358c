"""Who is like the training patients, and who is told to be otherwise, in words that help."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pandas as pd
import pytest

from lab.data.cohort import BRAIN, Cohort
from lab.qc.findings import LEVELS, SUSPECTS
from lab.qc.image_quality import measure
from lab.qc.metrics import KINDS, exchange, format_metric, group_of, metric_names, turn
from lab.qc.ood import LEAST_PATIENTS, OodReference, fit_reference

SEQUENCES = ("T1", "T2", "FLAIR")
NAMES = metric_names(SEQUENCES)
CENTRE = {"volume": np.log(1400), "length_to_width": np.log(1.2), "where_dark:T2:T1": 2.0, "where_dark:T1:T2": -2.0}
CENTRE |= {"correlation:T1:T2": -0.6, "centre_z": 0.03, "tilt": -0.1}
for _name in NAMES:
    if _name.startswith("white"):
        CENTRE[_name] = np.log(0.6)
    elif _name.startswith("snr"):
        CENTRE[_name] = np.log(10)


def patients(count: int, seed: int) -> pd.DataFrame:
    """Measures of Gaussian patients, each 3 floors wide; the correlations stay below 1."""
    rng = np.random.default_rng(seed)
    centre = np.array([CENTRE.get(name, 0.2) for name in NAMES])
    wide = np.array([3 * KINDS[name.split(":")[0]].least_sd for name in NAMES])
    wide[[name.startswith("correlation") for name in NAMES]] = 0.05
    return pd.DataFrame(centre + wide * rng.standard_normal((count, len(NAMES))), columns=NAMES)


@cache
def fitted(count: int, seed: int = 0) -> OodReference:
    return fit_reference(patients(count, seed), [f"p{number}" for number in range(count)])


@pytest.fixture(scope="module")
def like() -> OodReference:
    return fitted(40)


@pytest.fixture(scope="module")
def measured(tiny_cohort: Cohort) -> pd.DataFrame:
    """Measures of the tiny phantom."""
    places = [tiny_cohort.channel(name) for name in SEQUENCES]
    rows = {}
    for case_id in tiny_cohort.index.index:
        image, masks = tiny_cohort.load(case_id)
        rows[case_id] = measure(image[places], masks, SEQUENCES, tiny_cohort.spacing_mm)
    return pd.DataFrame(rows).T


# --- measures


def test_every_measure_has_a_name_a_meaning_and_an_aspect(measured):
    assert list(measured.columns) == NAMES or set(measured.columns) == set(NAMES)
    for name in NAMES:
        text = format_metric(name, 0.1)
        assert "{" not in text
        assert all(sequence in text for sequence in name.split(":")[1:])
        assert group_of(name)


def ball(radius: float = 18.0, shape: tuple[int, int, int] = (40, 48, 40)) -> tuple[np.ndarray, np.ndarray]:
    """A brain of a ball and a half-ball of brighter tissue, at 4 mm; three sequences of it and bit flags."""
    rng = np.random.default_rng(0)
    x, y, z = np.indices(shape) - (np.array(shape)[:, None, None, None] - 1) / 2
    inside = x**2 + (y * 40 / 48) ** 2 + z**2 < radius**2
    values = np.where(x > 0, 0.2, -0.2) + 0.05 * rng.standard_normal((3, *shape))
    values[1] *= -1
    return np.where(inside, values, -1).astype(np.float16), (inside * BRAIN).astype(np.uint8)


def test_measures_of_a_known_head():
    image, masks = ball()
    found = measure(image, masks, SEQUENCES, 4.0)
    volume = np.count_nonzero(masks) * 0.064
    assert np.exp(found["volume"]) == pytest.approx(volume)
    assert np.exp(found["length_to_width"]) == pytest.approx(1.2, abs=0.05)
    assert found["asymmetry"] == pytest.approx(np.log(4))  # a voxel
    assert found["correlation:T1:T2"] < -0.7 < 0.7 < found["correlation:FLAIR:T1"]
    assert found["inu_x:T1"] == pytest.approx(1, abs=0.15)  # a width is the distance of the two tissues
    assert found["where_bright:T2:T1"] < 0 < found["where_bright:FLAIR:T1"]
    assert found["centre_y"] == pytest.approx(0, abs=1e-6)


def test_the_tumour_mask_is_not_looked_at_and_a_name_twice_counts_once():
    image, masks = ball()
    with_tumour = masks.copy()
    with_tumour[18:22, 20:24, 18:22] |= 2
    assert measure(image, masks, SEQUENCES, 4.0) == measure(image, with_tumour, SEQUENCES, 4.0)
    double = np.concatenate([image, image[:1]])
    assert measure(double, masks, ("t1", "T2", "FLAIR", "T1"), 4.0) == measure(image, masks, SEQUENCES, 4.0)


def test_snr_follows_noise_and_finer_voxels_change_the_rest_little():
    image, masks = ball()
    calm = measure(image, masks, SEQUENCES, 4.0)
    noise = np.random.default_rng(1).standard_normal(image.shape) * 0.3
    loud = measure(np.where(masks > 0, image + noise, -1), masks, SEQUENCES, 4.0)
    assert min(calm[f"snr_{axis}:T1"] - loud[f"snr_{axis}:T1"] for axis in "xyz") > 0.5
    finer = [np.repeat(np.repeat(np.repeat(part, 2, -1), 2, -2), 2, -3) for part in (image, masks)]
    fine = measure(*finer, SEQUENCES, 2.0)
    for name in NAMES:
        if not name.startswith(("snr", "white", "vessels", "dots", "flattest")):
            assert fine[name] == pytest.approx(calm[name], abs=0.06), name


@pytest.mark.parametrize("strange", ["constant", "no brain", "nearly no brain"])
def test_what_cannot_be_measured_is_nan_and_nothing_raises(strange):
    image, masks = ball()
    image, masks = image.copy(), masks.copy()
    if strange == "constant":
        image[1] = 0
    elif strange == "no brain":
        masks[:] = 0
    else:
        masks[:] = 0
        masks[20:23, 20:23, 20:23] = BRAIN
    found = measure(image, masks, SEQUENCES, 4.0)
    assert set(found) == set(NAMES)
    assert np.isnan(found["cnr:T2"])
    assert np.isnan(found["volume"]) == (strange != "constant")


def test_shapes_that_do_not_fit_are_an_error():
    image, masks = ball()
    with pytest.raises(ValueError, match="do not fit together"):
        measure(image, masks, ("T1", "T2"), 4.0)


def test_to_exchange_names_is_to_exchange_scans():
    image, masks = ball()
    image = image * np.array([1.0, 0.8, 0.6])[:, None, None, None] ** 2
    plain = measure(image, masks, SEQUENCES, 4.0)
    other = measure(image[[1, 0, 2]], masks, SEQUENCES, 4.0)
    places, signs = exchange(NAMES, "T1", "T2")
    values = np.array([plain[name] for name in NAMES])
    np.testing.assert_allclose(values[places] * signs, [other[name] for name in NAMES], atol=1e-6)
    upside = measure(image[..., ::-1], masks[..., ::-1], SEQUENCES, 4.0)
    places, signs = turn(NAMES, "z")
    for name, value in zip(NAMES, values[places] * signs):
        if not name.startswith(("snr", "white")):  # another sample of voxels
            assert value == pytest.approx(upside[name], abs=0.05), name


# --- result


def test_false_alarms_are_rare_and_refusals_rarer(like):
    for count in (12, 20, 40, 200):
        reference = like if count == 40 else fitted(count)
        levels = [reference.assess(dict(row)).level for _, row in patients(200, seed=99).iterrows()]
        assert levels.count("unlike") <= 0.05 * len(levels), count
        assert "refused" not in levels


def test_limits_are_wider_with_fewer_patients():
    few, some, many = (np.median([limit for _, limit in fitted(count).limits.values()]) for count in (10, 20, 200))
    assert few > 1.3 * some > 1.3 * many


def test_scores_of_training_patients_are_those_of_new_ones(like):
    fresh = [like.assess(dict(row)) for _, row in patients(200, seed=98).iterrows()]
    assert np.mean([result.percentile for result in fresh]) == pytest.approx(0.5, abs=0.15)
    assert np.median([result.distance for result in fresh]) == pytest.approx(np.median(like.distances), rel=0.15)


def test_reading_what_was_written_judges_the_same(like):
    again = OodReference.read(json.loads(json.dumps(like.as_dict(), allow_nan=False)))
    for _, row in patients(5, seed=7).iterrows():
        strange = dict(row) | {"volume": np.log(800)}
        for values in (dict(row), strange):
            assert again.assess(values) == like.assess(values)
            assert json.loads(json.dumps(like.assess(values).as_dict(), allow_nan=False))["level"] in LEVELS


def test_several_scans_of_a_patient_are_left_out_together():
    rows = patients(12, seed=0)
    rows = pd.concat([rows, rows + 1e-3])
    owner = [f"p{number}" for number in range(12)] * 2
    like = fit_reference(rows, owner)
    assert like.patients == 12
    alone = fit_reference(rows, [str(number) for number in range(24)])
    assert all(like.limits[name] > alone.limits[name] for name in like.fit.precisions)  # a twin is too near


def test_a_strange_measure_is_named_with_what_was_found_and_expected(like):
    row = dict(patients(1, seed=5).iloc[0])
    result = like.assess(row | {"volume": np.log(800), "length": row["length"] - 0.4})
    assert result.level == "unlike"
    assert result.distance > 1
    assert result.suspects[0] == "small brain"
    assert "the brain has 800 ml (training patients: 1" in result.reasons[0]
    assert result.reasons[0].endswith(SUSPECTS["small brain"])
    assert next(iter(result.tests)) in ("volume", "size")


def test_swapped_sequences_are_named_and_refused():
    apart = np.array([6 * KINDS[name.split(":")[0]].least_sd * ("T1" in name) for name in NAMES])
    like = fit_reference(patients(40, seed=0) + apart, [str(number) for number in range(40)])
    places, signs = exchange(NAMES, "T1", "T2")
    others = (patients(30, seed=6) + apart).to_numpy()[:, places] * signs
    seen = [like.assess(dict(zip(NAMES, row))) for row in others]
    assert {result.suspects[0] for result in seen} == {"swapped"}
    refused = [result for result in seen if result.level == "refused"]
    assert len(refused) >= 28  # who is strange otherwise too is only warned of
    assert "exchanged, T1 and T2 are like the training patients'" in refused[0].reasons[0]
    assert "check which file was given" in seen[0].reasons[0]


@pytest.mark.parametrize("pair", [("T1", "T2"), ("T2", "FLAIR")])
def test_only_a_patient_as_far_over_as_the_training_patients_is_refused(pair):
    """In between, the patient is warned of, both as given and exchanged: neither can be told to be right."""
    apart = np.array([6 * KINDS[name.split(":")[0]].least_sd * (pair[0] in name.split(":")) for name in NAMES])
    like = fit_reference(patients(40, seed=0) + apart, [str(number) for number in range(40)])
    places, signs = exchange(NAMES, *pair)
    given = []
    for row in (patients(10, seed=6) + apart).to_numpy():
        other = row[places] * signs
        levels = [like.assess(dict(zip(NAMES, row + share * (other - row)))).level for share in (0, 0.5, 0.55, 1)]
        given.append(levels[0])
        assert levels[1:3] == ["unlike", "unlike"]
    assert given.count("alike") >= 9
    assert "refused" not in given
    between = like.assess(dict(zip(NAMES, (row + other) / 2)))
    assert between.suspects[0] == "swapped"
    assert "nearly as much like" in between.reasons[0] or "more like" in between.reasons[0]


def test_a_reference_of_another_version_is_not_read(like):
    for known in ({"patients": 3}, {**like.as_dict(), "version": 1}, {"patients": 3, "version": 2}):
        with pytest.raises(ValueError, match="python -m lab calibrate"):
            OodReference.read(known)


@pytest.mark.parametrize(
    ("values", "suspect", "text"),
    [
        ({"volume": np.log(300)}, "no brain", "the brain has 300 ml"),
        ({"volume": np.log(2600)}, "no brain", "600 to 2300 are possible"),
        ({"length_to_width": np.log(2.2)}, "no brain", "2.2 times as long as wide"),
        ({"correlation:T1:T2": 0.995}, "same scan", "T1 and T2 are nearly the same image"),
        ({"cnr:T2": float("nan")}, "unmeasurable", "1 of"),
        (
            {f"{kind}:T2": np.log(2) for kind in ("snr_x", "snr_y", "snr_z")} | {"white:T2": 0.0},
            "nothing but noise",
            "T2 is noise",
        ),
    ],
)
def test_certain_nonsense_is_refused_even_with_few_training_patients(values, suspect, text, like):
    for reference in (like, fitted(LEAST_PATIENTS - 1)):
        result = reference.assess(dict(patients(1, seed=5).iloc[0]) | values)
        assert result.level == "refused"
        assert result.suspects == (suspect,)
        assert text in result.reasons[0]
        assert np.isnan(result.distance)


def test_too_few_training_patients_judge_nobody():
    result = fitted(LEAST_PATIENTS - 1).assess(dict(patients(1, seed=5).iloc[0]) | {"length": 9.0})
    assert result.level == "unjudged"
    assert f"{LEAST_PATIENTS - 1} patients, too few" in result.reasons[0]
    json.dumps(fitted(LEAST_PATIENTS - 1).as_dict(), allow_nan=False)


def test_a_measure_that_never_varied_allows_its_floor_and_no_more():
    rows = patients(20, seed=0)
    rows["volume"] = np.log(1885)
    like = fit_reference(rows, [str(number) for number in range(20)])
    row = dict(patients(1, seed=5).iloc[0])
    assert like.assess(row | {"volume": np.log(1890)}).level == "alike"
    assert "small brain" in like.assess(row | {"volume": np.log(1300)}).suspects


def test_a_measure_that_one_training_patient_lacks_is_left_out():
    rows = patients(20, seed=0)
    rows.loc[3, "cnr:T2"] = np.nan
    like = fit_reference(rows, [str(number) for number in range(20)])
    assert "cnr:T2" not in like.fit.names
    assert like.assess(dict(patients(1, seed=5).iloc[0])).level == "alike"


def test_without_patients_there_is_no_reference():
    with pytest.raises(ValueError, match="0 patients"):
        fit_reference(pd.DataFrame(), [])
    with pytest.raises(ValueError, match="no metric in common"):
        fit_reference(pd.DataFrame({"volume": [np.nan]}), ["a"])


def test_a_phantom_is_no_patient(like, measured):
    reference = fit_reference(measured, list(measured.index))
    assert reference.patients >= LEAST_PATIENTS
    for _, row in patients(5, seed=0).iterrows():
        result = reference.assess(dict(row))
        assert result.level != "alike"
    assert "other cohort" in like.assess(dict(measured.iloc[0])).suspects


@pytest.mark.parametrize("sequences", [("T1",), ("T1", "FLAIR")])
def test_models_of_fewer_sequences_have_fewer_measures(sequences, tiny_cohort):
    rows = {}
    for case_id in tiny_cohort.index.index:
        image, masks = tiny_cohort.load(case_id)
        rows[case_id] = measure(image[[tiny_cohort.channel(name) for name in sequences]], masks, sequences, 8.0)
    like = fit_reference(list(rows.values()), list(rows))
    assert like.fit.sequences == sequences
    assert like.assess(rows[case_id]).level == "alike"
    assert like.assess(rows[case_id] | {"cnr:T1": 9.0}).level == "unlike"
    assert len(like.certain) <= 2 + (len(sequences) == 2)
