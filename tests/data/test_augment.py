"""Augmentation: exact geometry, images and masks together, inputs' intensities alone, repeatable draws."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from lab.config import AugmentConfig
from lab.data import augment as changes
from lab.data.augment import augment, check_augment, draw, margin_of
from lab.data.batches import Batch, CaseStore
from lab.data.cohort import Cohort

STRENGTHS = [item.name for item in dataclasses.fields(AugmentConfig) if item.name != "use"]
ON = AugmentConfig(shift_mm=4.0, blur_mm=8.0, missing=0.5)
OFF = AugmentConfig(use="off", **dict.fromkeys(STRENGTHS, 0.0))
GEOMETRY = ("rotation_degrees", "scale", "shift_mm", "elastic_mm")
INTENSITY = ("gain", "offset", "gamma", "bias", "noise", "blur_mm", "missing")


def only(*names: str, **strengths: float) -> AugmentConfig:
    """Settings with everything off but these."""
    return dataclasses.replace(OFF, **{name: getattr(ON, name) for name in names}, **strengths)


def changed(batch: Batch, settings: AugmentConfig, **options: Any) -> Batch:
    return augment(batch, settings, **({"spacing_mm": 8.0, "t1": 0} | options))


@pytest.fixture(scope="module")
def batch(tiny_cohort: Cohort) -> Batch:
    """Three cases (20 x 24 x 20 voxels of 8 mm) with seeds."""
    store = CaseStore(tiny_cohort, tiny_cohort.index.index[:3], inputs=("T1", "T2", "FLAIR"), target="T1GD")
    [found] = store.batches([[(0, False), (1, True), (2, False)]], key=(3, 7))
    return found


def assert_same(one: Batch, other: Batch) -> None:
    assert torch.equal(one.inputs, other.inputs)
    assert torch.equal(one.target, other.target)
    assert all(torch.equal(one.masks[name], other.masks[name]) for name in other.masks)


def test_nothing_changes_with_everything_off(batch):
    assert_same(changed(batch, OFF), batch)


@pytest.mark.parametrize("name", STRENGTHS)
def test_each_change_does_something_to_a_copy(batch, name):
    before = batch.inputs.clone()
    assert not torch.equal(changed(batch, only(name)).inputs, before)
    assert torch.equal(batch.inputs, before)


@pytest.mark.parametrize("name", INTENSITY)
def test_intensity_changes_leave_target_and_masks_alone(batch, name):
    assert_same(dataclasses.replace(changed(batch, only(name)), inputs=batch.inputs), batch)


@pytest.mark.parametrize("settings", [ON, *(only(name) for name in STRENGTHS)], ids=["all", *STRENGTHS])
def test_background_stays_background_and_values_stay_in_range(batch, settings):
    found = changed(batch, settings)
    for image in (found.inputs, found.target):
        assert image.isfinite().all()
        assert image.min() == -1
        assert image.max() <= 1
    missing = found.inputs.flatten(2).amax(2) == -1
    outside = ~found.masks["brain"].expand_as(found.inputs)
    assert (found.inputs[outside] == -1).all()
    assert (found.target[~found.masks["brain"]] == -1).all()
    assert bool(missing.any()) == (settings.missing > 0)
    assert not missing[:, 0].any()


def turned(angles: tuple[float, float, float], image: np.ndarray) -> np.ndarray:
    """A cube turned by 90 degrees about one axis, by NumPy."""
    axis = int(np.argmax(np.abs(angles)))
    return np.rot90(image, k=int(-np.sign(angles[axis])), axes=((axis + 1) % 3, (axis + 2) % 3)).copy()


@pytest.mark.parametrize("angles", [(90, 0, 0), (0, 90, 0), (0, 0, 90), (0, 0, -90)])
def test_a_quarter_turn_equals_numpys(batch, monkeypatch, angles):
    cube = {"inputs": batch.inputs[:1, :, :, :20], "target": batch.target[:1, :, :, :20]}
    cube |= {"masks": {k: v[:1, :, :, :20] for k, v in batch.masks.items()}, "seeds": batch.seeds[:1]}
    part = dataclasses.replace(batch, **cube)
    known = dataclasses.replace(
        draw(OFF, (1, 2), channels=3, shape=(20, 20, 20), spacing_mm=8.0, t1=0),
        matrix=changes.rotation(np.radians(angles)),
    )
    monkeypatch.setattr(changes, "draw", lambda *_, **__: known)
    found = changed(part, only("rotation_degrees"))
    for channel in range(3):
        expected = turned(angles, part.inputs[0, channel].numpy())
        assert found.inputs[0, channel].numpy() == pytest.approx(expected, abs=1e-4)
    assert found.target[0, 0].numpy() == pytest.approx(turned(angles, part.target[0, 0].numpy()), abs=1e-4)
    for name, mask in part.masks.items():
        assert np.array_equal(found.masks[name][0, 0].numpy(), turned(angles, mask[0, 0].numpy())), name


def test_inside_the_brain_interpolation_equals_scipys(batch):
    found = changed(batch, only(*GEOMETRY))
    draws = [draw(only(*GEOMETRY), s, channels=3, shape=(20, 24, 20), spacing_mm=8.0, t1=0) for s in batch.seeds]
    at = changes.positions(draws, (20, 24, 20), (20, 24, 20), torch.device("cpu"))
    for case in range(3):
        where = at[case].double().numpy()
        expected = ndimage.map_coordinates(batch.target[case, 0].double().numpy(), where, order=1, cval=-1)
        around = ndimage.map_coordinates((batch.target[case, 0] > -1).double().numpy(), where, order=1)
        deep = around > 1 - 1e-6
        assert deep.sum() > 500
        assert found.target[case, 0].numpy()[deep] == pytest.approx(expected[deep], abs=1e-5)
        mask = batch.masks["tumour"][case, 0].double().numpy()
        nearest = ndimage.map_coordinates(mask, where, order=0) > 0
        assert (nearest == found.masks["tumour"][case, 0].numpy()).mean() > 0.999  # ties may fall to either side


def test_the_brains_rim_is_not_mixed_with_background():
    inside = torch.zeros(1, 1, 20, 20, 20, dtype=torch.bool)
    inside[..., 5:15, 5:15, 5:15] = True
    level = torch.where(inside, 0.5, -1.0)
    flat = Batch(level.repeat(1, 2, 1, 1, 1), level, {"brain": inside}, ("a",), ((1, 2, 3),))
    found = changed(flat, only(*GEOMETRY, "blur_mm"), spacing_mm=1.0)
    assert found.masks["brain"].any()
    for image in (found.inputs, found.target):
        assert image[found.masks["brain"].expand_as(image)].numpy() == pytest.approx(0.5, abs=1e-5)


def test_images_and_masks_move_together(batch):
    """A target that shows the tumour still shows it after any motion."""
    shown = torch.where(batch.masks["tumour"], 1.0, torch.where(batch.masks["brain"], 0.0, -1.0))
    found = changed(dataclasses.replace(batch, target=shown), only(*GEOMETRY))
    overlap = ((found.target > 0.5) == found.masks["tumour"])[found.masks["brain"]]
    assert overlap.float().mean() > 0.97
    assert found.masks["tumour"].any()


def test_the_draws_follow_seed_epoch_case_and_showing(tiny_cohort):
    store = CaseStore(tiny_cohort, tiny_cohort.index.index[:3], inputs=("T1", "T2", "FLAIR"), target="T1GD")

    def images(plan: list[list[tuple[int, bool]]], key: tuple[int, int]) -> dict[str, list[torch.Tensor]]:
        found: dict[str, list[torch.Tensor]] = {}
        for batch in store.batches(plan, key=key):
            for case, image in zip(batch.case_ids, changed(batch, ON).inputs):
                found.setdefault(case, []).append(image)
        return found

    first = images([[(0, False), (1, False)], [(2, False)]], (0, 0))
    again = images([[(2, False)], [(1, False)], [(0, False)]], (0, 0))  # another order and other batches
    assert all(torch.allclose(first[case][0], again[case][0], atol=1e-6) for case in first)
    for key in ((1, 0), (0, 1)):
        other = images([[(0, False), (1, False)], [(2, False)]], key)
        assert not any(torch.equal(first[case][0], other[case][0]) for case in first)
    one, two = images([[(0, False)], [(0, False)]], (0, 0))[store.case_ids[0]]
    assert not torch.equal(one, two)


def test_one_strength_does_not_change_what_the_others_draw(batch):
    options = {"channels": 3, "shape": (20, 24, 20), "spacing_mm": 8.0, "t1": 0}
    one, other = (draw(settings, batch.seeds[0], **options) for settings in (ON, dataclasses.replace(ON, gamma=0.0)))
    assert (other.gamma == 1).all()
    for item in dataclasses.fields(one):
        if item.name != "gamma":
            assert np.array_equal(getattr(one, item.name), getattr(other, item.name)), item.name


def test_the_strengths_are_limits():
    def drawn(settings: AugmentConfig) -> list[changes.Draws]:
        options = {"channels": 3, "shape": (64, 64, 64), "spacing_mm": 2.0, "t1": 0}
        return [draw(settings, (0, 0, number), **options) for number in range(400)]

    draws = drawn(ON)
    gains = np.array([d.gain for d in draws])
    assert (gains.min(), gains.max()) == pytest.approx((1 / 1.25, 1.25), rel=0.01)
    turns = np.array([np.linalg.det(d.matrix) ** (1 / 3) for d in draws])
    assert (turns.min(), turns.max()) == pytest.approx((1 / 1.15, 1.15), rel=0.02)
    lost = [d.missing for d in draws]
    assert lost.count(None) == pytest.approx(200, abs=40)
    assert 0 not in lost
    assert lost.count(1) == pytest.approx(100, abs=35)
    waves = [changes.field(torch.from_numpy(d.elastic)[None].float(), (32, 32, 32)) for d in drawn(only("elastic_mm"))]
    spread = torch.stack(waves).square().mean().sqrt() * 2.0  # millimetres; the strength is uniform up to 2 mm
    assert float(spread) == pytest.approx(2 / 3**0.5, rel=0.1)


def test_a_margin_gives_a_rotated_patch_tissue_at_its_corners():
    inside = torch.ones(1, 1, 40, 40, 40, dtype=torch.bool)
    level = torch.zeros(1, 1, 40, 40, 40)
    whole = Batch(level, level, {"brain": inside}, ("a",), ((1, 2),))
    settings = only("rotation_degrees", "scale")
    edge = margin_of(settings, 16, 1.0)
    assert 2 < edge < 8
    part = dataclasses.replace(
        whole,
        inputs=level[..., :24, :24, :24],
        target=level[..., :24, :24, :24],
        masks={"brain": inside[..., :24, :24, :24]},
    )
    found = changed(part, settings, shape=(16, 16, 16), spacing_mm=1.0)
    assert found.inputs.shape == (1, 1, 16, 16, 16)
    assert found.masks["brain"].float().mean() > 0.99
    assert changed(whole, OFF, shape=(16, 16, 16)).inputs.shape == (1, 1, 16, 16, 16)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"noise": -0.1}, "--augment.noise -0.1: 0 .off. or more"),
        ({"rotation_degrees": float("nan")}, "--augment.rotation-degrees nan"),
        ({"missing": 1.5}, "--augment.missing 1.5 is a probability"),
    ],
)
def test_senseless_strengths_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        check_augment(dataclasses.replace(ON, **wrong))
    check_augment(ON)
    check_augment(OFF)
