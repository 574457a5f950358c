"""Who became champion, and how: forced, twice, in the middle of a crash, and rolled back."""

from __future__ import annotations

import json

import pytest
from gated import hows, network_run, patients, tags, through

from lab.registry import history as gate_history
from lab.registry.promotion import promote, roll_back
from lab.tracking.models.registered import version_of
from lab.tracking.run import Run
from lab.tracking.store import connect

pytestmark = pytest.mark.usefixtures("no_card")
ALL = range(30)


def test_force_is_recorded_for_ever(good, great):
    weak = network_run("weak", patients(ALL, 0.2, noise=4))
    done = through(weak, "forced", force="the better one is broken")
    assert (done.forced, version_of("forced", "champion")) == (True, "1")
    kept = tags("forced")
    assert (kept["gate"], kept["forced"], kept["forced_reason"]) == ("forced", "yes", "the better one is broken")
    assert kept["forced_by"] == gate_history.who()
    assert kept["forced_when"].startswith("20")
    assert gate_history.history("forced")[0].reason == "the better one is broken"
    assert not through(great, "forced", force="not needed").forced
    assert "forced" not in tags("forced", "2")
    assert [event.how for event in gate_history.history("forced")] == ["forced", "gate"]


def test_promotion_twice_is_promotion_once(good):
    first, second = through(good, "twice"), through(good, "twice")
    assert (second.promotion.version, second.promotion.before, second.verdict) == ("1", "1", None)
    assert first.promotion.before is None
    assert len(connect().search_model_versions("name = 'twice'")) == 1
    assert len(gate_history.history("twice")) == 1
    assert len(json.loads(Run(good).read_text("registered/twice-version-1/gate.json"))) == 1


def test_a_crash_before_the_alias_moves_misleads_nobody(good, great, monkeypatch):
    through(good, "crash")
    with monkeypatch.context() as broken:
        broken.setattr(type(connect()), "set_registered_model_alias", crash)
        with pytest.raises(RuntimeError):
            through(great, "crash")
    assert version_of("crash", "champion") == "1"
    assert hows("crash") == ["gate"]
    with pytest.raises(ValueError, match="no champion before version 1"):
        roll_back("crash")
    assert through(great, "crash").promotion.version == "2"
    assert hows("crash") == ["gate", "gate"]
    assert roll_back("crash").version == "1"


def test_a_crash_after_registering_is_made_good(great, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr("lab.registry.gate.log_card", crash)
        with pytest.raises(RuntimeError):
            through(great, "half")
    assert connect().get_registered_model("half").aliases == {}
    assert through(great, "half").promotion.version == "1"


def crash(*_, **__):
    raise RuntimeError("killed")


@pytest.mark.slow
def test_rollback_goes_back_step_by_step(weaker, good, great):
    best = network_run("best", patients(ALL, 1.0, noise=12))
    for run in (weaker, good, great):
        through(run, "steps")
    assert version_of("steps", "champion") == "3"
    assert (roll_back("steps").version, roll_back("steps").version) == ("2", "1")
    with pytest.raises(ValueError, match="had no champion before version 1"):
        roll_back("steps")
    through(best, "steps")
    done = roll_back("steps")
    assert (done.before, done.version, version_of("steps", "champion")) == ("4", "1", "1")
    hows = [event.how for event in gate_history.history("steps")]
    assert hows == ["gate"] * 3 + ["rollback"] * 2 + ["gate", "rollback"]


@pytest.mark.slow
def test_rollback_passes_over_what_was_deleted_and_knows_what_was_done_by_hand(weaker, good, great):
    client = connect()
    for run in (weaker, good, great):
        through(run, "gone")
    client.delete_model_version("gone", "2")
    assert roll_back("gone").version == "1"
    client.set_registered_model_alias("gone", "champion", "3")
    assert roll_back("gone").version == "1"
    assert [event.how for event in gate_history.history("gone")][-2:] == ["by hand", "rollback"]
    with pytest.raises(ValueError, match="there is no registered model 'nowhere'"):
        roll_back("nowhere")
    promote(good, "only-challenger")
    with pytest.raises(ValueError, match="has no champion"):
        roll_back("only-challenger")
