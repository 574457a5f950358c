"""A run of the tracking store: what it is, what is logged to it and read from it, how it ends."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow.entities
import pandas as pd
from mlflow.entities import Dataset, DatasetInput, Metric, Param, RunTag
from mlflow.utils.time import get_current_time_millis

from lab.tracking.artifacts import Tag
from lab.tracking.store import (
    connect,
    experiment_id,
    find_experiment,
    git_state,
    server_trouble,
    store_trouble,
    unless_absent,
)

if TYPE_CHECKING:
    from lab.data.cohort import Cohort
    from lab.report.figures.style import Figure

TEXTS = ("case_id", "patient_id", "trial", "label", "model", "model_id", "size")
"""Columns of tables that stay text."""


@dataclass(unsafe_hash=True)
class Run:
    """A run in the tracking store.

    Its params, metrics and tags are read when they are first asked for, and again after a change through this object.
    """

    id: str
    _entity: mlflow.entities.Run | None = field(default=None, compare=False, repr=False)

    @classmethod
    def find(cls, run_id: str) -> Run | None:
        """The run with this id; None where there is none."""
        entity = unless_absent(lambda: connect().get_run(run_id))
        return None if entity is None else cls(run_id, entity)

    @classmethod
    def open(
        cls,
        experiment: str,
        name: str,
        *,
        identity: Mapping[Any, str],
        parent: Run | None = None,
        source: str | None = None,
    ) -> Run:
        """The run with the tags `identity` (within `parent`), created under `name` where there is none.

        So a study that is called again goes on in the same runs. `source` is the script, by default that of the study.
        """
        client, experiment_number = connect(), experiment_id(experiment)
        tags = {str(key): value for key, value in identity.items()} | ({str(Tag.PARENT): parent.id} if parent else {})
        found = _search(experiment_number, tags, limit=1)
        if found:
            run = found[0]
            client.update_run(run.id, status="RUNNING")
            if Tag.FAILURE in run.tags:
                client.delete_tag(run.id, Tag.FAILURE)
            return cls(run.id)
        tags |= {Tag.SOURCE: source or f"studies/{experiment}.py", "mlflow.source.type": "LOCAL"} | git_state()
        return cls(client.create_run(experiment_number, tags=tags, run_name=name).info.run_id)

    @classmethod
    def search(cls, experiment: str, tags: Mapping[str, str]) -> list[Run]:
        """The runs of an experiment that have these tags, the newest first; empty where there is no such experiment."""
        number = find_experiment(experiment)
        return [] if number is None else _search(number, tags)

    @property
    def entity(self) -> mlflow.entities.Run:
        """MLflow's own record of the run."""
        if self._entity is None:
            self._entity = connect().get_run(self.id)
        return self._entity

    @property
    def name(self) -> str:
        """What the run is called."""
        return str(self.entity.info.run_name)

    @property
    def status(self) -> str:
        """RUNNING, FINISHED, FAILED, KILLED, or DELETED where it is in MLflow's bin."""
        return "DELETED" if self.entity.info.lifecycle_stage == "deleted" else str(self.entity.info.status)

    @property
    def started(self) -> datetime:
        """When it began, in local time."""
        return datetime.fromtimestamp(self.entity.info.start_time / 1000)

    @property
    def params(self) -> dict[str, str]:
        """Its parameters."""
        return dict(self.entity.data.params)

    @property
    def metrics(self) -> dict[str, float]:
        """Its metrics, the last value of each."""
        return dict(self.entity.data.metrics)

    @property
    def tags(self) -> dict[str, str]:
        """Its tags."""
        return dict(self.entity.data.tags)

    @property
    def cohorts(self) -> list[Path]:
        """Where the cohorts were that it has logged."""
        inputs = self.entity.inputs
        return [Path(entry.dataset.source) for entry in inputs.dataset_inputs] if inputs is not None else []

    @property
    def parent(self) -> Run | None:
        """The run above it, whether that is still there or not."""
        found = self.tags.get(Tag.PARENT)
        return None if found is None else Run(found)

    @property
    def experiment(self) -> str:
        """Id of its experiment."""
        return str(self.entity.info.experiment_id)

    @property
    def artifact_uri(self) -> str:
        """Where its artifacts are."""
        return str(self.entity.info.artifact_uri)

    def children(self) -> list[Run]:
        """The runs below it, the newest first."""
        return _search(self.experiment, {Tag.PARENT: self.id})

    def siblings(self) -> list[Run]:
        """The runs of the same parent, itself included; itself alone where it has none."""
        return _search(self.experiment, {Tag.PARENT: self.parent.id}) if self.parent else [self]

    def describe(self, params: Mapping[str, Any], tags: Mapping[Any, Any]) -> None:
        """Log parameters and tags; on a run that goes on, parameters that are there already stay."""
        known = connect().get_run(self.id).data.params
        connect().log_batch(self.id, params=[Param(k, str(v)) for k, v in params.items() if k not in known])
        self.set_tags(tags)

    def set_tags(self, tags: Mapping[Any, Any]) -> None:
        """Set tags."""
        connect().log_batch(self.id, tags=[RunTag(str(key), str(value)) for key, value in tags.items()])
        self._entity = None

    def delete_tag(self, tag: str) -> None:
        """Remove a tag that is there."""
        connect().delete_tag(self.id, tag)
        self._entity = None

    def log_cohort(self, cohort: Cohort) -> None:
        """The cohort as the run's data set, so that the run table shows which data it saw."""
        name = "phantom cohort" if cohort.phantom else cohort.name
        entry = Dataset(name=name, digest=cohort.digest, source_type="local", source=str(cohort.path))
        connect().log_inputs(self.id, datasets=[DatasetInput(entry)])

    def log_metrics(self, figures: Mapping[str, float], step: int = 0) -> None:
        """All figures of one step in one write."""
        now = get_current_time_millis()
        connect().log_batch(self.id, metrics=[Metric(key, float(value), now, step) for key, value in figures.items()])
        self._entity = None

    def log_metrics_once(self, figures: Mapping[str, float], step: int = 0, *, known_by: str) -> None:
        """As `log_metrics`, but nothing where the metric `known_by` is there: a kill came just after it was logged."""
        if not self.logged_steps(known_by):
            self.log_metrics(figures, step)

    def logged_steps(self, metric: str) -> set[int]:
        """Steps that a metric already has: steps logged twice would be stored twice."""
        return {entry.step for entry in connect().get_metric_history(self.id, metric)}

    def history(self, metrics: Iterable[str]) -> pd.DataFrame:
        """Logged metrics by step: columns `epoch` and `metrics`."""
        columns = {name: {m.step: m.value for m in connect().get_metric_history(self.id, name)} for name in metrics}
        return pd.DataFrame(columns).rename_axis("epoch").sort_index().reset_index()

    def add_finished(
        self,
        name: str,
        *,
        tags: Mapping[str, str],
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        began_ms: int,
        ended_ms: int,
    ) -> None:
        """A run below this one that is over already, written in three calls with the times that it had."""
        client, own = connect(), {Tag.PARENT: self.id, **tags}
        made = client.create_run(self.experiment, start_time=began_ms, tags=own, run_name=name)
        client.log_batch(
            made.info.run_id,
            metrics=[Metric(key, value, ended_ms, 0) for key, value in metrics.items()],
            params=[Param(key, str(value)) for key, value in params.items()],
            tags=[RunTag(Tag.STATE, "finished")],
        )
        client.set_terminated(made.info.run_id, end_time=ended_ms)

    def log_table(self, table: pd.DataFrame, name: str) -> None:
        """A table as a CSV artifact."""
        self.log_file(name, lambda path: table.to_csv(path, index=False))

    def log_text(self, text: str, name: str) -> None:
        """A text artifact."""
        self.log_file(name, lambda path: path.write_text(text, encoding="utf-8"))

    def log_json(self, value: Any, name: str) -> None:
        """Plain values as a JSON artifact."""
        self.log_text(json.dumps(value, indent=2, default=str), name)

    def log_figure(self, figure: Figure, name: str) -> None:
        """A figure as a PNG artifact."""
        from lab.report.figures.style import save

        self.log_file(name, lambda path: save(figure, path))

    def log_file(self, name: str, write: Callable[[Path], Any]) -> None:
        """An artifact that `write` puts at the path it is given."""
        folder, _, file = name.rpartition("/")
        with tempfile.TemporaryDirectory() as scratch:
            write(Path(scratch) / file)
            connect().log_artifact(self.id, f"{scratch}/{file}", folder or None)

    def log_folder(self, folder: Path, name: str | None = None) -> None:
        """All files of a folder as artifacts, below `name`."""
        connect().log_artifacts(self.id, str(folder), name)

    def read_bytes(self, name: str) -> bytes:
        """An artifact's content."""
        with tempfile.TemporaryDirectory() as scratch:
            return self.download(name, Path(scratch)).read_bytes()

    def read_text(self, name: str) -> str:
        """A text artifact."""
        return self.read_bytes(name).decode()

    def read_json(self, name: str) -> Any:
        """A JSON artifact."""
        return json.loads(self.read_bytes(name))

    def read_table(self, name: str) -> pd.DataFrame:
        """A CSV artifact as a table; ids and names stay text."""
        return pd.read_csv(BytesIO(self.read_bytes(name)), dtype=dict.fromkeys(TEXTS, str))

    def download(self, name: str, folder: Path) -> Path:
        """A copy of an artifact, a file or a folder, in `folder`."""
        return Path(connect().download_artifacts(self.id, name, str(folder)))

    def files(self, folder: str | None = None) -> list[str]:
        """Names of the artifacts in a folder."""
        return [entry.path for entry in connect().list_artifacts(self.id, folder)]

    def has_file(self, name: str) -> bool:
        """Whether the run is there and has an artifact of this name."""
        return name in (unless_absent(lambda: self.files(name.rpartition("/")[0] or None)) or ())

    def end(self, state: str, **tags: str) -> None:
        """Close the run as "finished", "failed", "pruned" or "interrupted"."""
        self.set_tags({Tag.STATE: state} | tags)
        status = {"finished": "FINISHED", "failed": "FAILED"}.get(state, "KILLED")
        connect().set_terminated(self.id, status=status)
        self._entity = None

    @contextlib.contextmanager
    def ending(self) -> Iterator[None]:
        """Close the run of a study however that ends; it must not say RUNNING for ever."""
        try:
            yield
        except (KeyboardInterrupt, Exception) as error:
            cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
            stopped = isinstance(error, KeyboardInterrupt) or store_trouble(error)
            with contextlib.suppress(Exception):  # best effort: the error itself says more
                if not stopped:
                    self.end("failed", failure=str(error)[:4000])
                elif isinstance(cause, KeyboardInterrupt) or not server_trouble(cause):
                    self.end("interrupted")
            raise


def _search(experiment: str, tags: Mapping[str, str], limit: int = 5000) -> list[Run]:
    query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    return [Run(found.info.run_id, found) for found in connect().search_runs([experiment], query, max_results=limit)]
