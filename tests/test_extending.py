"""Every recipe of docs/extending.md, carried out in a copy of the code and run as a user would."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from watching import quick_path

ROOT = Path(__file__).parents[1]
RECIPES = ("A loss", "A network", "A training method", "A layout", "A figure", "A study")
TINY = (
    *("--spacing", "8", "--epochs", "1", "--model.width", "2", "--model.depth", "2"),
    *("--train.batch-size", "4", "--train.device", "cpu", "--study.workers", "1"),
)
DRIVER = """
import json, runpy, sys
import lab.experiments.synthesis.study

run, parsed = lab.experiments.synthesis.study.run_synthesis_study, []

def script(words):
    sys.argv[:] = words
    try:
        runpy.run_path(words[0], run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise

commands, studies = json.loads(sys.argv[1])
lab.experiments.synthesis.study.run_synthesis_study = lambda study, settings: parsed.append(list(study.grid))
for words in commands:
    script(words)
lab.experiments.synthesis.study.run_synthesis_study = run
for words in studies:
    script(words)
print(json.dumps(parsed))
"""
"""Reads the commands up to where a study would start, then runs two studies."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A section of the page."""

    files: dict[str, str]
    """New files."""
    lines: dict[str, list[tuple[str, str]]]
    """File -> the line above and the new line, of each line that is added."""
    commands: list[list[str]]


def read_recipes() -> dict[str, Recipe]:
    sections = re.split(r"^## (.+)\n", (ROOT / "docs" / "extending.md").read_text(), flags=re.MULTILINE)[1:]
    return {title: read_recipe(text) for title, text in zip(sections[::2], sections[1::2])}


def read_recipe(text: str) -> Recipe:
    files: dict[str, str] = {}
    lines: dict[str, list[tuple[str, str]]] = {}
    for path, kind, block in re.findall(r"`([\w/]+\.py)`:\n\n```(python|diff)\n(.*?)```", text, flags=re.DOTALL):
        if kind == "python":
            files[path] = block
            continue
        rows = block.splitlines()
        lines[path] = [(rows[at - 1][1:], row[1:]) for at, row in enumerate(rows) if row.startswith("+")]
    commands = re.findall(r"^python (studies/.*)", text, flags=re.MULTILINE)
    return Recipe(files=files, lines=lines, commands=[shlex.split(command) for command in commands])


@pytest.fixture(scope="module")
def flat_tree(tiny_phantom, tmp_path_factory) -> Path:
    """The phantoms as the recipe of a layout has them."""
    out = tmp_path_factory.mktemp("data") / "flat"
    out.mkdir()
    for path in tiny_phantom.rglob("*.nii.gz"):
        shutil.copy(path, out / f"{path.parent.name}.{path.name}")
    return out


def test_a_recipe_is_one_file_and_two_lines():
    recipes = read_recipes()
    assert tuple(recipes) == RECIPES
    for recipe in recipes.values():
        assert len(recipe.files) == 1
        assert sum(map(len, recipe.lines.values())) <= 2
        assert recipe.commands


@pytest.mark.slow
def test_all_recipes_together_are_a_study(flat_tree, fresh_databases, tmp_path):
    code, recipes = tmp_path / "code", read_recipes()
    for part in ("lab", "studies"):
        shutil.copytree(ROOT / part, code / part, ignore=shutil.ignore_patterns("__pycache__"))
    for recipe in recipes.values():
        for path, text in recipe.files.items():
            assert not (code / path).exists()
            (code / path).write_text(text)
        for path, added in recipe.lines.items():
            before = (code / path).read_text()
            for above, line in added:
                assert before.count(f"{above}\n") == 1, f"{path}: {above}"
                before = before.replace(f"{above}\n", f"{above}\n{line}\n")
            (code / path).write_text(before)

    data = ("--data", str(flat_tree))
    commands = [words for recipe in recipes.values() for words in recipe.commands]
    commands = [[str(flat_tree) if word == "/data/flat" else word for word in words] for words in commands]
    everything = (
        *("studies/architecture.py", "--networks", "dilated", "--losses", "charbonnier"),
        *("--method", "averaged"),
    )
    studies = [[*everything, *data, *TINY], ["studies/width.py", "--widths", "2", *data, *TINY[:4], *TINY[6:]]]
    shutil.copytree(fresh_databases, tmp_path / "runs")
    own = {"PYTHONPATH": quick_path(code), "LAB_RUNS": str(tmp_path / "runs"), "OMP_NUM_THREADS": "1"}
    # MLflow leaves the store of this process in the environment, where the studies would end up
    around = {
        name: value for name, value in os.environ.items() if name not in ("MLFLOW_TRACKING_URI", "OPTUNA_STORAGE")
    }
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps([commands, studies])],
        cwd=code, env=around | own, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr

    grids = json.loads(done.stdout.splitlines()[-1])
    assert "charbonnier" in grids[0]
    assert any("dilated" in label for label in grids[1])
    assert grids[-1] == ["width 4", "width 8"]
    assert done.stdout.count("Study finished") == 2
    (index,) = (tmp_path / "runs").rglob("index.csv")
    assert len(pd.read_csv(index)) == 12
    tables = [pd.read_csv(path) for path in (tmp_path / "runs").rglob("test_patients.csv")]
    assert tables
    assert all(table["brain_bias"].notna().all() for table in tables)
    pages = [path.read_text() for path in (tmp_path / "runs").rglob("report.html")]
    assert pages
    assert all("brain bias" in page for page in pages)
