"""What the predictions of each method are called, wherever they are shown together."""

from __future__ import annotations

OURS = "radiomics"
WORC = "WORC"
VOLUME = "tumour volume"
CLINICAL = "clinical (age, sex)"
SYNTHETIC = "synthetic enhancement"


def one_sequence(sequence: str) -> str:
    """The same pipeline with the features of one sequence: "T1 only"."""
    return f"{sequence} only"


def synthetic(network: str) -> str:
    """Millilitres that a synthesis network draws: "synthetic enhancement (model 1, L1_brain)"."""
    return f"{SYNTHETIC} ({network})"
