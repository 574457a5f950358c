"""What may be registered at all, what a version carries, and the command that does it."""

from __future__ import annotations

import json

import pytest
import tyro
from gated import contract, finished_run, network_run, package, patients

from lab.cli.models import Promote
from lab.cli.study_command import exit_code_of
from lab.registry import history as gate_history
from lab.registry.candidate import run_with_model
from lab.registry.promotion import promote
from lab.tracking.models.registered import described, version_of
from lab.tracking.models.verify import load_package
from lab.tracking.store import connect


def command(*arguments: str) -> int:
    """The command as it is called, with its errors on stderr."""
    return exit_code_of(tyro.cli(Promote, args=list(arguments)).run)


@pytest.fixture(scope="module")
def good():
    return network_run("registered well", patients(range(30), 0.6, noise=1))


def empty_run(name: str) -> str:
    return finished_run(name, {}, {})


def test_a_version_carries_what_it_came_from(good, capsys):
    assert command("--run", good, "--name", "carries") == 0
    assert f"carries version 1 of run {good} is challenger now: models:/carries@challenger" in capsys.readouterr().out
    version = connect().get_model_version("carries", "1")
    own = connect().get_run(good).data
    assert version.run_id == good
    assert version.tags["cohort_digest"] == "d" * 32
    assert version.tags["commit"] == own.tags["mlflow.source.git.commit"]
    assert json.loads(version.tags["preparation"])["preparation"]["clip_sigma"] == 4.0
    assert float(version.tags["test/mae_brain"]) == pytest.approx(own.metrics["test/mae_brain"], rel=1e-5)
    for figure in ("contrast_concordance", "mae_brain", "hallucinated_ml_expert"):
        assert " to " in version.tags[f"interval/{figure}"]
    assert described("models:/carries@challenger") == {"name": "carries", "version": "1", "run_id": good}
    assert own.tags["registered"] == "carries version 1"


def test_the_command_shows_every_test_and_says_which_failed(good, capsys):
    weak = network_run("registered weak", patients(range(30), 0.25, noise=5))
    assert command("--run", weak, "--name", "shows", "--alias", "champion") == 2
    said = capsys.readouterr()
    assert "against" in said.out
    assert said.out.count("passed") == 3
    assert said.out.count("FAILED") == 1
    assert "version 1 of 'shows' does not become champion: contrast concordance against linear" in said.err
    assert said.err.count("\n") == 1
    assert command("--run", weak, "--name", "shows", "--alias", "champion", "--force", "none other") == 0
    assert "with the reason on record: none other" in capsys.readouterr().out
    assert command("--run", good, "--name", "shows", "--alias", "champion", "--force", "careful") == 0
    said = capsys.readouterr().out
    assert "--force was not needed and is not recorded" in said
    assert "shows version 2" in said
    assert "is champion now, which was version 1: models:/shows@champion" in said
    assert command("--run", good, "--name", "shows", "--alias", "champion") == 0
    assert "is champion already" in capsys.readouterr().out
    assert command("--rollback", "--name", "shows") == 0
    said = capsys.readouterr().out
    assert f"champion is version 1 of run {weak} again, no longer 2" in said
    assert f"version 1, forced, by {gate_history.who()}: none other" in said
    assert version_of("shows", "champion") == "1"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name what is promoted: either --run ID or --study NAME"),
        (["--run", "a", "--study", "b"], "name what is promoted: either --run ID or --study NAME"),
        (["--rollback", "--run", "a"], "--rollback takes --name alone"),
        (["--study", "nowhere"], "there is no study and no run 'nowhere'"),
    ],
)
def test_a_command_that_says_too_little_or_too_much_is_refused(arguments, message, capsys):
    assert command("--name", "unsaid", *arguments) == 2
    assert message in capsys.readouterr().err


def test_a_foreign_model_is_refused():
    run = empty_run("foreign")
    with pytest.raises(ValueError, match="has no model of this lab"):
        promote(run, "foreign")
    package(run, {"artifacts/MLmodel.json": {"flavors": "somebody else's"}})
    with pytest.raises(ValueError, match=r"is none of this lab, or its files are gone \(no artifacts/network\.json"):
        promote(run, "foreign")


def test_a_model_that_does_not_say_how_images_are_prepared_is_refused():
    run = empty_run("silent")
    package(run, {"artifacts/network.json": {"inputs": ["T1"], "target": "T1GD"}})
    with pytest.raises(ValueError, match="lacks spacing_mm, preparation, phantom"):
        promote(run, "silent")


def test_a_deleted_model_and_a_deleted_run_are_refused():
    run = network_run("lost", patients(range(12), 0.5))
    connect().delete_logged_model(connect().get_run(run).data.tags["model_uri"].removeprefix("models:/"))
    with pytest.raises(ValueError, match=r"the model models:/m-.* of run .* was deleted; train it again"):
        promote(run, "lost")
    connect().delete_run(run)
    with pytest.raises(ValueError, match="was deleted; mlflow"):
        promote(run, "lost")


def test_a_run_that_is_not_finished_or_never_tested_is_refused(capsys):
    run = network_run("untested", None)
    assert command("--run", run, "--name", "untested") == 2
    assert "was never scored on test patients (no test_patients.csv)" in capsys.readouterr().err
    connect().set_tag(run, "state", "interrupted")
    connect().set_terminated(run, "KILLED")
    with pytest.raises(ValueError, match=r"has not come to its end \(interrupted\)"):
        promote(run, "untested")
    assert [one.name for one in connect().search_registered_models("name = 'untested'")] == []


@pytest.mark.parametrize("name", ["", "a/b", "it's", "with space", "a:b"])
def test_names_that_no_address_can_hold_are_refused(good, name):
    with pytest.raises(ValueError, match="letters, digits"):
        promote(good, name)


def test_an_unknown_alias_is_refused(good):
    with pytest.raises(ValueError, match="--alias best: known are challenger, champion"):
        promote(good, "aliases", "best")


def test_the_same_model_is_one_version_whichever_run_names_it(good):
    """A classifier's model stands on the study's run and on that of the final fit."""
    other = empty_run("names the same")
    connect().set_tag(other, "model_uri", connect().get_run(good).data.tags["model_uri"])
    assert promote(good, "once").version == promote(other, "once").version == "1"


def test_promotion_from_python_without_a_gate_is_written_down(good):
    assert promote(good, "ungated", "champion").uri == "models:/ungated@champion"
    assert [event.how for event in gate_history.history("ungated")] == ["without gate"]


@pytest.mark.slow
def test_the_best_of_a_real_study_is_promoted(tiny_cohort, no_drawing, capsys):
    """Twelve phantoms: too few test patients for a gate, enough for a challenger with its card."""
    from small import ran, settings

    plan, _ = ran("promoted", settings(tiny_cohort, train__epochs=1))
    best = next(run for run in plan.parent.children() if "best" in run.tags)
    assert run_with_model("promoted") == best
    assert command("--study", "promoted", "--name", "sct1") == 0
    version = connect().get_model_version("sct1", "1")
    assert (version.run_id, version.tags["phantom"]) == (best.id, "True")
    text = best.read_text("registered/sct1-version-1/model_card.md")
    assert "(phantom)" in text
    assert "- patients: 12" in text
    table = best.read_table("test_patients.csv")
    assert {"vendor", "field_strength_t", "grade", "age", "sex"} <= set(table)
    assert f"| {table['vendor'].iloc[0]} | fewer than 5 patients" in text
    assert "vendor" not in plan.parent.read_table("rivals/test_patients.csv")
    assert version.tags["package_sha256"] == load_package(best.tags["model_uri"]).package_sha256
    assert json.loads(version.tags["preparation"]) == contract_of(best)
    assert command("--study", "promoted", "--name", "sct1-phantom", "--alias", "champion") == 2
    assert "at least 10 are needed" in capsys.readouterr().err
    assert command("--study", "promoted", "--name", "sct1", "--alias", "champion", "--force", "x") == 2
    assert "cannot become champion of 'sct1'" in capsys.readouterr().err


def contract_of(run):
    from lab.tracking.models.network import download_package

    known = download_package(run.tags["model_uri"]).known
    return {key: value for key, value in known.items() if key != "model"}


def test_constructed_contracts_look_like_real_ones():
    from lab.data.contract import Contract

    assert Contract.read(contract("d" * 32, False)).spacing_mm == 2.0
