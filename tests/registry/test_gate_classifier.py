"""The gate for classifiers, on constructed held-out scores whose answer is known."""

from __future__ import annotations

import pytest
from gated import classifier_run, failed, network_run, patients, refused, tags, through
from judged import external_result

from lab.__main__ import main
from lab.registry.promotion import roll_back
from lab.tracking.run import Run
from lab.tracking.store import connect


@pytest.fixture(scope="module")
def fair():
    return classifier_run("fair", 120, 0.8, noise=1)


def test_the_first_classifier_must_beat_chance_and_volume(fair):
    done = through(fair, "will-it")
    assert [(check.figure, check.against) for check in done.verdict.checks] == [
        ("AUC", "chance"),
        ("AUC", "tumour volume"),
        ("Brier score", "tumour volume"),
    ]
    assert tags("will-it")["kind"] == "classifier"
    chance = classifier_run("chance", 120, 0.0, noise=2, volume=-0.5)
    assert ("AUC", "chance") in failed(refused(chance, "chance"))
    large = classifier_run("large", 120, 0.8, noise=3, volume=0.8)
    assert ("AUC", "tumour volume") in failed(refused(large, "large"))


def test_a_classifier_must_beat_the_champion_and_stay_calibrated(fair):
    through(fair, "rank")
    twin = classifier_run("twin classifier", 120, 0.8, noise=4)
    assert ("AUC", "champion, version 1") in failed(refused(twin, "rank"))
    extreme = classifier_run("extreme", 120, 1.5, noise=5, sharpness=0.02)  # ranks well, says one half of everybody
    assert failed(refused(extreme, "rank")) == [
        ("Brier score", "champion, version 1"),
    ]
    strong = classifier_run("strong", 120, 1.9, noise=6)
    done = through(strong, "rank")
    assert done.promotion.before == "1"
    assert "Compared on 120 held-out patients of both." in done.verdict.notes
    assert roll_back("rank").version == "1"


def test_a_test_elsewhere_refuses_where_it_shows_chance_and_warns_where_it_is_too_small(capsys):
    """A small test must not be worse than none."""
    good, chance = external_result(1.5, slug="good-1"), external_result(0.0, ones=150, zeros=150, name="Failed")
    few = external_result(0.4, ones=5, zeros=4, name="Few", slug="few-1")
    assert good.above_chance
    assert not chance.inconclusive(0.8)
    assert few.inconclusive(0.8)
    passed = classifier_run("abroad", 120, 0.8, noise=1, external=[good, few])
    verdict = through(passed, "abroad").verdict
    assert ("AUC", "chance, on Elsewhere (scans)") in [(one.figure, one.against) for one in verdict.checks]
    assert "too few patients to tell" in "".join(verdict.notes)
    assert tags("abroad")["external/good-1"].startswith("Elsewhere (scans): AUC 0.")
    card = Run(passed).read_text("registered/abroad-version-1/model_card.md")
    assert f"Tested once on patients of other cohorts: {few.describe()}; {good.describe()}." in card
    assert "| external, Elsewhere (scans) | AUC | " in card
    assert "and of the external test below: it was not tested there" in card
    failing = classifier_run("chance abroad", 120, 0.8, noise=1, external=[chance])
    assert failed(refused(failing, "fails-abroad")) == [("AUC", "chance, on Failed")]
    command = ["promote", "--run", failing, "--name", "fails-abroad", "--alias", "champion", "--force", "a trial"]
    assert main(command) == 0
    assert f"External test on {chance.describe()}" in capsys.readouterr().out


@pytest.mark.slow
def test_classifiers_of_other_patients_labels_or_events_are_not_compared(fair):
    through(fair, "apart")
    for name, changes, message in (
        ("elsewhere", {"first": 500}, "no held-out patients in common"),
        ("turned", {"flip": 3}, "label 3 of 120 patients differently, as p000"),
        ("grade", {"event": "grade IV"}, "predicts 'grade IV', version 1 'enhancing'"),
        ("namesake", {"digest": "e" * 32, "size": 3.0}, "tumours of different size, such as p000"),
    ):
        assert message in refused(classifier_run(name, 120, 1.9, noise=6, **changes), "apart").trouble
    again = classifier_run("regridded", 120, 1.9, noise=6, digest="e" * 32, size=1.1)
    assert through(again, "apart").verdict.passed


def test_one_that_was_not_shown_to_tell_patients_apart_says_so_on_card_and_version(capsys):
    weak = classifier_run("weak", 60, 0.0, noise=2, area=(0.30, 0.12, 0.58))
    said = "this model was not shown to tell patients apart: on 60 held-out patients its AUC is"
    assert main(["promote", "--run", weak, "--name", "weak"]) == 0
    assert f"The classifier gives no verdict on a patient: {said}" in capsys.readouterr().out
    assert tags("weak")["caution"] == f"{said} 0.30 (95 % interval 0.12 to 0.58)"
    card = Run(weak).read_text("registered/weak-version-1/model_card.md")
    assert "> **NO VERDICT.** This model was not shown to tell patients apart" in card
    assert "NO VERDICT" in connect().get_model_version("weak", "1").description
    fair = classifier_run("fair", 120, 0.8, noise=1)
    assert through(fair, "fair").caution == ""
    assert "NO VERDICT" not in Run(fair).read_text("registered/fair-version-1/model_card.md")


def test_a_name_serves_one_kind_of_model(fair):
    through(fair, "one-kind")
    network = network_run("of another kind", patients(range(12), 0.6))
    with pytest.raises(ValueError, match=r"'one-kind' serves classifiers, and run .* is a network"):
        through(network, "one-kind", "challenger")
