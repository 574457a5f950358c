import re
from html.parser import HTMLParser

import pytest
from constructed import long_table, spread_of

from lab.report.figures.box_plots import box_plots
from lab.report.pages.study import StudyReport, study_page
from lab.report.tables.paired_tests import paired_tests
from lab.report.tables.paper_table import paper_table, tables_inside_patches
from lab.report.tables.published import comparable
from lab.report.tables.scorecard import pooled_scorecard
from lab.report.text.findings import findings
from lab.stats.effects import effects

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Outline(HTMLParser):
    """Fails on a tag that is closed out of order; keeps headings and images."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[str] = []
        self.images: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.images.append(dict(attrs)["src"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("h1", "h2"):
            self.headings.append(data)


def build(patients, trials, *, phantom=True, best=2, **changes):
    comparison = comparable(phantom=phantom, dataset="EGD", spacing_mm=1, width=64, depth=5)
    tests = paired_tests(patients, against=[best, "copy T1", "linear regression"])
    settings = {
        "study": "architecture",
        "question": "Which network is closest to the truth?",
        "phantom": phantom,
        "scores": paper_table(patients, study="architecture", comparison=comparison, phantom=phantom, dataset="EGD"),
        "findings": findings(patients, tests, phantom=phantom, best=best),
        "figures": {"Scores of every patient": box_plots(patients, phantom=phantom, metrics=("mae_brain",))},
        "cohort": {"patients": 8, "digest": "abc123"},
        "settings": {"train.epochs": 300, "data.inputs": ("T1", "T2"), "data.path": None},
        "trials": trials,
        "tests": tests,
        "names": {"0": "model 0, L1"},
    }
    return study_page(StudyReport(**(settings | changes)))


@pytest.fixture(scope="module")
def page(patients, trials):
    return build(patients, trials)


def test_the_page_has_all_its_parts_in_order(page):
    outline = Outline(page)
    assert outline.headings == [
        "Study architecture (phantom)", "Question", "Findings", "What was run", "Scores", "Figures",
        "Paired tests and effect sizes", "Cost", "Settings",
    ]  # fmt: skip
    for text in ("Which network is closest", "abc123", "train.epochs", "T1, T2", "model 3, SSIM", "3M"):
        assert text in page


def test_the_page_needs_nothing_from_elsewhere(page):
    images = Outline(page).images
    assert len(images) == 1
    assert images[0].startswith("data:image/png;base64,iVBOR")
    assert not re.search(r"(https?:)?//[a-z]", page.replace(images[0], ""))
    assert "<script" not in page


def test_the_phantom_is_named_and_published_figures_are_withheld(page, patients, trials):
    assert "every patient in this report is simulated" in page
    assert 'class="published"' not in page
    real = build(patients, trials, phantom=False)
    assert "simulated" not in real
    assert 'class="published"' in real


def test_every_text_is_escaped(patients, trials):
    nasty = "<img src=x onerror=alert(1)>"
    page = build(
        patients, trials.assign(label=nasty, state=nasty), study=nasty, question=nasty, findings=[nasty],
        cohort={nasty: nasty}, settings={nasty: [nasty]}, names={"0": nasty}, figures={nasty: b"png"},
    )  # fmt: skip
    assert nasty not in page
    assert "onerror" in page
    Outline(page)


def test_the_page_lists_the_tests_of_the_families_only(page):
    assert "MAE, brain: " in page
    assert "of 12 tests find a difference" in page  # 3 against the best, 4 and 5 against the rivals, of 15 pairs


@pytest.fixture(scope="module")
def full():
    """Every section: a scorecard, effects, spread and patches, with a slice figure given last."""
    networks = {"<i>full</i>": (1, "SSIM", 0.2), "64": (1, "SSIM", 0.6)}
    patients = long_table(networks, patients=10)
    tests = paired_tests(patients, against=[1, "copy T1", "linear regression"])
    card = pooled_scorecard(patients, resamples=50)
    comparison = comparable(phantom=True, dataset="", spacing_mm=2, width=8, depth=3)
    shared = {"study": "patch_size", "comparison": comparison, "phantom": True, "dataset": ""}
    trials = patients[patients["model"].notna()].drop_duplicates("trial")[["trial", "label", "model", "loss"]]
    return build(
        patients, trials.assign(epochs=3), best=1,
        scores=paper_table(patients, **shared), tests=tests, card=card, floor=0.024,
        findings=findings(patients, tests, phantom=True, best=1, card=card),
        effects=effects(
            patients, against=[1, "copy T1", "linear regression"], metrics=("mae_brain", "dice_rule"), resamples=50
        ),
        spread=spread_of(patients, seeds=2, folds=2),
        patches=tables_inside_patches(patients, patients, sizes={0: "full", 1: "64"}, **shared),
        figures={"Boxes": box_plots(patients, phantom=True, metrics=("mae_brain",))}, slices={"A patient": b"png"},
        names={str(key): label for key, label in zip(patients["trial"], patients["label"])},
    )  # fmt: skip


def test_a_page_with_everything_is_well_formed_and_in_order(full):
    assert Outline(full).headings == [
        "Study architecture (phantom)", "Question", "Findings", "What was run", "Scores", "Enhancement", "Patches",
        "Figures", "Paired tests and effect sizes", "Spread over seeds and folds", "Cost", "Settings",
    ]  # fmt: skip
    assert "<i>full" not in full
    assert "nan" not in re.sub(r'"data:[^"]*"', "", full)
    for text in ("below 0.024", "95 % interval", "rank-biserial", "inside its own patch", "SD, folds"):
        assert text in full
    for anchor in re.findall(r'href="#([^"]*)"', full):
        assert f'id="{anchor}"' in full


def test_slices_come_first_among_the_figures(full):
    assert full.index("A patient") < full.index('alt="Boxes"')
    assert full.index("<h3>Slices</h3>") < full.index("<h3>Numbers</h3>")


def test_every_effect_stands_beside_its_test(full):
    section = full[full.index('id="paired-tests-and-effect-sizes"') :]
    block = section.split("MAE, brain: ")[1].split("</details>")[0]
    rows = re.findall(r"<tr><th scope=\"row\">.*?</tr>", block)
    assert len(rows) == 6  # every pair of two networks and two rivals has a reference in it
    assert all(row.count("<td") == 7 for row in rows)


def test_a_page_without_tests_or_costs_says_so(patients, trials):
    page = build(patients, trials[:0], tests=None, figures={})
    assert "No paired test was made" in page
    assert "No cost was recorded" in page
