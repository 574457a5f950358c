"""Parsers of clinical values in the usual spellings. Unknown is `None`; other text raises ValueError."""

import functools
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Concatenate, ParamSpec, TypeVar

from lab.data.layouts.subject import Remark

P = ParamSpec("P")
T = TypeVar("T")
UNKNOWN = {  # spellings of unknown values, in lower case; NOS and NEC are the WHO's (Louis 2018)
    *("", "-", "--", ".", "?", "-1", "-1.0", "-9", "-99", "-999", "-9999", "9999", "#n/a", "#na", "n.a.", "n/a", "na"),
    *("nan", "none", "null", "nil", "unknown", "unk", "undetermined", "indeterminate", "indeterminant", "equivocal"),
    *("nos", "nec", "nos/nec", "not reported", "not available", "not tested", "not done", "not known", "missing"),
    *("pending", "inconclusive", "not otherwise specified", "not elsewhere classified", "unclear"),
}
LONGEST = 200  # maximum number of characters of a value
ROMAN = {"I": 1, "II": 2, "III": 3, "IV": 4}
VENDORS = {"siemens": "Siemens", "philips": "Philips", "ge": "GE", "toshiba": "Toshiba", "canon": "Canon"}
AGE = r"(?P<number>[+-]?[\d.,]+)\s*(?P<unit>y|yrs?\.?|years?|y/?o\.?|months?|weeks?|days?)?(\s*old)?"
DICOM_AGE = r"(?P<number>\d{3})(?P<unit>[YMWD])"
A_YEAR = {"y": 1.0, "m": 12.0, "w": 365.25 / 7, "d": 365.25}
YES = {"yes", "y", "true", "t", "positive", "pos", "present"}
NO = {"no", "n", "false", "f", "negative", "neg", "absent"}
MUTANT = {"mutant", "mutated", "mut", "mutation", "idhmutant", "idhmutated", "idhmut", "mutatednos"}
WILDTYPE = {"wildtype", "wt", "wild", "idhwildtype", "idhwt", "nonmutant", "nonmutated", "notmutated", "unmutated"}
CODELETED = {"codeleted", "codel", "codeletion", "1p19qcodeleted", "1p19qcodel", "deleted"}
INTACT = {"intact", "noncodel", "noncodeleted", "notcodeleted", "1p19qintact", "nocodeletion", "notdeleted"}


def _text(value: Any) -> str | None:
    if isinstance(value, dict | list):
        raise ValueError(f"a {type(value).__name__} is not a value")
    text = "" if value is None else str(value).strip()
    if len(text) > LONGEST or "\0" in text:
        raise ValueError(f"{text[:LONGEST]!r} is not one value")
    return None if text.casefold() in UNKNOWN else text


def _number(text: str) -> float:
    """A number with point or decimal comma; anything else is a ValueError."""
    if not re.fullmatch(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)(e[+-]?\d+)?", text, flags=re.IGNORECASE):
        raise ValueError(f"{text!r} is not a number")
    return float(text.replace(",", "."))


def _within(number: float, high: float, text: str, what: str) -> float | None:
    """The number up to `high`, `None` for 0 and below (EGD writes -1), else a ValueError."""
    if number > high:
        raise ValueError(f"{text!r} is not {what}")
    return number if number > 0 else None


def _of_text(parse: Callable[Concatenate[str, P], T]) -> Callable[Concatenate[Any, P], T | None]:
    """Extend a parser of text to any value, with `None` for unknown ones."""

    @functools.wraps(parse)
    def parse_value(value: Any, *args: P.args, **options: P.kwargs) -> T | None:
        text = _text(value)
        return None if text is None else parse(text, *args, **options)

    return parse_value


@_of_text
def parse_age(text: str) -> float | None:
    """Age in years: 67, "67,5", "67Y", "67 years old", DICOM's "067Y", "804M", "020W", "010D". Raises ValueError."""
    found = re.fullmatch(DICOM_AGE, text) or re.fullmatch(AGE, text, flags=re.IGNORECASE)
    if found is None:
        raise ValueError(f"{text!r} is not an age in years")
    unit = (found["unit"] or "y")[0].lower()
    return _within(_number(found["number"]) / A_YEAR[unit], 120, text, "an age in years")


@_of_text
def parse_field(text: str) -> float | None:
    """Field strength in tesla: 1.5, "1,5", "1.5T", "3 Tesla". Raises ValueError."""
    number = _number(re.sub(r"\s*t(esla)?\.?$", "", text.casefold()))
    return _within(number, 20, text, "a field strength in tesla")


@_of_text
def parse_grade(text: str) -> int:
    """WHO grade 1-4 in Arabic or Roman figures, "WHO IV", "grade 4". Raises ValueError, also for several grades."""
    bare = re.sub(r"^((cns|who|grade|grad|gr|g)[\s:.°_-]*)+|[\s°]+$", "", text.casefold()).upper()
    if bare in ROMAN:
        return ROMAN[bare]
    if not re.fullmatch(r"[1-4]([.,]0+)?", bare):
        raise ValueError(f"{text!r} is not one WHO grade (1-4)")
    return int(bare[0])


@_of_text
def parse_flag(text: str, yes: set[str], no: set[str], what: str) -> int | None:
    """1 or 0 for one of the words of `yes` or `no`, or of `YES` or `NO`. Raises ValueError."""
    if re.fullmatch(r"-?[01][.,]?0*", text):
        number = _number(text)
        return None if number < 0 else int(number)
    word = re.sub(r"[\s_/().-]", "", text.casefold())
    if word in yes or word in YES:
        return 1
    if word in no or word in NO:
        return 0
    raise ValueError(f"{text!r} is not {what}")


@_of_text
def parse_idh(text: str) -> int | None:
    """IDH status: 1 mutant (also by the mutation, "IDH1 p.R132H"), 0 wild type. Raises ValueError."""
    if re.fullmatch(r"(idh[12]?)?[\s:_-]*(p\.)?\s*r1[37]2[a-z](\s*mut\w*)?", text.casefold()):
        return 1
    return parse_flag(text, MUTANT, WILDTYPE, "an IDH status (mutant, wild type)")


def parse_codeletion(value: Any) -> int | None:
    """1p/19q status: 1 codeleted, 0 intact. Raises ValueError."""
    return parse_flag(value, CODELETED, INTACT, "a 1p/19q status (codeleted, intact)")


def parse_bool(value: Any) -> bool | None:
    """Yes or no in any usual spelling. Raises ValueError."""
    flag = parse_flag(value, set(), set(), "yes or no")
    return None if flag is None else bool(flag)


@_of_text
def parse_sex(text: str) -> str:
    """`M` or `F`; other text is returned unchanged."""
    return {"m": "M", "male": "M", "f": "F", "female": "F"}.get(text.casefold(), text)


@_of_text
def parse_vendor(text: str) -> str:
    """Short name of a scanner's vendor: `Philips Medical Systems` is `Philips`."""
    return VENDORS.get(text.casefold().split()[0], text)


@_of_text
def parse_label(text: str) -> int:
    """Mask value of a tumour part, 1 to 255. Raises ValueError."""
    number = _number(text)
    if not (math.isfinite(number) and number == int(number) and 1 <= number <= 255):
        raise ValueError(f"{text!r} is not a whole number from 1 to 255; leave it empty if the mask has no such part")
    return int(number)


CLINICAL: dict[str, Callable[[Any], Any]] = {
    "grade": parse_grade,
    "age": parse_age,
    "sex": parse_sex,
    "idh": parse_idh,
    "codeletion": parse_codeletion,
    "vendor": parse_vendor,
    "field_strength_t": parse_field,
}


def parse_clinical(raw: Mapping[str, Any]) -> tuple[dict[str, Any], list[Remark]]:
    """Values by the keys of `CLINICAL`; one that cannot be understood is unknown, with a remark."""
    known: dict[str, Any] = {}
    remarks = []
    for name, value in raw.items():
        try:
            known[name] = CLINICAL[name](value)
        except ValueError:
            known[name] = None
            found = f"a {type(value).__name__}" if isinstance(value, dict | list) else repr(value)[:60]
            remarks.append(Remark(f"{name} not understood, taken as unknown", found))
    return known, remarks
