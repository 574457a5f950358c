"""The final classifier on new patients, its checks, and files that are damaged, changed or somebody else's."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pickle

import numpy as np
import pandas as pd
import pytest
import skops.io
from learnable import make_dataset, random_search
from scipy.special import logit
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from lab.config import ClassifierConfig
from lab.io.sealed_json import read_sealed, seal
from lab.radiomics.pipeline import final as final_module
from lab.radiomics.pipeline.final import fit_final
from lab.radiomics.pipeline.fitted import DISTANCE, FACTS, MODEL, PERFORMANCE, Final
from lab.stats.auc import auc

SETTINGS = ClassifierConfig(classifiers=("elastic_net",), trials=3, average=10, inner_folds=3, combat="vendor", seed=1)
NEW = {"patients": 40, "seed": 9}


def fit(**changes):
    settings = dataclasses.replace(SETTINGS, **changes)
    return fit_final(make_dataset(perturbed=True), settings, random_search, spacing_mm=4.0, refits=8)


def new_cases():
    data = make_dataset(**NEW)
    return data.features.assign(vendor=data.table["vendor"]), data.labels


@pytest.fixture(scope="module")
def final():
    return fit()


@pytest.fixture
def folder(final, tmp_path):
    final.save(tmp_path / "model")
    return tmp_path / "model"


def test_new_patients_get_probabilities_with_intervals(final):
    cases, labels = new_cases()
    found = final.predict(cases)
    assert found.columns.tolist() == [
        "probability",
        "low",
        "high",
        "positive",
        "novelty",
        "far",
        "strangest",
        "caution",
        *PERFORMANCE,
    ]
    assert (found["prevalence"] == final.facts.events / final.facts.patients).all()
    assert found.index.equals(cases.index)
    assert auc(labels, found["probability"]) > 0.85
    assert ((found["low"] > 0) & (found["low"] < found["probability"])).all()
    assert ((found["probability"] < found["high"]) & (found["high"] < 1)).all()
    assert not found["far"].mean() > 0.3


def test_a_strange_patient_is_far_and_gaps_are_named(final):
    cases, _ = new_cases()
    names = list(final.distance.features)
    cases.loc[cases.index[0], names] = 500.0
    cases.loc[cases.index[1], names[0]] = np.nan
    found = final.predict(cases)
    assert found["far"].iloc[0]
    assert "SD" in found["strangest"].iloc[0]
    assert f"{names[0]} is missing" in found["strangest"].iloc[1]
    assert np.isfinite(found["probability"]).all()


def test_one_case_alone_is_as_in_a_crowd(final):
    cases, _ = new_cases()
    pd.testing.assert_frame_equal(final.predict(cases.iloc[[3]]), final.predict(cases).iloc[[3]])


def test_a_draw_without_enough_of_a_scanner_is_drawn_again(monkeypatch):
    asked = []

    def unlucky(*arguments):
        asked.append(1)
        if len(asked) % 2:
            raise ValueError("ComBat needs two or more of vendor")
        return refit(*arguments)

    refit = final_module._refit
    monkeypatch.setattr(final_module, "_refit", unlucky)
    assert len(fit().refits) == 8
    assert len(asked) == 16
    monkeypatch.setattr(final_module, "DRAWS", 1)
    with pytest.raises(ValueError, match="ComBat needs two"):
        fit()


@pytest.mark.slow
def test_more_patients_narrow_the_interval():
    cases, _ = new_cases()
    widths = []
    for patients in (30, 200):
        data = make_dataset(patients=patients)
        one = fit_final(data, dataclasses.replace(SETTINGS, combat="", stability=0), random_search, refits=12)
        logits = logit(one.predict(cases)[["low", "high"]])
        widths.append((logits["high"] - logits["low"]).mean())
    assert widths[1] < 0.7 * widths[0]


@pytest.mark.parametrize("classifier", ["elastic_net", "random_forest", "gradient_boosting", "svm", "logistic"])
def test_every_classifier_comes_back_from_disk(classifier, tmp_path):
    one = fit_final(
        make_dataset(), dataclasses.replace(SETTINGS, classifiers=(classifier,), trials=1), random_search, refits=2
    )
    size = one.save(tmp_path / "model")
    assert size == sum(file.stat().st_size for file in (tmp_path / "model").iterdir())
    again = Final.load(tmp_path / "model")
    cases, _ = new_cases()
    pd.testing.assert_frame_equal(again.predict(cases), one.predict(cases), check_exact=True)
    assert again.facts == one.facts
    write_as_before_averages(one, tmp_path / "model")
    earlier = Final.load(tmp_path / "model")
    pd.testing.assert_frame_equal(earlier.predict(cases), one.predict(cases), check_exact=True)
    assert earlier.facts == one.facts


def write_as_before_averages(one, folder) -> None:
    """The files as version 0.4.0 wrote them: a pipeline in each place of an ensemble."""
    whole, *refits = (
        Pipeline([*model.clean.steps, *model.members[0].steps])
        for model in (one.model, *(found for found, _ in one.refits))
    )
    arrays = {name: getattr(one.distance, name) for name in DISTANCE}
    signed(folder, skops.io.dumps({"pipeline": whole, "refits": refits, "novelty": arrays}))

    def edit(record) -> None:
        record["format"] = 1
        record.pop("member_lines")
        (record["facts"]["params"],) = record["facts"].pop("averaged")

    edit_facts(folder, edit)


def test_an_average_of_settings_is_said_and_comes_back_from_disk(final, folder):
    known = final.facts.as_dict()
    assert (known["averaged"], known["params"]) == (3, final.facts.averaged[0])
    assert [len(one.members) for one, _ in final.refits] == [2] * 8
    assert "averages 2 of the 3 settings" in known["covers"]
    cases, _ = new_cases()
    pd.testing.assert_frame_equal(Final.load(folder).predict(cases), final.predict(cases), check_exact=True)
    edit_facts(folder, lambda record: record["member_lines"][0].pop())
    with pytest.raises(ValueError, match=r"final\.json: .* other numbers of averaged settings"):
        Final.load(folder)


def test_what_was_measured_otherwise_is_refused(final, tmp_path):
    cases, _ = new_cases()
    settings = tmp_path / "features.yaml"
    settings.write_text("a: 1")
    with pytest.raises(ValueError, match="measured at 1 mm, the classifier was trained at 4 mm"):
        final.predict(cases, spacing_mm=1.0)
    final.predict(cases, spacing_mm=4.0, parameters=settings)  # nothing is known of its settings
    bound = dataclasses.replace(final, facts=dataclasses.replace(final.facts, parameters_sha256="0" * 64))
    with pytest.raises(ValueError, match=r"features\.yaml: the classifier was trained on features with other settings"):
        bound.predict(cases, parameters=settings)
    name = final.facts.features[0]
    with pytest.raises(ValueError, match=f"1 of the {len(final.facts.features)} features .* {name}"):
        final.predict(cases.drop(columns=name))
    with pytest.raises(ValueError, match="vendor"):
        final.predict(cases.drop(columns="vendor"))


def test_nothing_is_unpickled(folder, monkeypatch):
    def never(*_, **__):
        raise AssertionError

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, never)
    Final.load(folder)
    assert b"\x80\x04" not in (folder / FACTS).read_bytes()


def test_a_changed_model_is_refused(folder):
    data = bytearray((folder / MODEL).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / MODEL).write_bytes(bytes(data))
    with pytest.raises(ValueError, match=r"model\.skops: not the file that final\.json"):
        Final.load(folder)


def edit_facts(folder, edit) -> None:
    """Change the description as if it had been saved so."""
    record = read_sealed(folder / FACTS)
    edit(record)
    (folder / FACTS).write_text(json.dumps(seal(record)))


@pytest.mark.parametrize("name", ["threshold", "events", "features"])
def test_a_description_that_was_edited_is_refused(folder, name):
    record = json.loads((folder / FACTS).read_text())
    record["facts"][name] = {"threshold": 0.01, "events": 999}.get(name, record["facts"]["features"][::-1])
    (folder / FACTS).write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"final\.json: not the description .* changed after it was written"):
        Final.load(folder)


def signed(folder, content: bytes) -> None:
    """Put a model in whose digest is right."""
    edit_facts(folder, lambda record: record.update(model_sha256=hashlib.sha256(content).hexdigest()))
    (folder / MODEL).write_bytes(content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "damaged, or not a model file"),
        (b"PK\x03\x04 no archive", "damaged, or not a model file"),
        (pickle.dumps({"pipeline": 1}), "damaged, or not a model file"),
        (skops.io.dumps({"pipeline": FunctionTransformer(func=print)}), "holds types"),
        (skops.io.dumps({"pipeline": [1, 2]}), "not a classifier of this program"),
        (skops.io.dumps([1, 2]), "not a classifier of this program"),
    ],
)
def test_foreign_models_are_refused_by_name(folder, content, reason):
    signed(folder, content)
    with pytest.raises(ValueError, match=rf"model\.skops: .*{reason}"):
        Final.load(folder)


@pytest.mark.parametrize("text", ["", "{}", "[]", "\x00", '{"format": 1}'])
def test_foreign_descriptions_are_refused_by_name(folder, text):
    (folder / FACTS).write_text(text)
    with pytest.raises(ValueError, match=r"final\.json: not the description of a classifier"):
        Final.load(folder)


def test_other_versions_are_refused(folder):
    edit_facts(folder, lambda record: record["software"].update({"scikit-learn": "0.24.1"}))
    with pytest.raises(ValueError, match=r"scikit-learn 0\.24\.1"):
        Final.load(folder)
    edit_facts(folder, lambda record: record.update(format=99))
    with pytest.raises(ValueError, match="format 99"):
        Final.load(folder)


def test_another_pyradiomics_is_told(folder):
    edit_facts(folder, lambda record: record["software"].update(pyradiomics="2.0"))
    with pytest.warns(UserWarning, match=r"features of pyradiomics 2\.0"):
        Final.load(folder)


def test_missing_files_are_an_os_error(folder):
    (folder / MODEL).unlink()
    with pytest.raises(OSError, match="model"):
        Final.load(folder)
