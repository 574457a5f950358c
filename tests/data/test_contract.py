"""A new patient, without contrast agent, is prepared to the bit as the patients were that the model learned from."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from lab.data.cohort import TUMOUR
from lab.data.contract import Contract, one_patient
from lab.data.layouts import find_subjects


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
    one = one_patient("new", images, subject.mask, like=contract)
    assert not one.skull_stripped  # as EGD's scans
    image, _, _ = contract.prepare(one)
    np.testing.assert_array_equal(image, contract.prepare(subject)[0])
    stripped = one_patient("new", images, subject.mask, like=dataclasses.replace(contract, layout="brats2023"))
    assert stripped.skull_stripped
    with pytest.raises(FileNotFoundError, match="nowhere"):
        one_patient("new", images | {"T2": tiny_phantom / "nowhere.nii.gz"}, subject.mask, like=contract)


def test_a_missing_sequence_is_named(tiny_phantom, contract):
    subject = find_subjects(tiny_phantom)[0]
    bare = dataclasses.replace(subject, images={"T1": subject.images["T1"]})
    with pytest.raises(ValueError, match=r"T2, FLAIR missing .found T1"):
        contract.prepare(bare)
