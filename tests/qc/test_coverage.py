"""A brain that is cut by the edge of the field of view is noticed, on any side."""

from __future__ import annotations

import numpy as np
import pytest
from scan_trees import head

from lab.qc.image_quality import SIDES, check_whole, flattest_side

BRAIN = head(0)["T1"] != 0


def test_a_whole_brain_is_no_news():
    assert check_whole(BRAIN) == ""
    assert flattest_side(BRAIN)[0] < 0.2


@pytest.mark.parametrize(("axis", "end"), [(axis, end) for axis in range(3) for end in (0, 1)])
def test_half_a_brain_is_refused_on_any_side(axis, end):
    cut = np.moveaxis(BRAIN.copy(), axis, 0)
    middle = len(cut) // 2
    cut[middle:] = cut[middle:] if end == 0 else False
    cut[:middle] = False if end == 0 else cut[:middle]
    with pytest.raises(ValueError, match=f"ends flat at its {SIDES[axis][end]}"):
        check_whole(np.moveaxis(cut, 0, axis))


def test_a_missing_cap_is_told():
    cut = BRAIN.copy()
    cut[:, :, np.flatnonzero(cut.any(axis=(0, 1)))[-3] :] = False
    assert "ends flat at its top" in check_whole(cut)
