"""How much of a gadolinium scan can be had without gadolinium? See the README."""

import os

# Threads that wait for each other by spinning take the core from the one they wait for, as soon as something else runs
# on the machine: a forward pass then took five times as long. OpenMP reads this once, when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
