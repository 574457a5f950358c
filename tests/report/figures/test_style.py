import ast
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import lab.report
from lab.data.cohort import BRAIN, EXPERT, TUMOUR, Cohort
from lab.report.figures.box_plots import box_plots
from lab.report.figures.learning_curves import learning_curves
from lab.report.figures.pareto_front import pareto
from lab.report.figures.sheets import slice_figure, trial_slices
from lab.report.figures.slices import (
    ERROR_MAP,
    PROBABILITY_MAP,
    PatientImages,
    Stated,
    View,
    choose_slice,
    patient_from,
    radiological,
)
from lab.report.figures.style import DPI, save
from lab.report.pages.study import short_number


def is_error(axes):
    return bool(axes.images) and axes.images[0].cmap.name == ERROR_MAP.name


def has_outline(axes):
    return bool(axes.images) and bool(axes.collections)


def title(figure):
    return figure.get_suptitle() if hasattr(figure, "get_suptitle") else figure._suptitle.get_text()


@pytest.fixture
def patient(head):
    return PatientImages(
        case_id="case-01", inputs={"T1": head.t1, "T2": head.t1 * 0.5, "FLAIR": head.t1}, truth=head.truth, t1=head.t1,
        brain=head.brain, tumour=head.tumour, spacing_mm=2.0,
    )  # fmt: skip


def test_radiological_puts_the_patients_right_on_the_left_and_the_front_on_top():
    plane = np.zeros((4, 6))  # x to the patient's right, y to the front
    plane[3, 5] = 1
    picture = radiological(plane)
    assert picture.shape == (6, 4)
    assert picture[0, 0] == 1


def test_the_slice_goes_through_the_largest_enhancing_area(patient, head):
    assert choose_slice(patient) == (12, "largest enhancing area (rule)")
    expert = np.zeros(head.shape, bool)
    expert[16:18, 10:13, 14] = True
    assert choose_slice(PatientImages(**(vars(patient) | {"expert": expert})))[0] == 14


def test_without_enhancement_the_tumour_and_without_tumour_the_brain_is_shown(patient, head):
    silent = PatientImages(**(vars(patient) | {"truth": head.t1}))
    assert choose_slice(silent) == (int(head.tumour.sum((0, 1)).argmax()), "largest tumour area, no enhancement")
    healthy = PatientImages(**(vars(silent) | {"tumour": np.zeros(head.shape, bool)}))
    assert choose_slice(healthy) == (int(head.brain.sum((0, 1)).argmax()), "most brain, no tumour")
    assert len(slice_figure(healthy, {"copy T1": head.t1}, phantom=True).axes) == 9


def test_a_patient_is_made_from_a_prepared_case(head):
    image = np.stack([head.t1, head.t1, head.t1 * 0.5, head.truth]).astype(np.float16)
    mask = (head.brain * BRAIN + head.tumour * TUMOUR + head.core * EXPERT).astype(np.uint8)
    channels = ("T1", "T2", "FLAIR", "T1GD")
    index = pd.DataFrame({"enhancing_by": ["expert label", "paper's rule"]}, index=["a", "b"])
    cohort = SimpleNamespace(load=lambda case_id: (image, mask), channel=channels.index, index=index, spacing_mm=2.0)
    cohort.labelled = partial(Cohort.labelled, cohort)
    patient = patient_from(cohort, "a", inputs=channels[1:3])
    assert list(patient.inputs) == ["T2", "FLAIR"]
    np.testing.assert_array_equal(patient.expert, head.core)
    np.testing.assert_array_equal(patient.tumour, head.tumour)
    np.testing.assert_allclose(patient.truth, head.truth, atol=1e-3)
    assert patient_from(cohort, "b", inputs=channels[:3]).expert is None


def test_enhancement_is_the_rule_in_and_near_the_tumour(patient, head):
    view = View(patient, [])
    np.testing.assert_array_equal(view.true, head.core[:, :, view.z])
    everywhere = view.enhancement(head.t1 + 0.5)
    assert everywhere[14:20, 8:16].all()
    assert not everywhere[:8].any()


def test_slice_figure_has_every_panel_with_one_window_and_one_error_scale(patient, head):
    rng = np.random.default_rng(0)
    names = [f"model {m}, {loss}" for loss in ("L1_brain", "L2_brain", "SSIM") for m in range(5)]
    names += ["copy T1", "linear regression"]
    noisy = {name: head.t1 + 0.02 * rng.standard_normal(head.shape).astype(np.float32) for name in names}
    figure = slice_figure(patient, noisy, phantom=True, scores=dict.fromkeys(names, "MAE 0.1"))
    assert len(figure.axes) == 5 + 2 * 17 + 2  # inputs, truth and subtraction; syntheses and errors; two scales
    assert "phantom" in title(figure)
    titles = [axes.get_title() or axes.get_title(loc="left") for axes in figure.axes]
    assert {"T1", "T2", "FLAIR", "T1GD (truth)", "T1GD - T1"} <= set(titles)
    assert all(f"{name}: MAE 0.1" in titles for name in names)
    windows = {axes.images[0].get_clim() for axes, name in zip(figure.axes, titles) if "model" in name or name == "T1"}
    errors = {axes.images[0].get_clim() for axes in figure.axes if is_error(axes)}
    assert len(windows) == 1
    assert errors == {(-0.6, 0.6)}  # twice the threshold of enhancement
    sides = [text for axes in figure.axes for text in axes.texts if text.get_text() in "RL"]
    assert {(text.get_text(), text.get_position()[0] < 0.5) for text in sides} == {("R", True), ("L", False)}


def test_a_grid_of_trials_fits_a_screen_and_a_row_has_one_loss(patient, head):
    names = {f"model {m}, {loss}": loss for loss in ("L1", "L2", "SSIM") for m in range(4)}
    figure = slice_figure(patient, {**dict.fromkeys(names, head.t1), "copy T1": head.t1}, phantom=True, groups=names)
    width, height = figure.get_size_inches()
    assert 1.4 < width / height < 2.4
    heights = {}
    for axes in figure.axes:
        if axes.get_title(loc="left") in names:
            heights.setdefault(round(axes.get_position().y0, 4), set()).add(names[axes.get_title(loc="left")])
    assert [len(losses) for losses in heights.values()] == [1, 1, 1]


def test_no_panel_covers_another(patient, head):
    many = {f"model {m}, L{i}": head.t1 for i in range(3) for m in range(i + 2)}
    rivals = {"copy T1": head.t1, "linear regression": head.t1}
    for inputs in (3, 8):
        chosen = PatientImages(**(vars(patient) | {"inputs": {f"S{i}": head.t1 for i in range(inputs)}}))
        for shown in (rivals, {"model 0, L1": head.t1, **rivals}, {**many, **rivals}):
            boxes = [axes.get_position() for axes in slice_figure(chosen, shown, phantom=True).axes]
            assert not any(a.overlaps(b.padded(-1e-6)) for i, a in enumerate(boxes) for b in boxes[:i])
            assert all(0 <= box.x0 < box.x1 <= 1 and 0 <= box.y0 < box.y1 <= 1 for box in boxes)


def test_the_error_panel_shows_the_signed_error(patient, head):
    figure = slice_figure(patient, {"low": head.truth - 0.25}, phantom=False)
    assert "phantom" not in title(figure)
    error = next(axes.images[0] for axes in figure.axes if is_error(axes))
    shown = np.asarray(error.get_array())
    np.testing.assert_allclose(shown[shown != 0], -0.25, rtol=1e-5)


def test_syntheses_and_truth_carry_no_outline(patient, head):
    figure = slice_figure(patient, {"model 0": head.truth}, phantom=True)
    outlined = {axes.get_title() or axes.get_title(loc="left") for axes in figure.axes if has_outline(axes)}
    assert outlined == {"T1GD - T1", ""}  # the enhancement on the subtraction, the tumour on the error


def test_trial_figure_has_a_row_a_patient(patient, head):
    figure = trial_slices([patient, patient], [head.t1, head.truth], label="Trial 3: model 2, SSIM", phantom=True)
    assert len(figure.axes) == 2 * 7 + 1
    assert title(figure).startswith("Trial 3")
    assert "phantom" in title(figure)
    with pytest.raises(ValueError, match="at least one"):
        trial_slices([patient], [], label="none", phantom=False)


def probabilities(figure):
    return [axes for axes in figure.axes if any(image.cmap.name == PROBABILITY_MAP.name for image in axes.images)]


def test_a_stated_probability_lies_over_the_t1_with_both_outlines_and_beside_the_truth(patient, head):
    expert = PatientImages(**(vars(patient) | {"expert": head.core}))
    stated = Stated(probability=0.8 * head.core.astype(np.float32), threshold=0.5)
    for shown in (patient, expert):
        plain = slice_figure(shown, {"model 0": head.t1}, phantom=True)
        figure = slice_figure(shown, {"model 0": head.t1}, phantom=True, stated={"model 0": stated})
        assert len(figure.axes) == len(plain.axes) + 3  # a pair and a scale
        (over,) = probabilities(figure)
        assert "outlined above 0.50" in over.get_title(loc="left")
        assert len(over.collections) == 2
        np.testing.assert_allclose(np.asarray(over.images[1].get_array()).max(), 0.8, rtol=1e-6)
        labels = {text.get_text() for text in figure.legends[0].get_texts()}
        assert ("enhancement by the expert's label" in labels) == (shown is expert)
    rows = trial_slices([patient, expert], [head.t1, head.t1], label="one", phantom=True, stated=[stated, stated])
    assert len(probabilities(rows)) == 2
    unknown = Stated(probability=stated.probability, threshold=np.nan)
    figure = slice_figure(expert, {"model 0": head.t1}, phantom=True, stated={"model 0": unknown})
    assert len(probabilities(figure)[0].collections) == 1  # the truth alone
    with pytest.raises(ValueError, match="1 probabilities"):
        trial_slices([patient, expert], [head.t1, head.t1], label="one", phantom=True, stated=[stated])


def test_another_grid_is_refused(patient):
    with pytest.raises(ValueError, match=r"case-01.*one grid"):
        slice_figure(patient, {"model 0": np.zeros((4, 4, 4))}, phantom=False)


def test_learning_curves_have_a_column_a_loss(trials, histories):
    figure = learning_curves(histories, trials, phantom=True, reference={"copy T1": 0.12})
    assert len(figure.axes) == 4
    assert [axes.get_title() for axes in figure.axes if axes.get_title()] == ["L1", "SSIM"]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {"model 0", "model 3", "copy T1", "best epoch"} <= set(legend)
    lower = [axes.get_ylim() for axes in figure.axes if axes.get_xlabel() == "epoch"]
    assert len(lower) == 2
    assert len(set(lower)) == 1
    assert "phantom" in title(figure)


def test_learning_curves_of_many_losses_wrap_and_short_histories_are_drawn(trials, histories):
    many = pd.concat([trials.head(1).assign(trial=i, loss=f"loss {i}") for i in range(10)])
    short = histories[0].head(1).assign(**{"val/mae_brain": np.nan})
    figure = learning_curves({i: histories[0] if i else short for i in range(10)}, many, phantom=False)
    assert sum(bool(axes.get_title()) for axes in figure.axes) == 10
    with pytest.raises(ValueError, match="no trial"):
        learning_curves({}, trials, phantom=False)


def test_box_plots_show_every_patient_once_and_shade_the_baselines(patients):
    figure = box_plots(patients, phantom=True)
    assert [axes.get_title() for axes in figure.axes] == ["MAE, brain", "MAE, tumour", "SSIM, brain", "SSIM, tumour"]
    for axes, count in zip(figure.axes, (8, 7, 8, 7)):
        assert sum(len(points.get_offsets()) for points in axes.collections) == 6 * count
        assert len(axes.patches) == 6 + 1
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels[-2:] == ["copy T1", "linear regression"]
    assert "8 test patients" in title(figure)
    assert "phantom" in title(figure)


def test_box_plots_take_a_table_put_together_from_one_table_a_trial(patients):
    joined = pd.concat([group.reset_index(drop=True) for _, group in patients.groupby("trial", sort=False)])
    figure = box_plots(joined, phantom=True, metrics=("mae_brain",))
    assert sum(len(points.get_offsets()) for points in figure.axes[0].collections) == 6 * 8


def test_box_plots_say_where_a_region_is_empty_in_all(patients):
    figure = box_plots(patients.assign(mae_tumour=np.nan), phantom=False, metrics=("mae_tumour",))
    assert [text.get_text() for text in figure.axes[0].texts] == ["region empty"] * 6


def test_pareto_front():
    cost, error = [1, 2, 3, 2, np.nan], [0.3, 0.2, 0.25, 0.4, 0.0]
    assert pareto(cost, error).tolist() == [True, True, False, False, False]
    assert pareto(cost, [-e for e in error], low=False).tolist() == [True, True, False, False, False]
    assert pareto([1, 1], [0.2, 0.2]).tolist() == [True, True]


def test_numbers_of_parameters_are_short():
    assert [short_number(value) for value in (950, 1500, 54.4e6)] == ["950", "1.5k", "54.4M"]


def test_no_text_overlaps_in_the_learning_curves_legend_and_title(trials, histories):
    figure = learning_curves(histories, trials, phantom=True)
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    boxes = [axes.get_tightbbox(renderer) for axes in figure.axes] + [figure.legends[0].get_tightbbox(renderer)]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_saved_figures_have_150_dots_an_inch(tmp_path, patients):
    figure = box_plots(patients, phantom=True, metrics=("mae_brain",))
    path = save(figure, tmp_path / "new" / "boxes.png")
    with Image.open(path) as image:
        assert image.size == tuple(np.floor(figure.get_size_inches() * DPI).astype(int))
    assert [file.name for file in path.parent.iterdir()] == ["boxes.png"]


def test_nothing_here_imports_pyplot_or_the_rooms_above():
    forbidden = {"matplotlib.pyplot", "mlflow", "optuna", "torch", "lab.tracking"}
    for file in Path(lab.report.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if any(name == f or name.startswith(f + ".") for f in forbidden)], file
