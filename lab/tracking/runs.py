"""Parent and child runs in MLflow: how they are found, named and ended, and what is logged to them."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.entities import Dataset, DatasetInput, Metric, Param, Run
from mlflow.exceptions import MlflowException
from mlflow.utils.time import get_current_time_millis

from lab.data.cohort import Cohort
from lab.tracking.store import connect, experiment_id, git_state, store_trouble

PARENT = "mlflow.parentRunId"
NOTE = "mlflow.note.content"
TEXTS = ("case_id", "patient_id", "trial", "label", "model", "model_id", "size")


def find_or_create(
    experiment: str,
    name: str,
    *,
    identity: Mapping[str, str],
    parent: str | None = None,
    source: str | None = None,
) -> str:
    """Id of the run whose tags equal `identity` (within `parent`), created under `name` where there is none.

    That is how a study that is called again goes on in the same runs. `source` is the script that is run, by default
    the study of the experiment's name.
    """
    client, experiment_number = connect(), experiment_id(experiment)
    tags = dict(identity) | ({PARENT: parent} if parent else {})
    query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    found = client.search_runs([experiment_number], query, max_results=1)
    if found:
        run_id = found[0].info.run_id
        client.update_run(run_id, status="RUNNING")
        if "failure" in found[0].data.tags:
            client.delete_tag(run_id, "failure")
        return run_id
    script = {"mlflow.source.name": source or f"studies/{experiment}.py", "mlflow.source.type": "LOCAL"}
    return client.create_run(experiment_number, tags=tags | script | git_state(), run_name=name).info.run_id


def children(experiment: str, parent: str) -> list[Run]:
    """All trials of a parent run."""
    return list(connect().search_runs([experiment_id(experiment)], f"tags.`{PARENT}` = '{parent}'", max_results=5000))


def log_settings(run_id: str, params: Mapping[str, Any], tags: Mapping[str, Any]) -> None:
    """Parameters and tags of a run; on a run that goes on, parameters that are there already stay."""
    client = connect()
    known = client.get_run(run_id).data.params
    new = [Param(key, str(value)) for key, value in params.items() if key not in known]
    client.log_batch(run_id, params=new)
    for key, value in tags.items():
        client.set_tag(run_id, key, str(value))


def log_cohort(run_id: str, cohort: Cohort, phantom: bool) -> None:
    """The cohort as the run's data set, so that the run table shows which data it saw."""
    name = "phantom cohort" if phantom else cohort.name
    entry = Dataset(name=name, digest=cohort.digest, source_type="local", source=str(cohort.path))
    connect().log_inputs(run_id, datasets=[DatasetInput(entry)])


def log_metrics(run_id: str, figures: Mapping[str, float], step: int = 0) -> None:
    """All figures of one step in one write."""
    now = get_current_time_millis()
    connect().log_batch(run_id, metrics=[Metric(key, float(value), now, step) for key, value in figures.items()])


def logged_steps(run_id: str, metric: str) -> set[int]:
    """Steps that a metric already has: steps logged twice would be stored twice."""
    return {entry.step for entry in connect().get_metric_history(run_id, metric)}


def log_table(run_id: str, table: pd.DataFrame, name: str) -> None:
    """A table as a CSV artifact."""
    log_file(run_id, name, lambda path: table.to_csv(path, index=False))


def log_text(run_id: str, text: str, name: str) -> None:
    """A text artifact."""
    log_file(run_id, name, lambda path: path.write_text(text))


def log_file(run_id: str, name: str, write: Callable[[Path], Any]) -> None:
    """An artifact that `write` puts at the path it is given."""
    folder, _, file = name.rpartition("/")
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / file
        write(path)
        connect().log_artifact(run_id, str(path), folder or None)


def read_bytes(run_id: str, name: str) -> bytes:
    """An artifact's content."""
    with tempfile.TemporaryDirectory() as scratch:
        return Path(connect().download_artifacts(run_id, name, scratch)).read_bytes()


def read_text(run_id: str, name: str) -> str:
    """A text artifact."""
    return read_bytes(run_id, name).decode()


def read_table(run_id: str, name: str) -> pd.DataFrame:
    """A CSV artifact as a table; ids and names stay text."""
    return pd.read_csv(BytesIO(read_bytes(run_id, name)), dtype=dict.fromkeys(TEXTS, str))


def files(run_id: str, folder: str | None = None) -> list[str]:
    """Names of the artifacts in a folder of a run."""
    return [entry.path for entry in connect().list_artifacts(run_id, folder)]


def has_file(run_id: str, name: str) -> bool:
    """Whether a run has an artifact of this name."""
    return name in files(run_id, name.rpartition("/")[0] or None)


def history(run_id: str, names: Iterable[str]) -> pd.DataFrame:
    """Logged metrics by step: columns `epoch` and `names`."""
    client = connect()
    columns = {name: {m.step: m.value for m in client.get_metric_history(run_id, name)} for name in names}
    return pd.DataFrame(columns).rename_axis("epoch").sort_index().reset_index()


def end(run_id: str, status: str, **tags: str) -> None:
    """Close a run as FINISHED, FAILED or KILLED."""
    client = connect()
    for key, value in tags.items():
        client.set_tag(run_id, key, value)
    client.set_terminated(run_id, status=status)


@contextlib.contextmanager
def ending(parent: str) -> Iterator[None]:
    """Close the parent run however the study ends, so that it does not say RUNNING for ever."""
    try:
        yield
    except (KeyboardInterrupt, Exception) as error:
        stopped = isinstance(error, KeyboardInterrupt) or store_trouble(error)
        with contextlib.suppress(Exception):  # best effort: the error itself says more
            if not stopped:
                end(parent, "FAILED", state="failed", failure=str(error)[:4000])
            elif not isinstance(error.__cause__ or error, MlflowException):  # else it would be waited for once more
                end(parent, "KILLED", state="interrupted")
        raise
