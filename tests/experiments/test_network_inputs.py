"""What a network reads besides the prepared z-scores is fitted on its training patients and goes with it."""

from __future__ import annotations

import numpy as np
import pytest
from small import ran, settings

from lab.config import flatten
from lab.data.normalisation import fit_normalisation
from lab.evaluation.evaluate import evaluate
from lab.experiments.synthesis import finish, scoring, study
from lab.inference.load import from_packages
from lab.inference.patient import predict_case
from lab.synthesis.device import choose
from lab.tracking.models.network import download_package

CPU = choose("cpu", "float32")
INPUTS = ("T1", "T2", "FLAIR")


def test_landmarks_of_each_folds_training_patients_are_stored_and_used_for_new_patients(tiny_cohort, monkeypatch):
    monkeypatch.setattr(finish, "finish", lambda *_: None)
    monkeypatch.setattr(scoring, "fit_baselines", lambda *_, **__: {})
    config = settings(tiny_cohort, train__epochs=1, study__folds=2, data__normalise="histogram")
    plan, _ = ran("landmarks", config, {"one": {}})
    runs = sorted(plan.parent.children(), key=lambda run: run.tags["fold"])
    packages = [(download_package(run.tags["model_uri"]), {"model": run.id}) for run in runs]
    case = plan.cases("val", 0)[0]
    image, masks = tiny_cohort.load(case)
    inputs, flags = np.asarray(image[:3]), np.array(masks)
    images = []
    for fold, (package, about) in enumerate(packages):
        fitted = fit_normalisation("histogram", tiny_cohort, plan.cases("train", fold), INPUTS)
        assert package.known["normalise"] == fitted.as_dict()
        networks = from_packages([(package, about)], CPU)
        found, _, _ = predict_case(inputs, flags, networks, CPU, looks=1)
        images.append(found.image)
    scorer = scoring.Scorer(plan, CPU)
    table = evaluate(scorer.network(runs[0]), scorer.cases_of(runs[0], "val")).set_index("case_id")
    truth, brain = image[tiny_cohort.channel("T1GD")].astype(np.float32), (flags & 1) > 0
    error = np.abs(images[0][0, 0].numpy() - truth)[brain].mean()
    assert table.loc[case, "mae_brain"] == pytest.approx(error, abs=1e-6)

    both, _, _ = predict_case(inputs, flags, from_packages(packages, CPU), CPU, looks=1)
    np.testing.assert_allclose(both.image, (images[0] + images[1]) / 2, atol=1e-6)


def test_a_setting_of_a_later_version_leaves_finished_studies_as_they_are(tiny_cohort, monkeypatch):
    config = settings(tiny_cohort)
    now = study.study_key(config, tiny_cohort)
    assert study.study_key(settings(tiny_cohort, data__normalise="histogram"), tiny_cohort) != now
    earlier = {name: value for name, value in flatten(config).items() if name not in study.LATER_SETTINGS}
    monkeypatch.setattr(study, "flatten", lambda _: earlier)
    assert study.study_key(config, tiny_cohort) == now
