"""A table of clinical values: what it says of each patient, and what is refused with the way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.data.layouts.subject import Subject
from lab.deploy.clinical_table import with_clinical

SCANS = [Subject(case_id="P1-a", patient_id="P1", sex="F"), Subject(case_id="P2-a", patient_id="P2", age=40)]


def table(folder: Path, text: str) -> Path:
    file = folder / "table.csv"
    file.write_text(text)
    return file


def test_a_row_gives_its_case_what_it_knows_and_takes_nothing_away(tmp_path):
    said: list[str] = []
    file = table(tmp_path, "Case-ID;Age;IDH;hospital\nP1-a;67Y;mutant;north\nP2-a;;wild type;north\nP9-a;50;;\n")
    first, second = with_clinical(SCANS, file, say=said.append)
    assert (first.age, first.sex, first.idh) == (67, "F", 1)
    assert (second.age, second.sex, second.idh) == (40, None, 0)
    assert said == []


def test_rows_may_be_of_patients_and_one_that_lacks_is_told(tmp_path):
    said: list[str] = []
    first, second = with_clinical(SCANS, table(tmp_path, "patient_id,grade\nP1,IV\n"), say=said.append)
    assert (first.grade, second) == (4, SCANS[1])
    assert said == [f"No row in {tmp_path / 'table.csv'}, so only what their scans' layout knows is used: P2-a"]


def test_one_patient_takes_the_only_row(tmp_path):
    (found,) = with_clinical(SCANS[:1], table(tmp_path, "sex\nmale\n"), say=print, single=True)
    assert found.sex == "M"
    with pytest.raises(ValueError, match=r"table\.csv: one row is needed for one patient, found 2; keep"):
        with_clinical(SCANS[:1], table(tmp_path, "case_id,age\nP1-a,50\nP2-a,60\n"), say=print, single=True)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("case_id,weight\nP1-a,70\n", "columns case_id and any of age, sex, .* are needed, found case_id, weight"),
        ("name,age\nP1-a,70\n", "columns case_id and any of .* are needed, found name, age"),
        ("case_id,age\nP7,70\nP8,60\n", "its rows are of P7, P8, the scans of P1-a, P2-a; write the names"),
        ("case_id,age\nP1-a,67X\n", "line 2: age: '67X' is not an age in years; correct it, or leave it empty"),
        ("case_id,age\nP1-a,67\nP1-a,68\n", "line 3: P1-a has a row already; keep one"),
        ("case_id,age\nP1-a,67,5\n", "line 2: 3 cells where the header has 2"),
    ],
)
def test_what_is_refused(text, told, tmp_path):
    with pytest.raises(ValueError, match=rf"^--clinical {tmp_path}/table\.csv(:|,) {told}"):
        with_clinical(SCANS, table(tmp_path, text), say=print)
