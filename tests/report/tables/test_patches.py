"""The patch study's two tables: what may be compared, and beside what."""

import numpy as np
import pytest
from constructed import long_table

from lab.report.tables.console import WIDTH, as_text
from lab.report.tables.patches import OWN, SAME, patch_tables
from lab.report.tables.patient_table import as_csv, as_html, as_markdown, best
from lab.report.tables.published import comparable

NETWORKS = {f"SSIM, {size}": (1, "SSIM", 0.3) for size in ("full", "128", "64")}
SIZES = {0: "full", 1: "128", 2: "64"}


def build(phantom: bool):
    own = long_table(NETWORKS, patients=8)
    same = own.assign(mae_brain=np.where(own["trial"] == 2, 0.05, own["mae_brain"]))
    comparison = comparable(phantom=phantom, dataset="EGD", spacing_mm=1, width=16, depth=5)
    shared = {"study": "patch_size", "comparison": comparison, "phantom": phantom, "dataset": "EGD"}
    return patch_tables(own, same, sizes=SIZES, **shared)


def test_each_size_has_its_own_published_row():
    own, same = build(phantom=False)
    assert {trial: row.loc["mae_image", "mean"] for trial, row in own.published.items()} == {
        0: 0.048,
        1: 0.078,
        2: 0.14,
    }
    assert same.published == {}
    assert OWN in own.title
    assert SAME in same.title


def test_sizes_are_compared_on_the_same_voxels_only():
    own, same = build(phantom=False)
    assert "class=best" not in as_html(own)
    assert "cannot be compared" in as_html(own)
    assert "bold:" not in as_html(own)
    assert best(same.rows, "mae_brain") == {2}
    assert "class=best" in as_html(same)
    assert "sliding window" in as_html(same)


@pytest.mark.parametrize("phantom", [True, False])
def test_all_four_forms_work(phantom):
    for table in build(phantom):
        assert max(map(len, as_text(table).splitlines())) <= WIDTH
        for text in (as_text(table), as_html(table), as_markdown(table), as_csv(table)):
            assert ("phantom" in text) == phantom
            assert "0.078 (" not in text or not phantom


def test_an_empty_table_is_left_out():
    own = long_table(NETWORKS, patients=8)
    comparison = comparable(phantom=True, dataset="", spacing_mm=2, width=8, depth=3)
    shared = {"study": "patch_size", "comparison": comparison, "phantom": True, "dataset": "", "sizes": SIZES}
    assert [OWN in table.title for table in patch_tables(own, own[:0], **shared)] == [True]
