"""The scan with contrast agent is not needed, shapes nothing, and does not pass under another name."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pandas as pd
import pytest
from scan_trees import brats_case, head, save

from lab.config import DataConfig, PhantomConfig
from lab.data.cohort import Cohort
from lab.data.contract import Contract, read_contract
from lab.data.source import check_prepared, describe_cohort, obtain
from lab.radiomics.features.cohort_features import measure_cohort, refuse_enhanced
from lab.radiomics.labels import read_labels, without_missing_target

DATA = DataConfig(spacing_mm=8.0, processes=1)
INPUTS = ("T1", "T2", "FLAIR")
FEW_FEATURES = """
setting: {binCount: 16, minimumROISize: 1, minimumROIDimensions: 1, additionalInfo: false, label: 1}
imageType: {Original: {}, LoG: {sigma: [8]}}
featureClass: {shape: [VoxelVolume], firstorder: [Mean, Skewness], glcm: [Contrast]}
"""


@pytest.fixture(scope="module")
def bare_tree(tiny_phantom, tmp_path_factory) -> Path:
    """The tiny phantom as links, without the scans with contrast agent."""
    root = tmp_path_factory.mktemp("bare") / "phantom"
    ignore = shutil.ignore_patterns("T1GD*")
    return shutil.copytree(tiny_phantom, root, ignore=ignore, copy_function=lambda a, b: Path(b).symlink_to(a))


@pytest.fixture(scope="module")
def bare(bare_tree, tmp_path_factory) -> Cohort:
    data = without_missing_target(dataclasses.replace(DATA, path=bare_tree), "grade")
    return obtain(data, PhantomConfig(), tmp_path_factory.mktemp("work"), say=lambda _: None)


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("parameters") / "few.yaml"
    file.write_text(FEW_FEATURES)
    return file


def brats_tree(root: Path, without: str = "T1GD", **changed: str) -> Path:
    """Six patients of BraTS, one sequence missing; `T2="ADC"` puts one volume into the place of another."""
    for number in range(6):
        volumes = head(number, enhancing=number < 3)
        volumes |= {name: volumes[other] for name, other in changed.items()}
        brats_case(root, f"BraTS-GLI-{number:05d}-000", {n: v for n, v in volumes.items() if n != without})
    return root


def test_without_the_scan_the_features_are_the_same(bare, tiny_cohort, few, tmp_path):
    assert bare.channels == INPUTS
    assert list(bare.index.index) == list(tiny_cohort.index.index)
    one, other = (measure_cohort(c, INPUTS, tmp_path, parameters=few, processes=1).table for c in (bare, tiny_cohort))
    pd.testing.assert_frame_equal(one, other, check_exact=True)
    assert one.shape == (12, 1 + 3 * 2 * 3)


def test_a_cohort_that_has_it_stays_as_it_was(tiny_phantom, bare_tree, bare, tiny_cohort, tmp_path):
    whole = dataclasses.replace(DATA, path=tiny_phantom)
    for label in (None, "grade", "enhancement"):
        assert without_missing_target(whole, label) == whole
    for data in (dataclasses.replace(DATA, path=tiny_cohort.path), DATA, dataclasses.replace(DATA, target="none")):
        assert without_missing_target(data, "grade") == data
    one_lacks = shutil.copytree(bare_tree, tmp_path / "mixed", symlinks=True)
    _, *rest = (path.parent for path in sorted(tiny_phantom.rglob("T1.nii.gz")))
    for folder in rest:
        (one_lacks / folder.relative_to(tiny_phantom) / "T1GD.nii.gz").symlink_to(folder / "T1GD.nii.gz")
    mixed = dataclasses.replace(DATA, path=one_lacks)
    assert without_missing_target(mixed, "grade").target == without_missing_target(mixed).target == "none"
    assert without_missing_target(mixed, "own", file=Path("own.csv")).target == "none"
    assert without_missing_target(mixed, "enhancement") == mixed  # EGD's label is read from the scan


def test_what_nobody_can_see_is_unknown(bare, bare_tree):
    assert set(bare.index["enhancing_by"]) == {"unknown"}
    assert bare.index["rule_enhancing_ml"].isna().all()
    assert "0 of 12 scans enhance (12 unknown)" in describe_cohort(bare)
    for label, why in (("enhancement", "neither a scan with contrast agent nor the mask"), ("rule", "no volume by")):
        with pytest.raises(ValueError, match=f"--label {label}: cases of both classes are needed, no case .*{why}"):
            read_labels(bare, label)
        with pytest.raises(ValueError, match=f"--label {label}: no patient in .* has T1GD, and no mask labels enh"):
            without_missing_target(dataclasses.replace(DATA, path=bare_tree), label)
    with pytest.raises(ValueError, match=r"was prepared without a scan with contrast agent .* a network cannot"):
        check_prepared(bare, DataConfig(path=bare.path))
    assert without_missing_target(DataConfig(path=bare.path), "grade").target == "none"


def test_masks_that_label_enhancing_tumour_are_enough(tmp_path):
    data = dataclasses.replace(DATA, path=brats_tree(tmp_path / "brats"), spacing_mm=4.0)
    with pytest.raises(ValueError, match="--label rule"):
        without_missing_target(data, "rule")
    data = without_missing_target(data, "enhancement")
    cohort = obtain(data, PhantomConfig(), tmp_path, say=lambda _: None)
    assert read_labels(cohort, "enhancement").values.tolist() == [1, 1, 1, 0, 0, 0]


def test_any_sequences_do_and_a_new_patient_needs_no_others(tmp_path, few):
    source = brats_tree(tmp_path / "brats", without="T1")
    data = dataclasses.replace(DATA, path=source, spacing_mm=4.0, inputs=("FLAIR", "T2"), target="none")
    cohort = obtain(data, PhantomConfig(), tmp_path, say=lambda _: None)
    assert cohort.channels == ("FLAIR", "T2")
    table = measure_cohort(cohort, ("T2",), tmp_path, parameters=few, processes=1).table
    assert list(table.columns[:2]) == ["MASK_original_shape_VoxelVolume", "T2_original_firstorder_Mean"]
    contract = Contract.of(cohort, ("T2",), data.target)
    assert read_contract(contract.as_dict()).channels == ("FLAIR", "T2")  # the first shapes the brain mask
    with pytest.raises(ValueError, match=r"T1 missing .found FLAIR, T1GD, T2.; name the sequences"):
        obtain(dataclasses.replace(data, inputs=INPUTS), PhantomConfig(), tmp_path, say=lambda _: None)


def test_contrast_under_another_name_is_seen_by_its_pixels(tmp_path):
    source = brats_tree(tmp_path / "brats", without="none", T1="T1GD", T1GD="ADC")
    for number in range(6):  # in every tumour an enhancing part
        folder = source / f"BraTS-GLI-{number:05d}-000"
        save(folder / f"{folder.name}-t1n.nii.gz", head(number)["T1GD"])
    data = dataclasses.replace(DATA, path=source, spacing_mm=4.0, target="none")
    cohort = obtain(data, PhantomConfig(), tmp_path, say=lambda _: None)
    with pytest.raises(ValueError, match=r"T1 looks as if taken after contrast agent .* 6 of 6 cases"):
        refuse_enhanced(cohort, INPUTS)
    said: list[str] = []
    refuse_enhanced(cohort, INPUTS, said.append)
    assert len(said) == 1
    refuse_enhanced(cohort, ("T2", "FLAIR"))


def test_scans_without_contrast_pass(bare):
    refuse_enhanced(bare, INPUTS)
