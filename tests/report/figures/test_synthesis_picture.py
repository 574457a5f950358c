"""The picture of a synthesis: the planes through the tumour, the right way round, and SYNTHETIC on it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from matplotlib.text import Text

from lab.report.figures.new_patient import PLANES, SynthesisImages, crossing, cut, synthesis_picture
from lab.report.figures.style import png

SHAPE = (20, 24, 22)
GRID = np.indices(SHAPE)


def ball(x: int, y: int, z: int, radius: float) -> np.ndarray:
    return sum((axis - centre) ** 2 for axis, centre in zip(GRID, (x, y, z))) <= radius**2


def patient(**changes) -> SynthesisImages:
    rng = np.random.default_rng(0)
    brain, tumour = ball(10, 12, 11, 9), ball(6, 14, 12, 3)
    image = np.where(brain, rng.uniform(-0.5, 0.5, SHAPE), -1)
    known = {
        "case_id": "EGD-0001",
        "inputs": {"T1": image, "T2": image, "FLAIR": image},
        "synthesis": image + 0.5 * tumour,
        "spread": 0.1 * tumour,
        "enhancement": ball(5, 14, 12, 1),
        "brain": brain,
        "tumour": tumour,
    }
    return SynthesisImages(**known | changes)


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text)]


def test_it_says_synthetic_wherever_the_network_drew():
    said = texts(synthesis_picture(patient(), model="sct1 v3", summary="1.2 ml", phantom=False))
    assert said.count("SYNTHETIC") == 3 * len(PLANES)  # synthesis, enhancement, uncertainty
    head = "SYNTHETIC T1GD of EGD-0001: predicted by sct1 v3, not acquired, not for diagnosis"
    assert head in said
    assert "1.2 ml" in said
    assert not any("PHANTOM" in text for text in said)
    assert any("PHANTOM" in text for text in texts(synthesis_picture(patient(), model="m", summary="", phantom=True)))


def test_what_intervals_held_stands_below():
    words = "90% intervals held on test patients: whole brain 88%"
    assert words in texts(synthesis_picture(patient(spread_note=words), model="m", summary="", phantom=False))


def test_the_planes_cross_in_what_enhances():
    assert crossing(patient()) == (5, 14, 12)
    nothing = np.zeros(SHAPE, bool)
    assert crossing(patient(enhancement=nothing)) == (6, 14, 12)
    assert crossing(patient(enhancement=nothing, tumour=nothing)) == (10, 12, 11)
    assert crossing(patient(enhancement=nothing, tumour=nothing, brain=nothing)) == (10, 12, 11)


def test_planes_are_shown_as_radiologists_look_at_them():
    volume = np.arange(24).reshape(2, 3, 4)
    whole = (slice(None),) * 3
    axial, coronal, sagittal = (cut(volume, plane, (0, 1, 2), whole) for plane in PLANES)
    assert (axial.shape, coronal.shape, sagittal.shape) == ((3, 2), (4, 2), (4, 3))
    assert axial[0, 0] == volume[1, 2, 2]  # front above, the patient's right on the left
    assert coronal[0, 0] == volume[1, 1, 3]  # head above
    assert sagittal[0, 0] == volume[0, 2, 3]  # front on the left


@pytest.mark.parametrize("lacking", ["spread", "tumour", "brain"])
def test_it_is_drawn_whatever_there_is_not(lacking):
    nothing = np.zeros(SHAPE, bool)
    changes = {"spread": {"spread": None}, "tumour": {"tumour": nothing, "enhancement": nothing}}
    changes |= {"brain": {"brain": nothing, "tumour": nothing, "enhancement": nothing}}
    figure = synthesis_picture(patient(**changes[lacking]), model="m", summary="", phantom=False)
    assert png(figure)[:4] == b"\x89PNG"
    assert ("SD over augmentations" in texts(figure)) == (lacking != "spread")


def test_the_outline_is_where_it_enhances():
    """Without it the picture is another one, in its enhancement column alone."""
    one = patient()
    other = dataclasses.replace(one, enhancement=one.enhancement & False)
    same_place = dataclasses.replace(other, tumour=ball(5, 14, 12, 2))
    pictures = [
        np.asarray(_pixels(synthesis_picture(made, model="m", summary="", phantom=False)), int)
        for made in (dataclasses.replace(one, tumour=ball(5, 14, 12, 2)), same_place)
    ]
    changed = np.abs(pictures[0] - pictures[1]).max(axis=2).any(axis=0).nonzero()[0] / pictures[0].shape[1]
    assert 0.6 < changed.min() < changed.max() < 0.85  # the fifth of six columns


def _pixels(figure):
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3]
