"""Normalisation of a network's inputs on top of the z-scores: the T1 and its target keep theirs."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lab.data.normalisation import (
    PERCENTILES,
    Normalisation,
    fit_normalisation,
    normalised,
    to_standard_scale,
    white_stripe,
)

INPUTS = ("T1", "T2", "FLAIR")


def known(values: np.ndarray) -> np.ndarray:
    return values[values > -1].astype(np.float32)


@pytest.mark.parametrize("method", ["histogram", "white-stripe"])
def test_only_the_inputs_besides_the_t1_change_and_background_stays(tiny_cohort, method):
    cases = list(tiny_cohort.index.index)
    cohort = normalised(tiny_cohort, method, cases[:5], INPUTS)
    for case in cases[:2]:
        (plain, flags), (image, same) = tiny_cohort.load(case), cohort.load(case)
        np.testing.assert_array_equal(flags, same)
        assert image.dtype == plain.dtype
        assert np.abs(image).max() <= 1
        for channel, name in enumerate(tiny_cohort.channels):
            if name in ("T2", "FLAIR"):
                assert (image[channel] != plain[channel]).mean() > 0.05
                assert (image[channel][plain[channel] == -1] == -1).all()
                order = np.argsort(known(plain[channel]), kind="stable")
                assert (np.diff(image[channel][plain[channel] > -1][order].astype(float)) >= 0).all()
            else:
                np.testing.assert_array_equal(image[channel], plain[channel])


def test_every_case_gets_the_landmarks_of_the_training_cases(tiny_cohort):
    cases = list(tiny_cohort.index.index)
    found = fit_normalisation("histogram", tiny_cohort, cases[:5], INPUTS)
    assert list(found.landmarks) == ["T2", "FLAIR"]
    own = [
        np.percentile(known(tiny_cohort.load(case)[0][tiny_cohort.channel("FLAIR")]), PERCENTILES) for case in cases[:5]
    ]
    np.testing.assert_allclose(found.landmarks["FLAIR"], np.mean(own, axis=0))
    assert found != fit_normalisation("histogram", tiny_cohort, cases[:4], INPUTS)
    image = found.apply(tiny_cohort.load(cases[9])[0], tiny_cohort.channels)
    mapped = np.percentile(known(image[tiny_cohort.channel("FLAIR")]), PERCENTILES)
    np.testing.assert_allclose(mapped, found.landmarks["FLAIR"], atol=0.01)


def test_beyond_its_landmarks_a_scale_goes_on_as_it_ends():
    scale = np.linspace(-0.5, 0.5, len(PERCENTILES))
    values = np.concatenate([np.linspace(0, 100, 1001), [200.0]])
    mapped = to_standard_scale(values, scale)
    assert (np.diff(mapped) > 0).all()
    last, end = np.percentile(values, PERCENTILES[-2:])
    assert mapped[-1] == pytest.approx(0.5 + (200 - end) * 0.1 / (end - last))


def test_a_white_stripe_removes_gain_and_offset():
    rng = np.random.default_rng(0)
    t1 = np.concatenate([rng.normal(-0.3, 0.1, 3000), rng.normal(0.3, 0.03, 2000), np.full(500, -1.0)])
    t1 = t1.clip(-1, 1).reshape(10, 10, -1)
    stripe = white_stripe(t1)
    assert 0.27 < t1[stripe].min() < t1[stripe].max() < 0.33
    t2 = np.where(t1 > -1, 0.1 * t1 + rng.normal(0, 0.05, t1.shape), -1)
    found = Normalisation(method="white-stripe", landmarks={"T2": ()})
    first, second = (
        found.apply(np.stack([t1, np.where(t1 > -1, gain * t2 + offset, -1)]), ("T1", "T2"))[1]
        for gain, offset in ((1.0, 0.0), (1.3, -0.2))
    )
    np.testing.assert_allclose(first, second, atol=1e-6)
    assert abs(first[stripe].mean()) < 1e-6
    assert first[stripe].std() == pytest.approx(1 / 8, abs=1e-6)


def test_the_record_is_plain_and_comes_back(tiny_cohort):
    found = fit_normalisation("histogram", tiny_cohort, list(tiny_cohort.index.index)[:3], INPUTS)
    assert Normalisation.read(json.loads(json.dumps(found.as_dict()))) == found
    with pytest.raises(ValueError, match="by fcm, in a form this version lacks"):
        Normalisation.read({"method": "fcm", "landmarks": {"T2": []}})
    with pytest.raises(ValueError, match="does not say how its inputs were normalised"):
        Normalisation.read({"method": "histogram"})


def test_with_the_t1_alone_there_is_nothing_to_normalise(tiny_cohort):
    with pytest.raises(ValueError, match=r"--data\.normalise histogram maps the inputs other than T1"):
        fit_normalisation("histogram", tiny_cohort, [], ("T1",))
    assert normalised(tiny_cohort, "zscore", [], ("T1",)) is tiny_cohort
