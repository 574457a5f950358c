"""Clinical covariates modulate any network's channels; unknown is coded, and goes with the package."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pandas as pd
import pytest
import torch

from lab.config import COVARIATES, ModelConfig
from lab.synthesis.networks import NETWORKS, build_from_record, build_network, given, warn_of_unknown
from lab.synthesis.networks.film import Coding, fit_coding, modulate

CODING = Coding(scales={"age": (50.0, 10.0)}, categories={"sex": ("F", "M"), "grade": ("2", "4")})
PATIENTS = [{"age": 60.0, "sex": "M", "grade": 4}, {"age": None, "sex": "F", "grade": 3}]


def network(name: str = "model-1", **settings):
    kind = NETWORKS[name].settings
    small = ModelConfig(id=name, width=2, depth=2) if kind is ModelConfig else kind(**settings)
    return build_network(name, small, 3, seed=1).eval()


def weighted(net):
    """The network with modulations that are not zero."""
    modulate(net, CODING)
    with torch.no_grad():
        for layer in net.film.layers:
            layer.weight.normal_(std=0.5, generator=torch.Generator().manual_seed(0))
    return net


def volume(batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, 3, 8, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_the_code_of_known_and_unknown_values():
    assert CODING.code(PATIENTS[0]) == [1, 0, 0, 1, 0, 0, 1, 0]
    assert CODING.code(PATIENTS[1]) == [0, 1, 1, 0, 0, 0, 0, 1]
    assert CODING.unknown(PATIENTS[1]) == ["age", "grade"]
    assert CODING.code({"age": 60, "sex": "M", "grade": 4.0}) == CODING.code(PATIENTS[0])
    assert Coding.read(json.loads(json.dumps(CODING.as_dict()))) == CODING


@pytest.mark.parametrize("name", ["model-1", "segresnet", "place-unet"])
def test_an_untrained_network_ignores_them_and_a_trained_one_tells_patients_apart(name):
    plain, x = network(name), volume(2)
    told = network(name)
    modulate(told, CODING)
    with torch.no_grad(), given(told, lambda: PATIENTS):
        assert torch.equal(told(x), plain(x))
    told = weighted(network(name))
    with torch.no_grad():
        unknown = told(x)
        with given(told, lambda: PATIENTS):
            both = told(x)
        for i, patient in enumerate(PATIENTS):
            with given(told, lambda patient=patient: [patient]):
                torch.testing.assert_close(told(x[i : i + 1]), both[i : i + 1], atol=1e-5, rtol=1e-4)
        assert (both - unknown).abs().amax((1, 2, 3, 4)).min() > 1e-3
        assert torch.equal(told(x), unknown)  # nobody is remembered
        with given(told, lambda: [{}]):
            assert torch.equal(told(x), unknown)


def test_a_copy_has_weights_of_its_own_and_knows_the_same_patients():
    first = weighted(network())
    second = copy.deepcopy(first)
    with torch.no_grad():
        for layer in second.film.layers:
            layer.weight.zero_()
        with given(first, lambda: PATIENTS[:1]):
            assert torch.equal(second(volume()), network()(volume()))
            assert not torch.equal(first(volume()), second(volume()))


def test_gradients_reach_every_weight_and_the_record_builds_the_same_network():
    told = weighted(network()).train()
    with given(told, lambda: PATIENTS):
        told(volume(2)).square().sum().backward()
    assert all(layer.weight.grad.abs().sum() > 0 for layer in told.film.layers)
    again = build_from_record(json.loads(json.dumps(told.origin.record())), 3)
    again.load_state_dict(told.state_dict())
    with torch.no_grad(), given(told.eval(), lambda: PATIENTS), given(again.eval(), lambda: PATIENTS):
        assert torch.equal(again(volume(2)), told(volume(2)))


def test_known_values_are_dropped_in_training_alone():
    told = network()
    modulate(told, CODING, drop=0.5)
    many = PATIENTS[:1] * 400
    with given(told, lambda: many, training=True):
        hidden = told.film.given.coded[:, [1, 4, 7]].mean(0)
    assert ((hidden - 0.5).abs() < 0.1).all()
    with given(told, lambda: many):
        assert told.film.given.coded[:, [1, 4, 7]].sum() == 0


def test_what_is_unknown_is_warned_of():
    told = network()
    assert warn_of_unknown([told], {}) == []
    modulate(told, CODING)
    assert warn_of_unknown([told], PATIENTS[0]) == []
    [warning] = warn_of_unknown([told, network()], PATIENTS[1])
    assert warning.startswith("predicted without age, grade, which the model takes")


@pytest.mark.parametrize("name", ["model-1", "place-unet"])
def test_a_compiled_network_is_one_graph_that_knows_each_batchs_patients(name):
    told, x = weighted(network(name)), volume(2)
    graph = torch.compile(told, backend="eager", fullgraph=True)
    for patients in (PATIENTS, PATIENTS[::-1], None):
        with torch.no_grad(), given(told, lambda patients=patients: patients):
            torch.testing.assert_close(graph(x), told(x), atol=1e-6, rtol=1e-5)


def test_the_coding_comes_of_the_training_cases(tiny_cohort):
    cases = list(tiny_cohort.index.index)
    found = fit_coding(tiny_cohort, cases[:6], COVARIATES[:2])
    ages = [patient["age"] for patient in tiny_cohort.clinical(cases[:6]) if patient["age"] is not None]
    assert found.scales["age"] == pytest.approx((pd.Series(ages).mean(), pd.Series(ages).std(ddof=0)))
    assert found.categories == {"sex": ("F", "M")}
    told = replace(tiny_cohort, index=tiny_cohort.index.assign(idh=pd.NA))
    with pytest.raises(ValueError, match=r"--clinical\.use idh: of 12 training cases .* unknown for all of them"):
        fit_coding(told, cases, ["idh"])
