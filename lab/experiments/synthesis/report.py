"""The report of a study, made from the tracking store alone.

The end of a study writes its facts and tables to the parent run and calls `write_report`; `python -m lab report` can
call it again later, on another machine, without scans and networks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lab.evaluation.calibration_text import describe_coverage
from lab.evaluation.conformal import NOMINAL, coverage_summary
from lab.evaluation.figures import shown_in
from lab.experiments.parent_run import format_points, publish
from lab.experiments.synthesis.record import SLICES, Record, read_record
from lab.experiments.synthesis.search_results import shown_settings
from lab.inference.tta import DEFAULT_LOOKS
from lab.io.files import plural
from lab.report.figures.box_plots import box_plots
from lab.report.figures.forest import forest
from lab.report.figures.interval_coverage import reliability_figure
from lab.report.figures.learning_curves import learning_curves
from lab.report.figures.pareto_front import front_figure
from lab.report.figures.style import Figure, png
from lab.report.pages.study import StudyReport, study_page
from lab.report.tables.paired_tests import paired_tests
from lab.report.tables.paper_table import paper_table, tables_inside_patches
from lab.report.tables.patient_table import is_baseline, summarise
from lab.report.tables.published import Comparison, comparable
from lab.report.tables.scorecard import meanings, pooled_scorecard, scorecard_tables
from lab.report.tables.spread import spread_table
from lab.report.tables.strongest import OWN_CORE, differences, strongest_table
from lab.report.tables.table import Table, plain_markdown
from lab.report.text.claims import about_the_paper
from lab.report.text.findings import findings
from lab.report.text.notes import study_note
from lab.stats.effects import effects
from lab.tracking import artifacts
from lab.tracking.artifacts import Tag
from lab.tracking.run import Run
from lab.tracking.view import closing, note_links, save_views


def write_report(parent: Run, *, seconds: float | None = None, out: Path | None = None) -> None:
    """Write page, tables, figures and note of a finished study to its parent run, and to the folder `out`.

    `seconds` is the study's duration, where it has just ended. Raises as `read_record` and `output_folder`.
    """
    record = read_record(parent)
    facts, phantom, best = record.facts, record.phantom, record.facts["best"]
    table, patches = paper_tables(record)
    tests = paired_tests(record.patients, against=record.references)
    card = pooled_scorecard(record.patients, ceiling=record.tables["true_scans"])
    compared = effects(record.patients, against=record.references, metrics=shown_in("effects"))
    beside, against = None, None
    if record.strongest is not None:
        beside = differences(record.patients, record.strongest)
        against = strongest_table(beside, record.strongest, phantom=phantom)
    words = findings(record.patients, tests, phantom=phantom, best=best, card=card)
    words[1:1] = about_search(record)
    last = len(words) - phantom  # the statement that phantom results do not transfer stays last
    words[last:last] = [
        *about_the_paper(record.patients, facts["study"]),
        *about_strongest(record, beside),
        *about_intervals(record),
        *facts.get("warnings", ()),
    ]
    figures = number_figures(record, tests, compared, card)
    page = study_page(
        StudyReport(
            study=facts["study"],
            question=facts["question"],
            phantom=phantom,
            findings=words,
            cohort=facts["cohort"],
            settings=facts["settings"],
            scores=table,
            patches=patches,
            card=card,
            against=against,
            tests=tests,
            effects=compared,
            spread=record.tables["spread"],
            trials=record.trials,
            names=record.names,
            slices={SLICES[why]: image for why, image in record.slices.items()},
            figures=dict(figures.values()),
            floor=record.floor,
            search=record.tables["search"],
            importances=record.tables["importances"],
        )
    )
    cards = scorecard_tables(card, phantom=phantom)
    if against is not None:
        cards.append(against)
    texts = {artifacts.REPORT: page, "tables/comparison.md": table.markdown()}
    texts |= {"tables/enhancement.md": "\n".join([*(part.markdown() for part in cards), *legend(card)])}
    texts |= {artifacts.table("comparison"): table.csv()}
    texts |= {artifacts.table(f"comparison_{name}"): t.csv() for name, t in zip(("own_patch", "same_voxels"), patches)}
    numbers = {"paired_tests": tests, "enhancement": card, "effects": compared}
    if beside is not None:
        numbers["strongest_baseline"] = beside
    if len(record.tables["spread"]):
        numbers["spread_summary"] = spread_table(record.tables["spread"])
    texts |= {artifacts.table(name): content.to_csv(index=False) for name, content in numbers.items()}
    files = {name: text.encode() for name, text in texts.items()}
    files |= {artifacts.figure(name): png(figure) for name, (_, figure) in figures.items()}
    slices = {artifacts.figure(f"slices_{why}"): image for why, image in record.slices.items()}
    if publish(parent, files, out=out, more=slices):
        close(record, [table, *patches, *cards], card, words, seconds)


def legend(card: pd.DataFrame) -> list[str]:
    """Definitions of the scorecard's columns, as Markdown."""
    return [f"- {plain_markdown(head)}: {plain_markdown(text)}" for head, text in meanings(card)]


def close(record: Record, tables: list[Table], card: pd.DataFrame, words: list[str], seconds: float | None) -> None:
    """Set note and tags of the parent run, end it, and print the summary."""
    parent, facts = record.parent, record.facts
    validation = dict(zip(record.trials["trial"], record.trials["val/mae_brain"])) | facts["reference"]
    note = study_note(
        facts["question"],
        words,
        record.patients,
        validation=validation,
        best=facts["best"],
        phantom=record.phantom,
        comparison=compared_with_paper(record).sentence,
        card=card,
    )
    phases = tuple(dict.fromkeys(record.trials["phase"]))
    views = save_views(parent, facts["objective"], facts["varied"], phases)
    ranked = record.trials.sort_values(facts["objective"], ascending=record.lower, kind="stable")
    note += f"\n\n{note_links(parent, views, list(ranked['run_id']))}"
    parent.set_tags({Tag.NOTE: note, Tag.BEST: record.names[str(facts["best"])]})
    count = int(record.trials["runs"].sum()) + max(0, len(record.tables["search"]) - 1)  # the winner is counted in both
    if seconds is not None and count not in parent.logged_steps("study/trials"):
        parent.log_metrics({"study/seconds": seconds, "study/trials": count}, step=count)
    parent.end("finished")
    for text in (*(table.text() for table in tables), format_points(words)):
        print(f"\n{text}")
    print()
    print(closing(parent, views, seconds))


def paper_tables(record: Record) -> tuple[Table, list[Table]]:
    """The table in the paper's layout, and those inside patches where the study has some."""
    facts, trials = record.facts, record.trials
    shared: dict[str, Any] = {
        "study": facts["study"],
        "comparison": compared_with_paper(record),
        "phantom": record.phantom,
        "dataset": facts["data"],
    }
    # published networks: those of the grid, trained on whole volumes
    beside = trials.loc[(trials["phase"] == "grid") & (trials["size"] == "full"), "trial"]
    spread = record.tables["spread"] if len(record.tables["spread"]) else None
    table = paper_table(with_model(record.patients, trials), beside=list(beside), spread=spread, **shared)
    own, same = record.tables["own_patch"], record.tables["same_voxels"]
    if own.empty:
        return table, []
    sizes = {trial: str(size).removesuffix(" mm") for trial, size in zip(trials["trial"], trials["size"])}
    inside = (with_model(part, trials) for part in (own, same))
    return table, tables_inside_patches(*inside, sizes=sizes, **shared)


def compared_with_paper(record: Record) -> Comparison:
    """Whether the published figures are comparable with the study's."""
    return comparable(phantom=record.phantom, dataset=record.facts["dataset"], **record.facts["comparison"])


def with_model(patients: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """The long table with the paper's number of each network in the column `model`."""
    numbers = trials.set_index("trial")["model_id"].to_dict()
    return patients.assign(model=[numbers.get(trial) for trial in patients["trial"]])


def number_figures(
    record: Record, tests: pd.DataFrame, compared: pd.DataFrame, card: pd.DataFrame
) -> dict[str, tuple[str, Figure]]:
    """File name -> caption and figure, for all plots of numbers."""
    patients, trials, phantom, best = record.patients, record.trials, record.phantom, record.facts["best"]
    drawn: dict[str, tuple[str, Figure]] = {}
    points = front_points(record, card)
    figure = front_figure(points, y="contrast_concordance", phantom=phantom, split="test", floor=record.floor)
    drawn["front"] = ("Image fidelity against enhancement, test patients", figure)
    if "patients" in trials:
        from lab.report.figures.patients_curve import patients_curve  # few studies draw it

        figure = patients_curve(card, trials, record.strongest, phantom=phantom)
        drawn["patients"] = ("What more training patients bring, test patients", figure)
    if tests["p_holm"].notna().any():
        figure = forest(compared, tests, phantom=phantom, best=best)
        drawn["effects"] = ("Differences to the reference, with intervals", figure)
    drawn["boxes"] = ("Every test patient", box_plots(patients, phantom=phantom, floor=record.floor))
    drawn |= search_figures(record)
    reference = record.facts["reference"]
    curves = learning_curves(record.histories, trials, phantom=phantom, reference=reference, floor=record.floor)
    drawn["learning_curves"] = ("Learning curves", curves)
    if not record.tables["coverage"].empty:
        looks = shown_looks(record.tables["coverage"])
        table = record.tables["coverage"][record.tables["coverage"]["looks"] == looks]
        figure = reliability_figure(pd.DataFrame(coverage_summary(table)), looks=looks, phantom=phantom)
        drawn["reliability"] = (f"Voxel intervals of {record.names[str(best)]}, test patients", figure)
    return drawn


def shown_looks(table: pd.DataFrame) -> int:
    """Number of augmentations whose intervals are shown: the usual one, where measured."""
    measured = set(table["looks"])
    return DEFAULT_LOOKS if DEFAULT_LOOKS in measured else int(max(measured))


def about_strongest(record: Record, compared: pd.DataFrame | None) -> list[str]:
    """The kappa of the best network beside the strongest baseline's and its own core's, as points of the findings."""
    if compared is None or record.strongest is None:
        return []
    rows = compared[(compared["trial"] == record.facts["best"]) & (compared["figure"] == "contrast_kappa")]
    strongest, label = record.strongest["baseline"], record.names[str(record.facts["best"])]
    names = {strongest: f"the strongest baseline ({strongest})", OWN_CORE: "the core that it predicts itself, painted,"}
    return [
        f"Where it enhances: {label} has a kappa of {row.value:.2f}, {names[row.against]} "
        f"{row.reference:.2f}; difference {row.difference:+.2f} ({row.low:+.2f} to {row.high:+.2f})."
        for row in rows.itertuples()
    ]


def about_intervals(record: Record) -> list[str]:
    """Coverage of the best network's intervals, as a point of the findings."""
    table = record.tables["coverage"]
    if table.empty:
        return []
    table = table[(table["looks"] == shown_looks(table)) & np.isclose(table["level"], NOMINAL)]
    name = record.names[str(record.facts["best"])]
    measured = describe_coverage(coverage_summary(table))
    return [f"{NOMINAL:.0%} voxel intervals of {name}, calibrated on validation patients: {measured}."]


def front_points(record: Record, card: pd.DataFrame) -> pd.DataFrame:
    """One row per network or baseline: brain MAE over test patients, and the concordance of the contrast."""
    rows = summarise(record.patients).set_index("trial")
    phases = dict(zip(record.trials["trial"], record.trials["phase"]))
    points = pd.DataFrame(
        {
            "label": rows["label"],
            "kind": ["baseline" if is_baseline(trial) else phases[trial] for trial in rows.index],
            "mae_brain": rows["mae_brain_mean"],
        }
    )
    figures = card[card["figure"] == "contrast_concordance"].set_index("trial").reindex(points.index)
    names = {"value": "contrast_concordance", "low": "contrast_concordance_low", "high": "contrast_concordance_high"}
    points = points.join(figures[list(names)].rename(columns=names))
    return points.reset_index(drop=True)


def search_figures(record: Record) -> dict[str, tuple[str, Figure]]:
    """The front of the guided search, where there was one."""
    searched = record.tables["search"]
    if searched.empty or searched["value"].isna().all():
        return {}
    pair = {"val/mae_brain": "mae_brain", "val/contrast_pooled": "contrast_pooled"}
    if not set(pair) <= set(searched.columns):
        return {}
    grid = record.trials[record.trials["phase"] == "grid"]
    points = pd.concat([searched.assign(kind="search"), grid.assign(kind="grid")], ignore_index=True)
    points = points.rename(columns=pair)[["label", "kind", *pair.values()]].dropna()
    figure = front_figure(points, y="contrast_pooled", phantom=record.phantom, split="validation")
    return {"search_front": ("Fidelity against enhancement in the search, validation patients", figure)}


def about_search(record: Record) -> list[str]:
    """The meaning of the best search trial's row, as a point of the findings."""
    searched = record.tables["search"]
    chosen = record.trials[record.trials["phase"] == "search"]
    if searched.empty or chosen.empty:
        return []
    label = str(chosen["label"].iloc[0])
    row = searched[searched["label"] == label].drop(columns=["number", "label", "state", "value"]).iloc[0]
    # powers of ten are the weights of the loss, which its name shows
    drawn = {str(k): v for k, v in row.items() if not str(k).startswith(("val/", "log10 "))}
    settings = f" with {shown_settings(drawn)}" if drawn else ""
    return [
        f"{label} is the best of {plural(len(searched), 'trial')} of the guided search on validation patients: "
        f"{chosen['base'].iloc[0]}{settings}."
    ]
