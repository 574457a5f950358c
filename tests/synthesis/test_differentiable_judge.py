"""The scorecard as a loss: what it asks for, that AFP's network learns and then stands still, and exact resumption."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import pytest
import torch

from lab.config import AugmentConfig, Config, DataConfig, LossConfig, ModelConfig, TrainConfig
from lab.data.augment import augment
from lab.data.batches import CaseStore
from lab.data.cohort import Cohort
from lab.experiments.synthesis.trial import build_method
from lab.synthesis.device import choose
from lab.synthesis.losses import make_loss
from lab.synthesis.methods.differentiable_judge import (
    DifferentiableJudge,
    DifferentiableJudgeConfig,
    Segmenter,
    soft_dice,
)
from lab.synthesis.networks.paper import build

CPU = choose("cpu", "float32")
TRAIN = TrainConfig(learning_rate=1e-3, seed=3)
INPUTS = {"inputs": ("T1", "T2", "FLAIR"), "target": "T1GD"}


def judge(**settings: Any) -> DifferentiableJudge:
    network, own = build(0, width=2, depth=2, seed=1), DifferentiableJudgeConfig(**settings)
    return DifferentiableJudge(network, make_loss(LossConfig()), TRAIN, CPU, own, channels=3)


def masks(enhancing: str, tumour: str) -> dict[str, torch.Tensor]:
    """Masks of one patient from one digit for each voxel."""
    made = {"enhancing": enhancing, "tumour": tumour}
    return {name: torch.tensor([digit == "1" for digit in text]).view(1, 1, -1, 1, 1) for name, text in made.items()}


def dice_of(contrast: list[float], enhancing: str, tumour: str) -> float:
    hard = DifferentiableJudgeConfig(softness=1e-3)
    return 1 - float(soft_dice(torch.tensor(contrast).view(1, 1, -1, 1, 1), masks(enhancing, tumour), hard))


def test_the_dice_is_that_of_voxels_that_weigh_the_same_in_both_parts_of_the_tumour():
    assert dice_of([0.3, 0.0, 0.0, 0.0, 0.9], "10000", "11110") == pytest.approx(1)  # outside the tumour: no matter
    assert dice_of([0.3, 0.3, 0.3, 0.3, 0.0], "10000", "11110") == pytest.approx(2 / 3)  # all painted
    assert dice_of([0.3, 0.3, 0.3, 0.3, 0.0], "11100", "11110") == pytest.approx(2 / 3)  # whatever their number
    assert dice_of([0.0, 0.0, 0.0, 0.0, 0.0], "10000", "11110") == pytest.approx(0)
    assert dice_of([0.3, 0.0, 0.0, 0.3, 0.0], "11000", "11110") == pytest.approx(2 * 0.5 / (1 + 0.5 + 0.5))
    assert dice_of([0.0, 0.0, 0.0, 0.0, 0.0], "00000", "11110") == pytest.approx(1)  # does not enhance
    assert dice_of([0.3, 0.3, 0.3, 0.3, 0.0], "00000", "11110") == pytest.approx(2 / 3)
    assert dice_of([0.3, 0.3, 0.3, 0.3, 0.3], "00000", "00000") == pytest.approx(1)  # no tumour


def test_its_gradient_raises_what_enhances_and_lowers_the_rest_of_the_tumour():
    contrast = torch.zeros(1, 1, 4, 1, 1, requires_grad=True)
    soft_dice(contrast, masks("1000", "1110"), DifferentiableJudgeConfig()).backward()
    assert contrast.grad is not None
    signs = contrast.grad.flatten().sign().tolist()
    assert signs == [-1, 1, 1, 0]


def test_a_heavy_judge_makes_the_enhancing_part_rise_above_the_rest(tiny_cohort):
    batch = CaseStore(tiny_cohort, tiny_cohort.index.index[:4], **INPUTS).batch([0, 1, 2, 3])
    losses = {}
    for weight in (0.0, 10.0):
        method = judge(weight=weight)
        for _ in range(25):
            losses[weight] = float(method.train_step(batch)["soft_dice"])
    assert losses[10.0] < losses[0.0] - 0.05


def test_the_segmenter_learns_first_and_then_stands_still_while_its_features_count(tiny_cohort):
    batch = CaseStore(tiny_cohort, tiny_cohort.index.index[:2], **INPUTS).batch([0, 1])
    method = judge(feature_weight=1.0, feature_steps=5)
    assert method.segmenter is not None
    figures, weights = [], []
    for _ in range(8):
        figures.append(method.train_step(batch))
        weights.append(method.segmenter.fine.weight.detach().clone())
    assert [float(one["features"]) > 0 for one in figures] == [False] * 5 + [True] * 3
    assert figures[4]["segmentation"] < figures[0]["segmentation"]
    assert not any(torch.equal(*pair) for pair in pairwise(weights[:5]))
    assert all(torch.equal(weights[4], later) for later in weights[5:])

    assert method.segmenter.distance(torch.ones(2, 2, 7, 8, 9)) == 0
    assert Segmenter()(torch.ones(1, 2, 7, 5, 1)).shape == (1, 2, 7, 5, 1)


@pytest.mark.parametrize("steps", [2, 4])
def test_resumed_while_the_segmenter_learns_and_afterwards_it_is_the_same_bit_for_bit(tiny_cohort, steps):
    batch = CaseStore(tiny_cohort, tiny_cohort.index.index[:2], **INPUTS).batch([0, 1])
    whole, resumed = (judge(feature_weight=1.0, feature_steps=3) for _ in range(2))

    def further(method: DifferentiableJudge, count: int) -> list[dict[str, torch.Tensor]]:
        torch.manual_seed(count)
        return [method.train_step(batch) for _ in range(count)]

    further(whole, steps)
    resumed.load_state_dict(copy.deepcopy(whole.state_dict()))
    assert further(whole, 3) == further(resumed, 3)
    weights = resumed.network.state_dict()
    assert all(torch.equal(one, weights[name]) for name, one in whole.network.state_dict().items())


def test_without_the_t1_among_the_inputs_it_is_refused_before_it_starts():
    config = Config(
        train=TrainConfig(method="differentiable-judge"),
        model=ModelConfig(width=2, depth=2),
        data=DataConfig(inputs=("T2", "FLAIR")),
    )
    with pytest.raises(ValueError, match=r"--data\.inputs are T2, FLAIR; add T1 to them"):
        build_method(config, CPU)


@pytest.mark.parametrize("wrong", [{"weight": -1.0}, {"softness": 0.0}, {"feature_steps": -1}])
def test_senseless_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=r"--differentiable-judge\.weight"):
        judge(**wrong)


def test_random_changes_of_intensity_leave_the_judges_t1_alone(tiny_cohort: Cohort):
    store = CaseStore(tiny_cohort, tiny_cohort.index.index[:1], **INPUTS)
    batch = store.batch([0], seeds=((1, 2, 3),))
    still = AugmentConfig(use="on", rotation_degrees=0, scale=0, elastic_mm=0)
    found = augment(batch, still, spacing_mm=tiny_cohort.spacing_mm, t1=store.t1)
    assert found.t1 is not None
    assert torch.equal(found.t1, batch.inputs[:, :1])
    assert (found.t1 - found.inputs[:, :1])[found.masks["brain"]].abs().mean() > 0.01
    moved = augment(batch, AugmentConfig(use="on"), spacing_mm=tiny_cohort.spacing_mm, t1=store.t1)
    assert moved.t1 is not None
    assert not torch.equal(moved.t1, found.t1)
