from io import StringIO

import numpy as np
import pandas as pd
import pytest

from lab.evaluation.figures import ERRORS
from lab.report.pages.html import item_html
from lab.report.tables.paired_tests import paired_tests
from lab.report.tables.paper_table import paper_table
from lab.report.tables.patient_table import summarise
from lab.report.tables.published import comparable
from lab.report.tables.table import WIDTH, Table
from lab.report.text.findings import findings
from lab.report.text.notes import study_note

ON_EGD = {"phantom": False, "dataset": "EGD", "spacing_mm": 1.0, "width": 64, "depth": 5}
FAIR, SMALLER = comparable(**ON_EGD), comparable(**(ON_EGD | {"width": 8}))
PHANTOM = comparable(**(ON_EGD | {"phantom": True}))


def best(table: Table, column: str) -> set[str]:
    """Labels of the rows that are marked as a column's best."""
    place = 1 + ERRORS.index(column)
    return {str(row.cells[0]) for row in table.rows if row.kind != "published" and table.cell(row, place)[2]}


def published_of(table: Table) -> set[str]:
    """Labels of the networks that a published row follows."""
    kinds = [row.kind for row in table.rows]
    return {str(row.cells[0]) for row, after in zip(table.rows, kinds[1:]) if after == "published"}


@pytest.fixture
def beside(patients):
    """The table with published rows: models 0 and 3 with SSIM are in the paper's architecture study, L1 is not."""
    return paper_table(patients, study="architecture", comparison=SMALLER, phantom=False, dataset="EGD")


def test_means_and_sds_are_those_of_a_hand_computation(patients):
    row = summarise(patients).set_index("trial").loc[2]
    values = patients.loc[patients["trial"] == 2, "mae_brain"].tolist()
    mean = sum(values) / len(values)
    assert row["mae_brain_mean"] == pytest.approx(mean)
    assert row["mae_brain_sd"] == pytest.approx((sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5)


def test_empty_regions_are_not_counted(patients):
    rows = summarise(patients)
    assert (rows["mae_tumour_n"] == 7).all()
    assert (rows["mae_brain_n"] == 8).all()
    known = patients[(patients["trial"] == 0) & (patients["case_id"] != "case-03")]
    assert rows.set_index("trial").loc[0, "ssim_tumour_mean"] == pytest.approx(known["ssim_tumour"].mean())


def test_a_region_empty_in_every_patient_gives_dashes_not_nan(patients):
    table = paper_table(patients.assign(mae_tumour=np.nan), study="architecture", comparison=FAIR, phantom=False)
    for text in (table.text(), table.markdown(), item_html(table)):
        assert "nan" not in text


def test_trials_are_grouped_by_loss_and_rivals_come_last(patients):
    mixed = pd.concat([patients[patients["trial"] == trial] for trial in ("copy T1", 3, 0, 2, "linear regression", 1)])
    assert summarise(mixed)["trial"].tolist() == [3, 2, 0, 1, "copy T1", "linear regression"]


def test_scans_of_one_patient_are_averaged_first(patients):
    twice = patients.assign(patient_id=patients["case_id"].replace("case-01", "case-00"))
    row = summarise(twice).set_index("trial").loc[0]
    values = patients[patients["trial"] == 0].set_index("case_id")["mae_brain"]
    by_patient = [values[["case-00", "case-01"]].mean(), *values.drop(["case-00", "case-01"])]
    assert row["mae_brain_n"] == 7
    assert row["mae_brain_mean"] == pytest.approx(np.mean(by_patient))


def test_best_is_low_for_errors_and_high_for_ssim(patients):
    rows = summarise(patients)
    table = paper_table(patients, study="architecture", comparison=FAIR, phantom=False)
    for column in ("mae_brain", "ssim_brain"):
        means = rows.set_index("label")[f"{column}_mean"].astype(float)
        winner = means.idxmin() if column == "mae_brain" else means.idxmax()
        assert winner in best(table, column)
        assert "copy T1" not in best(table, column)


def test_equal_to_the_digits_shown_means_equally_best(patients):
    tied = patients.assign(mae_brain=patients["trial"].map({0: 0.01001, 1: 0.01002}).fillna(0.5))
    table = paper_table(tied, study="architecture", comparison=FAIR, phantom=False)
    assert best(table, "mae_brain") == {"model 0, L1", "model 3, L1"}


def test_console_table_is_aligned_and_fits(beside, patients):
    lines = beside.text().splitlines()
    assert max(map(len, lines)) <= WIDTH
    row = next(line for line in lines if line.startswith("model 0, SSIM"))
    assert f"{summarise(patients).set_index('trial').loc[2, 'mae_brain_mean']:.3f}" in row
    assert lines[lines.index(row) + 1].startswith("  published")
    assert sum("*" in line for line in lines[:-8]) >= 1


def test_long_labels_do_not_break_the_console_table(patients):
    long = patients.assign(
        label=patients["label"].astype(str) + ", width 32, depth 4, instance norm, learning rate 0.001"
    )
    table = paper_table(long, study="architecture", comparison=PHANTOM, phantom=True)
    assert max(map(len, table.text().splitlines())) <= WIDTH


def test_published_figures_stand_only_beside_networks_of_the_paper(beside, patients):
    assert published_of(beside) == {"model 0, SSIM", "model 3, SSIM"}
    one = paper_table(patients, study="architecture", comparison=FAIR, phantom=False, beside=[3])
    assert published_of(one) == {"model 3, SSIM"}
    assert "0.737" in beside.text()
    assert "orientation only" in beside.text()
    assert "width 8" in item_html(beside)
    assert item_html(beside).count('class="published"') == 2
    numbers = pd.read_csv(StringIO(beside.csv()))
    assert numbers.set_index("label").loc["model 0, SSIM", "published_ssim_brain_mean"] == 0.737
    assert np.isnan(numbers.set_index("label").loc["model 0, L1", "published_ssim_brain_mean"])


def test_phantom_withholds_the_published_figures_everywhere_and_says_phantom(patients):
    table = paper_table(patients, study="architecture", comparison=PHANTOM, phantom=True, dataset="EGD")
    assert "phantom" in table.title
    for text in (table.text(), table.markdown(), item_html(table), table.csv()):
        assert "phantom" in text
        assert "0.737" not in text
    assert "published_" not in table.csv()
    with pytest.raises(ValueError, match="phantom"):
        paper_table(patients, study="architecture", comparison=FAIR, phantom=True)


def test_csv_holds_every_number_unrounded(patients, beside):
    numbers = pd.read_csv(StringIO(beside.csv()))
    assert len(numbers) == 6
    for column in ERRORS:
        expected = summarise(patients)[f"{column}_mean"].to_numpy(float)
        np.testing.assert_allclose(numbers[f"{column}_mean"], expected, rtol=1e-5)


def test_html_is_escaped_and_counts_its_best_cells(patients):
    nasty = patients.assign(label=patients["label"].replace("model 0, L1", "<script>alert(1)</script>"))
    text = item_html(paper_table(nasty, study="own", comparison=FAIR, phantom=False, dataset="<b>"))
    assert "<script>" not in text
    assert "&lt;b&gt;" in text
    assert text.count('class="best"') >= 9


def test_wrong_tables_are_refused(patients):
    with pytest.raises(ValueError, match="lacks"):
        summarise(patients.drop(columns="mse_brain"))
    with pytest.raises(ValueError, match="empty"):
        summarise(patients[:0])
    with pytest.raises(ValueError, match="twice"):
        summarise(pd.concat([patients, patients[:1]]))


def test_findings_begin_with_the_network_that_validation_chose(patients, tests):
    first = findings(patients, tests, phantom=False, best=2)[0]
    assert first.startswith("Best on validation: model 0, SSIM. On 8 test patients its MAE of the brain")
    assert "Trivial baselines: " in first
    other = findings(patients, tests, phantom=False, best=0)[0]
    assert "Best on validation: model 0, L1." in other
    assert "the lowest of 4 networks is model " in other


def test_findings_name_a_difference_only_where_the_corrected_test_does(patients, tests):
    clear = " ".join(findings(patients, tests, phantom=False, best=2))
    assert "find a difference" in clear
    assert "of the 12 paired Wilcoxon tests" in clear
    unclear = " ".join(findings(patients, tests.assign(p_holm=tests["p_holm"] * 0 + 1), phantom=False, best=2))
    assert "may be chance" in unclear
    assert "better" not in unclear
    for nothing in (None, paired_tests(patients)):
        assert "No paired test" in " ".join(findings(patients, nothing, phantom=False))


def test_findings_point_the_right_way(patients):
    pair = {"n": 8, "p": 0.001, "p_holm": 0.01, "a": "copy T1", "b": 2, "against": "copy T1"}
    pair["rank_biserial"] = 1.0
    lower = pd.DataFrame([{"metric": "mae_brain", "median_difference": 0.05, **pair}])  # copy T1 has more error
    assert "against copy T1 1 better, 0 worse" in " ".join(findings(patients, lower, phantom=False))
    higher = pd.DataFrame([{"metric": "ssim_brain", "median_difference": 0.05, **pair}])  # copy T1 has more SSIM
    text = " ".join(findings(patients, higher, phantom=False, metric="ssim_brain"))
    assert "against copy T1 0 better, 1 worse" in text


def test_findings_say_when_patients_are_too_few_and_when_they_are_simulated(patients):
    against = [2, "copy T1", "linear regression"]
    few = patients[patients["case_id"] < "case-06"]
    text = " ".join(findings(few, paired_tests(few, against=against), phantom=True, best=2))
    assert "may be chance" in text
    assert "simulated" in text
    three = patients[patients["case_id"] < "case-03"]
    text = " ".join(findings(three, paired_tests(three, against=against), phantom=True, best=2))
    assert "No paired test on MAE, brain was made (it takes 6 patients" in text


@pytest.mark.parametrize("phantom", [True, False])
def test_the_note_answers_first_and_ranks_by_validation(patients, tests, phantom):
    comparison = PHANTOM if phantom else SMALLER
    validation = {0: 0.09, 1: 0.08, 2: 0.07, 3: 0.1, "copy T1": 0.05}
    words = findings(patients, tests, phantom=phantom, best=2)
    note = study_note(
        "Which one?",
        words,
        patients,
        validation=validation,
        best=2,
        phantom=phantom,
        comparison=comparison.sentence,
    )
    lines = note.splitlines()
    assert "Best on validation: model 0, SSIM" in lines[0]
    assert ("Phantom" in lines[0]) == phantom
    rows = [line.split(" &emsp;")[0].strip("|* ") for line in lines if line.startswith("| ")][1:]
    assert rows == ["model 0, SSIM", "model 3, L1", "model 0, L1", "model 3, SSIM", "copy T1", "linear regression"]
    assert comparison.sentence.split(";")[0] in note
