"""Settings: replaced by dotted name, flattened, told apart, and the two presets."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from lab.config import (
    DEMO,
    PAPER,
    ClassifierConfig,
    Config,
    DataConfig,
    RadiomicsConfig,
    TrainConfig,
    flatten,
    grid_shape,
    identifying,
    override,
)  # fmt: skip
from lab.io.sealed_json import fingerprint


def test_override_replaces_what_is_named_and_nothing_else():
    changed = override(PAPER, {"model.id": 3, "loss.name": "SSIM", "train.epochs": 7})
    assert (changed.model.id, changed.loss.name, changed.train.epochs) == ("model-3", "SSIM", 7)
    differing = {name for name, value in flatten(changed).items() if value != flatten(PAPER)[name]}
    assert differing == {"model.id", "loss.name", "train.epochs"}
    assert PAPER.train.epochs == 300
    assert override(PAPER, {}) == PAPER


@pytest.mark.parametrize("name", ["train.speed", "epochs", "train", "model.id.more", "", ".epochs", "nowhere.epochs"])
def test_an_unknown_name_is_refused_with_the_known_ones(name):
    with pytest.raises(ValueError, match=r"there is no setting .*(known: .*train\.epochs|did you mean '[a-z]+\.)"):
        override(PAPER, {name: 1})


def test_settings_of_a_network_that_was_not_named_start_from_its_defaults():
    changed = override(PAPER, {"place_unet.levels": 4, "segresnet.init_filters": 6})
    assert (changed.options["place_unet"].levels, changed.options["segresnet"].init_filters) == (4, 6)
    assert (
        changed.options["place_unet"].filters == override(PAPER, {"place_unet.levels": 3}).options["place_unet"].filters
    )
    with pytest.raises(ValueError, match=r"there is no setting 'place_unet.depth'"):
        override(PAPER, {"place_unet.depth": 4})


def test_a_name_with_hyphens_is_pointed_to_the_one_with_underscores():
    with pytest.raises(ValueError, match=r"did you mean 'train\.learning_rate'"):
        override(PAPER, {"train.learning-rate": 1})


def test_flatten_and_override_are_inverse():
    flat = flatten(DEMO)
    assert flat["train.epochs"] == DEMO.train.epochs
    assert flat["data.spacing_mm"] == 4.0
    assert all(name.count(".") == 1 for name in flat)
    assert override(PAPER, flat) == DEMO


def test_settings_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PAPER.train.epochs = 1  # type: ignore[misc]


def test_fingerprints_tell_settings_apart_and_nothing_else():
    flat = flatten(PAPER)
    assert fingerprint(flat) == fingerprint(dict(reversed(list(flat.items()))))
    assert fingerprint(flat) != fingerprint(flat | {"train.seed": 1})
    assert fingerprint(flatten(Config(data=DataConfig(path=Path("a"))))) != fingerprint(flat)
    assert (len(fingerprint(flat)), len(fingerprint(flat, 32))) == (12, 32)
    assert fingerprint({"x": 1}) == "613fe5aa6534"  # printf '{"x": 1}' | sha256sum


def test_a_classifier_of_the_best_settings_alone_is_that_of_versions_without_an_average():
    alone, ten = (
        identifying(flatten(RadiomicsConfig(classifier=ClassifierConfig(average=count)))) for count in (1, 10)
    )
    assert ten == alone | {"classifier.average": 10}
    assert identifying(flatten(RadiomicsConfig())) == alone


@pytest.mark.parametrize(
    ("spacing_mm", "shape"), [(1.0, (160, 192, 160)), (2.0, (80, 96, 80)), (4.0, (40, 48, 40)), (1.2, (133, 160, 133))]
)
def test_the_grid_follows_the_voxel_size(spacing_mm, shape):
    assert grid_shape(PAPER.data, spacing_mm) == shape


def test_the_paper_s_settings():
    """METHOD: Adam (0.5, 0.99) at 2e-4, 300 epochs, patience 20, width 64, both ways in every epoch."""
    train = PAPER.train
    assert (train.learning_rate, train.betas, train.epochs, train.patience) == (2e-4, (0.5, 0.99), 300, 20)
    assert (PAPER.model.width, PAPER.model.depth, train.flip, PAPER.data.clip_sigma) == (64, 5, "both", 4.0)
    assert PAPER.data.enhancement_threshold == 0.3
    assert TrainConfig() == train


def test_the_demo_ends_at_the_paper_s_bottleneck():
    shape = grid_shape(DEMO.data, DEMO.data.spacing_mm)
    assert tuple(edge >> DEMO.model.depth for edge in shape) == (5, 6, 5)
    assert tuple(edge >> PAPER.model.depth for edge in grid_shape(PAPER.data, 1.0)) == (5, 6, 5)
