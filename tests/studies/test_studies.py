"""The scripts in `studies/` ask what the paper asked."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import optuna
import pytest

from lab.config import Config, LossConfig, override
from lab.report.tables.published import published
from lab.synthesis.losses import make_loss

STUDIES = sorted((Path(__file__).parents[2] / "studies").glob("*.py"))


def script(name: str) -> ModuleType:
    """A study as a module; its folder is no package."""
    path = next(path for path in STUDIES if path.stem == name)
    spec = importlib.util.spec_from_file_location(f"study_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def trials(grid: dict) -> set[tuple[int, str, str]]:
    """Model, loss and input size of every trial, as the published table names them."""
    found = set()
    for settings in grid.values():
        config = override(Config(), dict(settings))
        size = "full" if config.train.patch_mm is None else f"{config.train.patch_mm:g}"
        found.add((int(config.model.id.removeprefix("model-")), config.loss.name, size))
    return found


def paper(study: str) -> set[tuple[int, str, str]]:
    table = published()
    rows = table[table["study"] == study]
    return set(zip(rows["model"], rows["loss"], rows["input_size"]))


def test_architecture_trains_the_papers_fifteen_networks():
    module = script("architecture")
    assert trials(module.grid(module.Architecture())) == paper("architecture")


def test_losses_are_the_papers_seven_and_the_two_it_defines():
    module = script("losses")
    extra = {(0, "L1_enhancement", "full"), (0, "L2_enhancement", "full")}
    assert trials(module.grid(module.Losses())) == paper("losses") | extra


def test_patch_sizes_are_the_papers_with_model_1():
    module = script("patch_size")
    ours = {(1, loss, size) for _, loss, size in trials(module.grid(module.PatchSize()))}
    assert ours == paper("patch_size")


def test_the_mix_starts_from_the_papers_weights():
    module = script("mix_weights")
    assert [settings["loss.mix_weights"] for settings in module.grid(module.MixWeights()).values()] == [(1, 1, 1)]


def test_every_draw_of_the_mix_is_a_loss_and_zero_is_among_them():
    module = script("mix_weights")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [module.search(study.ask(), Config())["loss.mix_weights"] for _ in range(300)]
    for weights in drawn:
        make_loss(LossConfig(name="mix", mix_weights=weights))
        assert all(weight == 0 or 0.01 < weight <= 10 for weight in weights)
    for term in range(3):
        assert 0.05 < sum(weights[term] == 0 for weights in drawn) / 300 < 0.16


def test_weights_that_are_all_zero_stand_for_l1():
    module = script("mix_weights")
    lowest = optuna.trial.FixedTrial({f"log10 {term}": -2.2 for term in module.TERMS})
    assert module.search(lowest, Config()) == {"loss.mix_weights": (1.0, 0.0, 0.0)}


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_help_opens_with_the_question(path):
    done = subprocess.run([sys.executable, str(path), "--help"], capture_output=True, text=True, check=True)
    module = script(path.stem)
    assert " ".join(module.QUESTION.split()) in " ".join(done.stdout.replace("│", " ").split())
    assert "--repeats" in done.stdout
    assert "--folds" in done.stdout
