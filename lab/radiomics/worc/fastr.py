"""Inside WORC's process: a whole WORC experiment through its facade and fastr's network, and whether it worked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lab.radiomics.worc.process import last_error
from lab.radiomics.worc.settings import ESTIMATOR, LABEL, PERFORMANCE
from lab.radiomics.worc.training import Job, describe, scores

OUTPUTS = (PERFORMANCE, ESTIMATOR)
"""Without one of these a network has failed. WORC's evaluation network is left out, `worc_statistics` calls the same
functions: it also draws a box plot of every feature, and with 3362 of them that had not ended after ten minutes."""


def run_network(job: Job) -> list[dict[str, Any]]:
    """A whole WORC experiment, by its facade and fastr's network; the record of every split.

    Raises RuntimeError where one of its outputs is missing or not valid: it does not say so itself.
    """
    from WORC import BasicWORC

    inputs = Path(job["folder"])
    experiment = BasicWORC(job["name"])
    if job["sequences"]:
        for sequence in job["sequences"]:
            experiment.images_from_this_directory(str(inputs), image_file_name=f"{sequence}.nii.gz")
            experiment.segmentations_from_this_directory(str(inputs), segmentation_file_name="mask.nii.gz")
        experiment.set_image_types(["MR"] * len(job["sequences"]))
    else:
        _write_features(job, inputs)
        experiment.features_from_this_directory(str(inputs), feature_file_name="features.hdf5")
        experiment.set_image_types(["MR"])
    experiment.labels_from_this_file(job["patients"])
    experiment.predict_labels([LABEL])
    experiment.set_fixed_splits(job["splits"])
    experiment.binary_classification(coarse=job["coarse"])
    experiment.add_config_overrides(job["changes"])
    experiment.set_multicore_execution()
    experiment.set_tmpdir(job["tmp"])
    experiment.execute()
    check_sinks(Path(job["tmp"]))
    found = {name: sorted(Path(job["output"]).rglob(name)) for name in OUTPUTS}
    missing = [name for name, paths in found.items() if not paths]
    if missing:
        raise RuntimeError(f"no {', '.join(missing)} among the outputs")
    prediction = pd.read_hdf(found[ESTIMATOR][0])
    return describe(prediction, scores(prediction, job), list(prediction[LABEL]["feature_labels"]))


def _write_features(job: Job, folder: Path) -> None:
    with np.load(job["features"]) as file:
        values = file["values"]
    index = ["image_type", "parameters", "feature_values", "feature_labels"]
    for case, row in zip(job["cases"], values):
        (folder / case).mkdir(parents=True, exist_ok=True)
        series = pd.Series(
            ["MR", {}, [float(value) for value in row], job["labels"]], index=index, name="Image features"
        )
        series.to_hdf(folder / case / "features.hdf5", key="image_features")


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
    """What the job that failed first says, for the end of a message; all such words go to the log."""
    said = []
    for path in sorted(tmp.rglob("__fastr_stderr__.txt"), key=lambda path: path.stat().st_mtime):
        text = path.read_text(encoding="utf-8", errors="replace")
        error = last_error(text.splitlines())
        if error:
            print(f"--- {path.parent.name}\n{text}")
            said.append(f"{path.parent.parent.name} of {path.parent.name}: {error}")
    return f"; {said[0]}" if said else ""
