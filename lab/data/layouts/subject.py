"""Types of the layouts: a scan session of a patient, and the file layout of a data set."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple


class Remark(NamedTuple):
    """An anomaly of a patient that does not prevent its use."""

    what: str  # kind, by which remarks are counted: "age not understood, taken as unknown"
    found: str  # the value found: "'67X'"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One scan session of one patient: its files and the patient's clinical values (`None`: unknown)."""

    case_id: str
    patient_id: str
    patient_given: bool = False  # whether a table gives the patient; otherwise `patients` infers it from the name
    images: dict[str, Path] = field(default_factory=dict)  # path by canonical name of the sequence: T1, T2, FLAIR, T1GD
    mask: Path | None = None  # tumour mask or segmentation: 0 is healthy
    label_book: str | None = None  # meaning of the mask's values, a key of `LABEL_BOOKS`; the next four follow from it
    labels: frozenset[int] | None = None  # values the mask may hold; `None`: any
    enhancing_label: int | None = None  # value of enhancing tumour in the mask, where experts labelled it
    cavity_label: int | None = None  # value of a resection cavity in the mask, which is no tumour
    core_labels: frozenset[int] = frozenset()  # values of the tumour's core, where experts told it from oedema
    skull_stripped: bool = True
    grade: int | None = None
    age: float | None = None  # years
    sex: str | None = None
    idh: int | None = None  # 1 mutant, 0 wild type
    codeletion: int | None = None  # 1p/19q: 1 codeleted, 0 intact
    vendor: str | None = None
    field_strength_t: float | None = None
    fault: str | None = None  # why this patient cannot be used at all
    mask_fault: str | None = None  # why the mask's values are unclear; the scans can be used where no mask is needed
    remarks: tuple[Remark, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Layout:
    """File layout of a data set; see the recipe in docs/extending.md."""

    title: str  # the data set's name, for reports
    example: str  # a case id
    files: dict[str, str]  # T1, T2, FLAIR, T1GD and MASK -> path, in which `{id}` stands for the case id
    find: Callable[[list[Path]], list[Subject]]  # subjects among NIfTI files in this layout; for a `table` its rows
    label_books: Callable[[str], tuple[str | None, ...]]
    """Case id -> names of `LABEL_BOOKS`: the usual one of its mask (`None`: unknown), then the alternatives."""
    brain_mask: str = "nonzero"  # for skull-stripped scans; `mni152` for scans with the skull in MNI152 space
    table: bool = False  # whether the layout is a file that lists paths, not a folder
