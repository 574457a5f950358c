"""How much of a gadolinium scan can be had without gadolinium? See the README."""

import os

# Threads that wait for each other by spinning take the core from the one they wait for, as soon as something else runs
# on the machine: a forward pass then took five times as long. OpenMP reads this once, when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def __getattr__(name: str) -> object:
    """`lab.synthesize` and `lab.synthesize_folder`, imported when they are asked for: torch takes seconds."""
    if name in ("synthesize", "synthesize_folder"):
        from lab.deploy import new_patients as doors

        return getattr(doors, name)
    raise AttributeError(f"module 'lab' has no attribute {name!r}")
