"""Can this program prepare images as a model expects them? What it does not know it must not pass over."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

from lab.config import DataConfig
from lab.data.contract import Contract
from lab.io.files import canonical

METHODS = ("auto", "nonzero", "mni152")
"""Ways to find the brain, see `lab.data.brain_mask.brain_mask`."""
NEEDED = ("brain_mask", "clip_sigma", "enhancement_threshold", "enhancing_ml")
KNOWN = {field.name for field in fields(DataConfig)}


def checked_contract(known: dict[str, Any]) -> Contract:
    """A model's contract that this program can keep.

    Raises ValueError where something is missing, impossible or unknown: a setting that is unknown here was added by
    another version, and images prepared without it are not those that the model learned from.
    """
    contract = Contract.read(known)
    how = contract.preparation
    missing = [name for name in NEEDED if name not in how]
    if missing:
        raise ValueError(f"the model does not say how its images were prepared: no {', '.join(missing)}")
    unknown = sorted(set(how) - KNOWN)
    if unknown:
        raise ValueError(
            f"the model's images were prepared with {', '.join(unknown)}, which this version does not know; use the "
            "version that trained it"
        )
    if how["brain_mask"] not in METHODS:
        raise ValueError(f"the model's brain mask is {how['brain_mask']!r}; known are {', '.join(METHODS)}")
    above_zero = {"spacing_mm": contract.spacing_mm, "clip_sigma": how["clip_sigma"]}
    above_zero |= {f"shape {size}": size for size in contract.shape}
    for name, value in above_zero.items():
        if not isinstance(value, int | float) or not 0 < value < math.inf:
            raise ValueError(f"the model's {name} is {value!r}: it must be above 0")
    for name in ("enhancement_threshold", "enhancing_ml"):
        if not isinstance(how[name], int | float) or not math.isfinite(how[name]):
            raise ValueError(f"the model's {name} is {how[name]!r}: no number")
    names = [canonical(name) for name in contract.inputs]
    if not names or len(set(names)) < len(names) or canonical(contract.target) in names:
        raise ValueError(f"the model makes {contract.target} of {', '.join(contract.inputs) or 'nothing'}: impossible")
    return contract
