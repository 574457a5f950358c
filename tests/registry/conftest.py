"""Constructed networks of known skill, and promotions without what takes their time."""

from __future__ import annotations

from functools import partial

import pytest
from gated import network_run, patients

from lab.report.tables.model_figures import network_figures

ALL = range(30)


@pytest.fixture
def no_card(monkeypatch):
    """Cards, intervals and the copy of the code take most of a promotion's time; test_model_card looks at them."""
    monkeypatch.setattr("lab.tracking.models.network.attach_code", lambda _: None)
    monkeypatch.setattr("lab.registry.gate.log_card", lambda *_: None)
    monkeypatch.setattr("lab.registry.candidate.network_figures", partial(network_figures, resamples=50))


@pytest.fixture(scope="module")
def good():
    return network_run("good", patients(ALL, 0.6, noise=1))


@pytest.fixture(scope="module")
def great():
    return network_run("great", patients(ALL, 0.9, noise=2))


@pytest.fixture(scope="module")
def weaker():
    return network_run("weaker", patients(ALL, 0.45, noise=11))
