"""A table as any program writes it, and the rows of a CSV of scans with all that can be wrong in one of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.data.layouts.find import find_subjects
from lab.data.layouts.table import read_table

PLAIN = "case_id;T1;age;vendor\na;a.nii.gz;61,5;Siemens\nb;B.NII.GZ;;Müller\n"


def written(folder: Path, text: str | bytes, name: str = "scans.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_every_encoding_and_separator_gives_one_table(encoding, separator, tmp_path):
    a, b = find_subjects(written(tmp_path, PLAIN.replace(";", separator).encode(encoding)))
    assert (a.images, a.age, a.vendor) == ({"T1": tmp_path / "a.nii.gz"}, 61.5, "Siemens")
    assert (b.images, b.age, b.vendor) == ({"T1": tmp_path / "B.NII.GZ"}, None, "Müller")


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\n" + PLAIN,
        '"sep=;"\r\n' + PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        PLAIN.replace(";", ",").replace("61,5", '"61,5"'),
        " Case-ID ;T1; Age;VENDOR\n\n;;;\na ;a.nii.gz\u00a0;61.5;Siemens;;;\n;\nb;B.NII.GZ;NA;Müller\n",
        "Subject ID;T1;age;vendor\na;a.nii.gz;61,5;Siemens\nb;B.NII.GZ;unknown;Müller",
        "\n\n" + PLAIN,
    ],
)
def test_every_spelling_gives_one_table(text, tmp_path):
    a, b = find_subjects(written(tmp_path, text))
    assert (a.case_id, a.images, a.age, a.vendor) == ("a", {"T1": tmp_path / "a.nii.gz"}, 61.5, "Siemens")
    assert (b.case_id, b.images, b.age, b.vendor) == ("b", {"T1": tmp_path / "B.NII.GZ"}, None, "Müller")


def test_lines_are_those_of_the_file(tmp_path):
    table = read_table(written(tmp_path, 'sep=,\nid,note\n\n1,"two\nlines"\n2,x,y\n'))
    assert [(row.line, row.cells["id"]) for row in table.rows] == [(4, "1"), (6, "2")]
    assert table.rows[0].cells["note"] == "two\nlines"
    assert table.rows[0].fault is None
    assert "3 cells where the header has 2" in str(table.rows[1].fault)


LONG = "x" * 300
FAULTY = {
    f"{LONG},a.nii.gz,,": "case id of 300 letters",
    "../../x,a.nii.gz,,": "cannot be a file name",
    "..,a.nii.gz,,": "cannot be a file name",
    "x\0y,a.nii.gz,,": "cannot be a file name",
    '"x\ny",a.nii.gz,,': "cannot be a file name",
    ",a.nii.gz,,": "line 3: case_id is empty",
    "x,a\0b.nii.gz,,": "holds a character that no file name has",
    '"x","a\nb.nii.gz",,': "holds a character that no file name has",
    "x,a.nii.gz,999,": "enhancing_label: '999' is not a whole number from 1 to 255",
    "x,a.nii.gz,0,": "enhancing_label: '0' is not a whole number",
    "x,a.nii.gz,,perhaps": "skull_stripped: 'perhaps' is not yes or no",
    "x,a.nii.gz,3,yes,more": "5 cells where the header has 4",
    "A,a.nii.gz,,": "the case ids A and a differ only in capitals",
    "a,b.nii.gz,,": "case a occurs 2 times",
}


@pytest.mark.parametrize("row", FAULTY, ids=lambda row: repr(row[:20]))
def test_a_row_that_cannot_be_used_costs_one_patient(row, tmp_path):
    text = f"case_id,T1,enhancing_label,skull_stripped\na,a.nii.gz,,\n{row}\nz,z.nii.gz,,no\n"
    subjects = find_subjects(written(tmp_path, text))
    faults = [subject.fault for subject in subjects if subject.fault]
    assert faults
    assert all(FAULTY[row] in fault for fault in faults)
    assert subjects[-1].case_id == "z" or subjects[-1].fault
    assert [subject.fault for subject in subjects if subject.case_id == "z"] == [None]


def test_a_row_that_stands_twice_is_taken_once(tmp_path):
    lines: list[str] = []
    (subject,) = find_subjects(written(tmp_path, "id,T1,age\na,a.nii.gz,3\na,a.nii.gz,3\n"), say=lines.append)
    assert (subject.fault, subject.age) == (None, 3)
    assert "taken once" in lines[0]


def test_odd_cells_are_counted_on_the_screen(tmp_path):
    rows = "".join(
        f"p{number},a{number}.nii.gz,{age},WHO IV\n" for number, age in enumerate(("63y", "67M", "~5", "1", "x"))
    )
    lines: list[str] = []
    subjects = find_subjects(written(tmp_path, "patient,T1,age,grade\n" + rows), say=lines.append)
    assert [subject.age for subject in subjects] == [63, None, None, 1, None]
    assert {subject.grade for subject in subjects} == {4}
    assert lines == ["3 of 5 scans: age not understood, taken as unknown ('67M' of p1, '~5' of p2, 'x' of p4)"]


def test_a_long_remark_is_no_path(tmp_path):
    (subject,) = find_subjects(written(tmp_path, f"case_id,T1,T1 remark\na,a.nii.gz,{LONG}\n"))
    assert subject.images.keys() == {"T1"}
