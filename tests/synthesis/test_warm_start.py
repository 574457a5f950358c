"""A warm start takes exactly what matches in name and shape."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from lab.config import ModelConfig
from lab.synthesis.networks import build_network, count_parameters
from lab.synthesis.networks.film import Coding, modulate
from lab.synthesis.warm_start import Start, check_inputs, take_over


def network(name: str = "model-0", *, seed: int = 0, **settings: Any) -> nn.Module:
    return build_network(name, ModelConfig(id=name, **({"width": 2, "depth": 2} | settings)), 3, seed=seed)


def start(source: nn.Module, **known: Any) -> Start:
    record = source.origin.record()  # type: ignore[union-attr, operator]
    known = {"inputs": ["T1", "T2", "FLAIR"], "model": record} | known
    return Start(source="0a1b", id="run 0a1b", sha256="f" * 64, tensors=source.state_dict(), known=known)


def copies(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def test_the_same_network_is_taken_whole():
    source, fresh = network(seed=1), network(seed=2)
    taken = take_over(fresh, start(source))
    for name, tensor in source.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], tensor), name
    assert (taken.tensors, taken.all_tensors) == (len(source.state_dict()),) * 2
    assert taken.parameters == taken.all_parameters == count_parameters(source)
    assert taken.left == ()
    with torch.no_grad():
        next(fresh.parameters()).zero_()
    assert next(source.parameters()).any(), "the source keeps its own weights"


def test_of_another_depth_what_fits_is_taken_and_the_rest_stays_fresh():
    source, fresh = network(seed=1, depth=2), network(seed=2, depth=3)
    before, theirs = copies(fresh), source.state_dict()
    taken = take_over(fresh, start(source))
    fits = {name for name, tensor in before.items() if name in theirs and theirs[name].shape == tensor.shape}
    assert 0 < len(fits) < len(before)
    for name, tensor in fresh.state_dict().items():
        assert torch.equal(tensor, theirs[name] if name in fits else before[name]), name
    assert set(taken.left) == set(before) - fits
    assert taken.tensors == len(fits)
    assert 0 < taken.parameters < taken.all_parameters
    assert f"{taken.tensors} of {len(before)} tensors" in str(taken)
    assert "not taken: " in str(taken)


def test_the_effect_of_clinical_covariates_is_not_taken_and_said():
    source, fresh = network(seed=1), network(seed=2)
    for told in (source, fresh):
        modulate(told, Coding(scales={"age": (50.0, 10.0)}, categories={}))
    with torch.no_grad():
        source.film.layers[0].weight.fill_(1)
    taken = take_over(fresh, start(source))
    assert not fresh.film.layers[0].weight.any()
    assert all(name.startswith("film.") for name in taken.left)
    assert str(taken).endswith(" parameters; the effect of clinical covariates starts at zero")


def test_where_no_kernel_fits_both_networks_are_named():
    source = start(network(width=2))
    with pytest.raises(ValueError, match=r"no kernel of model-0 \(width 2.* fits model-0 \(width 3, depth 2") as caught:
        take_over(network(width=3), source)
    assert str(caught.value).startswith("--train.start-from 0a1b: ")
    unknown = Start(source="a.safetensors", id="a.safetensors", sha256="0", tensors={"other": torch.zeros(3)})
    with pytest.raises(ValueError, match="no kernel of an unknown network fits model-0"):
        take_over(network(), unknown)


def test_the_memory_of_a_network_is_not_needed_to_check_it():
    with torch.device("meta"):
        bare = network()
    assert take_over(bare, start(network())).left == ()


@pytest.mark.parametrize("inputs", [("T1", "T2"), ("T2", "T1", "FLAIR"), ("T1", "T2", "FLAIR", "DWI")])
def test_other_inputs_are_refused(inputs):
    with pytest.raises(ValueError, match=r"its network takes T1, T2, FLAIR, this one .* number and order"):
        check_inputs(start(network()), inputs)


def test_the_same_inputs_in_other_capitals_are_the_same():
    check_inputs(start(network()), ("t1", "T2", "flair"))
    check_inputs(Start(source="a", id="a", sha256="0", tensors={}), ("T1",))  # a file that says nothing
