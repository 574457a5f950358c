"""The program of WORC's process: `python -m lab.radiomics.worc.child JOB.json PIPE`; see `lab.radiomics.worc.process`.

WORC is imported only here: its import writes to the home directory. Three shortcuts keep every digit of the results and
save most of the time: WORC looks up every feature's name for every patient, tests every value for NaN in Python, and
starts three processes per job.
"""

import importlib.util
import json
import os
import signal
import sys
import threading
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from lab.radiomics.worc.process import last_error
from lab.radiomics.worc.settings import ESTIMATOR, LABEL

Job = dict[str, Any]
Record = dict[str, Any]
SELECTING = ("imputer", "groupsel", "varsel", "reliefsel", "modelsel", "statisticalsel", "rfesel")
"""Steps of a fitted workflow that drop features, in WORC's order; the imputer drops features without any value."""


def main() -> None:
    """Run one job and write its result last, to the file that the job names."""
    job: Job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    threading.Thread(target=_follow, args=(int(sys.argv[2]),), daemon=True).start()
    import WORC  # noqa: F401  import before fastr, which reads its configuration once

    np.random.seed(job["seed"])  # noqa: NPY002 WORC uses the global state
    result = TASKS[job["task"]](job)
    Path(job["result"]).write_text(json.dumps(result), encoding="utf-8")


def _follow(pipe: int) -> None:
    """Kill this process group when the parent's end of the pipe closes, however the parent ends."""
    os.read(pipe, 1)
    os.killpg(0, signal.SIGKILL)


def train_split(job: Job) -> Record:
    """Train by WORC's search on the training cases of one split, test on its others; returns the split's record."""
    import fastr
    from WORC.classification import SearchCV, fitandscore
    from WORC.classification import trainclassifier as training

    with np.load(job["features"]) as file:
        values = file["values"]
    names = job["labels"]
    cases = [(list(row), names) for row in values]
    labels = np.asarray(job["y"], float).reshape(1, -1, 1)
    data = {"patient_IDs": np.asarray(job["cases"]), "label": labels, "label_name": [LABEL]}
    training.load_features = lambda *_: (data, cases)
    fitandscore.replacenan = SearchCV.replacenan = without_nan
    fastr.create_network = partial(InProcess, seed=job["seed"])
    estimator = Path("estimator.hdf5").resolve()
    files = {"patientinfo_train": job["patients"], "output_hdf": str(estimator), "fixedsplits": job["splits"]}
    training.trainclassifier(feat_train=[], config=write_config(job["changes"]), **files)
    prediction = pd.read_hdf(estimator)
    return split_records(prediction, scores(prediction, job), names)[0]


def run_network(job: Job) -> list[Record]:
    """Run a whole WORC experiment on images and masks with fastr's network; returns the record of every split.

    WORC's evaluation network is left out because it draws a box plot of every feature. Raises RuntimeError for a
    missing or invalid output, which WORC does not report.
    """
    from WORC import BasicWORC

    experiment = BasicWORC(job["name"])
    for sequence in job["sequences"]:
        experiment.images_from_this_directory(job["folder"], image_file_name=f"{sequence}.nii.gz")
        experiment.segmentations_from_this_directory(job["folder"], segmentation_file_name="mask.nii.gz")
    experiment.set_image_types(["MR"] * len(job["sequences"]))
    experiment.labels_from_this_file(job["patients"])
    experiment.predict_labels([LABEL])
    experiment.set_fixed_splits(job["splits"])
    experiment.binary_classification(coarse=job["coarse"])
    experiment.add_config_overrides(job["changes"])
    experiment.set_multicore_execution()
    experiment.set_tmpdir(job["tmp"])
    experiment.execute()
    check_sinks(Path(job["tmp"]))
    found = sorted(Path(job["output"]).rglob(ESTIMATOR))
    if not found:
        raise RuntimeError(f"no {ESTIMATOR} among the outputs")
    prediction = pd.read_hdf(found[0])
    return split_records(prediction, scores(prediction, job), list(prediction[LABEL]["feature_labels"]))


def check_sinks(tmp: Path) -> None:
    """Raises RuntimeError unless fastr's network ran to its end and every output is valid."""
    path = tmp / "__sink_data__.json"
    if not path.exists():
        raise RuntimeError(f"the network did not run to its end (no {path.name}){job_errors(tmp.parent)}")
    bad = []
    for sink, samples in json.loads(path.read_text(encoding="utf-8")).items():
        for sample, entry in samples.items():
            if entry.get("sample_status") != "VALID":
                bad.append(f"{sink} of {sample} ({entry.get('sample_status', 'no status')})")
    if bad:
        raise RuntimeError(f"{len(bad)} outputs are not valid, the first {bad[0]}{job_errors(tmp.parent)}")


def job_errors(tmp: Path) -> str:
    """The error of the first failed job, as the end of a message; the output of all failed jobs goes to the log."""
    said = []
    for path in sorted(tmp.rglob("__fastr_stderr__.txt"), key=lambda path: path.stat().st_mtime):
        text = path.read_text(encoding="utf-8", errors="replace")
        error = last_error(text.splitlines())
        if error:
            print(f"--- {path.parent.name}\n{text}")
            said.append(f"{path.parent.parent.name} of {path.parent.name}: {error}")
    return f"; {said[0]}" if said else ""


def write_config(changes: dict[str, dict[str, str]]) -> str:
    """Write WORC's default configuration with these changes; returns the path."""
    import WORC

    config = WORC.WORC(LABEL).defaultconfig()
    config.read_dict({**changes, "Labels": {"label_names": LABEL, "modus": "singlelabel"}})
    path = Path("config.ini").resolve()
    with open(path, "w", encoding="utf-8") as file:
        config.write(file)
    return str(path)


def scores(prediction: Any, job: Job) -> list[dict[str, float]]:
    """Posterior of label 1 by test case, for every split of a trained WORC experiment."""
    from WORC.plotting.plot_estimator_performance import plot_estimator_performance

    how = {"ensemble_method": "top_N", "ensemble_size": job["ensemble"], "output": "scores", "save_memory": False}
    _, posteriors, _, cases = plot_estimator_performance(prediction, job["patients"], [LABEL], **how)
    return [dict(zip(map(str, ids), map(float, found))) for ids, found in zip(cases, posteriors)]


def split_records(prediction: Any, posteriors: list[dict[str, float]], names: list[str]) -> list[Record]:
    """Record of every split: posteriors, features used, workflows and number of failed workflows."""
    records = []
    for model, found in zip(prediction[LABEL]["classifiers"], posteriors):
        members = model.ensemble.estimators
        used = np.zeros(len(names))
        for member in members:
            used[_selected(member, len(names))] += 1
        searched = model.cv_results_
        inner = {workflow["Number"]: score for workflow, score in zip(searched["params"], searched["mean_test_score"])}
        workflows = [{"score": float(inner[m.best_params_["Number"]]), **_plain(m.best_params_)} for m in members]
        shares = {name: share for name, share in zip(names, used / len(members)) if share}
        failed = int(np.isnan(searched["mean_test_score"]).sum())
        records.append({"posteriors": found, "used": shares, "workflows": workflows, "failed": failed})
    return records


def _selected(workflow: Any, count: int) -> np.ndarray:
    """Positions of the features that a fitted workflow passes to its classifier (or to principal components)."""
    kept = np.arange(count, dtype=float)[None]
    for step in SELECTING:
        selection = getattr(workflow, f"best_{step}", None)
        if selection is not None:
            kept = np.asarray(selection.transform(kept), float)
    return kept[0].astype(int)


def _plain(parameters: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in parameters.items() if isinstance(value, (str, int, float))}


def without_nan(values: np.ndarray, **_: Any) -> np.ndarray:
    """A copy with NaN replaced by 0."""
    return np.where(np.isnan(values), 0.0, values)


class InProcess:
    """Replacement of fastr's network that runs the jobs of WORC's search, its own tool, in this process one by one."""

    def __init__(self, name: str, *, seed: int) -> None:
        self.id = name
        self.seed = seed

    def create_source(self, *_: Any, **__: Any) -> Any:
        """A stub that WORC links to its node's inputs; the links are always the same, so none is kept."""
        return SimpleNamespace(output=None)

    def create_sink(self, *_: Any, **__: Any) -> Any:
        """A stub that WORC links to its node's output."""
        return SimpleNamespace(input=None)

    def create_node(self, *_: Any, **__: Any) -> Any:
        """A stub for the node of WORC's tool."""
        return SimpleNamespace(inputs=defaultdict(SimpleNamespace), outputs=defaultdict(SimpleNamespace))

    def execute(self, source: dict[str, Any], sink: dict[str, str], **_: Any) -> None:
        """Run the tool for every inner split and part of the workflows; outputs go where WORC expects them."""
        import fastr

        tool = _fit_and_score_tool()
        state, arguments = np.random.get_state(), sys.argv  # noqa: NPY002 WORC uses it
        for split, train_test in source["traintest"].items():
            for part, parameters in source["parameters"].items():
                out = sink["output"].format(sample_id=f"{split}+{part}", cardinality=0, ext=".hdf5")
                files = {"ed": source["estimator_source"], "tt": train_test, "para": parameters, "out": out}
                paths = [(f"--{name}", str(fastr.vfs.url_to_path(url))) for name, url in files.items()]
                sys.argv = ["fitandscore", *(word for pair in paths for word in pair)]
                np.random.seed(self.seed)  # noqa: NPY002 the same state as in every job that fastr starts
                tool.main()
        sys.argv = arguments
        np.random.set_state(state)  # noqa: NPY002


def _fit_and_score_tool() -> Any:
    package = Path(str(importlib.util.find_spec("WORC").origin)).parent  # type: ignore[union-attr]
    path = package / "resources/fastr_tools/worc/bin/fitandscore_tool.py"
    spec = importlib.util.spec_from_file_location("fitandscore_tool", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TASKS: dict[str, Callable[[Job], Any]] = {"split": train_split, "network": run_network}

if __name__ == "__main__":
    main()
