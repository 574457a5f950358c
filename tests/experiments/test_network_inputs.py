"""What a network reads besides the prepared z-scores is fitted on its training patients and goes with it."""

from __future__ import annotations

import base64
import gzip
from dataclasses import replace
from pathlib import Path

import mlflow
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException
from small import grid_study, ran, settings

from lab.config import LATER_SETTINGS, flatten
from lab.data.layouts.find import find_subjects
from lab.data.normalisation import fit_normalisation
from lab.deploy import patient_folder
from lab.deploy.new_patients import synthesize
from lab.deploy.serve.service import Service
from lab.evaluation.evaluate import evaluate
from lab.experiments.synthesis import covariates, finish, scoring, study
from lab.inference.load import from_packages
from lab.inference.patient import predict_case
from lab.inference.settings import SYNTHESIS, How
from lab.synthesis.device import choose
from lab.synthesis.networks.film import fit_coding
from lab.tracking.models.network import download_package

CPU = choose("cpu", "float32")
INPUTS = ("T1", "T2", "FLAIR")


def test_what_each_folds_training_patients_fix_is_stored_and_used_for_new_patients(
    tiny_cohort, tiny_phantom, tmp_path, monkeypatch
):
    monkeypatch.setattr(finish, "finish", lambda *_: None)
    monkeypatch.setattr(scoring, "fit_baselines", lambda *_, **__: {})
    config = settings(
        tiny_cohort, train__epochs=1, study__folds=2, data__normalise="histogram", clinical__use=("age", "sex")
    )
    plan, _ = ran("landmarks", config, {"one": {}})
    runs = sorted(plan.parent.children(), key=lambda run: run.tags["fold"])
    packages = [(download_package(run.tags["model_uri"]), {"model": run.id}) for run in runs]
    case = plan.cases("val", 0)[0]
    image, masks = tiny_cohort.load(case)
    inputs, flags = np.asarray(image[:3]), np.array(masks)
    images, (patient,) = [], tiny_cohort.clinical([case])
    for fold, (package, about) in enumerate(packages):
        fitted = fit_normalisation("histogram", tiny_cohort, plan.cases("train", fold), INPUTS)
        assert package.known["normalise"] == fitted.as_dict()
        coding = fit_coding(tiny_cohort, plan.cases("train", fold), ["age", "sex"])
        assert package.known["model"]["clinical"] == coding.as_dict()
        networks = from_packages([(package, about)], CPU)
        found, _, _ = predict_case(inputs, flags, networks, CPU, looks=1, clinical=patient)
        images.append(found.image)
        unknown, _, _ = predict_case(inputs, flags, networks, CPU, looks=1)
        assert not torch.equal(found.image, unknown.image)
    scorer = scoring.Scorer(plan, CPU)
    table = evaluate(scorer.network(runs[0]), scorer.cases_of(runs[0], "val")).set_index("case_id")
    truth, brain = image[tiny_cohort.channel("T1GD")].astype(np.float32), (flags & 1) > 0
    error = np.abs(images[0][0, 0].numpy() - truth)[brain].mean()
    assert table.loc[case, "mae_brain"] == pytest.approx(error, abs=1e-6)

    both, _, _ = predict_case(inputs, flags, from_packages(packages, CPU), CPU, looks=1, clinical=patient)
    np.testing.assert_allclose(both.image, (images[0] + images[1]) / 2, atol=1e-6)

    monkeypatch.setattr(patient_folder, "_picture", lambda path, *_: path.write_bytes(b"blank"))
    table, how = tmp_path / "table.csv", How(looks=1, strangers="warn")
    table.write_text("case_id,age,sex\nanyone,61,F\n")
    scans = {name: find_subjects(tiny_phantom)[0].images[name] for name in INPUTS}
    reports, volumes = [], []
    for name, given in (("known", table), ("unknown", None)):
        out = tmp_path / name
        reports.append(synthesize(runs[0].tags["model_uri"], scans, out=out, clinical=given, how=how, say=print))
        volumes.append(nib.load(out / SYNTHESIS).get_fdata())
    assert reports[0]["clinical"] == {"age": 61, "sex": "F"}
    assert reports[1]["clinical"] == {"age": None, "sex": None}
    assert [any("predicted without age, sex" in said for said in one["warnings"]) for one in reports] == [False, True]
    assert reports[0]["key"] != reports[1]["key"]
    assert not np.array_equal(*volumes)

    service = Service(Path(mlflow.artifacts.download_artifacts(runs[0].tags["model_uri"])) / "artifacts")
    sent = {name: {"nifti": base64.b64encode(path.read_bytes()).decode()} for name, path in scans.items()}
    asked = sent | {"clinical": {"age": "61", "sex": "F"}, "looks": 1, "strangers": "warn"}
    [answer] = service.answer([asked])
    image = gzip.decompress(base64.b64decode(answer["volumes"]["synthetic"]["nifti"]))
    assert image == gzip.decompress((tmp_path / "known" / SYNTHESIS).read_bytes())
    for wrong, told in (({"weight": 70}, "an object with some of age"), ({"age": "old"}, "'old' is not an age")):
        with pytest.raises(MlflowException, match=told):
            service.answer([asked | {"clinical": wrong}])


def test_a_covariate_that_alone_gives_the_label_away_is_named(tiny_cohort):
    index, cases = tiny_cohort.index, [*tiny_cohort.index.index]
    told = replace(tiny_cohort, index=index.assign(grade=index["enhancing"].map({True: 4, False: 2}), idh=pd.NA))
    areas = {name: covariates.auc_alone(told, cases, name) for name in ("grade", "idh")}
    assert areas == {"grade": 1.0, "idh": None}
    assert covariates.describe_alone(areas) == "AUC for whether a training case enhances: grade 1.00, idh unknown"
    [warning] = covariates.give_away(areas)
    assert warning.startswith("Alone, grade gives the label away (AUC 1.00 ")


def test_to_hide_covariates_that_no_network_takes_is_refused(tiny_cohort):
    with pytest.raises(ValueError, match=r"--clinical\.drop 0\.5 hides .* add --clinical\.use, or leave"):
        study.check_study(grid_study("drop", {"one": {}}), settings(tiny_cohort, clinical__drop=0.5))
    drops = grid_study("drop", {"one": {}, "two": {"clinical.use": ("age",)}})
    assert study.check_study(drops, settings(tiny_cohort, clinical__drop=0.5)) == []
    with pytest.raises(ValueError, match=r"--clinical\.drop 1: a probability from 0 to below 1"):
        study.check_study(drops, settings(tiny_cohort, clinical__drop=1.0))


def test_a_setting_of_a_later_version_leaves_finished_studies_as_they_are(tiny_cohort, monkeypatch):
    config = settings(tiny_cohort)
    now = study.study_key(config, tiny_cohort)
    assert study.study_key(settings(tiny_cohort, data__normalise="histogram"), tiny_cohort) != now
    earlier = {name: value for name, value in flatten(config).items() if name not in LATER_SETTINGS}
    monkeypatch.setattr(study, "flatten", lambda _: earlier)
    assert study.study_key(config, tiny_cohort) == now
