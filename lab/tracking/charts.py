"""Charts of a saved view, for MLflow's chart mode over a study's trials.

Cards and sections are plain dicts in the format of MLflow 3's run page. MLflow adds a chart of every other metric, in
sections named after the metric's group; these stay folded.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from lab.evaluation.figures import shown_in, spec_of

Card = dict[str, object]
CURVES = ("train/loss", "val/loss", "val/mae_brain")
BY_EPOCH = {"xAxisKey": "step", "xAxisScaleType": "linear", "scaleType": "linear", "lineSmoothness": 0}
BY_EPOCH |= {"useGlobalXaxisKey": True, "useGlobalLineSmoothing": True}
HEIGHT_PX = 260
COLUMNS = 2
"""Charts in a row: MLflow's own panel on the right takes a third of a laptop's screen, and titles need the width."""
MOST = 100
"""Maximum number of trials in a chart."""


def chart_state(
    objective: str, varied: Sequence[str], metrics: Collection[str], *, part: str = "test"
) -> dict[str, object]:
    """Sections and charts: scores, trade-offs, importance of settings, training curves.

    `varied` are the params in which the trials differ. Only `metrics`, those that any trial has, are drawn. `part`
    selects the figures to compare: "test" or "val".
    """
    found: dict[str, list[Card]] = {}
    compared = dict.fromkeys([objective, *(f"{part}/{figure}" for figure in shown_in("bars"))])
    bars = [name for name in compared if name in metrics]
    for name in sorted(bars, key=direction):  # Dice comes above the errors, both on the first screen
        shown = {"metricKey": name, "displayName": chart_title(name), "runsCountToCompare": MOST}
        found.setdefault(direction(name), []).append(card("BAR", name, **shown))
    error, cost = f"{part}/mae_brain", "cost/train_seconds"
    pairs = [*((error, f"{part}/{figure}") for figure in shown_in("trade")), (cost, error)]
    found["What is traded for what"] = [scatter(x, y) for x, y in pairs if {x, y} <= set(metrics)]
    axes = [name for name in (f"val/{figure}" for figure in shown_in("trade")) if name in metrics and name != objective]
    settings = {"selectedParams": list(varied), "selectedMetrics": [*axes, objective], "showAllRuns": False}
    found["Which setting matters"] = [card("PARALLEL", "settings", **settings)] if varied else []
    curves = [name for name in CURVES if name in metrics]
    found["Training"] = [card("LINE", name, metricKey=name, selectedMetricKeys=[name], **BY_EPOCH) for name in curves]
    drawn = {card.get("metricKey") for cards in found.values() for card in cards}
    rest = sorted({name.rpartition("/")[0] for name in set(metrics) - drawn if "/" in name})
    return {
        "compareRunSections": [
            *(section(name, columns=min(len(cards), COLUMNS)) for name, cards in found.items() if cards),
            *(section(name, shown=False) for name in rest),
        ],
        "compareRunCharts": [card | {"metricSectionId": name} for name, cards in found.items() for card in cards],
        "isAccordionReordered": True,
        "hideEmptyCharts": True,
    }


def direction(metric: str) -> str:
    """Heading of a bar chart, such as "Lower is better"."""
    return spec_of(metric.rpartition("/")[2]).hint.capitalize() or "Figures"


def chart_title(metric: str) -> str:
    """Title of a bar chart: "MAE, brain: test" for "test/mae_brain"."""
    part, _, figure = metric.rpartition("/")
    return f"{spec_of(figure).head}: {part}"


def section(name: str, *, shown: bool = True, columns: int = COLUMNS) -> Card:
    """A heading with its charts, `columns` per row."""
    known = {"uuid": name, "name": name, "display": shown, "isReordered": False, "deleted": False}
    return known | {"isGenerated": not shown, "columns": columns, "cardHeight": HEIGHT_PX}


def card(kind: str, name: str, **settings: object) -> Card:
    """A chart marked as added by the user, which MLflow leaves unchanged."""
    return {"type": kind, "uuid": f"{kind} {name}", "deleted": False, "isGenerated": False, **settings}


def scatter(x: str, y: str) -> Card:
    """Scatter plot with one dot per trial."""
    axes = {"xaxis": {"key": x, "type": "METRIC"}, "yaxis": {"key": y, "type": "METRIC"}}
    return card("SCATTER", f"{x} {y}", runsCountToCompare=MOST, **axes)
