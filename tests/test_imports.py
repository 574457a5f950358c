"""The order of imports, read from the source: which package may import which, and tried where it matters."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ORDER = (
    ("config",),
    ("io", "stats"),
    ("phantom",),
    ("qc",),
    ("data",),
    ("evaluation",),
    ("synthesis", "radiomics"),
    ("report",),
    ("tracking",),
    ("inference",),
    ("experiments",),
    ("deploy",),
    ("registry",),
    ("cli",),
    ("__main__",),
)
"""Packages of the lab; each may import those before it."""
ROOMS = {name: rank for rank, names in enumerate(ORDER) for name in names}
WIDEST, LONGEST = 15, 300
"""Files in a folder, lines in a file."""
SERVED = "lab/deploy/serve/network_loader.py"
"""What MLflow runs to load a served network."""
TORCH = tuple(f"lab/{name}/" for name in ("evaluation", "synthesis", "tracking", "inference", "experiments", "deploy"))
SCRIPTS = ("studies", "radiomics")


def imports(path: Path) -> list[str]:
    """Dotted names of all modules that a file imports, at its top or late."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def room(module: str) -> str | None:
    """The room of a module of the lab: `lab.data.cohort` is in `data`."""
    parts = module.split(".")
    return parts[1] if parts[0] == "lab" and len(parts) > 1 else None


FILES = {str(path.relative_to(ROOT)): imports(path) for path in sorted((ROOT / "lab").rglob("*.py"))}
SCRIPT_FILES = {
    str(path.relative_to(ROOT)): imports(path) for folder in SCRIPTS for path in sorted((ROOT / folder).glob("*.py"))
}


def files_that_import(package: str) -> set[str]:
    everything = FILES | SCRIPT_FILES
    return {file for file, names in everything.items() if any(name.split(".")[0] == package for name in names)}


def test_every_room_is_known():
    found = {room(file.removesuffix(".py").replace("/", ".")) for file in FILES} - {"__init__"}
    assert found <= set(ROOMS)
    assert len(FILES) > 40


@pytest.mark.parametrize("file", FILES)
def test_imports_run_downwards_only(file):
    own = room(file.removesuffix(".py").replace("/", "."))
    if own not in ROOMS:
        return
    for name in FILES[file]:
        other = room(name)
        assert name.split(".")[0] not in SCRIPTS or name.startswith("radiomics.featureextractor"), f"{file}: {name}"
        if other is not None:
            assert ROOMS[other] < ROOMS[own] or other == own, f"{file} imports {name}"


def test_no_folder_is_wider_than_a_shelf():
    counts = Counter(str(path.parent) for path in (ROOT / "lab").rglob("*") if path.is_file() and path.suffix != ".pyc")
    assert {folder: count for folder, count in counts.items() if count > WIDEST} == {}


def test_no_file_is_longer_than_a_sitting():
    lengths = {file: len((ROOT / file).read_text(encoding="utf-8").splitlines()) for file in FILES}
    assert {file: length for file, length in lengths.items() if length > LONGEST} == {}


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("mlflow", ("lab/tracking/", SERVED)),
        ("optuna", ("lab/experiments/", "studies/", "lab/tracking/")),
        ("matplotlib", ("lab/report/",)),
        ("monai", ("lab/synthesis/", "lab/inference/")),
        ("nibabel", ("lab/io/", "lab/phantom/", "lab/data/", "lab/deploy/")),
        ("torch", ("lab/data/batches.py", "lab/data/augment.py", *TORCH)),
    ],
)
def test_packages_stay_in_their_rooms(package, allowed):
    assert [file for file in files_that_import(package) if not file.startswith(allowed)] == []


def closure(*modules: str) -> set[str]:
    """Files of the lab that are read when modules are imported: their imports at the top, and so on.

    Imports in functions and for type checkers do not count, nor do the `__init__` of packages.
    """
    found, left = set(), list(modules)
    while left:
        path = ROOT / f"{left.pop().replace('.', '/')}.py"
        if path.is_file() and path not in found:
            found.add(path)
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.Import):
                    left += [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    left += [f"{node.module}", *(f"{node.module}.{alias.name}" for alias in node.names)]
    return {str(path.relative_to(ROOT)) for path in found if path.is_relative_to(ROOT / "lab")}


@pytest.mark.parametrize(
    ("modules", "most"),
    [
        (("lab.deploy.new_patients",), 45),
        (("lab.experiments.synthesis.study", "lab.experiments.synthesis.finish"), 70),
    ],
)
def test_a_command_reads_few_files(modules, most):
    found = closure(*modules)
    assert len(found) <= most, sorted(found)


def test_the_judge_is_not_the_optimiser():
    assert not any("losses" in name for name in FILES["lab/evaluation/image_errors.py"])
    assert not any("metrics" in name for name in FILES["lab/synthesis/losses/image_losses.py"])


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_training_needs_neither_tracking_nor_scans():
    """Another program can train with torch, numpy, pandas and tyro alone."""
    code = """
import sys
for name in ("mlflow", "optuna", "monai", "nibabel", "nilearn", "SimpleITK", "matplotlib", "radiomics", "WORC"):
    sys.modules[name] = None  # its import raises
from lab.data import batches
from lab.data import cohort
from lab.evaluation import evaluate
from lab.inference import tiling
from lab.synthesis import losses
from lab.evaluation import image_errors as metrics
from lab.synthesis.networks import paper as models
from lab.synthesis import baselines as rivals
from lab.synthesis import train
print(len(losses.LOSSES), len(metrics.METRICS), len(models.MODELS))
"""
    assert python(code) == "10 10 5"


def test_preparation_needs_no_torch():
    """Neither to prepare scans nor to make the phantom, nor for the classifier arm and the report."""
    modules = [
        file.removesuffix(".py").replace("/", ".")
        for file in FILES
        if file.startswith(
            ("lab/io/", "lab/stats/", "lab/phantom/", "lab/qc/", "lab/data/", "lab/radiomics/", "lab/report/")
        )
        and not file.endswith(("__init__.py", "batches.py", "augment.py"))
    ]
    code = f"""
import importlib, sys
for name in ("torch", "mlflow", "optuna", "monai"):
    sys.modules[name] = None
for name in {modules}:
    importlib.import_module(name)
print("all")
"""
    assert python(code) == "all"
