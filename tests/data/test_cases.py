"""One subject -> one case: values, masks, orientation and grid; EGD's way; and the real cases where present."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from scan_trees import (
    BRATS_2021,
    BRATS_2023,
    ONE_CLASS,
    SETTINGS,
    SPACING,
    brats_case,
    brats_tree,
    head,
    left_out,
    run,
    save,
    save_as,
)
from scipy import ndimage

from lab.config import DataConfig, grid_shape
from lab.data import brain_mask as brain
from lab.data.case import PreparedCase, Recipe, open_case
from lab.data.cohort import BRAIN, ENHANCEMENT, EXPERT, TUMOUR
from lab.data.contract import Contract
from lab.data.layouts.find import Subject, find_subjects
from lab.data.prepare import prepare
from lab.io import case_file as storage
from lab.io import grid as geometry
from lab.io.case_file import CORE
from lab.io.scan import Scan, read_image
from lab.phantom.subject import make_subject

REAL = Path(__file__).parents[3] / "shared" / "cases"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"the real cases are not in {REAL}")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return brats_tree(tmp_path_factory.mktemp("brats"))


@pytest.fixture(scope="module")
def cohort(tree, tmp_path_factory):
    return run(tree, tmp_path_factory.mktemp("out") / "cohort")


def normalised(volume: np.ndarray, brain: np.ndarray, core: np.ndarray) -> np.ndarray:
    """The brain's values as the docs say: z-score by its core, whose spread is 1 / 1.2 of the whole brain's."""
    values, deep = volume[brain].astype(float), volume[core].astype(float)
    return np.clip((values - deep.mean()) / deep.std() / 1.2 / 4, -1, 1)


def core_of(brain: np.ndarray) -> np.ndarray:
    """4 mm and a voxel of 4 mm deep."""
    return ndimage.distance_transform_edt(brain, sampling=SPACING) > 8.001


def test_values_follow_the_paper(cohort):
    assert cohort.channels == ("T1", "T2", "FLAIR", "T1GD")
    assert (cohort.shape, cohort.spacing_mm) == ((40, 48, 40), SPACING)
    for number, case_id in enumerate(cohort.index.index):
        image, mask = cohort.load(case_id)
        assert (image.dtype, image.shape, mask.dtype) == (np.float16, (4, 40, 48, 40), np.uint8)
        truth = head(number, enhancing=number < 2)
        inside = (mask & BRAIN) > 0
        assert inside.sum() == (truth["T1"] != 0).sum()
        assert (image[:, ~inside] == -1).all()
        assert np.abs(image).max() <= 1
        for channel, name in zip(image, cohort.channels):
            solid = truth["T1"] != 0
            expected = normalised(truth[name], solid, core_of(solid))
            np.testing.assert_allclose(np.sort(channel[inside]), np.sort(expected), atol=1e-3)
        contrast = image[3].astype(np.float32) - image[0]
        np.testing.assert_array_equal((mask & ENHANCEMENT) > 0, (contrast > 0.3) & inside)
        assert ((mask & TUMOUR) > 0).sum() == (truth["MASK"] > 0).sum()
        assert ((mask & EXPERT) > 0).sum() == (truth["MASK"] == 3).sum()
        assert ((mask & CORE) > 0).sum() == np.isin(truth["MASK"], (1, 3)).sum()  # all but oedema


def test_the_cut_follows_the_settings(tree, cohort, tmp_path):
    narrow = run(tree, tmp_path / "out", DataConfig(clip_sigma=1.0))
    wide, _ = cohort.load(cohort.index.index[0])
    np.testing.assert_allclose(narrow.load(cohort.index.index[0])[0], np.clip(4 * wide.astype(float), -1, 1), atol=3e-3)


def test_a_known_scale_is_that_of_every_scan_and_of_new_patients(tree, tmp_path):
    known = run(tree, tmp_path / "out", dataclasses.replace(SETTINGS, known_scale=(200.0, 400.0)))
    image, mask = known.load(known.index.index[0])
    solid = head(0, enhancing=True)["FLAIR"]
    inside = (mask & BRAIN) > 0
    expected = np.sort(np.clip((solid[solid != 0] - 200) / 1600, -1, 1))
    np.testing.assert_allclose(np.sort(image[2][inside]), expected, atol=1e-3)
    contract = Contract.read(Contract.of(known, ("T1", "T2", "FLAIR"), "T1GD").as_dict())
    (subject, *_) = find_subjects(tree)
    np.testing.assert_array_equal(contract.prepare(subject)[0], image[:3])


def test_case_files_are_safetensors_that_describe_themselves(cohort):
    path = cohort.path / "cases" / "BraTS-GLI-00000-000.safetensors"
    image, mask = cohort.load(path.stem)
    tensors = load_file(path)
    np.testing.assert_array_equal(tensors["image"], image)
    np.testing.assert_array_equal(tensors["mask"], mask)
    row = storage.read_case_record(path)["row"]
    assert row["tumour_ml"] == cohort.index.loc[path.stem, "tumour_ml"]
    assert row["sha256"] == storage.content_digest(image, mask) == cohort.index.loc[path.stem, "sha256"]
    with pytest.raises(ValueError, match="read-only"):
        image[0, 0, 0, 0] = 1


def test_the_window_is_an_exact_crop_round_the_brain(cohort):
    _, mask = cohort.load(cohort.index.index[0])
    box = geometry.bounding_box((mask & BRAIN) > 0)
    for side, size in zip(box, cohort.shape):
        assert abs(side.start - (size - side.stop)) <= 1
    truth = head(0)["MASK"]
    inside = geometry.bounding_box(truth)
    prepared = geometry.bounding_box((mask & TUMOUR) > 0)
    np.testing.assert_array_equal(truth[inside] > 0, (mask[prepared] & TUMOUR) > 0)


def test_index_says_who_enhances_and_how_much(cohort):
    index = cohort.index
    assert index["enhancing"].tolist() == [True, True, False, False]
    assert set(index["enhancing_by"]) == {"expert label"}
    for number, row in enumerate(index.itertuples()):
        truth = head(number, enhancing=number < 2)["MASK"]
        assert row.tumour_ml == pytest.approx((truth > 0).sum() * 0.064)
        assert row.label_enhancing_ml == pytest.approx((truth == 3).sum() * 0.064)
        assert row.brain_outside_ml == 0
    assert (index["rule_enhancing_ml"][:2] > 2).all()
    assert (index["rule_enhancing_ml"][2:] < 0.5).all()
    assert index["grade"].isna().all()


@pytest.mark.parametrize("axes", ["LPS", "PIR"])
def test_stored_orientation_changes_nothing(axes, cohort, tmp_path):
    for number in range(4):
        for name, data in head(number, enhancing=number < 2).items():
            if name in BRATS_2023:
                case_id = f"BraTS-GLI-{number:05d}-000"
                stored = axes if name != "T2" else "RAS"  # a mixture within one subject as well
                save_as(tmp_path / "scans" / case_id / f"{case_id}{BRATS_2023[name]}.nii.gz", data, stored)
    other = run(tmp_path / "scans", tmp_path / "out")
    assert other.digest == cohort.digest
    assert other.index["sha256"].tolist() == cohort.index["sha256"].tolist()


def test_both_codings_of_the_enhancing_label_agree(cohort, tmp_path):
    for number in range(4):
        volumes = head(number, enhancing=number < 2, label=4)
        brats_case(tmp_path / "scans", f"BraTS2021_{number:05d}", volumes, BRATS_2021)
    other = run(tmp_path / "scans", tmp_path / "out")
    assert other.index["sha256"].tolist() == cohort.index["sha256"].tolist()


def test_any_list_of_inputs_works(tmp_path):
    suffixes = {**BRATS_2023, "ADC": "-adc"}
    for number in range(2):
        brats_case(tmp_path / "scans", f"BraTS-GLI-{number:05d}-000", head(number, enhancing=number < 1), suffixes)
    cohort = run(tmp_path / "scans", tmp_path / "out", DataConfig(inputs=("t2", "Adc")))
    assert cohort.channels == ("t2", "Adc", "T1", "T1GD")
    assert cohort.channel("ADC") == 1
    default = run(tmp_path / "scans", tmp_path / "default")
    np.testing.assert_array_equal(cohort.load(cohort.index.index[0])[0][2], default.load(cohort.index.index[0])[0][0])
    with pytest.raises(ValueError, match="among the inputs"):
        run(tmp_path / "scans", tmp_path / "out", DataConfig(inputs=("T1", "t1gd")))


def test_coarser_grids_average_whole_blocks(tree, tmp_path):
    cohort = run(tree, tmp_path / "out", DataConfig(spacing_mm=8.0))
    assert cohort.shape == (20, 24, 20)
    image, mask = cohort.load(cohort.index.index[0])
    truth = head(0)
    solid = ndimage.binary_fill_holes(truth["T1"] != 0)
    window = geometry.window_round(geometry.bounding_box(solid), (SPACING,) * 3, cohort.shape, 8.0)
    padded = {name: np.pad(volume * 1.0, 20) for name, volume in {**truth, "brain": solid}.items()}
    start = np.array(window.start) + 20
    blocks = {
        name: volume[tuple(slice(first, first + 2 * size) for first, size in zip(start, cohort.shape))]
        .reshape(20, 2, 24, 2, 20, 2)
        .mean(axis=(1, 3, 5))
        for name, volume in padded.items()
    }
    inside = blocks["brain"] >= 0.5
    np.testing.assert_array_equal((mask & BRAIN) > 0, inside)
    core = np.pad(core_of(solid), 20)[tuple(slice(first, first + 2 * size) for first, size in zip(start, cohort.shape))]
    deep = inside & (core.reshape(20, 2, 24, 2, 20, 2).mean(axis=(1, 3, 5)) >= 0.5)
    expected = normalised(blocks["T2"] / np.maximum(blocks["brain"], 0.5), inside, deep)
    np.testing.assert_allclose(image[1][inside], expected, atol=1e-3)
    assert cohort.index["tumour_ml"].iloc[0] == pytest.approx((truth["MASK"] > 0).sum() * 0.064)


def test_resampling_keeps_straight_lines_and_the_mean():
    ramp = np.broadcast_to(np.arange(40.0)[:, None, None], (40, 40, 40))
    for ratio in (0.5, 0.8, 1.5, 2.0, 2.5):
        size = int(24 / ratio)
        window = geometry.Window((8, 8, 8), (size, size, size), (ratio, ratio, ratio))
        centres = 8 + ratio * (np.arange(size) + 0.5) - 0.5
        tolerance = 0 if ratio in (0.5, 2.0) else 0.51  # a box over parts of voxels shifts a ramp by less than half
        np.testing.assert_allclose(window.apply(ramp)[:, 3, 3], centres, atol=1e-4 + tolerance)
        np.testing.assert_allclose(window.apply(np.ones((40, 40, 40)))[1:-1, 1:-1, 1:-1], 1, atol=1e-5)
    outside = geometry.Window((-30, 0, 0), (10, 10, 10), (1.5, 1.5, 1.5)).apply(ramp + 1)
    assert not outside.any()


def test_the_t1_alone_shapes_the_brain(tmp_path):
    """Where another sequence's field of view ends, that sequence ends; holes are filled."""
    volumes = head(0)
    volumes["T1"][22, 26, 22] = volumes["T2"][22, 26, 20] = 0  # zeros inside are holes, not background
    volumes["FLAIR"][:, :, 34:] = 0
    volumes["T1GD"][:, :, :10] = 0
    volumes["T1"][0, 0, 0] = -1  # ringing far outside
    brats_case(tmp_path / "scans", "BraTS-GLI-00000-000", volumes)
    cohort = run(tmp_path / "scans", tmp_path / "out", ONE_CLASS)
    whole = head(0)["T1"] != 0
    assert cohort.index["brain_ml"].iloc[0] == pytest.approx(whole.sum() * 0.064)
    image, mask = cohort.load("BraTS-GLI-00000-000")
    part = {name: whole.copy() for name in cohort.channels}
    part["FLAIR"][:, :, 34:] = part["T1GD"][:, :, :10] = False
    for channel, name in zip(image, cohort.channels):
        expected = normalised(volumes[name], part[name], core_of(whole) & part[name])
        np.testing.assert_allclose(np.sort(channel[channel > -1]), np.sort(expected[expected > -1]), atol=1e-3)
        assert ((channel == -1) & (mask & BRAIN > 0)).sum() >= (whole & ~part[name]).sum()
    assert ((mask & storage.NO_TARGET) > 0).sum() == (whole & ~part["T1GD"]).sum()
    assert not (storage.clear_without_target(mask)[(mask & storage.NO_TARGET) > 0]).any()
    assert ((storage.clear_without_target(mask) & BRAIN) > 0).sum() == part["T1GD"].sum()


# --- scans in MNI152 space that are not skull-stripped (EGD)


def egd_case(root: Path, case_id: str, shift_mm: float = 0.0, margin: int = 0) -> None:
    """A head of noise in air round the atlas' brain, at 4 mm; the tumour enhances by the rule."""
    rng = np.random.default_rng(3)
    atlas, affine = brain._atlas()
    coarse, spaced = np.pad(atlas[::4, ::4, ::4], margin), affine @ np.diag([4, 4, 4, 1.0])
    spaced[:3, 3] -= 4 * margin
    skin = ndimage.binary_dilation(coarse, iterations=2)
    distance = np.sqrt(((np.indices(coarse.shape) - np.array([30, 30, 25])[:, None, None, None]) ** 2).sum(0))
    spaced[2, 3] += shift_mm
    for name in ("T1", "T2", "FLAIR", "T1GD"):
        tissue = 300 + 80 * np.sin(np.indices(coarse.shape)[0] / 3) + rng.normal(0, 8, coarse.shape)
        values = np.where(coarse, tissue, np.where(skin, 700, rng.rayleigh(4, coarse.shape)))
        values[(distance < 3) & (name == "T1GD")] += 300
        save(root / "SUBJECTS" / case_id / f"{name}.nii.gz", values.astype(np.float32), spaced)
    save(root / "SUBJECTS" / case_id / "MASK.nii.gz", (distance < 5).astype(np.uint8), spaced)


def test_egd_takes_the_atlas_and_the_rule(tmp_path):
    egd_case(tmp_path / "egd", "EGD-0001")
    egd_case(tmp_path / "egd", "EGD-0002", shift_mm=60.0)
    egd_case(tmp_path / "egd", "EGD-0003", shift_mm=60.0, margin=16)
    egd_case(tmp_path / "egd", "EGD-0004")
    low = tmp_path / "egd" / "SUBJECTS" / "EGD-0004" / "T2.nii.gz"
    image = nib.load(low)
    save(low, np.where(np.arange(image.shape[2]) < 20, 0, image.get_fdata()), image.affine)
    (tmp_path / "egd" / "phantom.json").write_text(json.dumps({"phantom": True, "seed": 0}))
    cohort = run(tmp_path / "egd", tmp_path / "out", ONE_CLASS)
    assert cohort.index.index.tolist() == ["EGD-0001"]
    reasons = left_out(tmp_path / "out")
    assert "T1.nii.gz: holds only" in reasons["EGD-0002"]  # the atlas' brain reaches out of the image
    assert "T1.nii.gz: is dark in" in reasons["EGD-0003"]  # the atlas' brain lies partly in air
    assert "not registered to MNI152" in reasons["EGD-0002"]
    assert "not registered to MNI152" in reasons["EGD-0003"]
    assert "T2: only" in reasons["EGD-0004"]
    row = cohort.index.iloc[0]
    assert row["brain_ml"] == pytest.approx(brain._atlas()[0][::4, ::4, ::4].sum() * 0.064, rel=0.01)
    assert row["enhancing_by"] == "paper's rule"
    assert row["enhancing"]
    assert pd.isna(row["label_enhancing_ml"])
    assert row["rule_enhancing_ml"] == pytest.approx(7, rel=0.2)
    assert cohort.phantom
    assert not ((cohort.load("EGD-0001")[1] & (EXPERT | CORE)) > 0).any()


# --- the same head from files of several voxel sizes


def blocks(volume: np.ndarray, factor: int) -> np.ndarray:
    """Exact means of cubes, beginning one voxel before the first."""
    padded = np.pad(volume.astype(np.float32), [(1, factor + -(side + 1) % factor) for side in volume.shape])
    x, y, z = (side // factor for side in padded.shape)
    return (
        padded[: x * factor, : y * factor, : z * factor].reshape(x, factor, y, factor, z, factor).mean(axis=(1, 3, 5))
    )


def open_at(volumes: dict[str, np.ndarray], size_mm: float, grid_mm: float, folder: Path) -> PreparedCase:
    paths = {name: save(folder / f"{name}.nii", volumes[name], np.diag([size_mm] * 3 + [1])) for name in volumes}
    subject = Subject(case_id="a", patient_id="a", images=paths, mask=None, skull_stripped=True)
    settings = DataConfig()
    recipe = Recipe(
        channels=tuple(volumes),
        target="T1GD",
        spacing_mm=grid_mm,
        shape=grid_shape(settings, grid_mm),
        brain_mask="nonzero",
        clip_sigma=settings.clip_sigma,
        enhancement_threshold=settings.enhancement_threshold,
        enhancing_ml=settings.enhancing_ml,
    )
    return open_case(subject, recipe, mask_needed=False)


def test_a_phantom_is_normalised_alike_from_any_voxel_size(tmp_path):
    """Skull-stripped at 2 mm, and block means of that: the rim gets dark and thick, the normalisation stays."""
    patient = make_subject(0, 0, 2.0, with_truth=False)
    atlas = brain._atlas_on(Scan(patient.mask, patient.affine))
    stripped = {name: np.where(atlas, volume, 0) for name, volume in patient.images.items()}
    fine = open_at(stripped, 2.0, 4.0, tmp_path / "fine")
    coarse = open_at({name: blocks(volume, 2) for name, volume in stripped.items()}, 4.0, 4.0, tmp_path / "coarse")
    assert coarse.brain.sum() * 8 > 1.05 * fine.brain.sum()
    assert coarse.scale == pytest.approx(fine.scale, rel=0.04)
    assert coarse.mean == pytest.approx(fine.mean, abs=0.04 * fine.scale)


@pytest.fixture(scope="module")
def real_volumes() -> dict[str, np.ndarray]:
    folder = REAL / "brats2023-1mm" / "BraTS-SSA-00046-000"  # 0.3.0: 50 % apart
    return {name: read_image(folder / f"{folder.name}{BRATS_2023[name]}.nii.gz").data for name in ("T1", "T1GD")}


@needs_real
@pytest.mark.parametrize("grid_mm", [2.0, 4.0])
def test_a_real_patient_is_normalised_alike_from_any_voxel_size(grid_mm, real_volumes, tmp_path):
    fine = open_at(real_volumes, 1.0, grid_mm, tmp_path / "fine")
    coarse = open_at(
        {name: blocks(volume, 2) for name, volume in real_volumes.items()}, 2.0, grid_mm, tmp_path / "coarse"
    )
    assert coarse.scale == pytest.approx(fine.scale, rel=0.05)
    assert coarse.mean == pytest.approx(fine.mean, abs=0.02 * fine.scale)
    brightest = [np.quantile(case.image[1].astype(np.float32) - case.image[0], 0.999) for case in (fine, coarse)]
    assert brightest[1] == pytest.approx(brightest[0], rel=0.1)


# --- real patients


@needs_real
def test_real_2mm_volumes_agree_with_the_published_table(tmp_path):
    (tmp_path / "scans").mkdir()
    for folder in sorted((REAL / "brats2023-2mm").iterdir())[2::6]:
        (tmp_path / "scans" / folder.name).symlink_to(folder)
    cohort = prepare(tmp_path / "scans", tmp_path / "out", SETTINGS, processes=1)
    assert cohort.shape == (80, 96, 80)
    truth = pd.read_csv(REAL / "subjects.csv", index_col="case")
    table = cohort.index.join(truth, rsuffix="_true")
    assert len(table) == 5
    assert (table["tumour_ml"] - table["tumour_ml_true"]).abs().max() <= 0.0051
    assert (table["label_enhancing_ml"] - table["enhancing_ml"]).abs().max() <= 0.0051
    assert (table["enhancing"] == (table["enhancing_ml"] >= 0.5)).all()
    assert (table["brain_outside_ml"] == 0).all()
    for case_id in cohort.index.index:
        image, mask = cohort.load(case_id)
        inside = (mask & BRAIN) > 0
        assert 1000 < inside.sum() * 0.008 < 2000
        assert not ((mask & TUMOUR > 0) & ~inside).any()
        assert not ((mask & EXPERT > 0) & ~(mask & TUMOUR > 0)).any()
        deep = ndimage.binary_erosion(inside, iterations=2)
        for channel in image.astype(np.float32):
            seen = channel[inside & (channel > -1)]  # -1: not reached, or part of a rim that is mostly background
            assert seen.size > 0.85 * inside.sum()
            assert np.mean(channel[deep] > -1) > 0.97
            assert abs(seen.mean()) < 0.25
            assert 0.15 < seen.std() < 0.5


@needs_real
def test_real_lps_case_equals_its_ras_copy(tmp_path):
    source = REAL / "brats2021-1mm" / "BraTS2021_01481"
    for path in source.iterdir():
        copy = tmp_path / "scans" / source.name / path.name.removesuffix(".gz")
        copy.parent.mkdir(parents=True, exist_ok=True)
        image = nib.load(path)
        assert nib.aff2axcodes(image.affine) == ("L", "P", "S")
        nib.save(nib.as_closest_canonical(image), copy)
    settings = DataConfig(inputs=("T1",), allow_one_class=True, spacing_mm=4.0)
    copy = run(tmp_path / "scans", tmp_path / "ras", settings)
    original = run(source, tmp_path / "lps", settings)
    assert copy.digest == original.digest
