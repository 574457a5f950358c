"""A run of the tracking store: creation, logging, reading, end."""

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

    Params, metrics and tags are read on first use, and again after a change through this object.
    """

    id: str
    _entity: mlflow.entities.Run | None = field(default=None, compare=False, repr=False)

    @classmethod
    def find(cls, run_id: str) -> Run | None:
        """Run with this id; None where there is none."""
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
        """Run with the tags `identity` (within `parent`), created under `name` where missing.

        A study that is called again thereby continues in the same runs. `source` is the script, by default that of the
        study.
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
        """Runs of an experiment with these tags, newest first; empty for an unknown experiment."""
        number = find_experiment(experiment)
        return [] if number is None else _search(number, tags)

    @property
    def entity(self) -> mlflow.entities.Run:
        """MLflow's record of the run."""
        if self._entity is None:
            self._entity = connect().get_run(self.id)
        return self._entity

    @property
    def name(self) -> str:
        """Name of the run."""
        return str(self.entity.info.run_name)

    @property
    def status(self) -> str:
        """RUNNING, FINISHED, FAILED, KILLED, or DELETED where it is in MLflow's bin."""
        return "DELETED" if self.entity.info.lifecycle_stage == "deleted" else str(self.entity.info.status)

    @property
    def started(self) -> datetime:
        """Start, in local time."""
        return datetime.fromtimestamp(self.entity.info.start_time / 1000)

    @property
    def params(self) -> dict[str, str]:
        """Parameters."""
        return dict(self.entity.data.params)

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics, the last value of each."""
        return dict(self.entity.data.metrics)

    @property
    def tags(self) -> dict[str, str]:
        """Tags."""
        return dict(self.entity.data.tags)

    @property
    def cohorts(self) -> list[Path]:
        """Paths of the cohorts that it has logged."""
        inputs = self.entity.inputs
        return [Path(entry.dataset.source) for entry in inputs.dataset_inputs] if inputs is not None else []

    @property
    def parent(self) -> Run | None:
        """Parent run, even where that was deleted."""
        found = self.tags.get(Tag.PARENT)
        return None if found is None else Run(found)

    @property
    def experiment(self) -> str:
        """Id of its experiment."""
        return str(self.entity.info.experiment_id)

    @property
    def artifact_uri(self) -> str:
        """Location of its artifacts."""
        return str(self.entity.info.artifact_uri)

    def children(self) -> list[Run]:
        """Child runs, newest first."""
        return _search(self.experiment, {Tag.PARENT: self.id})

    def siblings(self) -> list[Run]:
        """Runs of the same parent, itself included; only itself without a parent."""
        return _search(self.experiment, {Tag.PARENT: self.parent.id}) if self.parent else [self]

    def describe(self, params: Mapping[str, Any], tags: Mapping[Any, Any]) -> None:
        """Log parameters and tags; on a continued run, existing parameters stay."""
        known = connect().get_run(self.id).data.params
        connect().log_batch(self.id, params=[Param(k, str(v)) for k, v in params.items() if k not in known])
        self.set_tags(tags)

    def set_tags(self, tags: Mapping[Any, Any]) -> None:
        """Set tags."""
        connect().log_batch(self.id, tags=[RunTag(str(key), str(value)) for key, value in tags.items()])
        self._entity = None

    def delete_tag(self, tag: str) -> None:
        """Remove an existing tag."""
        connect().delete_tag(self.id, tag)
        self._entity = None

    def log_cohort(self, cohort: Cohort) -> None:
        """Log the cohort as the run's data set, shown in MLflow's run table."""
        name = "phantom cohort" if cohort.phantom else cohort.name
        entry = Dataset(name=name, digest=cohort.digest, source_type="local", source=str(cohort.path))
        connect().log_inputs(self.id, datasets=[DatasetInput(entry)])

    def log_metrics(self, figures: Mapping[str, float], step: int = 0) -> None:
        """Log all figures of one step in one write."""
        now = get_current_time_millis()
        connect().log_batch(self.id, metrics=[Metric(key, float(value), now, step) for key, value in figures.items()])
        self._entity = None

    def log_metrics_once(self, figures: Mapping[str, float], step: int = 0, *, known_by: str) -> None:
        """As `log_metrics`, but nothing where the metric `known_by` exists: an earlier process was killed after logging
        it."""
        if not self.logged_steps(known_by):
            self.log_metrics(figures, step)

    def logged_steps(self, metric: str) -> set[int]:
        """Steps logged for a metric; a step logged twice would be stored twice."""
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
        """Add a child run that has ended already, with its own times, in three calls."""
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
        """Log a table as a CSV artifact."""
        self.log_file(name, lambda path: table.to_csv(path, index=False))

    def log_text(self, text: str, name: str) -> None:
        """Log a text artifact."""
        self.log_file(name, lambda path: path.write_text(text, encoding="utf-8"))

    def log_json(self, value: Any, name: str) -> None:
        """Log plain values as a JSON artifact."""
        self.log_text(json.dumps(value, indent=2, default=str), name)

    def log_figure(self, figure: Figure, name: str) -> None:
        """Log a figure as a PNG artifact."""
        from lab.report.figures.style import save

        self.log_file(name, lambda path: save(figure, path))

    def log_file(self, name: str, write: Callable[[Path], Any]) -> None:
        """Log an artifact that `write` puts at the path it is given."""
        folder, _, file = name.rpartition("/")
        with tempfile.TemporaryDirectory() as scratch:
            write(Path(scratch) / file)
            connect().log_artifact(self.id, f"{scratch}/{file}", folder or None)

    def log_folder(self, folder: Path, name: str | None = None) -> None:
        """Log all files of a folder, below `name`."""
        connect().log_artifacts(self.id, str(folder), name)

    def read_bytes(self, name: str) -> bytes:
        """Content of an artifact."""
        with tempfile.TemporaryDirectory() as scratch:
            return self.download(name, Path(scratch)).read_bytes()

    def read_text(self, name: str) -> str:
        """Content of a text artifact."""
        return self.read_bytes(name).decode()

    def read_json(self, name: str) -> Any:
        """Content of a JSON artifact."""
        return json.loads(self.read_bytes(name))

    def read_table(self, name: str) -> pd.DataFrame:
        """CSV artifact as a table; ids and names stay text."""
        return pd.read_csv(BytesIO(self.read_bytes(name)), dtype=dict.fromkeys(TEXTS, str))

    def download(self, name: str, folder: Path) -> Path:
        """Path of a copy of an artifact, file or folder, in `folder`."""
        return Path(connect().download_artifacts(self.id, name, str(folder)))

    def files(self, folder: str | None = None) -> list[str]:
        """Names of the artifacts in a folder."""
        return [entry.path for entry in connect().list_artifacts(self.id, folder)]

    def has_file(self, name: str) -> bool:
        """Whether the run exists and has an artifact of this name."""
        return name in (unless_absent(lambda: self.files(name.rpartition("/")[0] or None)) or ())

    def end(self, state: str, **tags: str) -> None:
        """End the run as "finished", "failed", "pruned" or "interrupted"."""
        self.set_tags({Tag.STATE: state} | tags)
        status = {"finished": "FINISHED", "failed": "FAILED"}.get(state, "KILLED")
        connect().set_terminated(self.id, status=status)
        self._entity = None

    @contextlib.contextmanager
    def ending(self) -> Iterator[None]:
        """End a study's run on every exit from the block, so that it never stays RUNNING."""
        try:
            yield
        except (KeyboardInterrupt, Exception) as error:
            with contextlib.suppress(Exception):  # best effort: the error itself says more
                if not (isinstance(error, KeyboardInterrupt) or store_trouble(error)):
                    self.end("failed", failure=str(error)[:4000])
                elif not server_trouble(error.__cause__ or error):
                    self.end("interrupted")
            raise


def _search(experiment: str, tags: Mapping[str, str], limit: int = 5000) -> list[Run]:
    query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    return [Run(found.info.run_id, found) for found in connect().search_runs([experiment], query, max_results=limit)]
