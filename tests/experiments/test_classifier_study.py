"""The classifier study from a phantom to a registered model that judges a new patient, and being cut short."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import mlflow
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from patients import logged

from lab.__main__ import main
from lab.config import ClassifierConfig, DataConfig, FeatureConfig, PhantomConfig, RadiomicsConfig
from lab.data.source import obtain
from lab.experiments.radiomics import nested_run
from lab.experiments.radiomics.classifier_study import run_classifier_study
from lab.experiments.radiomics.compare_study import run_compare_study
from lab.experiments.radiomics.drawn_features import drawn_datasets, out_of_fold
from lab.experiments.radiomics.experiment import ExperimentData, check_settings, load_data
from lab.experiments.radiomics.external_cohort import load_external
from lab.experiments.radiomics.external_test import read_external
from lab.experiments.radiomics.synthesis_baseline import synthetic_scores
from lab.phantom.cohort import write_cohort
from lab.radiomics.assemble import assemble
from lab.radiomics.baselines import BOOSTING, CLINICAL, MASK_SHAPE, OURS, VOLUME, stated, synthetic
from lab.registry.promotion import promote
from lab.stats.auc import auc
from lab.tracking.artifacts import Tag
from lab.tracking.models.classifier import load_classifier
from lab.tracking.models.registered import version_of
from lab.tracking.run import Run
from lab.tracking.store import RUNS, connect

FEW_FEATURES = Path(__file__).parents[1] / "support" / "few_features.yaml"
METHODS = [OURS, VOLUME, CLINICAL, "T1 only", "T2 only", "FLAIR only", MASK_SHAPE, BOOSTING]
SETTINGS = RadiomicsConfig(
    data=DataConfig(spacing_mm=8.0, processes=1),
    phantom=PhantomConfig(subjects=30),
    classifier=ClassifierConfig(
        folds=2,
        repeats=1,
        trials=2,
        average=2,
        inner_folds=2,
        classifiers=("elastic_net", "svm"),
        stability=0.0,
        workers=1,
    ),
    radiomics=FeatureConfig(parameters=FEW_FEATURES),
)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def parent(no_drawing, few_refits):
    return run_classifier_study(SETTINGS)


@pytest.fixture(scope="module")
def cohort(parent):
    return obtain(SETTINGS.data, SETTINGS.phantom, RUNS, say=lambda line: None)


@pytest.fixture(scope="module")
def dataset(cohort):
    cache = RUNS / "features" / "cache"
    return assemble(cohort, SETTINGS.data, SETTINGS.classifier, cache, radiomics=SETTINGS.radiomics)


@pytest.fixture(scope="module")
def model(parent):
    return promote(parent, "will-it-enhance-phantom", "champion")


def roles(parent):
    everyone = Run(parent).children()
    return {role: [one for one in everyone if one.tags.get("role") == role] for role in ("split", "final")}


def test_every_method_tests_every_patient_once(parent, dataset):
    found = Run(parent).read_table("tables/predictions.csv")
    assert list(dict.fromkeys(found["method"])) == METHODS
    for _, part in found.groupby("method"):
        assert sorted(part["case_id"]) == list(dataset.table.index)
        assert part.set_index("case_id")["label"].astype(int).to_dict() == dataset.labels.to_dict()
    assert found["score"].between(0, 1).all()


def test_splits_and_trials_are_runs_below_the_study(parent):
    found = roles(parent)
    assert [len(found["split"]), len(found["final"])] == [2, 1]
    for one in (*found["split"], *found["final"]):
        trials = one.children()
        assert sorted(trial.tags["number"] for trial in trials) == ["0", "1"]
        for trial in trials:
            assert trial.params["classifier"] in ("elastic_net", "svm")
            assert 0 <= trial.metrics["val/auc"] <= 1
            assert trial.entity.info.end_time - trial.entity.info.start_time == pytest.approx(
                1000 * trial.metrics["cost/seconds"], abs=2
            )
    final = found["final"][0]
    assert final.params["averaged"] == "2"
    assert 0 <= final.metrics["val/auc"] <= 1
    settings = Run(parent).read_table("tables/settings.csv")
    assert settings["rank"].tolist() == [1, 2, 1, 2]
    assert "averages the calibrated logits of its 2 best settings" in Run(parent).read_text("report.html")


def test_the_run_shows_its_answer_and_its_roc_first(parent):
    found = connect().get_run(parent)
    assert found.info.status == "FINISHED"
    note = found.data.tags[Tag.NOTE]
    assert note.startswith("| ![ROC](get-artifact?path=figures%2Froc_small.png&run_uuid=")
    assert note.split("|")[2].startswith(" radiomics: AUC 0.")
    assert "Radiomics has an AUC of" in note
    assert "![ROC](get-artifact?path=figures%2Froc_note.png" in note
    assert {"figures/roc_note.png", "figures/roc_small.png", "figures/features.png"} <= set(
        Run(parent).files("figures")
    )
    assert "checklists/clear.md" in Run(parent).files("checklists")
    table = Run(parent).read_table("tables/performance.csv").set_index("method")
    assert found.data.metrics["test/auc"] == pytest.approx(table.loc[OURS, "auc"])


def test_the_report_is_written_again_from_the_store_alone(parent, tmp_path, monkeypatch):
    before = Run(parent).read_text("report.html")
    monkeypatch.setattr(nested_run, "run_split", None)
    assert main(["report", "classifier", "--out", str(tmp_path / "copy")]) == 0
    assert (tmp_path / "copy" / "report.html").read_text() == before == Run(parent).read_text("report.html")
    assert (tmp_path / "copy" / "tables" / "predictions.csv").is_file()


def test_what_is_finished_is_not_done_again_and_what_is_lost_is(parent, monkeypatch):
    def count():
        everyone = connect().search_runs([connect().get_run(parent).info.experiment_id], max_results=1000)
        return len(everyone)

    before, tables = count(), Run(parent).read_text("tables/predictions.csv")
    (folder,) = [path for path in (RUNS / "work").iterdir() if path.name.startswith("classifier-")]
    lost = sorted(folder.glob("0-*.json"))[1]
    done = []
    real = nested_run.run_split
    monkeypatch.setattr(nested_run, "run_split", lambda *a, **k: done.append(a[1].name) or real(*a, **k))
    monkeypatch.setattr(nested_run, "fit_final", None)
    lost.write_text(lost.read_text()[:1000])  # as a full disk would leave it
    assert run_classifier_study(SETTINGS) == parent
    assert done == ["repeat 1, fold 2"]
    assert count() == before
    assert Run(parent).read_text("tables/predictions.csv") == tables


def test_the_model_needs_no_unpickling_and_says_the_same(parent, dataset, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    uri = connect().get_run(parent).data.tags["model_uri"]
    final, contract, parameters = load_classifier(uri)
    assert contract.spacing_mm == 8
    assert parameters.read_text() == FEW_FEATURES.read_text()
    loaded = mlflow.pyfunc.load_model(uri)
    columns = list(final.facts.features)
    pd.testing.assert_frame_equal(loaded.predict(dataset.features[columns]), final.predict(dataset.features))


def test_a_phantom_classifier_is_no_champion_for_patients(parent, model):
    with pytest.raises(ValueError, match="learned from phantoms and cannot become champion of 'will-it-enhance'"):
        promote(parent, "will-it-enhance", "champion")
    assert version_of("will-it-enhance-phantom", "champion") == model.version
    assert promote(parent, "will-it-enhance", "challenger").version == "1"
    again = promote(parent, "will-it-enhance-phantom", "champion")
    assert (again.version, again.before) == (model.version, model.version)
    version = connect().get_model_version("will-it-enhance-phantom", model.version)
    assert version.tags["phantom"] == "True"
    assert version.tags["cohort_digest"] == connect().get_run(parent).data.tags["cohort_digest"]


def test_a_new_patient_is_judged_as_in_training(parent, model, cohort, dataset, tmp_path, capsys):
    """From files, without the scan with contrast agent, it gets the probability of its own row of features."""
    tree = RUNS / "phantom"
    case = str(dataset.table.index[4])
    (folder,) = [path.parent for path in tree.rglob("T1.nii.gz") if case in path.parts]
    paths = [f"--{name}={folder / file}.nii.gz" for name, file in
             (("t1", "T1"), ("t2", "T2"), ("flair", "FLAIR"), ("mask", "MASK"))]  # fmt: skip
    assert main(["classify", "--model", model.uri, *paths, "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "patient: enhancing with probability" in said
    assert "trained on phantoms" in said
    found = pd.read_csv(tmp_path / "predictions.csv")
    final, _, _ = load_classifier(model.uri)
    expected = final.predict(dataset.features.loc[[case]])
    np.testing.assert_allclose(found["probability"], expected["probability"], rtol=1e-9)
    told = json.loads((tmp_path / "model.json").read_text())
    assert told["version"] == model.version
    row = Run(parent).read_table("tables/performance.csv").set_index("method").loc[OURS]
    assert [told[name] for name in ("auc", "auc_low", "auc_high")] == pytest.approx(
        [row["auc"], row["auc_low"], row["auc_high"]]
    )
    assert told["auc_patients"] == row["patients"]
    assert found["auc"].iloc[0] == pytest.approx(row["auc"])
    assert f"{model.uri}: AUC {row['auc']:.2f} ({row['auc_low']:.2f} to" in said
    assert "calibration slope" in said
    assert found["warnings"].isna().all()
    shown = row["auc_low"] > 0.5
    assert ("no verdict" in said) == (not shown)
    assert found["positive"].isna().all() == (not shown)
    assert found["caution"].isna().all() == shown


def test_exchanged_scans_are_told_by_the_checks_of_a_synthesis(model, tmp_path, capsys):
    (folder,) = [path.parent for path in (RUNS / "phantom").rglob("T1.nii.gz") if "EGD-0024" in path.parts]
    paths = [f"--{name}={folder / file}.nii.gz" for name, file in
             (("t1", "FLAIR"), ("t2", "T2"), ("flair", "T1"), ("mask", "MASK"))]  # fmt: skip
    assert main(["classify", "--model", model.uri, *paths]) == 2
    assert "exchanged, T1 and FLAIR are like the training patients'" in capsys.readouterr().out
    command = ["classify", "--model", model.uri, *paths, "--strangers", "warn", "--out", str(tmp_path)]
    assert main(command) == 0
    (warnings,) = pd.read_csv(tmp_path / "predictions.csv")["warnings"]
    assert "exchanged, T1 and FLAIR" in warnings
    assert "T1 is brighter in the tumour than FLAIR: were T1 and FLAIR exchanged?" in warnings
    assert f"warning: {warnings}" in capsys.readouterr().out


def test_what_it_says_stands_beside_a_synthesis(model, cohort, dataset, tmp_path, capsys):
    """The network has been logged for other scans; the classifier prepares the patient as its own contract says."""
    case = str(dataset.table.index[4])
    (folder,) = [path.parent for path in (RUNS / "phantom").rglob("T1.nii.gz") if case in path.parts]
    uri = logged("second-opinion", layout="egd")
    paths = [f"--{name}={folder / file}.nii.gz" for name, file in (("t1", "T1"), ("t2", "T2"), ("flair", "FLAIR"))]
    champion = "models:/will-it-enhance-phantom@champion"
    words = ["synthesize", "--model", uri, *paths, "--looks", "1", "--classifier", champion]
    assert main([*words, f"--mask={folder / 'MASK'}.nii.gz", "--out", str(tmp_path / "with")]) == 0
    final, _, _ = load_classifier(model.uri)
    expected = float(final.predict(dataset.features.loc[[case]])["probability"].iloc[0])
    said = capsys.readouterr().out
    assert f"(by the classifier {expected:.2f}, " in said
    found = json.loads((tmp_path / "with" / "report.json").read_text())["classifier"]
    assert f"; {found['performance']})" in said
    assert {"auc", "auc_low", "auc_high", "calibration_slope", "prevalence"} <= set(found)
    assert found["probability"] == pytest.approx(expected, abs=1e-4)
    assert found["model"] == f"models:/will-it-enhance-phantom/{model.version}"
    assert found["phantom"] is True
    assert main([*words, "--out", str(tmp_path / "without")]) == 0
    assert "(by the classifier: none, a classifier needs the tumour's mask)" in capsys.readouterr().out
    assert main([*words[:-1], "models:/nobody@champion", "--out", str(tmp_path / "no")]) == 2
    assert "--classifier models:/nobody@champion: there is no such model" in capsys.readouterr().err
    assert main([*words[:-1], uri, f"--mask={folder / 'MASK'}.nii.gz", "--out", str(tmp_path / "no")]) == 2
    assert "is not a classifier of this lab" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("name", ["predictions.csv", "left_out.csv", "model.json"])
def test_an_edited_prediction_is_not_replaced(name, tmp_path, capsys):
    (tmp_path / name).write_text("mine")
    command = ["classify", "--model", "models:/nobody/1", "--data", str(tmp_path), "--out", str(tmp_path)]
    assert main(command) == 2
    assert f"{name} is not a file that this version has written" in capsys.readouterr().err
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "mine")]


def test_a_folder_of_new_patients_leaves_nobody_out_in_silence(model, cohort, tmp_path, capsys):
    (tree,) = (RUNS / "phantom").iterdir()
    copy = tmp_path / "SUBJECTS"
    for number, case in enumerate(("EGD-0001", "EGD-0002", "EGD-0005")):
        (source,) = [path.parent for path in tree.rglob("T1.nii.gz") if case in path.parts]
        target = copy / case
        target.mkdir(parents=True)
        for name in ("T1", "T2", "FLAIR", "MASK")[: 4 - (number == 1)]:
            (target / f"{name}.nii.gz").symlink_to(source / f"{name}.nii.gz")
    assert main(["classify", "--model", model.uri, "--data", str(copy), "--out", str(tmp_path / "out")]) == 0
    assert "EGD-0002: left out, tumour mask missing" in capsys.readouterr().out
    assert pd.read_csv(tmp_path / "out" / "predictions.csv")["case_id"].tolist() == ["EGD-0001", "EGD-0005"]
    assert pd.read_csv(tmp_path / "out" / "left_out.csv")["reason"].tolist() == ["tumour mask missing"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--t1", "a.nii"], "--mask is needed"),
        ([], "name either --data, or the images"),
        (["--data", "x", "--t1", "a.nii", "--mask", "b.nii"], "name either --data, or the images"),
    ],
)
def test_what_is_missing_of_a_new_patient_is_said(arguments, message, capsys):
    assert main(["classify", "--model", "models:/any@champion", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.fixture(scope="module")
def elsewhere(parent, tmp_path_factory):
    """Fourteen other phantoms: one has an id of training, one is a patient of training under another id."""
    folder = tmp_path_factory.mktemp("elsewhere")
    write_cohort(folder / "simulated", subjects=14, seed=1, spacing_mm=8.0, processes=1)
    own = sorted(path.parent for path in (folder / "simulated").rglob("T1.nii.gz"))
    (known,) = [path.parent for path in (RUNS / "phantom").rglob("T1.nii.gz") if "EGD-0004" in path.parts]
    named = {path.name.replace("EGD-0", "EGD-9"): path for path in own[1:]} | {own[0].name: own[0], "EGD-9900": known}
    for name, source in named.items():
        (folder / "SUBJECTS" / name).mkdir(parents=True)
        for file in source.iterdir():
            (folder / "SUBJECTS" / name / file.name).symlink_to(file)
    return folder / "SUBJECTS"


def test_another_cohort_is_predicted_once_by_the_finished_classifier(parent, elsewhere, monkeypatch, capsys):
    monkeypatch.setattr(nested_run, "run_split", None)
    monkeypatch.setattr(nested_run, "fit_final", None)  # nothing is trained for it
    before = Run(parent).read_table("tables/performance.csv")
    assert run_classifier_study(SETTINGS, external=[elsewhere]) == parent
    said = capsys.readouterr().out
    assert "EGD-9900 (it holds a scan of EGD-0004)" in said
    assert "EGD-0001 (the same id)" in said
    pd.testing.assert_frame_equal(Run(parent).read_table("tables/performance.csv"), before)
    (external,) = load_external([elsewhere], load_data(SETTINGS, say=lambda line: None), say=lambda line: None)
    assert {"EGD-0001", "EGD-9900"} <= set(external.shared)
    assert not set(external.shared) & set(external.dataset.table.index)
    assert external.heads_compared
    (test,) = read_external(Run(parent))
    final, _, _ = load_classifier(Run(parent).tags["model_uri"])
    expected = final.predict(external.dataset.features)
    np.testing.assert_allclose(test.predictions["score"], expected["probability"])
    assert test.far == int(expected["far"].sum())
    assert test.predictions["label"].tolist() == external.dataset.labels.tolist()
    area = auc(external.dataset.labels, expected["probability"])
    assert Run(parent).metrics[f"external/{external.slug}/auc"] == pytest.approx(area)
    page = Run(parent).read_text("report.html")
    assert "<h2>External test" in page
    assert f"figures/external-{external.slug}-roc.png" in Run(parent).files("figures")
    assert f"External test on {test.name}" in Run(parent).tags[Tag.NOTE]
    checklist = Run(parent).read_table("checklists/metrics.csv").set_index("item")
    assert checklist.loc[27, "status"] == "yes"


def test_shuffled_labels_give_a_run_of_their_own_without_a_model(parent, no_drawing):
    chosen = dataclasses.replace(SETTINGS.classifier, shuffle_labels=True, classifiers=("svm",), trials=1)
    other = run_classifier_study(dataclasses.replace(SETTINGS, classifier=chosen))
    assert other != parent
    assert "model_uri" not in connect().get_run(other).data.tags
    assert "on shuffled labels" in connect().get_run(other).data.tags[Tag.NOTE]
    with pytest.raises(ValueError, match="has no model"):
        promote(other, "chance-phantom")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"folds": 1}, "0 or at least 2 folds"),
        ({"trials": 0}, r"--trials and --classifier\.average must be at least 1"),
        ({"average": 0}, r"--trials and --classifier\.average must be at least 1"),
        ({"classifiers": ("oracle",)}, "oracle: known are elastic_net"),
        ({"stability": 1.0}, "an ICC from 0"),
    ],
)
def test_settings_that_cannot_run_are_refused_before_anything_is_made(changes, message):
    with pytest.raises(ValueError, match=message):
        check_settings(RadiomicsConfig(classifier=dataclasses.replace(ClassifierConfig(), **changes)))


def test_phantom_settings_do_nothing_with_data(tmp_path):
    with pytest.raises(ValueError, match="--phantom settings do nothing with --data"):
        load_data(RadiomicsConfig(data=DataConfig(path=tmp_path), phantom=PhantomConfig(subjects=7)))


@pytest.fixture(scope="module")
def placing(cohort, no_drawing, no_calibration):
    """A study with two folds of networks that state a probability."""
    from small import ran, settings  # torch, for these tests alone

    from lab.synthesis.methods.place_and_draw import PlaceAndDrawConfig
    from lab.synthesis.networks.place_unet import PlaceUNetConfig

    config = settings(cohort, train__epochs=1, model__id="place-unet", train__method="place-and-draw", study__folds=2)
    options = {"place_unet": PlaceUNetConfig(filters=2, image_filters=2), "place_and_draw": PlaceAndDrawConfig(steps=6)}
    plan, _ = ran("arms", dataclasses.replace(config, options=options), {"one": {"loss.name": "L1_brain"}})
    return plan.parent


def test_the_other_arm_is_a_rival_on_its_test_patients(placing, dataset):
    found = synthetic_scores(placing.id, dataset)
    assert list(dict.fromkeys(found["method"])) == [synthetic("one"), stated("one")]
    assert found["threshold"].isna().all()
    trials = placing.children()
    pd.testing.assert_frame_equal(synthetic_scores(trials[0].id, dataset), found)
    tested = pd.concat([trial.read_table("test_patients.csv") for trial in trials]).set_index("case_id")
    for method, column in ((synthetic("one"), "ml_predicted"), (stated("one"), "probability_level")):
        own = found[found["method"] == method].set_index("case_id")
        assert sorted(own.index) == list(dataset.table.index)
        assert own["score"].to_dict() == pytest.approx(tested.loc[own.index, column].to_dict())
    strangers = dataclasses.replace(
        dataset,
        features=dataset.features.rename(index=lambda case: f"x{case}"),
        table=dataset.table.rename(index=lambda case: f"x{case}"),
    )
    with pytest.raises(ValueError, match="none of its test patients is among"):
        synthetic_scores(placing.id, strangers)
    with pytest.raises(ValueError, match="neither a study of networks nor one of its trials"):
        synthetic_scores(run_classifier_study(SETTINGS), dataset)


def test_every_patient_is_drawn_by_a_network_that_has_not_seen_them(placing, cohort, dataset, tmp_path):
    runs = out_of_fold(placing.id, dataset, cohort)
    assert sorted(case for cases in runs.values() for case in cases) == list(dataset.table.index)
    for run, cases in runs.items():
        split = run.read_table("split.csv").set_index("case_id")["split"]
        assert set(split[cases]) == {"test"}
    some = dataset.part([*next(iter(runs.values()))[:2], *list(runs.values())[1][:1]])
    data = ExperimentData(settings=SETTINGS, cohort=cohort, dataset=some, splits=())
    found = drawn_datasets(placing.id, data, tmp_path, say=lambda line: None)
    own = set(dataset.features.columns)
    for (method, whole), prefix in zip(found.items(), ("drawn_", "probability_")):
        assert method == {"drawn_": f"{OURS} + drawn image", "probability_": f"{OURS} + probability map"}[prefix]
        added = [name for name in whole.features if name not in own]
        assert own | set(added) == set(whole.features.columns)
        assert all(name.startswith(prefix) for name in added)
        assert whole.features.loc[:, f"{prefix}original_firstorder_Mean"].notna().all()
        pd.testing.assert_frame_equal(whole.features[some.features.columns], some.features)
    assert len(list(tmp_path.glob("drawn-*.csv"))) == 2  # kept: the second call measures nothing
    again = drawn_datasets(placing.id, data, tmp_path, say=lambda line: pytest.fail(line))
    for method, whole in found.items():
        pd.testing.assert_frame_equal(again[method].features, whole.features)
    other = dataclasses.replace(cohort, manifest={**cohort.manifest, "digest": "0" * 32})
    with pytest.raises(ValueError, match="learned from another cohort"):
        out_of_fold(placing.id, dataset, other)
    with pytest.raises(ValueError, match="--drawn needs the study whose networks draw"):
        run_compare_study(SETTINGS, None, (), drawn=True)


def test_a_patient_without_a_mask_gets_the_tumour_of_a_network(placing, model, tmp_path, capsys, monkeypatch):
    """Whose, and how sure it is, is said; the mask's features are those of the same mask from a file."""
    from lab.deploy import drawn_mask

    (folder,) = [path.parent for path in (RUNS / "phantom").rglob("T1.nii.gz") if "EGD-0024" in path.parts]
    paths = [f"--{name}={folder / file}.nii.gz" for name, file in (("t1", "T1"), ("t2", "T2"), ("flair", "FLAIR"))]
    network = placing.children()[0].tags[Tag.MODEL]
    command = ["classify", "--model", model.uri, *paths, "--mask", "auto", "--strangers", "warn"]
    assert main(command) == 2
    assert "--mask auto and --tumour-model go together" in capsys.readouterr().err
    truth = np.asarray(nib.load(folder / "MASK.nii.gz").dataobj) > 0
    monkeypatch.setattr(drawn_mask, "mask_on_scan", lambda case, mask: truth.astype(np.uint8))
    monkeypatch.setattr("lab.inference.patient.stated_tumour", lambda probability, brain, spacing: brain)
    assert main([*command, "--tumour-model", network, "--out", str(tmp_path / "auto")]) == 0
    said = capsys.readouterr().out
    assert main(["classify", "--model", model.uri, *paths, f"--mask={folder / 'MASK'}.nii.gz", "--strangers", "warn",
                 "--out", str(tmp_path / "given")]) == 0  # fmt: skip
    auto, given = (pd.read_csv(tmp_path / name / "predictions.csv").iloc[0] for name in ("auto", "given"))
    assert auto["probability"] == pytest.approx(given["probability"], rel=1e-9)
    assert (given["tumour_by"], auto["tumour_by"].startswith("run ")) == ("mask", True)
    assert 0 <= auto["tumour_probability"] <= 1
    assert f"the tumour mask is predicted by {auto['tumour_by']}" in said
    assert drawn_mask.TESTED_WITH_GIVEN in said
    monkeypatch.setattr("lab.inference.patient.stated_tumour", lambda probability, brain, spacing: brain & False)
    assert main([*command, "--tumour-model", network]) == 2
    assert "finds no tumour, and no mask is given" in capsys.readouterr().out


def test_patients_who_cannot_be_used_are_left_out_and_the_rest_goes_on(cohort, dataset, tmp_path):
    (tree,) = (RUNS / "phantom").iterdir()
    copy = tmp_path / "SUBJECTS"
    for source in sorted(path.parent for path in tree.rglob("T1.nii.gz")):
        (copy / source.name).mkdir(parents=True)
        for file in source.iterdir():
            (copy / source.name / file.name).symlink_to(file)

    def redraw(case, draw):
        path = copy / case / "MASK.nii.gz"
        scan = nib.load(path)
        values, affine = np.zeros(scan.shape, np.uint8), scan.affine.copy()
        draw(values, affine)
        path.unlink()
        nib.save(nib.Nifti1Image(values, affine), path)

    def one_voxel(values, affine):
        values[tuple(size // 2 for size in values.shape)] = 1

    def corner(values, affine):
        values[:4, :4, :4] = 1

    def elsewhere(values, affine):
        values[5:9, 5:9, 5:9] = 1
        affine[:3, 3] += 500

    redraw("EGD-0001", one_voxel)
    redraw("EGD-0002", corner)
    redraw("EGD-0004", elsewhere)
    (copy / "EGD-0005" / "MASK.nii.gz").unlink()
    (copy / "EGD-0008" / "T2.nii.gz").unlink()
    data = dataclasses.replace(SETTINGS.data, path=copy, spacing_mm=None)
    material = load_data(dataclasses.replace(SETTINGS, data=data, phantom=RadiomicsConfig().phantom))
    assert material.ask("By {scans}: {event}?") == f"By T1, T2 and FLAIR: {material.dataset.event}?"
    left_out = material.dataset.left_out
    assert "1 voxel, 27 are needed" in left_out["EGD-0001"]
    assert "no tumour is left inside the brain" in left_out["EGD-0002"]
    assert "lies on another grid than T1" in left_out["EGD-0004"]
    assert left_out["EGD-0005"] == "tumour mask missing"
    assert left_out["EGD-0008"].startswith("T2 missing")
    faulty = {"EGD-0001", "EGD-0002", "EGD-0004", "EGD-0005", "EGD-0008"}
    assert set(material.dataset.table.index) == set(dataset.table.index) - faulty
    assert {case for split in material.splits for case in split.test} == set(material.dataset.table.index)
