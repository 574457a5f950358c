"""A model's figures on its test patients with intervals, overall and by group, for its card and its tags."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from lab.evaluation.figures import FIGURES, shown_in, spec_of, split_truth
from lab.evaluation.pooled import compare_means, pooled
from lab.report.tables.table import Column, Row, Table

GROUPS = {"vendor": "{}", "field_strength_t": "{:g} T", "grade": "grade {:g}", "sex": "sex {}", "age": "age {}"}
"""Columns that make groups, and the format of their values; ages in `AGES`."""
AGES = {"under 45": 45, "45 to 64": 65, "65 and over": float("inf")}
"""Name of each age range in years and the start of the next."""
CLASSIFIER = {"auc": "auc", "ap": "average_precision", "brier": "brier", "slope": "calibration_slope"}
"""Column of `lab.radiomics.assess.assess.Assessment.performance` -> figure."""
TITLES = {"average_precision": "average precision", "brier": "Brier score", "calibration_slope": "calibration slope"}
EVERYBODY, EXTERNAL = "all patients", "external, "
"""Name of the group of all test patients, and the start of the name of another cohort."""
LEAST = 5
"""Fewest patients of a group with figures."""
COLUMNS = ["group", "figure", "truth", "value", "low", "high", "n"]


def network_figures(patients: pd.DataFrame, *, resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Figures by group: columns group, figure, truth ("expert", "rule" or ""), value, low, high, n (patients).

    `patients` has the columns of `lab.evaluation.evaluate.evaluate`, and any of `GROUPS`. Truth is the expert label
    where all have it. A group with fewer than `LEAST` patients has only n.
    """
    truth = "expert" if patients["ml_expert"].notna().all() else "rule"
    order = list(dict.fromkeys(split_truth(name)[0] for name in shown_in("model card")))
    means = [name for name in order if "pooled" not in FIGURES[name].shown]
    tables = []
    for group, part in groups(patients).items():
        count = part["patient_id"].nunique()
        if count < LEAST:
            tables.append(pd.DataFrame([{"group": group, "figure": "too few", "truth": "", "n": count}]))
            continue
        own = [_mean(part, name, resamples, seed) for name in means if part[name].notna().any()]
        card = pooled(part, resamples=resamples, seed=seed)
        kept = card[card["figure"].isin(order) & card["definition"].isin((truth, "")) & card["value"].notna()]
        table = pd.concat([pd.DataFrame(own), kept.rename(columns={"definition": "truth"})], ignore_index=True)
        tables.append(table.sort_values("figure", key=lambda names: names.map(order.index)).assign(group=group))
    return pd.concat(tables, ignore_index=True).reindex(columns=COLUMNS)


def classifier_card_figures(
    performance: pd.DataFrame, subgroups: pd.DataFrame, external: Mapping[str, pd.DataFrame] | None = None
) -> pd.DataFrame:
    """The same columns for a classifier, from the tables of `assess.Assessment` with the rows of one method.

    `external` holds the performance on other cohorts, by their names.
    """
    rows: list[dict[str, object]] = []
    for group, table in {EVERYBODY: performance, **{f"{EXTERNAL}{n}": t for n, t in (external or {}).items()}}.items():
        row = table.iloc[0]
        for name, title in CLASSIFIER.items():
            if pd.notna(row.get(name)):
                ends = {end: float(row[f"{name}_{end}"]) for end in ("low", "high")}
                own = {"figure": title, "value": float(row[name]), "n": int(row["patients"])}
                rows.append({"group": group, "truth": "", **own, **ends})
    for one in subgroups.to_dict("records"):
        known, word = pd.notna(one["auc"]), str(one["group"])
        group = f"{one['by'].partition('_')[0]} unknown" if word == "unknown" else word
        rows.append(
            {"group": group, "figure": "auc" if known else "too few", "truth": "", "n": int(one["n"])}
            | ({"value": one["auc"], "low": one["low"], "high": one["high"]} if known else {})
        )
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


def evaluation_table(figures: pd.DataFrame) -> Table:
    """The table of a card: group, figure, value with interval, patients."""
    rows = []
    for row in figures.itertuples():
        if row.figure == "too few":
            text = f"fewer than {LEAST} patients or too few of a kind: no figures"
            rows.append(Row(cells=[str(row.group), text, None, row.n]))
            continue
        title = TITLES.get(str(row.figure)) or spec_of(str(row.figure)).head
        title += f" ({row.truth})" if isinstance(row.truth, str) and row.truth else ""
        rows.append(Row(cells=[str(row.group), title, as_cell(str(row.figure), row.value, row.low, row.high), row.n]))
    heads = ("patients", "figure", "value (95 % interval)")
    return Table(columns=[*(Column(title=head) for head in heads), Column(title="n", decimals=0)], rows=rows)


def groups(patients: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Name of each group and its rows: all, by enhancement, and by known properties of scanner and tumour."""
    enhancing = patients["enhancing"].astype(float) > 0.5
    found = {EVERYBODY: patients, "enhancing": patients[enhancing], "not enhancing": patients[~enhancing]}
    for column, text in GROUPS.items():
        if column in patients:
            known = patients.dropna(subset=[column])
            values = known[column]
            if column == "age":
                values = pd.cut(values.astype(float), [-1, *AGES.values()], right=False, labels=list(AGES))
            for value, part in known.groupby(values, observed=True):
                found[text.format(value)] = part
    return {name: part for name, part in found.items() if len(part)}


def interval_tags(figures: pd.DataFrame) -> dict[str, str]:
    """Figures of all patients as tags of a version: "interval/kappa_expert" and "0.51 (0.40 to 0.63), n = 28"."""
    tags = {}
    for row in figures[figures["group"] == EVERYBODY].dropna(subset=["value"]).itertuples():
        name = f"{row.figure}_{row.truth}" if row.truth else str(row.figure)
        tags[f"interval/{name}"] = f"{row.value:.4g} ({row.low:.4g} to {row.high:.4g}), n = {row.n}"
    return tags


def as_cell(figure: str, value: float, low: float, high: float) -> str:
    """ "0.51 (0.40 to 0.63)"."""
    spec = spec_of(figure)
    known = low == low and high == high
    return spec.text(value) + (f" ({spec.text(low)} to {spec.text(high)})" if known else "")


def _mean(part: pd.DataFrame, column: str, resamples: int, seed: int) -> dict[str, object]:
    """The mean of a column with its interval, from a comparison with a column of zeros."""
    found = compare_means(part, part.assign(**{column: part[column] * 0}), column, resamples=resamples, seed=seed)
    return {"figure": column, "truth": "", "value": found.first, "low": found.low, "high": found.high, "n": found.n}
