"""A WORC experiment: what is kept, what is computed again, what is refused; and one split by WORC itself."""

from __future__ import annotations

import dataclasses
import os
import textwrap

import numpy as np
import pandas as pd
import pytest

from lab.radiomics.dataset import CLINICAL, Dataset
from lab.radiomics.splits import Split, make_splits
from lab.radiomics.worc import process as worc_process
from lab.radiomics.worc.inputs import our_name, worc_names, write_images, write_inputs
from lab.radiomics.worc.run import QUICK, WorcFailed, WorcSettings, run_worc
from lab.radiomics.worc.settings import configuration
from lab.stats.auc import auc

FRACTIONS = (0.7, 0.15, 0.15)
CHILD = """
import csv, json, os, pathlib, sys, time
job = json.loads(pathlib.Path(sys.argv[1]).read_text())
with open(COUNT, "a") as file:
    file.write(job["task"] + "\\n")
rows = list(csv.DictReader(open(job["splits"])))
cases = [row["0_test"] for row in rows if row["0_test"]]
truth = dict(zip(job["cases"], job["y"]))
posteriors = {case: 0.3 + 0.4 * truth[case] for case in cases}
result = {"posteriors": posteriors, "used": {job["labels"][0]: 1.0}, "workflows": [{"score": 0.7}], "failed": 0}
BREAK
pathlib.Path(job["result"]).write_text(json.dumps(result))
"""


def make_dataset(cases=24, features=6, signal=3.0, seed=0):
    rng = np.random.default_rng(seed)
    # ids of which one is a part of another, as "patient 1" of "patient 10"
    index = pd.Index([f"patient {number}" for number in range(1, cases + 1)], name="case_id")
    labels = np.arange(cases) % 2
    values = rng.normal(size=(cases, features))
    values[:, 0] += signal * labels
    kinds = ["original_firstorder", "original_glcm", "wavelet-LLH_glrlm", "log-sigma-1-0-mm-3D_gldm"]
    names = [f"T1_{kinds[number % 4]}_Feature{number}" for number in range(features)]
    table = pd.DataFrame({"patient_id": index, "label": labels}, index=index).reindex(
        columns=["patient_id", "label", *CLINICAL]
    )
    frame = pd.DataFrame(values, index=index, columns=names)
    return Dataset(features=frame, table=table, event="enhancing", name="made up", phantom=True, digest="made up")


@pytest.fixture
def dataset():
    return make_dataset()


@pytest.fixture
def splits(dataset):
    return make_splits(dataset, folds=3, repeats=2, fractions=FRACTIONS, seed=0)


@pytest.fixture
def child(tmp_path, monkeypatch):
    """Puts a script in WORC's place that predicts at once; `breaks` is what goes wrong in it. Gives the tasks done."""
    count = tmp_path / "count"

    def put(breaks="pass"):
        script = tmp_path / "child.py"
        broken = textwrap.dedent(breaks).strip()
        script.write_text(CHILD.replace("COUNT", repr(str(count))).replace("BREAK", broken), encoding="utf-8")
        monkeypatch.setattr(worc_process, "PROGRAM", (str(script),))

        def done():
            tasks = count.read_text(encoding="utf-8").split() if count.exists() else []
            count.unlink(missing_ok=True)
            return {task: tasks.count(task) for task in sorted(set(tasks))}

        return done

    return put


def test_every_patient_is_predicted_in_every_repeat(dataset, splits, child, tmp_path):
    child()
    lines = []
    result = run_worc(dataset, splits, tmp_path / "worc", QUICK, say=lines.append)
    assert len(result.predictions) == 2 * len(dataset.table)
    assert set(result.predictions["case_id"]) == set(dataset.table.index), "our ids, not WORC's"
    assert auc(result.predictions["label"], result.predictions["score"]) == 1
    assert result.chosen["feature"].tolist() == [dataset.features.columns[0]]
    assert result.seconds["seconds"].gt(0).all()
    assert len(lines) == 6
    assert "6 of 6 splits" in lines[-1]
    assert "AUC 1.000" in lines[-1]
    assert list((tmp_path / "worc" / "features" / "work").iterdir()) == [], "nothing of fastr's is kept"


def test_a_second_call_computes_nothing(dataset, splits, child, tmp_path):
    done = child()
    first = run_worc(dataset, splits, tmp_path, QUICK)
    assert done() == {"split": 6}
    lines = []
    more_workers = dataclasses.replace(QUICK, workers=1, timeout_s=99)
    again = run_worc(dataset, splits, tmp_path, more_workers, say=lines.append)
    assert done() == {}
    assert lines == ["WORC: 6 of 6 splits were finished before"]
    pd.testing.assert_frame_equal(first.predictions, again.predictions)


def test_more_splits_keep_those_that_are_there(dataset, splits, child, tmp_path):
    done = child()
    run_worc(dataset, splits[:3], tmp_path, QUICK)
    done()
    run_worc(dataset, splits, tmp_path, QUICK)
    assert done() == {"split": 3}


@pytest.mark.parametrize("damage", ["{", "", '{"key": "of something else"}'])
def test_a_half_written_split_is_computed_again(dataset, splits, child, tmp_path, damage):
    done = child()
    run_worc(dataset, splits, tmp_path, QUICK)
    done()
    (tmp_path / "features" / "splits" / "repeat-1-fold-2.json").write_text(damage, encoding="utf-8")
    run_worc(dataset, splits, tmp_path, QUICK)
    assert done() == {"split": 1}


def test_other_settings_features_or_labels_are_another_experiment(dataset, splits, child, tmp_path):
    done = child()
    run_worc(dataset, splits, tmp_path, QUICK)
    done()
    run_worc(dataset, splits, tmp_path, dataclasses.replace(QUICK, seed=1))
    assert done() == {"split": 6}
    changed = dataclasses.replace(dataset, features=dataset.features + 1e-9)
    run_worc(changed, splits, tmp_path, QUICK)
    assert done() == {"split": 6}
    flipped = dataclasses.replace(dataset, table=dataset.table.assign(label=1 - dataset.table["label"]))
    run_worc(flipped, splits, tmp_path, QUICK)
    assert done() == {"split": 6}


def test_splits_finished_before_a_failure_stay(dataset, splits, child, tmp_path):
    """One worker, so that the third split is the first to fail."""
    done = child('if "repeat-1-fold-3" in job["splits"]: raise ValueError("the third")')
    with pytest.raises(WorcFailed, match="ValueError: the third") as caught:
        run_worc(dataset, splits, tmp_path, dataclasses.replace(QUICK, workers=1))
    log = tmp_path / "features" / "logs" / "repeat-1-fold-3.log"
    assert str(log) in str(caught.value)
    assert "Traceback" in log.read_text(encoding="utf-8"), "the whole log is there"
    assert done() == {"split": 3}
    done = child()
    run_worc(dataset, splits, tmp_path, QUICK)
    assert done() == {"split": 4}


@pytest.mark.parametrize(
    ("breaks", "reason"),
    [
        ('result["posteriors"][cases[0]] = float("nan")', "1 of 8 posteriors that are not numbers"),
        ('del result["posteriors"][cases[0]]', "no posterior for 1 of 8 cases"),
        ('result["workflows"] = []', "no workflow that could be fitted"),
        ("sys.exit(0)", "without a result"),
    ],
)
def test_no_silent_success(dataset, splits, child, tmp_path, breaks, reason):
    child(breaks)
    with pytest.raises(WorcFailed, match=reason):
        run_worc(dataset, splits, tmp_path, QUICK)
    assert not list((tmp_path / "features").glob("splits/*"))


def test_ended_by_ctrl_c(dataset, splits, child, tmp_path):
    """What is finished stays, and no process of WORC's is left."""
    child("time.sleep(0 if 'fold-1' in job['splits'] else 60)")

    def interrupt(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_worc(dataset, splits, tmp_path, dataclasses.replace(QUICK, workers=2), say=interrupt)
    assert [path.name for path in (tmp_path / "features" / "splits").iterdir()] == ["repeat-1-fold-1.json"]


def test_too_few_patients_are_refused_before_anything_is_written(tmp_path):
    few = make_dataset(cases=8)
    split = Split(repeat=1, fold=1, train=tuple(few.table.index[:6]), test=tuple(few.table.index[6:]))
    with pytest.raises(ValueError, match="8 patients with features and a label; WORC needs 10"):
        run_worc(few, [split], tmp_path, QUICK)
    enough = make_dataset(cases=12)
    cases = list(enough.table.index)
    split = Split(repeat=1, fold=1, train=(*cases[0::2], cases[1]), test=tuple(cases[3::2]))
    with pytest.raises(ValueError, match="1 of 7 cases to train WORC on are of one class"):
        run_worc(enough, [split], tmp_path, QUICK)
    empty = dataclasses.replace(enough, features=enough.features.assign(T1_original_glcm_Id=np.nan))
    with pytest.raises(ValueError, match="feature T1_original_glcm_Id has no value in any training case"):
        run_worc(empty, make_splits(enough, folds=3, repeats=1, fractions=FRACTIONS, seed=0), tmp_path, QUICK)
    with pytest.raises(ValueError, match="no split"):
        run_worc(enough, [], tmp_path, QUICK)
    assert not list(tmp_path.iterdir())


def test_images_need_a_cohort(dataset, splits, tmp_path):
    with pytest.raises(ValueError, match="needs the prepared cohort"):
        run_worc(dataset, splits, tmp_path, WorcSettings(route="images"))


def test_settings_that_worc_cannot_follow():
    with pytest.raises(ValueError, match="ensemble of 100 workflows out of 50"):
        WorcSettings(search=50)
    with pytest.raises(ValueError, match="unknown WORC classifier Tree"):
        WorcSettings(classifiers=("SVM", "Tree"))
    with pytest.raises(ValueError, match="at least one inner split"):
        WorcSettings(workers=0)


def test_ids_inside_worc_cannot_be_mistaken(tmp_path):
    inputs = write_inputs(make_dataset(cases=30), tmp_path / "p0001")
    codes = list(inputs.codes.values())
    assert len(set(codes)) == 30
    assert not any(a in b for a in codes for b in codes if a != b)
    assert not any(code in str(inputs.folder) for code in codes)
    table = pd.read_csv(inputs.patients)
    assert table.columns.tolist() == ["Patient", "Label"]
    assert table["Label"].tolist() == [0, 1] * 15


def test_names_that_worc_can_group():
    ours = [
        "MASK_original_shape_Sphericity",
        "T1_log-sigma-3-0-mm-3D_glcm_Id",
        "FLAIR_wavelet-HHH_firstorder_Mean",
        "x",
    ]
    names = worc_names(ours)
    assert names[:3] == ["sf_original_SHAPE_00000", "tf_log_GLCM_00001", "hf_wavelet_FIRSTORDER_00002"]
    assert [our_name(f"{name}_M0", ours) for name in names] == ours
    assert our_name("PREDICT_original_sf_compactness_avg_2.5D_0", ours) == "PREDICT_original_sf_compactness_avg_2.5D_0"
    for number in ("00000", f"{len(ours):05d}", "99999"):  # WORC's own name of a feature
        assert our_name(f"tf_Gabor_peak_F0.05_{number}", ours) == f"tf_Gabor_peak_F0.05_{number}"


def test_complete_features_are_not_imputed():
    assert configuration(QUICK, complete=True)["Imputation"]["use"] == "False"
    assert configuration(QUICK, complete=False)["Imputation"]["use"] == "True"


def test_images_and_masks_as_prepared(tiny_cohort, tmp_path):
    case = str(tiny_cohort.index.index[0])
    write_images(tiny_cohort, {case: "p0001"}, ["T1"], tmp_path)
    assert sorted(path.name for path in (tmp_path / "p0001").iterdir()) == ["T1.nii.gz", "mask.nii.gz"]
    with pytest.raises(ValueError, match="has no PET"):
        write_images(tiny_cohort, {case: "p0001"}, ["PET"], tmp_path)


@pytest.mark.slow
def test_one_split_by_worc_itself(tmp_path, monkeypatch):
    """A label that one feature tells is found; the same seed predicts the same; the home of the user is left alone."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://user:secret@example.org")
    before = set(os.listdir())
    data = make_dataset(cases=40, signal=6.0)
    split = make_splits(data, folds=2, repeats=1, fractions=FRACTIONS, seed=0)[:1]
    settings = WorcSettings(search=4, inner_splits=2, ensemble=2, classifiers=("LR", "RF"))
    results = [run_worc(data, split, tmp_path / name, settings) for name in ("once", "twice")]
    first, second = results
    assert first.predictions["score"].tolist() == second.predictions["score"].tolist()
    assert auc(first.predictions["label"], first.predictions["score"]) > 0.9
    assert data.features.columns[0] in first.chosen["feature"].tolist()
    assert len(first.workflows) == 2
    assert set(first.workflows["classifier"]) <= {"LR", "RF"}
    assert list(home.iterdir()) == []
    assert set(os.listdir()) == before
    kept = [path for path in (tmp_path / "once").rglob("*") if path.is_file()]
    assert not any("fastr" in str(path.relative_to(tmp_path)) for path in kept)
    assert not any(b"secret" in path.read_bytes() for path in kept)
