"""Where a finished study can be looked at: a saved view of the run table, and the lines that lead there.

MLflow's run table shows no metrics by default, and hides trials behind their parent. A view that the UI can share is a
tag of the experiment: the table's state as JSON, deflated, in base64. This is MLflow 3's own format and undocumented,
so it is a courtesy: where it cannot be left, the study says nothing and links to the plain pages.
"""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from urllib.parse import urlencode

import mlflow
from mlflow.exceptions import MlflowException

from lab.track import runs
from lab.track.store import ROOT, RUNS, connect, experiment_id

TAG = "mlflow.sharedViewState."
LOCAL = "http://localhost:5000"
SHOWN = (
    "tags.`best`",
    "metrics.`val/mae_brain`",
    "metrics.`test/mae_brain`",
    "metrics.`test/ssim_brain`",
    "metrics.`test/mae_tumour`",
    "metrics.`cost/train_seconds`",
    "metrics.`cost/parameters`",
)


def view_state(parent: str, objective: str) -> dict[str, object]:
    """The run table with the trials of one study, best first, and the columns that answer its question."""
    ranked = f"metrics.`{objective}`"
    shown = list(dict.fromkeys([SHOWN[0], ranked, *SHOWN[1:]]))
    return {
        "searchFilter": f"tags.`{runs.PARENT}` = '{parent}'",
        "orderByKey": ranked,
        "orderByAsc": "ssim" not in objective,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": shown,
        "columnOrder": ["attributes.`Run Name`", *shown, "duration", "runDateAndNestInfo"],
        "columnWidths": {column: 80 if column.startswith("tags") else 140 for column in shown},
        "runsHiddenMode": "SHOW_ALL",
        "viewMaximized": False,
        "runListHidden": False,
    }


def leave_view(study: str, parent: str, objective: str) -> str | None:
    """Save the view with the experiment; returns its key, or None where the store does not take it."""
    packed = base64.b64encode(zlib.compress(json.dumps(view_state(parent, objective)).encode())).decode()
    try:
        connect().set_experiment_tag(experiment_id(study), f"{TAG}{parent}", f"deflate;{packed}")
    except MlflowException:
        return None
    return parent


def links(study: str, parent: str, view: str | None) -> dict[str, str]:
    """What to open in the browser: all trials in one table (where the view could be left), and the study's own page."""
    uri = mlflow.get_tracking_uri()
    server = uri.rstrip("/") if uri.startswith("http") else LOCAL
    experiment = f"{server}/#/experiments/{experiment_id(study)}"
    pages = {}
    if view is not None:
        query = urlencode({"viewStateShareKey": view, "workflowType": "machine_learning"})
        pages["all trials"] = f"{experiment}/runs?{query}"
    pages["this study"] = f"{experiment}/runs/{parent}?workflowType=machine_learning"
    return pages


def closing(study: str, parent: str, view: str | None, seconds: float) -> str:
    """The last lines of a study: where everything is, and the next step."""
    artifacts = str(connect().get_run(parent).info.artifact_uri)
    lines = [f"Study finished in {duration(seconds)}."]
    if artifacts.startswith(("file:", "/")):
        folder = Path(artifacts.removeprefix("file://"))
        lines += [f"  report      {folder / 'report.html'}", f"  tables      {folder / 'tables'}"]
    uri = mlflow.get_tracking_uri()
    if not uri.startswith("http"):
        store = "" if RUNS == ROOT / "mlruns" else f" --backend-store-uri {uri.partition('?')[0]}"
        lines.append(f"Next: run `mlflow ui{store}` in {ROOT} and open")
    else:
        lines.append("Next: open")
    return "\n".join([*lines, *(f"  {name:<11} {link}" for name, link in links(study, parent, view).items())])


def duration(seconds: float) -> str:
    """A time for people: "48 s", "3 min 54 s", "2 h 5 min"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
