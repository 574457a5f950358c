"""The model card says what the store holds, and says phantom, force and refusal where they belong."""

from __future__ import annotations

import numpy as np
import pytest
from gated import classifier_run, network_run, patients

from lab.config import GateSettings
from lab.experiments.synthesis.configurations import ABOUT
from lab.experiments.synthesis.scoring import with_groups
from lab.registry.gate import GateRefused, promote_through_gate
from lab.report.text.model_card import shortened_card
from lab.tracking.run import Run
from lab.tracking.store import connect

QUICK = GateSettings(resamples=300)
HEADINGS = (
    "Intended use", "Out of scope", "Training data", "Evaluation", "Uncertainty", "Limits measured", "Gate", "Licence",
    "Versions", "How to load it",
)  # fmt: skip


def card(run: str, name: str, version: str = "1") -> str:
    text = Run(run).read_text(f"registered/{name}-version-{version}/model_card.md")
    described = connect().get_model_version(name, version).description
    assert set(described.partition("\n\n*Shortened")[0].splitlines()) <= set(text.splitlines())
    assert len(described) < 5000
    return text


@pytest.fixture(scope="module")
def network():
    table = patients(range(30), 0.6, noise=1)
    table["vendor"] = ["GE"] * 26 + ["Philips"] * 4
    run = network_run("carded", table)
    connect().log_param(run, "clinical.use", "('age', 'sex')")
    promote_through_gate(run, "carded", "champion", settings=QUICK)
    return run


def test_the_card_of_a_network_has_all_its_parts(network):
    text = card(network, "carded")
    assert text.startswith("# Model card: carded, version 1\n")
    assert "**For research only, not for diagnosis.**" in text
    assert [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")] == list(HEADINGS)
    assert "phantom" not in text.lower()
    assert "FORCED" not in text
    for part in (
        f"run: {network} (carded)",
        "- clinical covariates: age, sex, where they are known",
        "- digest: " + "d" * 32,
        "- patients in test: 30",
        "- grid: 80 x 96 x 80 voxels of 2 mm, RAS",
        "against no champion yet: **passed**",
        "| contrast concordance | linear regression |",
        "torch==2.13.0, mlflow==3.17.2",
        "models:/carded/1",
        "Apache License 2.0",
    ):
        assert part in text, part


def test_its_figures_are_those_of_the_patients_by_group(network):
    text = card(network, "carded")
    table = Run(network).read_table("test_patients.csv")
    made_up = table["hallucinated_ml_expert"]
    assert f"| all patients | MAE, brain | {table['mae_brain'].mean():.3f} (" in text
    for group, count in (("enhancing", 18), ("not enhancing", 12), ("GE", 26)):
        (row,) = [line for line in text.splitlines() if line.startswith(f"| {group} | MAE, brain |")]
        assert row.endswith(f"| {count} |")
    assert "| Philips | fewer than 5 patients or too few of a kind: no figures | - | 4 |" in text
    assert f"do not enhance: {made_up.mean():.1f} ml on average, {made_up.max():.1f} ml in the worst" in text


def test_groups_are_made_of_what_the_cohort_knows():
    table = patients(range(30), 0.6, noise=1)
    number = np.arange(30)
    table["grade"] = np.where(number < 12, 4, np.where(number < 20, 2, np.nan))
    table["field_strength_t"] = np.where(number < 20, 3.0, 1.5)
    table["age"] = 30 + 1.5 * number
    table["sex"] = ["F", "M"] * 15
    run = network_run("grouped", table)
    promote_through_gate(run, "grouped", settings=QUICK)
    text = card(run, "grouped")
    ages = (("under 45", 10), ("45 to 64", 14), ("65 and over", 6))
    groups = [("grade 4", 12), ("grade 2", 8), ("3 T", 20), ("1.5 T", 10), ("sex F", 15), ("sex M", 15)]
    for group, count in (*groups, *((f"age {name}", count) for name, count in ages)):
        (row,) = [line for line in text.splitlines() if line.startswith(f"| {group} | MAE, brain |")]
        assert row.endswith(f"| {count} |")
    assert "are not known" not in text


def test_a_table_of_a_cohort_that_knows_nothing_says_so(tiny_cohort):
    table = patients(range(2), 0.6).assign(case_id=list(tiny_cohort.index.index[:2]))
    index = tiny_cohort.index
    known = with_groups(table, index)
    assert list(known.columns[len(table.columns) :]) == [name for name in ABOUT if index[name].notna().any()]
    assert known["vendor"].tolist() == index["vendor"].head(2).tolist()
    empty = with_groups(table, index.assign(**dict.fromkeys(ABOUT, None)))
    assert list(empty.columns) == list(table.columns)


def test_phantom_and_force_come_first():
    run = network_run("dummy", patients(range(30), 0.2), phantom=True)
    with pytest.raises(GateRefused):
        promote_through_gate(run, "dummy-phantom", "champion", settings=QUICK)
    assert "**refused**" in card(run, "dummy-phantom")
    promote_through_gate(run, "dummy-phantom", "champion", settings=QUICK, force="for a demonstration")
    lines = [line for line in card(run, "dummy-phantom").splitlines() if line]
    assert "The gate was held 2 times for this version" in card(run, "dummy-phantom")
    assert lines[0] == "# Model card: dummy-phantom, version 1 (phantom)"
    assert lines[1].startswith("> **PHANTOM.** This model learned from simulated patients")
    assert lines[2].startswith("> **FORCED.** The gate refused this version;")
    assert lines[2].endswith(": for a demonstration")
    assert "FORCED" in connect().get_model_version("dummy-phantom", "1").description


def test_a_challenger_has_a_card_without_a_gate():
    run = classifier_run("carded classifier", 40, 1.0)
    promote_through_gate(run, "probably", settings=QUICK)
    text = card(run, "probably")
    assert "tell that a tumour is enhancing" in text
    assert "| all patients | auc | 0.80 (" in text.replace("AUC", "auc")
    assert "| GE | AUC | 0.80 (0.70 to 0.90) | 30 |" in text
    assert "| Siemens | fewer than 5 patients or too few of a kind: no figures | - | 6 |" in text
    assert "4 x 5-fold cross-validation" in text
    assert "No gate was held for this version" in text
    assert "python -m lab classify --model models:/probably/1" in text


def test_a_long_card_is_cut_at_a_paragraph_and_says_so():
    text = "\n\n".join(f"paragraph {number} " + "x" * 50 for number in range(20))
    short = shortened_card(text, 500, "artifact a of run b")
    assert len(short) <= 500
    assert short.endswith("\n\n*Shortened, without its end; the whole card: artifact a of run b.*\n")
    assert short.partition("\n\n*Short")[0] in text
    assert shortened_card("brief", 500, "") == "brief"


def test_a_long_card_goes_without_what_is_needed_least():
    rows = ["| patients | figure |", "|---|---|", "| all patients | MAE |", *["| GE | MAE |"] * 40]
    names = ("Intended use", "Out of scope", "Evaluation", "Limits measured", "Versions")
    bodies = {name: f"what is said of {name}" for name in names} | {"Evaluation": "Tested.\n\n" + "\n".join(rows)}
    text = "# Model card\n\n" + "\n\n".join(f"## {name}\n\n{body}" for name, body in bodies.items()) + "\n"
    short = shortened_card(text, 341, "there")
    assert len(short) <= 341
    assert "| all patients | MAE |" in short
    assert "GE" not in short
    assert "## Limits measured\n\nwhat is said of Limits measured" in short
    assert "## Versions" not in short
    assert '*Shortened, without figures by group, "Versions"; the whole card: there.*' in short
    assert "## Out of scope" in short
    less = shortened_card(text, 276, "there")
    assert "## Out of scope" not in less
    assert "## Evaluation" in less
