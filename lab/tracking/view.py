"""Saved views of a finished study in MLflow's UI, and the links to them.

By default MLflow's run table shows no metrics, folds trials under their parent and draws ten of them. A shared view is
a tag of the experiment: the page's state as JSON, deflated, in base64. The format is MLflow 3's own and undocumented,
so a view that cannot be saved is no error: the study links to the plain page.
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
import zlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote, urlencode

import mlflow
from mlflow.exceptions import MlflowException

from lab.evaluation.figures import shown_in, spec_of
from lab.tracking.artifacts import Tag
from lab.tracking.charts import chart_state
from lab.tracking.run import Run
from lab.tracking.store import ROOT, RUNS, connect

TAG = "mlflow.sharedViewState."
WIDEST_PX = 190
"""Maximum width of a metric's column, whose head must tell the figures of a group apart."""
LOCAL = "http://localhost:5000"
COMPARED = 12
NAMED = {"table": "all trials"}
"""Link text of a view, where it differs from the view's name."""
SHOWN = (
    "val/mae_brain",
    *(f"test/{figure}" for figure in shown_in("view")),
    "cost/train_seconds",
    "cost/seconds_per_volume",
    "val/auc",
    "val/threshold",
    "val/f1_weighted",
    "cost/seconds",
)
CHOSEN = ("classifier", "features", "scaler", "ranking", "selection", "scaling")
"""Settings that a classifier's search chose, in the order of the view's columns."""


def view_state(parent: str, objective: str) -> dict[str, object]:
    """State common to both views: the trials of this study alone, as a flat list, best first."""
    return {
        "searchFilter": f"tags.`{Tag.PARENT}` = '{parent}'",
        "orderByKey": f"metrics.`{objective}`",
        "orderByAsc": spec_of(objective.rpartition("/")[2]).direction != "higher",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "runsHiddenMode": "SHOW_ALL",
        "viewMaximized": False,
        "runListHidden": False,
    }


def table_state(
    objective: str, varied: Sequence[str], metrics: Collection[str], phases: Sequence[str], labels: Mapping[str, int]
) -> dict[str, object]:
    """Columns of the run table, sized so that a laptop's screen shows the figures.

    `metrics` are the names that any trial has, `labels` the label of each network and its number of trials; trials of
    one label are folded behind their mean. Settings come last, since most labels name theirs.
    """
    figures = [name for name in dict.fromkeys([objective, *SHOWN]) if name in metrics]
    tags = ["best", "phase"] if len(phases) > 1 else ["best"]
    shown = (
        {f"tags.`{name}`": 60 for name in tags}
        | {f"metrics.`{name}`": min(max(96, 7 * len(name) + 20), WIDEST_PX) for name in figures}
        | {f"params.`{name}`": 96 for name in varied}
    )
    grouped = any(count > 1 for count in labels.values())
    longest = max(map(len, labels), default=0) + 20 * grouped
    first = {
        "attributes.`Run Name`": min(max(60 + 6 * longest, 140), 280),
        "runDateAndNestInfo": 80 if grouped else 130,
    }
    state: dict[str, object] = {
        "selectedColumns": list(shown),
        "columnOrder": [*first, *shown],
        "columnWidths": first | shown,
    }
    if grouped:
        state["groupBy"] = {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": "label"}]}
        state["groupsExpanded"] = {f"tag.label.{label}": False for label in labels}
        state["useGroupedValuesInCharts"] = True
    return state


def save_views(
    study: Run, objective: str, varied: Sequence[str] = (), phases: Sequence[str] = ("grid",)
) -> dict[str, str] | None:
    """Save a view "table" and a view "charts" with the experiment; returns their keys, None where the store refuses.

    `varied` are the settings (names of params) in which the trials differ. Trials of one label (other seeds or folds)
    are averaged.
    """
    try:
        trials = study.children()
        metrics = {name for run in trials for name, value in run.metrics.items() if math.isfinite(value)}
        labels = Counter(run.tags.get(Tag.LABEL, "") for run in trials)
        table = view_state(study.id, objective) | table_state(objective, varied, metrics, phases, labels)
        part = "val" if len(phases) > 1 else "test"  # trials of a search have no test scores
        charts = table | chart_state(objective, varied, metrics, part=part) | {"groupsExpanded": {}}
        return {"table": save_view(study, table), "charts": save_view(study, charts, "-charts")}
    except MlflowException:
        return None


def save_split_view(experiment: Run) -> dict[str, str] | None:
    """Save a view "splits" of a classifier's splits, best first, with the settings chosen in each.

    None without splits, or where the store refuses.
    """
    try:
        splits = [run for run in experiment.children() if run.tags.get(Tag.ROLE) == "split"]
        metrics = {name for run in splits for name in run.metrics}
        varied = [name for name in CHOSEN if any(name in run.params for run in splits)]
        labels = {run.name: 1 for run in splits}
        table = view_state(experiment.id, "test/auc") | table_state("test/auc", varied, metrics, ("grid",), labels)
        return {"splits": save_view(experiment, table)} if splits else None
    except MlflowException:
        return None


def describe_experiment(study: Run, question: str) -> None:
    """Set the study's question as the experiment's description in MLflow's UI; ignores a store that refuses."""
    with contextlib.suppress(MlflowException):
        connect().set_experiment_tag(study.experiment, Tag.NOTE, question)


def save_view(study: Run, state: Mapping[str, object], ending: str = "") -> str:
    """Save a page's state in the UI's format; returns its key."""
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    connect().set_experiment_tag(study.experiment, f"{TAG}{study.id}{ending}", f"deflate;{packed}")
    return f"{study.id}{ending}"


def links(study: Run, views: Mapping[str, str] | None) -> dict[str, str]:
    """Links for the browser: the saved views, and the study's own page."""
    uri = mlflow.get_tracking_uri()
    server = uri.rstrip("/") if uri.startswith("http") else LOCAL
    return {name: f"{server}/{place}" for name, place in places(study, views).items()}


def places(study: Run, views: Mapping[str, str] | None) -> dict[str, str]:
    """Name -> path in MLflow's UI, "#/experiments/...", a link in a note on any server."""
    experiment = f"#/experiments/{study.experiment}"
    machine_learning = {"workflowType": "machine_learning"}
    found = {}
    for name, key in (views or {}).items():
        query = {"viewStateShareKey": key, **({"compareRunsMode": "CHART"} if name == "charts" else {})}
        found[NAMED.get(name, name)] = f"{experiment}/runs?{urlencode(query | machine_learning)}"
    found["this study"] = f"{experiment}/runs/{study.id}?{urlencode(machine_learning)}"
    return found


def comparison(study: Run, run_ids: Sequence[str]) -> str:
    """Path in MLflow's UI that compares runs, "#/compare-runs?..."; at most twelve, to stay readable."""
    lists = {"runs": list(run_ids[:COMPARED]), "experiments": [study.experiment]}
    query = {name: json.dumps(ids, separators=(",", ":")) for name, ids in lists.items()}
    return f"#/compare-runs?{urlencode(query, quote_via=quote)}"


def note_links(study: Run, views: Mapping[str, str] | None, run_ids: Sequence[str]) -> str:
    """The same pages and a comparison of the best trials, as a line of Markdown for the study's note.

    `run_ids` are the trials, best first.
    """
    found = {name: place for name, place in places(study, views).items() if name != "this study"}
    if len(run_ids) > 1:
        found[f"the best {min(len(run_ids), COMPARED)} side by side"] = comparison(study, run_ids)
    return "Open: " + ", ".join(f"[{name}]({place})" for name, place in found.items()) if found else ""


def closing(study: Run, views: Mapping[str, str] | None, seconds: float | None) -> str:
    """Last lines of a study: its results and the next step. `seconds` is None where it was only reported anew."""
    artifacts = study.artifact_uri
    lines = ["Report written anew." if seconds is None else f"Study finished in {duration(seconds)}."]
    if artifacts.startswith(("file:", "/")):
        folder = Path(artifacts.removeprefix("file://"))
        lines += [f"  report      {folder / 'report.html'}", f"  tables      {folder / 'tables'}"]
    uri = mlflow.get_tracking_uri()
    if not uri.startswith("http"):
        store = "" if RUNS == ROOT / "mlruns" else f" --backend-store-uri {uri.partition('?')[0]}"
        lines.append(f"Next: run `mlflow ui{store}` in {ROOT} and open")
    else:
        lines.append("Next: open")
    return "\n".join([*lines, *(f"  {name:<11} {link}" for name, link in links(study, views).items())])


def duration(seconds: float) -> str:
    """Duration for people: "48 s", "3 min 54 s", "2 h 5 min"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
