"""The patch study's two tables: what may be compared, and beside what."""

import numpy as np
import pytest
from constructed import long_table

from lab.evaluation.figures import ERRORS
from lab.report.pages.html import item_html
from lab.report.tables.paper_table import OWN, SAME, tables_inside_patches
from lab.report.tables.published import comparable
from lab.report.tables.table import WIDTH

NETWORKS = {f"SSIM, {size}": (1, "SSIM", 0.3) for size in ("full", "128", "64")}
SIZES = {0: "full", 1: "128", 2: "64"}


def build(phantom: bool):
    own = long_table(NETWORKS, patients=8)
    same = own.assign(mae_brain=np.where(own["trial"] == 2, 0.05, own["mae_brain"]))
    comparison = comparable(phantom=phantom, dataset="EGD", spacing_mm=1, width=16, depth=5)
    shared = {"study": "patch_size", "comparison": comparison, "phantom": phantom, "dataset": "EGD"}
    return tables_inside_patches(own, same, sizes=SIZES, **shared)


def test_each_size_has_its_own_published_row():
    own, same = build(phantom=False)
    assert [own.cell(row, 1)[0] for row in own.rows if row.kind == "published"] == ["0.048", "0.078", "0.140"]
    assert not any(row.kind == "published" for row in same.rows)
    assert OWN in own.title
    assert SAME in same.title


def test_sizes_are_compared_on_the_same_voxels_only():
    own, same = build(phantom=False)
    assert '"best"' not in item_html(own)
    assert "cannot be compared" in item_html(own)
    assert "bold:" not in item_html(own)
    place = 1 + ERRORS.index("mae_brain")
    assert [row.cells[0] for row in same.rows if same.cell(row, place)[2]] == ["SSIM, 64"]
    assert '"best"' in item_html(same)
    assert "sliding window" in item_html(same)


@pytest.mark.parametrize("phantom", [True, False])
def test_all_four_forms_work(phantom):
    for table in build(phantom):
        assert max(map(len, table.text().splitlines())) <= WIDTH
        for text in (table.text(), item_html(table), table.markdown(), table.csv()):
            assert ("phantom" in text) == phantom
            assert "0.078 (" not in text or not phantom


def test_an_empty_table_is_left_out():
    own = long_table(NETWORKS, patients=8)
    comparison = comparable(phantom=True, dataset="", spacing_mm=2, width=8, depth=3)
    shared = {"study": "patch_size", "comparison": comparison, "phantom": True, "dataset": "", "sizes": SIZES}
    assert [OWN in table.title for table in tables_inside_patches(own, own[:0], **shared)] == [True]
