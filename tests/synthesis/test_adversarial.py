"""Adversarial training: two optimisers that pull against each other, and equal weights however often it is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lab.config import LossConfig, TrainConfig
from lab.data.batches import CaseStore
from lab.data.cohort import Cohort
from lab.synthesis.device import choose
from lab.synthesis.losses import make_loss
from lab.synthesis.methods.adversarial import Adversarial, AdversarialConfig, patch_discriminator
from lab.synthesis.networks.paper import build
from lab.synthesis.train import Fitted, fit

CPU = choose("cpu", "float32")
TRAIN = TrainConfig(epochs=6, batch_size=2, learning_rate=1e-3, flip="random", device="cpu", seed=3)
SETTINGS = AdversarialConfig(filters=4, layers=2, weight=0.1)
INPUTS = {"inputs": ("T1", "T2", "FLAIR"), "target": "T1GD"}


def adversarial(settings: AdversarialConfig = SETTINGS, train: TrainConfig = TRAIN) -> Adversarial:
    torch.manual_seed(train.seed)
    network = build(0, width=2, depth=2)
    return Adversarial(network, make_loss(LossConfig(name="L1_brain")), train, CPU, settings, channels=3)


def train(cohort: Cohort, checkpoint: Path, on_epoch: Any = None) -> Fitted:
    cases = cohort.index.index
    stores = (CaseStore(cohort, cases[:5], **INPUTS), CaseStore(cohort, cases[5:8], **INPUTS))
    return fit(adversarial(), *stores, TRAIN, arithmetic=CPU, checkpoint=checkpoint, on_epoch=on_epoch)


def same(one: Any, other: Any, where: str = "") -> None:
    """Two checkpoints hold the same numbers, but for the clock."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            if key != "seconds":
                same(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for number, pair in enumerate(zip(one, other)):
            same(*pair, f"{where}/{number}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    else:
        assert one == other, where


CHILD = """
import os, signal, sys, threading, time
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
from lab.data.cohort import open_cohort
from test_adversarial import train as trained

def train(last):
    def on_epoch(figures):
        if figures["epoch"] == last:  # kill -9 in the epoch that follows
            threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGKILL)).start()
        else:
            time.sleep(0.05)
    trained(open_cohort(Path(sys.argv[2])), Path(sys.argv[3]), on_epoch)
    os._exit(0)

for last, end in ((2, -signal.SIGKILL), (4, -signal.SIGKILL), (None, 0)):
    child = os.fork() or train(last)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == end
"""
"""Imports once what its children share."""


def test_killed_in_the_middle_and_resumed_is_never_killed_bit_for_bit(tiny_cohort, fitted, folder):
    here = Path(__file__).parent
    words = [str(here), str(tiny_cohort.path), str(folder / "killed")]
    own = {"PYTHONPATH": f"{here.parent / 'support' / 'quick'}{os.pathsep}{here.parents[1]}"}  # no compiler
    subprocess.run([sys.executable, "-c", CHILD, *words], env=os.environ | own, timeout=240, check=True)
    states = [torch.load(folder / name, weights_only=True) for name in ("whole", "killed")]
    assert {"network", "discriminator", "optimiser", "discriminator_optimiser", "best"} <= set(states[0])
    assert any(name.endswith("._u") for name in states[0]["discriminator"])  # of the power iteration
    same(*states)
    assert len(states[0]["progress"]["history"]) == TRAIN.epochs


def test_its_figures_are_logged_and_training_goes_by_the_image_loss(fitted):
    history = fitted.progress.history
    names = {f"train/{name}" for name in ("loss", "adversarial", "discriminator", "score_true", "score_synthetic")}
    names |= {"train/accuracy", "train/gradient_generator", "train/gradient_discriminator", "val/realism"}
    assert all(names <= set(figures) for figures in history)
    assert all(0 <= figures["val/realism"] <= 1 and 0 <= figures["train/accuracy"] <= 1 for figures in history)
    assert history[-1]["val/loss"] == pytest.approx(history[-1]["val/mae_brain"], abs=1e-6)
    assert history[-1]["val/loss"] < history[0]["val/loss"]


def test_each_optimiser_moves_its_own_network(tiny_cohort):
    method = adversarial()
    for name, network in (("optimiser", method.network), ("discriminator_optimiser", method.discriminator)):
        entries = [p for entry in method.optimisers[name].param_groups for p in entry["params"]]
        assert {id(p) for p in entries} == {id(p) for p in network.parameters()}


def test_the_discriminator_learns_to_classify_a_generator_that_stands_still(tiny_cohort):
    store = CaseStore(tiny_cohort, tiny_cohort.index.index[:2], **INPUTS)
    batch, still = store.batch([0, 1]), replace(TRAIN, learning_rate=0.0)
    method = adversarial(replace(SETTINGS, learning_rate=1e-3), still)
    before = [parameter.clone() for parameter in method.network.parameters()]
    errors = [float(method.train_step(batch)["discriminator"]) for _ in range(20)]
    assert errors[-1] < 0.9 * errors[0]
    assert all(torch.equal(*pair) for pair in zip(before, method.network.parameters()))


def test_a_heavy_adversary_drowns_the_image_loss(tiny_cohort):
    """With a weight of 1e6 the generator's step is that of the adversarial loss alone: Adam does not see the scale."""
    store = CaseStore(tiny_cohort, tiny_cohort.index.index[:2], **INPUTS)
    batch, errors = store.batch([0, 1]), {}
    for weight in (0.0, 1e6):
        method = adversarial(replace(SETTINGS, weight=weight))
        for _ in range(15):
            errors[weight] = float(method.train_step(batch)["loss"])
    assert errors[0.0] < 0.9 * errors[1e6]


def test_the_discriminator_judges_patches():
    scores = patch_discriminator(4, 4, 3)(torch.zeros(2, 4, 24, 32, 16))
    assert scores.shape == (2, 1, 3, 4, 2)


def test_every_kernel_of_the_discriminator_has_a_spectral_norm_of_1():
    network = patch_discriminator(4, 4, 2)
    with torch.no_grad():
        for _ in range(200):  # one power iteration a pass
            network(torch.zeros(1, 4, 8, 8, 8))
    for layer in network.eval():
        if isinstance(layer, torch.nn.Conv3d):
            assert torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2).item() == pytest.approx(1, abs=1e-3)


def test_it_says_once_that_the_discriminator_has_won_or_lost():
    def said(*accuracies: float) -> list[str]:
        history = [{"train/accuracy": accuracy} for accuracy in accuracies]
        return [adversarial_method.warning(history[:end]) for end in range(1, len(history) + 1)]

    adversarial_method = adversarial()
    assert not any(said(0.97, 0.97, 0.97, 0.8, 0.97, 0.97, 0.97, 0.97, 0.5, 0.5, 0.5, 0.5))
    *before, fifth, sixth = said(0.8, 0.96, 1, 1, 1, 0.99, 1)
    assert not any([*before, sixth])
    assert fifth.startswith("the discriminator has won 5 epochs in a row (accuracy 0.99)")
    assert "has lost 5 epochs" in said(0.5, 0.55, 0.5, 0.45, 0.3)[-1]


@pytest.mark.parametrize("wrong", [{"layers": 0}, {"filters": 0}, {"weight": -1.0}])
def test_senseless_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=r"--adversarial\.filters and --adversarial\.layers"):
        adversarial(AdversarialConfig(**wrong))


def test_a_volume_that_is_too_small_is_explained():
    with pytest.raises(ValueError, match=r"3 x 8 x 8 voxels are too few for 2 halvings; lower --adversarial.layers"):
        adversarial().predict(torch.zeros(1, 3, 3, 8, 8))
