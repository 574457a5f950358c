"""The scripts in `studies/` ask what the paper asked."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import optuna
import pytest

from lab.cli.study_command import settings_for
from lab.config import Config, LossConfig, override
from lab.report.tables.published import published
from lab.synthesis.losses import make_loss
from lab.synthesis.methods import METHODS

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


def test_every_method_is_compared_with_its_own_network_and_the_papers_comes_first():
    module = script("enhancement")
    grid = module.grid(module.Enhancement())
    first, paper = next(iter(grid.items()))
    assert first == "model 0, L1_brain"
    assert paper.items() >= {"train.method": "supervised", "model.id": "model-0", "train.patch_mm": None}.items()
    assert [settings["train.method"] for settings in grid.values()] == list(METHODS)
    assert all(METHODS[s["train.method"]].network in (None, s["model.id"]) for s in grid.values())


def test_an_equal_time_has_labels_of_its_own():
    module = script("enhancement")
    settings = module.Enhancement(methods=("supervised", "place-and-draw"), as_long_as="place-and-draw")
    assert list(module.grid(settings)) == ["model 0, L1_brain, as long as place-and-draw", "place-and-draw"]
    with pytest.raises(ValueError, match="--as-long-as place-and-draw: choose one of --methods"):
        module.grid(dataclasses.replace(settings, methods=("supervised",)))


def test_to_name_methods_or_networks_is_no_other_study():
    module, registry = script("enhancement"), {"varied": {}, "registry": True}
    words = ["--methods", "supervised", "place-and-draw", "--workers", "1"]
    named, usual = settings_for(module.Enhancement, words, **registry), settings_for(module.Enhancement, [], **registry)
    assert named.options == usual.options == {}
    changed = settings_for(module.Enhancement, ["--place-and-draw.steps", "5"], **registry)
    assert changed.options["place_and_draw"].steps == 5


def test_the_first_backbone_sets_size_and_time_for_the_others():
    module = script("backbones")
    settings = module.Backbones(networks=("0", "segresnet"))
    widths = {"segresnet": {"segresnet.init_filters": 4}}
    assert module.grid(settings, widths) == {
        "model 0": {"model.id": "model-0"},
        "segresnet": {"model.id": "segresnet", "segresnet.init_filters": 4},
        "segresnet, equal time": {"model.id": "segresnet", "segresnet.init_filters": 4, "train.epochs": 300},
    }
    assert list(module.grid(dataclasses.replace(settings, budgets=("time",)))) == ["model 0", "segresnet, equal time"]


def test_the_ablation_has_every_part_of_the_inputs_and_the_numbers_of_patients():
    module = script("ablation")
    settings = module.Ablation(patients=(50, 25))
    grid = module.grid(settings)
    inputs = {tuple(sorted(s.get("data.inputs", settings.data.inputs))) for s in grid.values()}
    assert inputs == {tuple(sorted(c)) for n in (1, 2, 3) for c in itertools.combinations(settings.data.inputs, n)}
    assert [s["train.patients"] for s in grid.values() if "train.patients" in s] == [25, 50]
    assert len(grid) == 7 + 2
    assert len(module.grid(dataclasses.replace(settings, vary=("patients",)))) == 1 + 2


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_help_opens_with_the_question(path):
    done = subprocess.run([sys.executable, str(path), "--help"], capture_output=True, text=True, check=True)
    module = script(path.stem)
    assert " ".join(module.QUESTION.split()) in " ".join(done.stdout.replace("│", " ").split())
    assert "--repeats" in done.stdout
    assert "--folds" in done.stdout
