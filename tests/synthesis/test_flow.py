"""A flow from the mean image: what its samples are, and what its one step is learnt from."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lab.config import LossConfig, TrainConfig
from lab.data.batches import CaseStore
from lab.synthesis.device import choose
from lab.synthesis.losses import make_loss
from lab.synthesis.methods.flow import Flow, FlowConfig
from lab.synthesis.networks import build_network
from lab.synthesis.networks.residual_flow import ResidualFlow, ResidualFlowConfig, half_difference

CPU = choose("cpu", "float32")
INPUTS = {"inputs": ("T1", "T2", "FLAIR"), "target": "T1GD"}


def network(**settings: Any) -> ResidualFlow:
    built: ResidualFlow = build_network("residual-flow", ResidualFlowConfig(width=2, depth=2, **settings), 3, seed=1)
    return built


def flow(steps: int = 4) -> Flow:
    train = TrainConfig(learning_rate=3e-3)
    return Flow(network(), make_loss(LossConfig()), train, CPU, FlowConfig(steps=steps), channels=3)


def volume(*shape: int) -> torch.Tensor:
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    x[..., :3] = -1
    return x


def test_the_image_is_the_sample_of_a_fixed_seed_and_other_seeds_give_others():
    net, x = network().eval(), volume(2, 3, 9, 10, 11)
    with torch.no_grad():
        mean, image, maps = net.mean_image(x), net(x), net.everything(x)
        assert torch.equal(image, net(x))
        assert torch.equal(maps[:, :1], image)
        assert torch.equal(image, net.sample(x, mean, seed=0))
        assert not torch.equal(image, net.sample(x, mean, seed=1))
        torch.testing.assert_close(net(x[:1]), image[:1])  # whatever else is in the batch
    assert (image[..., :3] == -1).all()
    assert (maps[:, 1:][..., :3] == 0).all()
    assert (maps[:, 1:][..., 3:] > 0).all()


def test_without_noise_there_is_one_image():
    net, x = network(noise=0.0).eval(), volume(1, 3, 8, 8, 8)
    with torch.no_grad():
        assert (net.everything(x)[:, 1:] == 0).all()


def test_the_spread_is_half_the_mean_difference_between_two_samples():
    assert half_difference(torch.tensor([[1.0], [3.0]])).item() == 1
    assert half_difference(torch.tensor([[0.0], [0.0], [3.0]])).item() == pytest.approx(1)  # pairs 0, 3, 3
    normal = torch.randn(40, 2000, generator=torch.Generator().manual_seed(0))
    assert half_difference(normal).mean().item() == pytest.approx(torch.pi**-0.5, rel=0.02)


def test_short_steps_follow_a_velocity_that_is_known():
    """A velocity of 1 everywhere leads from 0 to 1, in any number of steps, and stays out of the background."""
    x, still = volume(1, 3, 4, 4, 6), torch.zeros(1, 1, 4, 4, 6)
    for steps in (2, 5):
        method = flow(steps)
        method.network.velocity = torch.nn.Module()
        method.network.velocity.forward = lambda inputs: torch.ones_like(inputs[:, :1])
        end = method.by_short_steps(x, still, still)
        assert end[..., 3:].numpy() == pytest.approx(1)
        assert (end[..., :3] == -1).all()


def test_both_networks_learn_and_the_best_epoch_is_that_of_the_crps(tiny_cohort):
    batch = CaseStore(tiny_cohort, tiny_cohort.index.index[:4], **INPUTS).batch([0, 1, 2, 3])
    method = flow()
    torch.manual_seed(0)
    history = [method.train_step(batch) for _ in range(25)]
    for name in ("loss", "flow"):
        first, last = (sum(float(one[name]) for one in part) for part in (history[:5], history[-5:]))
        assert last < first
    assert method.rank({"val/mae_brain": 0.12, "val/spread": 0.03}) == pytest.approx(0.09)


@pytest.mark.parametrize("wrong", [{"model": "segresnet"}, {"samples": 1}, {"noise": -0.1}])
def test_senseless_settings_are_refused(wrong):
    with pytest.raises(ValueError, match="--residual-flow"):
        network(**wrong)
    with pytest.raises(ValueError, match=r"--flow\.steps 1: at least 2"):
        flow(steps=1)
