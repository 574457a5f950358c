"""Batches: flips, epochs, patches, and the same numbers whether cases are resident or read from disk."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lab.data import batches
from lab.data.batches import Batch, CaseStore, draw_centre, patch_centres, patch_window, plan_epoch
from lab.data.cohort import BRAIN, ENHANCEMENT, EXPERT, TUMOUR, Cohort
from lab.io.case_file import clear_without_target

INPUTS: dict[str, Any] = {"inputs": ("T1", "T2", "FLAIR"), "target": "T1GD"}
FLIPS = ("both", "random", "none")


def store(cohort: Cohort, cases: slice = slice(0, 4), **options: Any) -> CaseStore:
    return CaseStore(cohort, cohort.index.index[cases], **(INPUTS | options))


def assert_equal(one: Batch, other: Batch) -> None:
    assert one.case_ids == other.case_ids
    assert torch.equal(one.inputs, other.inputs)
    assert torch.equal(one.target, other.target)
    assert one.masks.keys() == other.masks.keys()
    assert all(torch.equal(one.masks[name], other.masks[name]) for name in one.masks)


@pytest.mark.parametrize("resident", [True, False])
def test_a_batch_holds_the_files_values(tiny_cohort, resident):
    cases = store(tiny_cohort, resident=resident)
    batch = cases.batch([2, 0])
    assert batch.case_ids == (cases.case_ids[2], cases.case_ids[0])
    for row, case in enumerate(batch.case_ids):
        image, mask = tiny_cohort.load(case)
        assert torch.equal(batch.inputs[row], torch.from_numpy(image[:3].astype(np.float32)))
        assert torch.equal(batch.target[row, 0], torch.from_numpy(image[3].astype(np.float32)))
        for name, bit in {"brain": BRAIN, "tumour": TUMOUR, "enhancement": ENHANCEMENT, "expert": EXPERT}.items():
            assert torch.equal(batch.masks[name][row, 0], torch.from_numpy((mask & bit) != 0)), name
    assert (batch.inputs.dtype, batch.target.dtype) == (torch.float32, torch.float32)
    assert batch.masks["tumour"].any()


def test_channels_come_in_the_order_asked_for(tiny_cohort):
    plain = store(tiny_cohort).batch([0])
    turned = store(tiny_cohort, inputs=("flair", "T1GD"), target="T1").batch([0])  # in any capitals, as `prepare` takes
    assert torch.equal(turned.inputs[:, 0], plain.inputs[:, 2])
    assert torch.equal(turned.inputs[:, 1], plain.target[:, 0])
    assert torch.equal(turned.target[:, 0], plain.inputs[:, 0])


@pytest.mark.parametrize("resident", [True, False])
def test_a_flip_turns_left_and_right_of_images_and_masks(tiny_cohort, resident):
    cases = store(tiny_cohort, resident=resident)
    plain, turned = cases.batch([0, 1, 2]), cases.batch([0, 1, 2], [False, True, False])
    flipped = Batch(
        plain.inputs.flip(2), plain.target.flip(2), {k: v.flip(2) for k, v in plain.masks.items()}, plain.case_ids
    )
    for row, expected in enumerate((plain, flipped, plain)):
        assert torch.equal(turned.inputs[row], expected.inputs[row])
        assert torch.equal(turned.target[row], expected.target[row])
        assert all(torch.equal(turned.masks[k][row], expected.masks[k][row]) for k in turned.masks)
    assert not torch.equal(turned.inputs[1], plain.inputs[1])
    assert not torch.equal(turned.masks["tumour"][1], plain.masks["tumour"][1])


def test_a_flip_does_not_change_what_the_store_holds(tiny_cohort):
    cases = store(tiny_cohort, resident=True)
    before = cases.batch([0, 1])
    cases.batch([0, 1], [True, True]).inputs.zero_()
    assert_equal(cases.batch([0, 1]), before)


@pytest.mark.parametrize("patch", [None, 12])
@pytest.mark.parametrize("flip", FLIPS)
def test_cases_on_the_device_and_on_disk_give_the_same_epoch(tiny_cohort, flip, patch):
    plan = plan_epoch(4, batch_size=3, flip=flip, seed=1, epoch=2)
    resident, read = (store(tiny_cohort, resident=where, patch=patch) for where in (True, False))
    assert (resident.resident, read.resident) == (True, False)
    pairs = list(zip(resident.batches(plan), read.batches(plan), strict=True))
    assert [len(one.case_ids) for one, _ in pairs] == [len(entries) for entries in plan]
    for one, other in pairs:
        assert_equal(one, other)


def test_the_free_memory_decides_where_cases_live(tiny_cohort, monkeypatch):
    needed = store(tiny_cohort).bytes
    assert needed == 4 * 20 * 24 * 20 * (2 * 4 + 1)
    assert store(tiny_cohort, patch=10).bytes == 4 * 1000 * 9
    monkeypatch.setattr(batches, "free_memory", lambda _: needed / batches.RESIDENT_SHARE * 1.01)
    assert store(tiny_cohort).resident
    monkeypatch.setattr(batches, "free_memory", lambda _: needed / batches.RESIDENT_SHARE * 0.99)
    assert not store(tiny_cohort).resident


def test_the_free_memory_is_a_number_of_bytes():
    assert 1e7 < batches.free_memory(torch.device("cpu")) < 1e14


def test_a_damaged_case_ends_the_epoch_with_its_name(tiny_cohort, monkeypatch):
    cases = store(tiny_cohort, resident=False)
    load = Cohort.load

    def damaged(cohort: Cohort, case: str) -> Any:
        if case == cases.case_ids[2]:
            raise ValueError(f"{case} is damaged")
        return load(cohort, case)

    monkeypatch.setattr(Cohort, "load", damaged)
    epoch = cases.batches([[(0, False)], [(2, False)], [(3, False)]])
    next(epoch)
    with pytest.raises(ValueError, match=f"{cases.case_ids[2]} is damaged"):
        next(epoch)


def test_an_epoch_may_be_left_early_or_empty(tiny_cohort):
    cases = store(tiny_cohort, resident=False)
    epoch = cases.batches([[(0, False)], [(1, False)], [(2, False)]])
    assert next(epoch).case_ids == cases.case_ids[:1]
    epoch.close()
    assert list(cases.batches([])) == []


@pytest.mark.parametrize("batch_size", [1, 2, 3, 50])
@pytest.mark.parametrize("flip", FLIPS)
def test_an_epoch_has_every_case_once_or_both_ways(flip, batch_size):
    plan = plan_epoch(7, batch_size=batch_size, flip=flip, seed=0, epoch=0)
    entries = [entry for batch in plan for entry in batch]
    if flip == "both":
        assert sorted(entries) == [(i, turned) for i in range(7) for turned in (False, True)]
    else:
        assert sorted(i for i, _ in entries) == list(range(7))
    assert all(len(batch) == batch_size for batch in plan[:-1])
    assert 1 <= len(plan[-1]) <= batch_size
    assert all(type(i) is int and type(turned) is bool for i, turned in entries)


@pytest.mark.parametrize("flip", FLIPS)
def test_an_epoch_is_a_function_of_seed_and_number(flip):
    def plan(seed: int, epoch: int) -> list[list[tuple[int, bool]]]:
        return plan_epoch(20, batch_size=4, flip=flip, seed=seed, epoch=epoch)

    np.random.seed(1)  # noqa: NPY002 - the global generator must not matter
    first = plan(0, 0)
    np.random.seed(2)  # noqa: NPY002
    assert plan(0, 0) == first
    assert plan(0, 1) != first
    assert plan(1, 0) != first
    assert plan(1, 0) != plan(0, 1)


def test_random_turns_about_half_of_the_cases_and_none_none():
    def turned(flip: str) -> float:
        plan = plan_epoch(2000, batch_size=1, flip=flip, seed=0, epoch=0)
        return sum(turn for [(_, turn)] in plan) / 2000

    assert turned("random") == pytest.approx(0.5, abs=0.05)
    assert turned("none") == 0


@pytest.mark.parametrize("wrong", [{"flip": "left"}, {"batch_size": 0}])
def test_a_senseless_epoch_is_refused(wrong):
    with pytest.raises(ValueError, match=r"one of both, random, none.*at least 1"):
        plan_epoch(3, **({"batch_size": 1, "flip": "none", "seed": 0, "epoch": 0} | wrong))


def flags(tumour: tuple[slice, slice, slice] | None, shape: tuple[int, int, int] = (20, 24, 18)) -> np.ndarray:
    """A brain in most of the grid and a tumour."""
    mask = np.zeros(shape, np.uint8)
    mask[2:18, 2:22, 2:16] |= BRAIN
    if tumour is not None:
        mask[tumour] |= TUMOUR
    return mask


@pytest.mark.parametrize("edge", [1, 7, 8, 15])
def test_a_patch_is_centred_on_the_tumours_centre_of_mass(edge):
    mask = flags((slice(8, 13), slice(10, 15), slice(6, 11)))  # centre (10, 12, 8)
    window = patch_window(mask, edge)
    for part, centre in zip(window, (10, 12, 8)):
        assert part.stop - part.start == edge
        assert part.start <= centre < part.stop
        assert abs((part.start + part.stop - 1) / 2 - centre) <= 0.5


def test_the_centre_is_that_of_all_the_tumour_not_of_its_box():
    mask = flags((slice(4, 5), slice(12, 13), slice(8, 9)))
    mask[14:16, 10:15, 6:11] |= TUMOUR  # the large part, far from the small one
    window = patch_window(mask, 7)
    expected = np.round(np.mean(np.argwhere(mask & TUMOUR), axis=0))
    assert [part.start + 3 for part in window] == expected.tolist()


@pytest.mark.parametrize("corner", [0, -1])
@pytest.mark.parametrize("edge", [5, 8, 18])
def test_a_patch_at_the_border_is_moved_inside(corner, edge):
    spot = slice(0, 2) if corner == 0 else slice(-2, None)
    mask = flags((spot, spot, spot))
    for part, size in zip(patch_window(mask, edge), mask.shape):
        assert (part.start, part.stop) == ((0, edge) if corner == 0 else (size - edge, size))


def test_an_axis_shorter_than_the_patch_is_taken_whole():
    mask = flags((slice(8, 10), slice(8, 10), slice(8, 10)))
    assert patch_window(mask, 22) == (slice(0, 20), slice(0, 22), slice(0, 18))
    assert patch_window(mask, None) == (slice(0, 20), slice(0, 24), slice(0, 18))


def test_without_a_tumour_the_patch_is_centred_on_the_brain():
    window = patch_window(flags(None), 6)
    assert [(part.start + part.stop) / 2 for part in window] == pytest.approx([10, 12, 9], abs=1)


@pytest.mark.parametrize("resident", [True, False])
def test_a_store_of_patches_cuts_the_windows_out(tiny_cohort, resident):
    cases = store(tiny_cohort, patch=11, resident=resident)
    whole = store(tiny_cohort).batch([1])
    patch = cases.batch([1])
    assert patch.inputs.shape == (1, 3, 11, 11, 11)
    window = (..., *patch_window(tiny_cohort.load(cases.case_ids[1])[1], 11))
    assert torch.equal(patch.inputs, whole.inputs[window])
    assert torch.equal(patch.target, whole.target[window])
    assert all(torch.equal(patch.masks[name], whole.masks[name][window]) for name in whole.masks)
    assert patch.masks["tumour"].any()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"inputs": ("T1", "ADC")}, r"has no ADC \(channels: T1, T2, FLAIR, T1GD\)"),
        ({"target": "T1CE"}, "has no T1CE"),
        ({"case_ids": ["EGD-0001", "EGD-9999"]}, "no case EGD-9999"),
        ({"case_ids": []}, "no cases were asked for"),
    ],
)
def test_what_the_cohort_does_not_have_is_refused(tiny_cohort, wrong, message):
    options = {"case_ids": ["EGD-0001"], **INPUTS, **wrong}
    with pytest.raises(ValueError, match=message) as caught:
        CaseStore(tiny_cohort, options.pop("case_ids"), **options)
    assert str(tiny_cohort.path) in str(caught.value)


def sampled(cohort: Cohort, shares: tuple[float, float, float], **options: Any) -> CaseStore:
    return store(cohort, patch=8, shares=shares, **options)


PLAN = [[(0, False), (1, True)], [(2, False), (0, False)], [(3, False)]]


@pytest.mark.parametrize("margin", [0, 3])
def test_random_patches_are_the_same_on_the_device_and_on_disk(tiny_cohort, margin):
    shares = (0.3, 0.5, 0.2)
    resident, read = (sampled(tiny_cohort, shares, resident=where, margin=margin) for where in (True, False))
    for one, other in zip(resident.batches(PLAN, key=(0, 1)), read.batches(PLAN, key=(0, 1)), strict=True):
        assert_equal(one, other)
        assert one.inputs.shape[2:] == (8 + 2 * margin,) * 3
    assert resident.bytes == 4 * 20 * 24 * 20 * 9


def test_random_patches_follow_seed_epoch_case_and_showing(tiny_cohort):
    cases = sampled(tiny_cohort, (0.3, 0.5, 0.2))

    def images(key: tuple[int, int], plan: Any = PLAN) -> list[torch.Tensor]:
        return [image for batch in cases.batches(plan, key=key) for image in batch.inputs]

    first = images((0, 0))
    assert all(torch.equal(a, b) for a, b in zip(first, images((0, 0)), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, images((0, 1)), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, images((1, 0)), strict=True))
    assert torch.equal(images((0, 0), [[(2, False)]])[0], first[2])
    several = images((0, 0), [[(0, False)] * 8])
    assert not all(torch.equal(several[0], image) for image in several[1:])


@pytest.mark.parametrize("region", [0, 1, 2])
def test_the_centre_of_a_random_patch_lies_in_the_region_asked_for(tiny_cohort, region):
    shares = tuple(float(number == region) for number in range(3))
    for case in tiny_cohort.index.index[:4]:
        mask = clear_without_target(tiny_cohort.load(case)[1])
        regions = patch_centres(mask)
        by_rule = ((mask & ENHANCEMENT) != 0) & ((mask & TUMOUR) != 0)
        expected = (mask & EXPERT) != 0 if (mask & EXPERT).any() else by_rule
        inside = [expected, ((mask & TUMOUR) != 0) & ~expected, ((mask & BRAIN) != 0) & ((mask & TUMOUR) == 0)][region]
        if not inside.any():
            assert draw_centre(regions, shares, (1,)) is None
            continue
        drawn = [draw_centre(regions, shares, (number, 1)) for number in range(50)]
        assert inside.flatten()[drawn].all()
        assert len(set(drawn)) > 1 or inside.sum() == 1


def test_regions_are_drawn_by_their_shares_among_those_a_case_has():
    centres = [np.array([1]), np.array([2]), np.array([3])]
    drawn = [draw_centre(centres, (0.3, 0.5, 0.2), (number, 1)) for number in range(2000)]
    assert [drawn.count(voxel) / 2000 for voxel in (1, 2, 3)] == pytest.approx([0.3, 0.5, 0.2], abs=0.04)
    without = [draw_centre([centres[0][:0], *centres[1:]], (0.3, 0.5, 0.2), (n, 1)) for n in range(2000)]
    assert without.count(2) / 2000 == pytest.approx(5 / 7, abs=0.04)


def test_large_regions_are_thinned_evenly(monkeypatch):
    monkeypatch.setattr(batches, "MOST_CENTRES", 10)
    mask = np.full((10, 10, 10), BRAIN, np.uint8)
    enhancing, tumour, brain = patch_centres(mask)
    assert (len(enhancing), len(tumour), len(brain)) == (0, 0, 10)
    assert brain.tolist() == [0, 111, 222, 333, 444, 555, 666, 777, 888, 999]


def test_a_margin_beyond_the_volume_is_background(tiny_cohort):
    whole, grown = store(tiny_cohort, patch=100).batch([0]), store(tiny_cohort, patch=100, margin=2).batch([0])
    assert grown.inputs.shape[2:] == (24, 28, 24)
    inner = (slice(None), slice(None), *[slice(2, -2)] * 3)
    assert torch.equal(grown.inputs[inner], whole.inputs)
    assert torch.equal(grown.masks["tumour"][inner], whole.masks["tumour"])
    assert (grown.inputs[..., :2, :, :] == -1).all()
    assert not grown.masks["brain"][..., -2:].any()


def test_several_patches_of_a_patient_in_an_epoch():
    plan = plan_epoch(3, batch_size=2, flip="random", seed=0, epoch=0, showings=4)
    assert sorted(i for batch in plan for i, _ in batch) == sorted([0, 1, 2] * 4)
    assert len(plan_epoch(3, batch_size=100, flip="both", seed=0, epoch=0, showings=2)[0]) == 12
