"""Assignment of scans to patients by table, pattern, names, and equal scans.

A split that separates two scans of one person leaks silently, while merging two persons costs next to nothing; so names
with time points of one person are one patient unless the user says otherwise. A bare running number is no time point.
"""

import json
import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lab.data.duplicates import Pair
from lab.data.layouts.subject import Subject
from lab.io.files import format_some

_DAY = r"(?:0[1-9]|[12]\d|3[01])"
_MONTH = r"(?:0[1-9]|1[0-2])"
_YEAR = r"(?:19|20)\d\d"
_NUMBERED = (
    r"(?:time[-_. ]?point|time|tp|visit|vis|ses|session|follow[-_. ]?up|fu|week|wk|month|mo|day|year|yr|exam|acq|run|"
    r"rep)"
    r"[-_. ]?\d{1,4}[a-z]?(?:[-_.]\d{1,2}(?=$|[-_. ]))?|ses-[a-z0-9]+|scan[-_. ]?\d{1,2}"
)
_WORDS = (
    r"(?:pre|post|intra)[-_. ]?(?:op(?:erative)?|surgery|rt|treatment)?\d{0,2}|baseline|base|bl|initial|"
    r"follow[-_. ]?up|fu|recurrence|relapse|progression|before|after|first|second|third|early|late|rescan|retest|"
    r"repeat|copy\d*|duplicate\d*|nadir|1st|2nd|3rd|[4-9]th"
)
_AFTER = (
    r"[tv]\d{1,2}|m\d\d|d\d{1,4}|y\d|mri[-_. ]?\d{1,2}|visit[-_. ][a-e]|"
    r"\d{1,3}(?:months?|mo|m|weeks?|wks?|w|days?|years?|yrs?|y)"
)
_MONTH_NAME = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
_CLOCK = r"(?:[t_-](?:[01]\d|2[0-3])[-_.:]?[0-5]\d(?:[-_.:]?[0-5]\d)?)?"
_AT = r"(?:^|(?<=[-_. ]))"
TIME = re.compile(  # time points in names: a date, `time1`, `ses-2`, `week-000-1`, `FU016d`, `pre`, `baseline`
    rf"{_AT}{_YEAR}[-_.]?{_MONTH}[-_.]?{_DAY}{_CLOCK}(?=$|[-_. ])|{_AT}{_DAY}[-_.]{_MONTH}[-_.]{_YEAR}(?=$|[-_. ])|"
    rf"{_AT}{_MONTH}[-_.]{_DAY}[-_.]{_YEAR}(?=$|[-_. ])|{_AT}{_DAY}[-_. ]?{_MONTH_NAME}[-_. ]?{_YEAR}(?=$|[-_. ])|"
    rf"(?:^|(?<=[-_. \d]))(?:{_NUMBERED}|{_WORDS})(?=$|[-_. ])|(?<=[-_. ])(?:{_AFTER})(?=$|[-_. ])",
    re.IGNORECASE,
)
NUMBERED = re.compile(
    r"(.*-\d{5})-\d{3}|((?:UPENN-GBM-\d{5}|UCSD-PTGBM-\d{4}))_\d{2}|(BraTS-MEN-RT-\d{4})-\d|(RHUH-\d{4})[-_]\d",
    re.IGNORECASE,
)
"""Data sets whose last number is the time point: BraTS since 2023, UPENN-GBM, UCSD-PTGBM, RHUH-GBM."""
NOBODY = {  # words that name no person: `patient_time1` and `patient_time2` stay two
    *("", *["case", "patient", "subject", "sub", "pat", "subj", "scan", "scans", "study", "mri", "mr", "brain", "id"]),
    *["gbm", "hgg", "lgg", "glioma", "glioblastoma", "astro", "oligo", "met", "mets", "meningioma", "tumor", "tumour"],
    *["train", "training", "val", "validation", "test", "control", "healthy", "dataset", "data", "cohort"],
}
GROUP = re.compile(r"(?:site|cent(?:er|re)|hospital|group|grade|fold|batch)[-_. ]?(?:\d{1,2}|[a-z])", re.IGNORECASE)
"""Names of groups, not of persons: `site1_M01` and `site1_M02` stay two."""
MATCH_S = 10.0
MOST = 8  # merged groups that are printed


@dataclass(kw_only=True)
class PatientAssignment:
    """The patient of each case, and which cases were merged."""

    of: dict[str, str]  # patient by case id
    settled: set[str]  # cases whose patient the user named, by the column or by the pattern
    merged: list[dict[str, Any]] = field(default_factory=list)  # patient, cases and why, of each merged group
    notes: list[str] = field(default_factory=list)  # further messages for the user


def find_person(name: str) -> str:
    """A name without its time point, in one spelling: `100001_time2` and `100001` give `100001`."""
    return normalise_name(_without_time(name))


def _without_time(name: str) -> str:
    """A name without its time point, in its own spelling; the whole name where the rest names no person."""
    numbered = NUMBERED.fullmatch(name)
    rest = next(group for group in numbered.groups() if group) if numbered else TIME.sub("", name)
    rest = re.sub(r"([-_. ])[-_. ]+", r"\1", rest).strip("-_. ")
    return name if fold_spelling(rest) in NOBODY or GROUP.fullmatch(rest) else rest


def fold_spelling(name: str) -> str:
    """A name in one spelling of letters and spaces."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def normalise_name(name: str) -> str:
    """A name in a spelling that survives spreadsheets: `7.0` and `007` become `7`."""
    text = fold_spelling(name)
    if re.fullmatch(r"\s*\d+[.,]0+\s*", name):
        text = re.sub(r"(?<=\d)[.,]0+$", "", text)
    return text.lstrip("0") or "0" if text.isdecimal() else text


def find_patients(subjects: Sequence[Subject], pattern: str | None) -> PatientAssignment:
    """The patient of each subject: by `pattern` where it matches, else the table's `patient_id`, else by the name.

    Raises ValueError for a pattern that is not a regular expression, matches no case id, or takes too long.
    """
    taken = _match(pattern, [subject.case_id for subject in subjects]) if pattern is not None else {}
    given = {s.case_id: s.patient_id for s in subjects if s.patient_given} | taken
    found = PatientAssignment(of={}, settled=set(given))
    if taken and len(taken) < len(subjects):
        other = next(s.case_id for s in subjects if s.case_id not in taken)
        found.notes.append(
            f"--data.patient-pattern {pattern!r} matches {len(taken)} of {len(subjects)} case ids; the others, such as "
            f"{other}, are assigned without it"
        )
    keys = {case_id: name if case_id in taken else normalise_name(name) for case_id, name in given.items()}
    of_person: dict[str, set[str]] = {}
    for case_id, key in keys.items():
        of_person.setdefault(find_person(case_id), set()).add(key)
    groups: dict[str, list[Subject]] = {}
    for subject in subjects:
        name = find_person(subject.case_id)
        named = of_person.get(name, set())
        key = keys.get(subject.case_id) or (next(iter(named)) if len(named) == 1 else name)
        groups.setdefault(key, []).append(subject)
    for members in groups.values():
        _merge(found, members, given, taken)
    return found


def _merge(
    found: PatientAssignment, members: list[Subject], given: Mapping[str, str], taken: Mapping[str, str]
) -> None:
    """Merge a group of cases into one patient; recorded unless the table gives them the same name."""
    cases = [subject.case_id for subject in members]
    named = [given[case_id] for case_id in cases if case_id in given]
    written = {subject.patient_id for subject in members}
    if named:
        patient = named[0]
    else:
        patient = written.pop() if len(written) == 1 else min(map(_without_time, cases), key=lambda n: (len(n), n))
    found.of |= dict.fromkeys(cases, patient)
    if len(members) == 1:
        return
    if len(named) < len(members):
        why = "by their names, scans of one person"
    elif set(cases) & set(taken):
        why = "--data.patient-pattern"
    elif len(set(named)) > 1:
        why = f"patient_id {' and '.join(sorted(set(named)))} are one name in several spellings"
    else:
        return
    found.merged.append({"patient": patient, "cases": cases, "why": why})


def merge_same_scans(
    found: PatientAssignment, scans: Mapping[str, Iterable[str]], near: Sequence[Pair]
) -> dict[str, str]:
    """Merge patients of cases that share a scan (digests by used case) or nearly so; returns copy -> first case.

    Equal scans are one person whatever the table says; similar ones only where the user has not named both patients.
    """
    first: dict[str, str] = {}
    copies: dict[str, str] = {}
    for case_id in sorted(scans):
        for digest in scans[case_id]:
            one = first.setdefault(digest, case_id)
            if one != case_id and case_id not in copies:
                copies[case_id] = one
                _join(found, one, case_id, "they hold the same scan, byte for byte or voxel for voxel")
    for pair in near:
        if found.of[pair.one] == found.of[pair.other]:
            continue
        scale = f"similarity {pair.similarity:.2f}; 0 is the usual pair here, 1 the same scan"
        why = f"their scans show one head ({scale})"
        if {pair.one, pair.other} <= found.settled:
            found.notes.append(f"{pair.one} and {pair.other}: {why}; they stay two patients, as you named them")
        else:
            copies.setdefault(pair.other, pair.one)
            _join(found, pair.one, pair.other, why)
    return copies


def _join(found: PatientAssignment, one: str, other: str, why: str) -> None:
    """Merge the patient of `other` into that of `one`."""
    old, new = found.of[other], found.of[one]
    if old != new:
        found.of |= {case: new for case, patient in found.of.items() if patient == old}
        found.merged.append({"patient": new, "cases": [one, other], "why": why})


_MATCHER = """
import json, re, sys
pattern, names = json.load(sys.stdin)
found = {name: match for name in names if (match := re.search(pattern, name))}
print(json.dumps({n: m.group(1) if m.re.groups else m.group() for n, m in found.items()}))
"""


def _match(pattern: str, case_ids: list[str]) -> dict[str, str]:
    """The patient that the pattern finds in each case id; in its own process, since some patterns never end."""
    flag = f"--data.patient-pattern {pattern!r}"
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"{flag} is not a regular expression ({error})") from None
    text = json.dumps([pattern, case_ids])
    try:
        command = [sys.executable, "-I", "-c", _MATCHER]
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=MATCH_S, check=True)
    except subprocess.TimeoutExpired:
        raise ValueError(f"{flag} does not end within {MATCH_S:g} s; write it without nested repeats") from None
    found = {name: patient for name, patient in json.loads(done.stdout).items() if patient and patient.strip()}
    if not found:
        raise ValueError(
            f"{flag} finds a patient in none of {len(case_ids)} case ids, such as {', '.join(case_ids[:3])}; it takes "
            "the first group, or else the whole match: '^(.+)_time' takes 100001 from 100001_time1"
        )
    return found


def describe_patients(merged: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> list[str]:
    """Lines for the screen: merged patients, the reason, and how to overrule it."""
    lines = [f"One patient, {one['patient']}: {format_some(one['cases'], 5)} ({one['why']})" for one in merged[:MOST]]
    if len(merged) > MOST:
        lines.append(f"... and {len(merged) - MOST} more such groups: column patient_id of index.csv")
    if merged:
        lines.append("If these are several persons, name them: column patient_id of a CSV, or --data.patient-pattern")
    return [*lines, *notes]
