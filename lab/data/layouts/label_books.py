"""Label books: the meaning of the values of a tumour mask per data set, given by the user or inferred."""

from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from lab.data.layouts.subject import Subject

_ADULT_2021 = {"necrosis": 1, "oedema": 2, "enhancing": 4}
_ADULT_2023 = {"necrosis": 1, "oedema": 2, "enhancing": 3}
_TREATED = {"non-enhancing": 1, "oedema": 2, "enhancing": 3, "cavity": 4}
LABEL_BOOKS: dict[str, dict[str, int]] = {  # name -> part of the tumour -> its value
    # BraTS 2012-2015: 3 is solid tumour that does not enhance (Menze 2015)
    "brats2015": {"necrosis": 1, "oedema": 2, "non-enhancing": 3, "enhancing": 4},
    "brats2021": _ADULT_2021,  # BraTS 2017-2021 (Baid 2021, arXiv:2107.02314)
    "brats2023": _ADULT_2023,  # adult glioma, BraTS-Africa (arXiv:2305.19369)
    "brats2024": _TREATED,  # after treatment: 4 is the resection cavity (arXiv:2405.18368)
    "brats-met": _TREATED,  # BraTS-MET 2025
    "brats-men": _ADULT_2023,  # meningioma (arXiv:2305.07642)
    # BraTS-PED 2024 (arXiv:2404.15009), and 2023 with three values (arXiv:2305.17033)
    "brats-ped": {"enhancing": 1, "non-enhancing": 2, "cyst": 3, "oedema": 4},
    "brats-ped2023": {"non-enhancing": 1, "oedema": 2, "enhancing": 3},
    "ucsf-pdgm": _ADULT_2021,  # Calabrese 2022
    "upenn-gbm": _ADULT_2021,  # Bakas 2022
    "ucsf-post-treatment": _TREATED,
    "msd": {"oedema": 1, "non-enhancing": 2, "enhancing": 3},  # Medical Segmentation Decathlon, Task01 (Antonelli 2022)
    "egd": {"tumour": 1},  # the whole tumour, none of it known to enhance (van der Voort 2021)
    "tumour": {},  # any mask: all values above 0 are tumour, none is known to enhance
}
ODD = 0.1  # the usual book is taken if fewer than this share of the masks do not fit it; those are left out
MANY = 10  # a book is excluded when none of at least this many masks has its enhancing part
ADVICE = ": name the label book (--data.labels; for prepare, synthesize and classify --labels)"
CORRECT = f"; correct the column, or{ADVICE[1:]}"
_Values = frozenset[int]


def set_book(subject: Subject, name: str) -> Subject:
    """The subject with its mask read by the book `name` of `LABEL_BOOKS`."""
    book = LABEL_BOOKS[name]
    values = frozenset({0, *book.values()}) if book else None
    enhancing, cavity = book.get("enhancing"), book.get("cavity")
    core = frozenset(book.values()) - {book["oedema"], cavity} if "oedema" in book else frozenset()
    subject = replace(subject, label_book=name, labels=values, core_labels=core)
    return replace(subject, enhancing_label=enhancing, cavity_label=cavity)


def describe_book(name: str) -> str:
    """A book in words: "brats2021 (1 necrosis, 2 oedema, 4 enhancing)"."""
    parts = ", ".join(f"{value} {part}" for part, value in sorted(LABEL_BOOKS[name].items(), key=lambda item: item[1]))
    return f"{name} ({parts or 'all values are tumour'})"


def format_values(values: _Values | set[int]) -> str:
    """Values in order, for messages."""
    return ", ".join(str(value) for value in sorted(values))


def read_values(subjects: list[Subject]) -> dict[str, _Values]:
    """Values above 0 of each mask that can be read, by case id."""
    from lab.io.scan import count_values, read_mask  # slow to import, and the names of the books are flags

    def values(mask: Path) -> _Values | None:
        try:
            return frozenset(count_values(read_mask(mask).data).nonzero()[0].tolist()) - {0}
        except ValueError:
            return None

    masks = {subject.case_id: subject.mask for subject in subjects if subject.mask is not None and not subject.fault}
    from lab.io.pool import count_cores

    with ThreadPoolExecutor(min(8, count_cores())) as pool:  # mostly decompression, which runs in parallel
        found = dict(zip(masks, pool.map(values, masks.values())))
    return {case_id: one for case_id, one in found.items() if one}


def name_books(
    subjects: list[Subject], books: Callable[[str], tuple[str | None, ...]], name: str, say: Callable[[str], None]
) -> list[Subject]:
    """The subjects with the label books of their masks.

    `books` is `Layout.label_books`, `name` a key of `LABEL_BOOKS` or `auto`. Where values are ambiguous, or a mask does
    not fit, the subject has a `mask_fault`. Raises ValueError for unknown names.
    """
    if name == "auto":
        groups: dict[tuple[str | None, ...], list[Subject]] = defaultdict(list)
        for subject in subjects:
            column = subject.enhancing_label
            groups[books(subject.case_id) if column is None else ("column", str(column))].append(subject)
        chosen = [one for names, group in groups.items() for one in _guess(group, names, say)]
        return sorted(chosen, key=lambda subject: subject.case_id)
    if name not in LABEL_BOOKS:
        raise ValueError(f"unknown label book {name!r}: choose one of auto, {', '.join(LABEL_BOOKS)}")
    fault = f"in the table, but the label book is {describe_book(name)}; correct one of them"
    return [
        set_book(subject, name)
        if (column := subject.enhancing_label) in (None, LABEL_BOOKS[name].get("enhancing"))
        else replace(set_book(subject, name), mask_fault=f"enhancing_label {column} {fault}")
        for subject in subjects
    ]


def _guess(group: list[Subject], names: tuple[str | None, ...], say: Callable[[str], None]) -> list[Subject]:
    usual, *others = names
    if usual == "column":
        return _by_column(group, read_values(group))
    if usual is not None and not others:
        return [set_book(subject, usual) for subject in group]
    found = read_values(group)
    children = any({3, 4} <= values for values in found.values())  # a cyst beside oedema, in any book
    known = [name for name in names if name and (name != "brats-ped" or usual is None or children)]
    odd = [values for values in found.values() if usual is None or not _fits(usual, values)]
    if usual is not None and len(odd) < ODD * len(found):
        return [set_book(subject, usual) for subject in group]
    sure = _only(known, list(found.values()))
    if sure is not None and found:
        first, book = group[0].case_id, describe_book(sure)
        say(f"Masks of {first} and {len(group) - 1} more: labels of {book}, by the values they hold")
        return [set_book(subject, sure) for subject in group]
    return [_by_itself(subject, found.get(subject.case_id, frozenset()), known, usual) for subject in group]


def _fits(name: str, values: _Values) -> bool:
    return values <= set(LABEL_BOOKS[name].values())


def _agree(names: list[str], values: _Values) -> bool:
    """Whether books agree on the enhancing value and the cavity value among some values."""

    def parts(book: dict[str, int]) -> frozenset[tuple[str, int | None]]:
        return frozenset((part, book.get(part)) for part in ("enhancing", "cavity") if book.get(part) in values)

    return len({parts(LABEL_BOOKS[name]) for name in names}) == 1


def _only(names: list[str], found: list[_Values]) -> str | None:
    """The one book that explains all masks, where no two others explain a part of them each."""
    everything = frozenset().union(*found)
    if len(found) >= MANY:
        seen = [name for name in names if LABEL_BOOKS[name]["enhancing"] in everything]
        names = seen or names
    whole = [name for name in names if _fits(name, everything)]
    if not whole or not _agree(whole, everything):
        return None
    others = [name for name in names if name not in whole]
    return whole[0] if any(not any(_fits(other, values) for other in others) for values in found) else None


def _by_itself(subject: Subject, values: _Values, names: list[str], usual: str | None) -> Subject:
    """A subject of a data set that no single book explains: usable if all fitting books agree on its mask's values."""
    fitting = [name for name in names if _fits(name, values)] if values else []
    if fitting and _agree(fitting, values):
        return set_book(subject, fitting[0])
    fault = None
    if values:
        several = " or ".join(describe_book(name) for name in fitting or names)
        fault = f"{subject.mask}: holds the labels {format_values(values)}, which may be those of {several}{ADVICE}"
    named = set_book(subject, usual or names[0])
    return replace(named, mask_fault=fault, label_book=None if fault else named.label_book)


def _by_column(group: list[Subject], found: dict[str, _Values]) -> list[Subject]:
    """Subjects of a CSV with one `enhancing_label`; a fault where no mask holds it or another value seems meant."""
    label = group[0].enhancing_label
    everything = frozenset().union(*found.values())
    other = {3: 4, 4: 3}.get(label or 0)  # the enhancing value of other years of BraTS
    never_both = not any({label, other} <= values for values in found.values())
    named = [replace(subject, label_book=f"enhancing_label {label}") for subject in group]

    def fault(subject: Subject) -> str | None:
        values = found.get(subject.case_id)
        if not values or label in values:
            return None
        if label not in everything:
            which = f"none of the {len(found)} masks with" if len(found) > 1 else "not even the one mask with"
            found_all = format_values(everything)
            return f"{subject.mask}: {which} enhancing_label {label} holds {label}; found {found_all}{CORRECT}"
        if never_both and other in values:
            labels = f"holds the labels {format_values(values)}, not the enhancing_label {label}"
            return f"{subject.mask}: {labels}; in most data sets one of {label} and {other} enhances{CORRECT}"
        return None

    return [replace(subject, mask_fault=fault(subject)) for subject in named]
