"""The table of a cohort: names and values, who is left out, and that nothing is computed twice."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lab.data.cohort import TUMOUR, Cohort, open_cohort
from lab.io.case_file import content_digest, file_sha256, map_case, read_case_record, write_case
from lab.io.sealed_json import read_sealed, seal
from lab.radiomics.features import case_features, cohort_features
from lab.radiomics.features.case_features import measure_part
from lab.radiomics.features.cohort_features import measure_cohort
from lab.radiomics.features.image_features import extract, load_extractor, to_images

SEQUENCES = ("T1", "T2", "FLAIR")
SMALL = """
setting: {binCount: 16, minimumROISize: 26, minimumROIDimensions: 3, additionalInfo: false, label: 1}
imageType: {Original: {}}
featureClass: {shape: , firstorder: , glcm: }
"""


@pytest.fixture
def small(tmp_path) -> Path:
    """A parameter file of 56 features, so that a test takes a second."""
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


@pytest.fixture
def copy(tiny_cohort, tmp_path) -> Cohort:
    """A cohort that a test may spoil."""
    return open_cohort(shutil.copytree(tiny_cohort.path, tmp_path / "cohort"))


def change(cohort: Cohort, case_id: str, edit) -> Cohort:
    """The cohort with one case edited in place, as if it had been prepared so."""
    path = cohort.path / "cases" / f"{case_id}.safetensors"
    record = read_case_record(path)
    image, mask = (np.array(part) for part in map_case(path))
    edit(image, mask)
    write_case(path, image, mask, record)
    return edit_index(cohort, case_id, {"sha256": content_digest(image, mask)})


def edit_index(cohort: Cohort, case_id: str, cells: dict[str, str]) -> Cohort:
    """The cohort with cells of its index changed, as if it had been prepared so."""
    table, manifest = cohort.path / "index.csv", cohort.path / "manifest.json"
    index = pd.read_csv(table, dtype="string").set_index("case_id")
    index.loc[case_id, list(cells)] = list(cells.values())
    index.reset_index().to_csv(table, index=False)
    known = read_sealed(manifest)
    known["tables"]["index.csv"] = file_sha256(table)
    manifest.write_text(json.dumps(seal(known)))
    return open_cohort(cohort.path)


def count_extractions(monkeypatch) -> list[str]:
    """Grows by an entry each time pyradiomics is asked."""
    calls = []

    def counted(*images, **what):
        calls.append("asked")
        return extract(*images, **what)

    monkeypatch.setattr(case_features, "extract", counted)
    return calls


def test_table_of_the_phantom(tiny_cohort, small, tmp_path):
    found = measure_cohort(tiny_cohort, ("t1", "FLAIR"), tmp_path, parameters=small, processes=1)
    assert found.left_out == {"EGD-0003": "the tumour mask has 9 voxels, 27 are needed"}
    assert list(found.table.index) == [case for case in tiny_cohort.index.index if case != "EGD-0003"]
    assert found.table.index.name == "case_id"
    assert (found.table.dtypes == np.float64).all()
    assert found.table.shape == (11, 14 + 2 * (18 + 24))
    image, mask = tiny_cohort.load("EGD-0005")
    tumour = (mask & TUMOUR) > 0
    expected = extract(*to_images(image[2], tumour, 8.0), load_extractor(small), shape=False)
    row = found.table.loc["EGD-0005"]
    assert {f"FLAIR_{name}": value for name, value in expected.items()} == dict(row.filter(like="FLAIR_"))
    assert row["MASK_original_shape_VoxelVolume"] == tumour.sum() * 8**3
    assert not any("shape" in name for name in found.table.columns if not name.startswith("MASK_"))


def test_a_second_call_computes_nothing(copy, small, tmp_path, monkeypatch):
    calls = count_extractions(monkeypatch)
    first = measure_cohort(copy, SEQUENCES, tmp_path / "cache", parameters=small, processes=1)
    assert len(calls) == 11 * 4
    again = measure_cohort(copy, SEQUENCES, tmp_path / "cache", parameters=small, processes=2)
    pd.testing.assert_frame_equal(first.table, again.table, check_exact=True)
    assert first.left_out == again.left_out
    measure_cohort(copy, ("T2",), tmp_path / "cache", parameters=small, processes=1)
    assert len(calls) == 11 * 4

    def brighter(image, mask):
        image[0] *= np.float16(0.5)

    changed = change(copy, "EGD-0001", brighter)
    after = measure_cohort(changed, SEQUENCES, tmp_path / "cache", parameters=small, processes=1)
    assert len(calls) == 12 * 4
    name = "T1_original_firstorder_Mean"
    assert after.table.loc["EGD-0001", name] == pytest.approx(first.table.loc["EGD-0001", name] / 2, rel=1e-2)
    pd.testing.assert_frame_equal(after.table.drop("EGD-0001"), first.table.drop("EGD-0001"), check_exact=True)
    small.write_text(SMALL.replace("binCount: 16", "binCount: 8"))
    measure_cohort(changed, ("T1",), tmp_path / "cache", parameters=small, processes=1)
    assert len(calls) == 12 * 4 + 11 * 2


def test_a_damaged_cache_file_is_made_again(tiny_cohort, small, tmp_path, monkeypatch):
    first = measure_cohort(tiny_cohort, ("T1",), tmp_path, parameters=small, processes=1)
    calls = count_extractions(monkeypatch)
    broken = next(tmp_path.glob("EGD-0007-T1-*"))
    broken.write_bytes(broken.read_bytes()[:100])
    again = measure_cohort(tiny_cohort, ("T1",), tmp_path, parameters=small, processes=1)
    assert len(calls) == 1
    pd.testing.assert_frame_equal(first.table, again.table, check_exact=True)


def test_a_cache_file_of_another_case_is_made_again(tiny_cohort, small, tmp_path, monkeypatch):
    first = measure_cohort(tiny_cohort, ("T1",), tmp_path, parameters=small, processes=1)
    calls = count_extractions(monkeypatch)
    one, other = (next(tmp_path.glob(f"{case}-T1-*")) for case in ("EGD-0007", "EGD-0008"))
    one.write_bytes(other.read_bytes())
    next(tmp_path.glob("EGD-0009-T1-*")).write_bytes(gzip.compress(b"[" * 100_000))
    again = measure_cohort(tiny_cohort, ("T1",), tmp_path, parameters=small, processes=1)
    assert len(calls) == 2
    pd.testing.assert_frame_equal(first.table, again.table, check_exact=True)


def test_who_cannot_be_measured_is_left_out_with_the_reason(copy, small, tmp_path):
    def no_mask(image, mask):
        mask &= 255 - TUMOUR

    def one_voxel(image, mask):
        mask &= 255 - TUMOUR
        mask[10, 12, 10] |= TUMOUR

    def one_slice(image, mask):
        mask &= 255 - TUMOUR
        mask[5:12, 5:12, 10] |= TUMOUR

    def no_t2(image, mask):
        image[1] = -1

    def holes(image, mask):  # what prepare never writes
        image[2, 3, 3, 3] = np.nan

    edits = [no_mask, one_voxel, one_slice, no_t2, holes]
    for number, edit in zip((1, 2, 4, 5, 6), edits):
        copy = change(copy, f"EGD-{number:04d}", edit)
    found = measure_cohort(copy, SEQUENCES, tmp_path / "cache", parameters=small, processes=1)
    assert found.left_out == {
        "EGD-0001": "no tumour mask: none of its voxels is set",
        "EGD-0002": "the tumour mask has 1 voxel, 27 are needed",
        "EGD-0003": "the tumour mask has 9 voxels, 27 are needed",
        "EGD-0004": "the tumour mask is flat (7 x 7 x 1 voxels), it must extend in 3 directions",
        "EGD-0005": "T2: the image has one value all over the tumour; the sequence is missing or empty",
        "EGD-0006": f"{copy.path}/cases/EGD-0006.safetensors is damaged (values that are NaN or outside [-1, 1]); "
        "delete it and run prepare again",
    }
    assert list(found.table.index) == [f"EGD-{number:04d}" for number in range(7, 13)]
    assert np.isfinite(found.table.to_numpy()).all()
    (copy.path / "cases" / "EGD-0007.safetensors").write_bytes(b"half")
    alone = measure_cohort(copy, ("T1",), tmp_path / "other", parameters=small, processes=1)
    assert "EGD-0005" in alone.table.index  # its T1 is well
    assert "EGD-0007.safetensors is damaged" in alone.left_out["EGD-0007"]


@pytest.mark.parametrize(
    ("fault", "said", "kept"),
    [
        (MemoryError(), "T1: too little memory", False),
        (RuntimeError("ITK failed"), "T1: could not be measured, RuntimeError ITK failed", True),
        (ZeroDivisionError("by zero"), "T1: could not be measured, ZeroDivisionError by zero", True),
    ],
)
def test_whatever_one_case_raises_the_others_are_measured(fault, said, kept, tiny_cohort, small, tmp_path, monkeypatch):
    asked: list[bool] = []

    def failing(image, mask, extractor, **what):
        if not what.get("shape", True):
            asked.append(True)
            if len(asked) == 1:
                raise fault
        return extract(image, mask, extractor, **what)

    monkeypatch.setattr(case_features, "extract", failing)
    found = measure_cohort(tiny_cohort, ("T1",), tmp_path, parameters=small, processes=1)
    assert found.left_out["EGD-0001"] == said
    assert len(found.table) == 10
    again = measure_cohort(tiny_cohort, ("T1",), tmp_path, parameters=small, processes=1)
    assert ("EGD-0001" in again.left_out) == kept  # another time there may be more memory


def test_bins_that_are_too_narrow_are_told_by_the_first_case(tiny_cohort, small, tmp_path):
    small.write_text(SMALL.replace("binCount: 16", "binWidth: 0.0000001"))
    with pytest.raises(
        ValueError, match=r"no case gives features \(the first, EGD-0001: T1: original image: values from"
    ):
        measure_cohort(tiny_cohort, ("T1",), tmp_path, parameters=small, processes=1)


TINY = {
    "one voxel": np.s_[20:21, 20:21, 20:21],
    "two voxels": np.s_[20:22, 20:21, 20:21],
    "a plane across": np.s_[20:21, 10:30, 10:30],
    "a plane along": np.s_[10:30, 20:21, 10:30],
    "a slice": np.s_[10:30, 10:30, 20:21],
    "a line": np.s_[20:21, 5:35, 20:21],
}


@pytest.mark.parametrize("name", TINY)
def test_a_tiny_mask_is_told_as_such_whichever_part_is_measured_first(name):
    """A classifier may read features of one sequence and none of the shape."""
    mask = np.zeros((40, 40, 40), bool)
    mask[TINY[name]] = True
    image = np.random.default_rng(0).normal(size=mask.shape)
    for values in (None, image):
        with pytest.raises(ValueError, match=r"^the tumour mask (has \d+ voxels?, 27 are needed|is flat)"):
            measure_part("T1", values, mask, 4.0, load_extractor())


def test_those_whom_the_preparation_left_out_are_told_too(copy, small, tmp_path):
    copy = edit_index(copy, "EGD-0099", {"patient_id": "EGD-0099", "status": "left out", "reason": "no FLAIR"})
    found = measure_cohort(copy, ("T1",), tmp_path / "cache", parameters=small, processes=1)
    assert found.left_out["EGD-0099"] == "no FLAIR"


def test_a_feature_that_is_not_finite_leaves_the_case_out(tiny_cohort, small, tmp_path, monkeypatch):
    def failing(image, mask, extractor, **what):
        found = extract(image, mask, extractor, **what)
        return found if what.get("shape", True) else found | {"original_glcm_Imc2": float("nan")}

    monkeypatch.setattr(case_features, "extract", failing)
    with pytest.raises(
        ValueError, match=r"no case gives features \(the first, EGD-0001: T1: original_glcm_Imc2 is not"
    ):
        measure_cohort(tiny_cohort, ("T1",), tmp_path, parameters=small, processes=1)


def test_a_case_whose_process_dies_is_left_out(tiny_cohort, small, tmp_path, monkeypatch):
    def dying(jobs, processes):
        for case_id, job in jobs.items():
            yield case_id, None if case_id == "EGD-0001" else job.run()

    monkeypatch.setattr(cohort_features, "run_all", dying)
    found = measure_cohort(tiny_cohort, ("T1",), tmp_path, parameters=small, processes=2)
    assert found.left_out["EGD-0001"] == cohort_features.KILLED
    assert len(found.table) == 10


@pytest.mark.parametrize("name", ["T1GD", "t1gd", "T1ce"])
def test_contrast_is_refused(tiny_cohort, tmp_path, name):
    with pytest.raises(ValueError, match=f"{name} shows contrast agent"):
        measure_cohort(tiny_cohort, ("T1", name), tmp_path)


def test_wrong_sequences_are_refused(tiny_cohort, tmp_path):
    with pytest.raises(ValueError, match="has no SWI"):
        measure_cohort(tiny_cohort, ("SWI",), tmp_path)
    with pytest.raises(ValueError, match="no sequence"):
        measure_cohort(tiny_cohort, (), tmp_path)
    own = dataclasses.replace(tiny_cohort, manifest={**tiny_cohort.manifest, "target": "FLAIR"})
    with pytest.raises(ValueError, match="FLAIR shows contrast agent"):
        measure_cohort(own, ("FLAIR",), tmp_path)


def test_killed_and_called_again(tiny_cohort, small, tmp_path, monkeypatch):
    """`kill -9` of the whole call loses the sequences in progress, and its workers end."""
    cache = tmp_path / "cache"
    code = (
        "import sys, time; from pathlib import Path; from lab.data.cohort import open_cohort;"
        "from lab.radiomics.features.cohort_features import measure_cohort;"
        "tell = lambda *news: (print(*news, flush=True), time.sleep(60));"
        "measure_cohort(open_cohort(Path(sys.argv[1])), ('T1', 'FLAIR'), Path(sys.argv[2]),"
        " parameters=Path(sys.argv[3]), processes=2, progress=tell)"
    )
    small.write_text(SMALL.replace("Original: {}", "Original: {}, Wavelet: {}"))  # slow enough to be killed midway
    arguments = [sys.executable, "-c", code, *map(str, (tiny_cohort.path, cache, small))]
    child = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert child.stdout is not None
        assert "measured" in child.stdout.readline()
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    deadline, sizes = time.monotonic() + 20, []
    while time.monotonic() < deadline and (len(sizes) < 3 or len(set(sizes[-3:])) > 1):  # until no worker writes
        sizes.append(len(list(cache.glob("*.json.gz"))))
        time.sleep(0.3)
    done = {path: path.stat().st_mtime_ns for path in cache.glob("*.json.gz")}
    assert len(done) >= 3
    calls = count_extractions(monkeypatch)
    found = measure_cohort(tiny_cohort, ("T1", "FLAIR"), cache, parameters=small, processes=1)
    assert len(found.table) == 11
    assert found.table.notna().to_numpy().all()
    small_masks = sum("EGD-0003" in path.name for path in done)
    assert len(calls) == 11 * 3 - (len(done) - small_masks) > 0
    assert all(path.stat().st_mtime_ns == written for path, written in done.items())
