"""The report is made from the tracking store alone; patches are scored in all three ways."""

from __future__ import annotations

from dataclasses import replace

import pytest
from small import ran, settings

from lab.__main__ import main
from lab.data.cohort import Cohort
from lab.experiments.synthesis.record import find_study, read_record
from lab.experiments.synthesis.report import paper_tables
from lab.report.tables.patient_table import BASELINE_NAMES
from lab.report.tables.table import Table
from lab.tracking.run import Run
from lab.tracking.store import RUNS

SIZES = {
    "full": {"train.patch_mm": None, "model.id": 1},
    "128 mm": {"train.patch_mm": 128.0, "model.id": 1},
    "96 mm": {"train.patch_mm": 96.0, "model.id": 1},
}


pytestmark = pytest.mark.usefixtures("no_drawing", "no_calibration")


@pytest.fixture(scope="module")
def patched(tiny_cohort, no_drawing, no_calibration):
    """The whole volume and two patches on 8 mm voxels: 16 and 12 voxels."""
    return ran("patched", settings(tiny_cohort, train__epochs=1), SIZES)


def test_patches_are_scored_whole_inside_their_own_and_on_the_same_voxels(patched):
    plan, _ = patched
    tables = {
        name: plan.parent.read_table(f"tables/{name}.csv").set_index(["label", "case_id"])["mae_image"]
        for name in ("test_patients", "own_patch", "same_voxels")
    }
    labels = {name: set(table.index.get_level_values(0)) for name, table in tables.items()}
    assert labels["own_patch"] == set(SIZES)
    assert labels["same_voxels"] == {*SIZES, *BASELINE_NAMES}
    assert (tables["own_patch"]["full"] == tables["test_patients"]["full"]).all()  # its patch is the volume
    assert (tables["own_patch"]["96 mm"] != tables["test_patients"]["96 mm"]).all()
    # the window of a 96 mm network is the 96 mm patch; but whole volumes are blended from several windows
    assert tables["own_patch"]["96 mm"].to_numpy() == pytest.approx(tables["same_voxels"]["96 mm"].to_numpy(), rel=0.5)
    page = plan.parent.read_text("report.html")
    assert "same voxels" in page
    assert "own patch" in page


def published_rows(table: Table) -> int:
    """Rows of a table that are the paper's figures."""
    return sum(row.kind == "published" for row in table.rows)


def test_published_figures_stand_beside_whole_volumes_of_the_grid(patched, monkeypatch):
    """The phantom is taken for scans of another size, of which they are shown for orientation."""
    plan, _ = patched
    record = read_record(plan.parent)
    assert record.trials.set_index("label")["size"].to_dict() == {"full": "full", "128 mm": "128 mm", "96 mm": "96 mm"}
    facts = {**record.facts, "phantom": False, "study": "patch_size"}
    table, (own, same) = paper_tables(replace(record, facts=facts))
    assert [published_rows(one) for one in (table, own, same)] == [1, 3, 0]


def test_networks_of_whole_volumes_are_of_full_size(tiny_cohort):
    plan, _ = ran("whole", settings(tiny_cohort, train__epochs=1), {"one": {"model.id": 0}, "two": {"model.id": 1}})
    record = read_record(plan.parent)
    assert set(record.trials["size"]) == {"full"}
    table, patches = paper_tables(replace(record, facts={**record.facts, "phantom": False, "study": "architecture"}))
    assert (published_rows(table), patches) == (2, [])


def test_the_report_needs_the_tracking_store_and_nothing_else(patched, tmp_path, monkeypatch, capsys):
    plan, _ = patched
    before = plan.parent.read_text("report.html")
    tables = {name: plan.parent.read_bytes(name) for name in plan.parent.files("tables")}
    monkeypatch.setattr(Cohort, "load", lambda *_: pytest.fail("the report read a scan"))
    monkeypatch.setattr(
        "lab.tracking.models.network.read_package", lambda *_: pytest.fail("the report loaded a network")
    )
    with monkeypatch.context() as patch:
        patch.setattr("lab.experiments.queue.trial_storage", lambda: pytest.fail("the report asked Optuna"))
        assert main(["report", "patched", "--out", str(tmp_path / "copy")]) == 0
    assert (tmp_path / "copy" / "report.html").read_text() == before == plan.parent.read_text("report.html")
    assert tables == {name: plan.parent.read_bytes(name) for name in plan.parent.files("tables")}
    assert (tmp_path / "copy" / "tables" / "enhancement.csv").exists()
    assert "Copied to" in capsys.readouterr().out


def test_a_study_is_found_by_its_name_or_by_its_run(patched):
    plan, _ = patched
    assert find_study("patched") == find_study(plan.parent.id) == plan.parent


@pytest.mark.parametrize(("name", "says"), [("nowhere", "there is no study"), ("open", "has no finished run")])
def test_a_study_that_is_not_there_is_said_so(patched, name, says, capsys):
    Run.open("open", "open", identity={"role": "study", "state": "failed"})
    assert main(["report", name]) == 2
    assert says in capsys.readouterr().err


def test_a_trial_is_no_study(patched):
    _, seen = patched
    with pytest.raises(ValueError, match="is not a finished study"):
        read_record(Run(seen.children["full"].info.run_id))


def test_patches_too_small_for_the_network_are_refused_before_anything_is_trained(tiny_cohort):
    config = settings(tiny_cohort, train__epochs=1, model__depth=4)
    with pytest.raises(ValueError, match=r"128 mm is 16 voxels of 8 mm, of which 4 halvings leave one"):
        ran("small-patch", config, SIZES)
    with pytest.raises(ValueError, match=r"SSIM needs 11"):
        ran("small-patch", settings(tiny_cohort), {"tiny": {"train.patch_mm": 64.0, "loss.name": "SSIM"}})
    assert not (RUNS / "small-patch").exists()
