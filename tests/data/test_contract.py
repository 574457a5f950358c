"""A new patient, without contrast agent, is prepared to the bit as the patients were that the model learned from."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from scan_trees import ONE_CLASS, brats_case, head, run

from lab.config import DataConfig
from lab.data.batches import CaseStore
from lab.data.cohort import BRAIN, TUMOUR
from lab.data.contract import Contract, create_subject, read_contract
from lab.data.layouts.find import Subject, find_subjects
from lab.data.prepare import prepare
from lab.io.case_file import NO_TARGET
from lab.radiomics.features.case_features import measure_part
from lab.radiomics.features.image_features import load_extractor

REAL = Path(__file__).parents[3] / "shared" / "cases" / "brats2023-2mm"


@pytest.fixture
def contract(tiny_cohort):
    return Contract.of(tiny_cohort, ("T1", "T2", "FLAIR"), "T1GD")


def test_a_patient_without_contrast_agent_is_prepared_the_same(tiny_phantom, tiny_cohort, contract):
    subject = find_subjects(tiny_phantom)[3]
    bare = dataclasses.replace(subject, images={k: v for k, v in subject.images.items() if k != "T1GD"})
    image, mask, measured = contract.prepare(bare)
    known, flags = tiny_cohort.load(subject.case_id)
    for position, name in enumerate(contract.channels):
        np.testing.assert_array_equal(image[position], known[tiny_cohort.channel(name)])
    np.testing.assert_array_equal(mask & TUMOUR, flags & TUMOUR)
    assert measured["tumour_ml"] == tiny_cohort.index.loc[subject.case_id, "tumour_ml"]


def without(subject: Subject, *names: str) -> Subject:
    return dataclasses.replace(subject, images={k: v for k, v in subject.images.items() if k not in names})


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the real cases are not in {REAL}")
@pytest.mark.parametrize("case_id", ["BraTS-SSA-00110-000", "BraTS-SSA-00113-000"])
def test_the_contrast_scan_of_a_real_patient_shapes_nothing(case_id, tmp_path):
    """Their T1GD ends before the T1 does. Nor does a sequence count that a model does not use."""
    cohort = prepare(REAL / case_id, tmp_path, DataConfig(allow_one_class=True), processes=1)
    known, flags = cohort.load(case_id)
    assert (flags & NO_TARGET).any()
    subject = find_subjects(REAL / case_id)[0]
    for inputs in (("T1", "T2", "FLAIR"), ("FLAIR",)):
        contract = Contract.of(cohort, inputs, "T1GD")
        case = contract.open(without(subject, *({"T1GD", "T2", "FLAIR"} - set(inputs))))
        for position, name in enumerate(contract.channels):
            np.testing.assert_array_equal(case.image[position], known[cohort.channel(name)])
        np.testing.assert_array_equal(case.masks & (BRAIN | TUMOUR), flags & (BRAIN | TUMOUR))


def test_a_contrast_scan_that_ends_early_changes_no_input(tmp_path):
    """Nor a feature; and there nothing is trained on or scored."""
    case_id, volumes = "BraTS-GLI-00000-000", head(0)
    brats_case(tmp_path / "whole", case_id, volumes)
    volumes["T1GD"][:13] = volumes["T1GD"][32:] = 0  # through the tumour
    brats_case(tmp_path / "short", case_id, volumes)
    whole, short = (run(tmp_path / name, tmp_path / f"{name}-out", ONE_CLASS) for name in ("whole", "short"))
    (image, mask), (other, flags) = (cohort.load(case_id) for cohort in (whole, short))
    np.testing.assert_array_equal(image[:3], other[:3])
    np.testing.assert_array_equal(mask & (BRAIN | TUMOUR), flags & (BRAIN | TUMOUR))
    assert (flags[(flags & TUMOUR) > 0] & NO_TARGET).any()
    subject = find_subjects(tmp_path / "short")[0]
    contract, extractor = Contract.of(whole, ("T1", "T2", "FLAIR"), "T1GD"), load_extractor()
    bare, bare_mask, _ = contract.prepare(without(subject, "T1GD"))
    first, second = (
        measure_part("FLAIR", scan[2], (part & TUMOUR) > 0, whole.spacing_mm, extractor)
        for scan, part in ((image, mask), (bare, bare_mask))
    )
    assert first == second
    batch = CaseStore(short, [case_id], inputs=("T1", "T2"), target="T1GD").batch([0])
    scanned = ((flags & BRAIN) > 0) & ((flags & NO_TARGET) == 0)
    np.testing.assert_array_equal(batch.masks["brain"][0, 0], scanned)
    assert not batch.masks["tumour"][0, 0][~scanned].any()
    assert (batch.target[0, 0][~scanned] == -1).all()


def test_a_contrast_scan_of_half_the_brain_leaves_the_patient_out(tmp_path):
    volumes = head(0)
    volumes["T1GD"][:, :, 22:] = 0
    brats_case(tmp_path / "scans", "BraTS-GLI-00000-000", volumes)
    with pytest.raises(ValueError, match=r"T1GD: only .*% of the brain is seen in it and in the T1"):
        run(tmp_path / "scans", tmp_path / "out", ONE_CLASS)


def test_it_travels_as_json(contract):
    assert Contract.read(json.loads(json.dumps(contract.as_dict()))) == contract
    with pytest.raises(ValueError, match=r"does not say how its images were prepared .KeyError.'spacing_mm'"):
        Contract.read({"shape": [1, 2, 3], "inputs": [], "target": "T1GD"})


def test_todays_defaults_do_not_count(tiny_phantom, contract):
    """What was another setting in training stays that of training."""
    subject = find_subjects(tiny_phantom)[0]
    sharper = dataclasses.replace(contract, preparation={**contract.preparation, "clip_sigma": 2.0})
    usual, cut = (one.prepare(subject)[0].astype(np.float32) for one in (contract, sharper))
    inside = (usual > -1) & (np.abs(usual) < 0.49)
    np.testing.assert_allclose(cut[inside], 2 * usual[inside], atol=2e-3)


def test_t1_is_always_there_and_once(contract):
    assert dataclasses.replace(contract, inputs=("FLAIR", "T2")).channels == ("FLAIR", "T2", "T1")
    assert dataclasses.replace(contract, inputs=("t1n", "T2")).channels == ("t1n", "T2")


def test_one_patient_by_paths(tiny_phantom, contract):
    subject = find_subjects(tiny_phantom)[0]
    images = {name: path for name, path in subject.images.items() if name != "T1GD"}
    one = create_subject("new", images, subject.mask, like=contract)
    assert not one.skull_stripped  # as EGD's scans
    image, _, _ = contract.prepare(one)
    np.testing.assert_array_equal(image, contract.prepare(subject)[0])
    stripped = create_subject("new", images, subject.mask, like=dataclasses.replace(contract, layout="brats2023"))
    assert stripped.skull_stripped
    with pytest.raises(FileNotFoundError, match="nowhere"):
        create_subject("new", images | {"T2": tiny_phantom / "nowhere.nii.gz"}, subject.mask, like=contract)


def test_a_missing_sequence_is_named(tiny_phantom, contract):
    subject = find_subjects(tiny_phantom)[0]
    bare = dataclasses.replace(subject, images={"T1": subject.images["T1"]})
    with pytest.raises(ValueError, match=r"T2, FLAIR missing .found T1"):
        contract.prepare(bare)


def test_a_model_of_another_preparation_is_refused(contract):
    """As every one of 0.3.0, which does not say its version."""
    old = contract.as_dict()
    del old["preparation_version"]
    with pytest.raises(ValueError, match="version 1 of the preparation"):
        read_contract(old)
