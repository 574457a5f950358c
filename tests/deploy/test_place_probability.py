"""A network that states a probability, from its study to a new patient: trained, calibrated, promoted, synthesized."""

from __future__ import annotations

import dataclasses

import nibabel as nib
import numpy as np
import pytest
from small import ran, settings

from lab.data.layouts.find import find_subjects
from lab.deploy.new_patients import synthesize
from lab.inference.load import Networks
from lab.inference.settings import ENHANCEMENT, PROBABILITY, SYNTHESIS, TUMOUR_MASK, How
from lab.io.sealed_json import read_sealed
from lab.registry.promotion import promote
from lab.synthesis.methods.place_and_draw import PlaceAndDrawConfig
from lab.synthesis.networks.place_unet import PlaceUNetConfig
from lab.tracking.artifacts import Tag
from lab.tracking.models.network import CALIBRATION, download_package
from lab.tracking.models.registered import downloaded

pytestmark = pytest.mark.usefixtures("no_drawing")


@pytest.fixture(scope="module")
def trained(tiny_cohort, no_drawing):
    """The run of a small study of the method."""
    config = settings(tiny_cohort, model__id="place-unet", train__method="place-and-draw", train__epochs=3)
    options = {"place_unet": PlaceUNetConfig(filters=4, image_filters=3), "place_and_draw": PlaceAndDrawConfig(steps=6)}
    plan, _ = ran("place", dataclasses.replace(config, options=options), {"drawn": {"loss.name": "L1_brain"}})
    (run,) = plan.parent.children()
    return run


def test_its_figures_of_training_are_logged_and_its_test_table_has_those_of_the_probability(trained):
    figures = {"test/probability_auc_patients_rule", "test/tumour_dice"}
    assert {"train/place", "val/auc_voxels", "test/mae_brain", *figures} <= set(trained.metrics)
    assert trained.params["place_unet.filters"] == "4"
    assert trained.params["place_and_draw.steps"] == "6"


def test_the_package_has_the_threshold_chosen_on_validation_patients(trained):
    package = download_package(trained.tags[Tag.MODEL])
    assert package.network.origin.name == "place-unet"
    place = package.calibration["place"]
    assert place["by"] in ("paper's rule", "expert label")
    assert 0 < place["threshold"] < 1
    tumour = package.calibration["tumour"]
    assert 0 <= tumour["lowest_tenth"] <= tumour["dice"] <= 1
    assert (tumour["of"], tumour["patients"]) == ("test", package.calibration["patients"]["test"])
    with downloaded(trained.tags[Tag.MODEL]) as folder:
        assert read_sealed(folder / "artifacts" / CALIBRATION)["place"] == place


def test_a_patient_without_a_mask_gets_the_tumour_that_the_network_states(trained, tiny_phantom, tmp_path):
    promote(trained.id, "places")
    subject = find_subjects(tiny_phantom, say=lambda _: None)[0]
    images = {name: path for name, path in subject.images.items() if name != "T1GD"}
    how = How(device="cpu", strangers="warn", looks=1, tumour="auto")
    report = synthesize("models:/places@challenger", images, out=tmp_path / "out", how=how, say=lambda _: None)
    tumour, t1 = nib.load(tmp_path / "out" / TUMOUR_MASK), nib.load(subject.images["T1"])
    assert tumour.shape == t1.shape
    np.testing.assert_array_equal(tumour.affine, t1.affine)
    found, measured = report["tumour"], report["measured"]["tumour_ml"]
    assert found["by"] == "places v1"
    assert found["ml"] == pytest.approx(measured)
    assert found["tested"] == download_package(trained.tags[Tag.MODEL]).calibration["tumour"]
    (told,) = (text for text in report["warnings"] if "places v1" in text)
    if found["ml"]:
        assert 0.5 < found["mean_probability"] <= 1
        assert report["enhancement"]["region"].startswith("in the predicted tumour")
        assert f"{found['ml']:.1f} ml" in told
    else:
        assert "finds no tumour" in told
    given = synthesize(
        "models:/places@challenger", images, out=tmp_path / "given", mask=subject.mask, how=how, say=lambda _: None
    )
    assert given["tumour"] == {"by": "mask"}
    assert TUMOUR_MASK not in given["files"]


def test_networks_that_state_no_tumour_are_refused_before_anything_is_written(
    trained, tiny_phantom, tmp_path, monkeypatch
):
    promote(trained.id, "places")
    monkeypatch.setattr(Networks, "outputs", ("image", "probability"))
    images = find_subjects(tiny_phantom, say=lambda _: None)[0].images
    with pytest.raises(ValueError, match="states no tumour"):
        synthesize("models:/places@challenger", images, out=tmp_path / "out", how=How(tumour="auto"))
    assert not (tmp_path / "out").exists()


def test_a_new_patient_gets_the_map_the_mask_at_the_threshold_and_millilitres(trained, tiny_phantom, tmp_path):
    promote(trained.id, "places")
    subject = find_subjects(tiny_phantom, say=lambda _: None)[0]
    report = synthesize(
        "models:/places@challenger",
        {name: path for name, path in subject.images.items() if name != "T1GD"},
        mask=subject.mask,
        out=tmp_path / "out",
        how=How(device="cpu", strangers="warn"),
        say=lambda _: None,
    )
    place = download_package(trained.tags[Tag.MODEL]).calibration["place"]
    enhancement = report["enhancement"]
    assert (enhancement["threshold"], enhancement["threshold_of"]) == (place["threshold"], "probability")
    assert {SYNTHESIS, ENHANCEMENT, PROBABILITY} <= set(report["files"])
    probability, mask, t1 = (
        nib.load(path)
        for path in (tmp_path / "out" / PROBABILITY, tmp_path / "out" / ENHANCEMENT, subject.images["T1"])
    )
    np.testing.assert_array_equal(probability.affine, t1.affine)
    values, inside = probability.get_fdata(), mask.get_fdata() > 0
    assert 0 <= values.min() < values.max() <= 1
    assert (values[inside] > place["threshold"] - 1e-6).all()
    assert enhancement["ml"] == pytest.approx(inside.sum() * np.prod(t1.header.get_zooms()) / 1000, rel=1e-3)
