"""The spread over looks and networks: nothing where they agree, the right number where they do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lab.inference.tta import AUGMENTATIONS, Augmentation, predict_with_tta, shifted

SHAPE = (7, 8, 9)
X = torch.rand(1, 2, *SHAPE, generator=torch.Generator().manual_seed(0)) * 2 - 1
BRAIN = X[:, :1] > -0.8


def pointwise(inputs, brain):
    return torch.where(brain, inputs[:, :1] * inputs[:, 1:], -1.0)


def constant(value):
    return lambda inputs, brain: torch.where(brain, torch.full_like(inputs[:, :1], value), -1.0)


def sided(inputs, brain):
    """Knows left from right."""
    place = torch.linspace(-1, 1, SHAPE[0])[:, None, None].expand(1, 1, *SHAPE)
    return torch.where(brain, place, -1.0)


@pytest.mark.parametrize("looks", range(2, len(AUGMENTATIONS) + 1))
@pytest.mark.parametrize("network", [pointwise, constant(0.3)])
def test_a_network_that_does_not_mind_is_sure(network, looks):
    looked = predict_with_tta([network], X, BRAIN, looks)
    torch.testing.assert_close(looked.image, network(X, BRAIN), atol=0, rtol=0)
    assert looked.spread.abs().max() == 0


def test_the_image_is_the_plain_look_and_the_spread_the_standard_deviation():
    looked = predict_with_tta([sided], X, BRAIN & True, 2)
    torch.testing.assert_close(looked.image, sided(X, BRAIN), atol=0, rtol=0)
    everywhere = torch.ones_like(BRAIN)
    looked = predict_with_tta([sided], X, everywhere, 2)
    place = torch.linspace(-1, 1, SHAPE[0])
    expected = torch.stack([place, place.flip(0)]).std(dim=0)
    torch.testing.assert_close(looked.spread[0, 0, :, 4, 4], expected)


def test_shifts_come_back_to_their_place():
    """A network of neighbours, whose looks can be counted by hand."""

    def right_neighbour(inputs, brain):
        return shifted(inputs[:, :1], (1, 0, 0), 0.0)

    plain, mirrored = right_neighbour(X, BRAIN), right_neighbour(X.flip(2), BRAIN).flip(2)
    looked = predict_with_tta([right_neighbour], X, BRAIN, 4)
    expected = torch.stack([plain, mirrored, plain, mirrored]).std(dim=0)
    inner = (slice(None), slice(None), *(slice(3, -3),) * 3)
    torch.testing.assert_close(looked.spread[inner], expected[inner])


def test_an_ensemble_is_its_mean_and_its_disagreement():
    values = (0.1, 0.2, 0.6)
    looked = predict_with_tta([constant(value) for value in values], X, BRAIN, 1)
    assert looked.image[BRAIN].numpy() == pytest.approx(0.3, abs=1e-6)
    assert looked.spread[BRAIN].numpy() == pytest.approx(np.std(values, ddof=1), abs=1e-6)
    assert looked.spread[~BRAIN].abs().max() == 0
    assert predict_with_tta([constant(0.1)], X, BRAIN, 1).spread is None


def test_what_leaves_the_volume_is_as_in_the_plain_look():
    looked = predict_with_tta([sided], X, torch.ones_like(BRAIN), len(AUGMENTATIONS))
    assert torch.isfinite(looked.spread).all()


def test_the_looks_are_different_and_the_first_is_plain():
    assert AUGMENTATIONS[0] == Augmentation()
    assert len(set(AUGMENTATIONS)) == len(AUGMENTATIONS)
    assert max(abs(step) for one in AUGMENTATIONS for step in one.shift) <= 2
    for looks in (0, len(AUGMENTATIONS) + 1):
        with pytest.raises(ValueError, match="--looks"):
            predict_with_tta([pointwise], X, BRAIN, looks)


def test_shifted():
    there = shifted(X, (2, -1, 0), -5.0)
    torch.testing.assert_close(there[:, :, 2:, :-1], X[:, :, :-2, 1:])
    assert (there[:, :, :2] == -5).all()
    assert (there[:, :, :, -1:] == -5).all()


def test_the_spread_after_fewer_looks_comes_along():
    """What `look` gives with fewer of them, without looking again."""
    inputs, brain = torch.rand(1, 2, 8, 8, 8), torch.ones(1, 1, 8, 8, 8, dtype=torch.bool)
    ramp = torch.linspace(0, 1, 8)[:, None, None]
    networks = [lambda image, mask, k=k: image[:, :1] * ramp * k for k in (1.0, 1.5)]
    for some in (networks[:1], networks):
        whole = predict_with_tta(some, inputs, brain, 4, at=(1, 2, 4))
        assert set(whole.earlier) == {1, 2}
        for count, spread in whole.earlier.items():
            alone = predict_with_tta(some, inputs, brain, count).spread
            assert (spread is None) == (alone is None) == (count == 1 and len(some) == 1)
            if spread is not None and alone is not None:
                torch.testing.assert_close(spread, alone)
        torch.testing.assert_close(whole.spread, predict_with_tta(some, inputs, brain, 4).spread)
