"""Synthesis of the post-contrast T1 and classification of enhancement without gadolinium; see the README."""

import os

# Spinning threads take the core from the thread that they wait for when the machine is busy, and slow a forward pass
# down fivefold. OpenMP reads this once, when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def __getattr__(name: str) -> object:
    """Import `lab.synthesize` and `lab.synthesize_folder` on first use: torch takes seconds."""
    if name in ("synthesize", "synthesize_folder"):
        from lab.deploy import new_patients as doors

        return getattr(doors, name)
    raise AttributeError(f"module 'lab' has no attribute {name!r}")
