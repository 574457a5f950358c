"""What people type of a patient: understood where it is plain, unknown where nothing is said, else a ValueError."""

from __future__ import annotations

import pytest

from lab.data.layouts.clinical import (
    parse_age,
    parse_bool,
    parse_clinical,
    parse_codeletion,
    parse_field,
    parse_flag,
    parse_grade,
    parse_idh,
    parse_label,
    parse_vendor,
)

PLAIN = {
    parse_age: {
        67: ("67Y", "067Y", "67", "67,0", "67 years old", "67 y/o", "804M", " 67 "),
        0.5: ("6 months", "006M"),
        None: ("", "-1", "NA", "n/a", "unknown", 0, -1, float("nan"), None),
    },
    parse_field: {1.5: ("1.5T", "1,5", "1.5 Tesla", 1.5), 3: ("3T", "3.0 t"), None: ("-1", "NOS")},
    parse_grade: {4: ("IV", "WHO IV", "WHO grade 4", "4.0", 4.0, "G4", "IV°"), 2: ("ii", "grade 2"), None: (-1, "NEC")},
    parse_idh: {
        1: ("1", "1.0", "Mutated", "IDH-mutant", "IDH1 p.R132H", "IDH1 R132H mutant", "positive", "mutated (NOS)"),
        0: ("0", "0,0", "wild type", "Wild-type", "WT", "negative"),
        None: ("-1", "-1.00", "NOS", "NEC", "indeterminate", "NOS/NEC", "?"),
    },
    parse_codeletion: {1: ("codeleted", "1p/19q co-deleted"), 0: ("intact", "Non-codeleted"), None: ("not tested",)},
    parse_bool: {True: ("yes", "TRUE", "1"), False: ("n", "False", "0.0"), None: ("",)},
    parse_label: {4: ("4", 4, "4.0", "4,0"), None: ("", "-1")},
}
ODD = {
    parse_age: ("67M", "~67", ">89", "1950", "60-65", [67], "6 7"),
    parse_field: ("15000", "high", "1.5T/3T"),
    parse_grade: ("II-III", "2/3", 0, "0", 5, "-4", "HGG", "III or IV"),
    parse_idh: ("maybe", "+/-", "1?", "2", "R132H negative", 0.5),
    parse_codeletion: ("partial",),
    parse_bool: ("2", "perhaps"),
    parse_label: ("0", "999", "2.5", "1e400", "abc"),
    parse_vendor: ([], {}, [[]], "x" * 9000, "GE\0"),
}


@pytest.mark.parametrize("parse", PLAIN, ids=lambda parse: parse.__name__)
def test_plain_values_are_understood(parse):
    for meant, written in PLAIN[parse].items():
        for value in written:
            assert parse(value) == meant, value


@pytest.mark.parametrize("parse", ODD, ids=lambda parse: parse.__name__)
def test_odd_values_are_refused(parse):
    for value in ODD[parse]:
        with pytest.raises(ValueError, match="is not"):
            parse(value)


def test_an_odd_value_is_unknown_and_the_others_stay():
    known, remarks = parse_clinical({"age": "63y", "grade": "II-III", "idh": "mutant"})
    assert known == {"age": 63, "grade": None, "idh": 1}
    assert remarks == [("grade not understood, taken as unknown", "'II-III'")]


def test_words_of_ones_own():
    assert parse_flag("High", {"high"}, {"low"}, "high or low") == 1
    with pytest.raises(ValueError, match="'middle' is not high or low"):
        parse_flag("middle", {"high"}, {"low"}, "high or low")
