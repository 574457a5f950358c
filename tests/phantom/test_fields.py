"""Grids and smooth random fields."""

from __future__ import annotations

import numpy as np
import pytest

from lab.phantom.fields import Spline, field_of_view, random_field


def test_field_of_view_is_that_of_egd() -> None:
    grid = field_of_view(1.0)
    assert grid.shape == (197, 233, 189)
    assert grid.first_mm == (-98, -134, -72)
    assert field_of_view(4.0).first_mm == (-96.5, -132.5, -70.5)


def test_crop_keeps_positions() -> None:
    grid = field_of_view(2.0)
    x, y, z = grid.axes_mm()
    part = grid.crop((slice(5, 20), slice(3, 9), slice(0, 4)))
    assert part.shape == (15, 6, 4)
    np.testing.assert_array_equal(part.axes_mm()[0], x[5:20])
    np.testing.assert_array_equal(part.axes_mm()[1], y[3:9])
    np.testing.assert_array_equal(part.axes_mm()[2], z[:4])


def test_box_around_holds_the_ball_and_stops_at_the_edge() -> None:
    grid = field_of_view(2.0)
    box = grid.box_around(np.array([0.0, -130.0, 20.0]), 15.0)
    x, y, z = (axis.ravel() for axis in grid.crop(box).axes_mm())
    assert x.min() <= -15
    assert x.max() >= 15
    assert y.min() == grid.first_mm[1]
    assert z.min() <= 5
    assert z.max() >= 35


def test_equal_coefficients_give_a_constant() -> None:
    grid = field_of_view(8.0)
    lattice = grid.lattice(20.0)
    values = Spline(lattice=lattice, coefficients=np.full(lattice.shape, 3, dtype=np.float32)).on(grid)
    np.testing.assert_allclose(values, 3, rtol=1e-5)


def test_random_field_has_mean_zero_and_variance_one() -> None:
    values = np.stack([random_field(np.random.default_rng(i), 12.0).on(field_of_view(4.0)) for i in range(4)])
    assert values.mean() == pytest.approx(0, abs=0.05)
    assert values.var() == pytest.approx(1, rel=0.1)


def test_random_field_is_smooth_over_its_length() -> None:
    values = random_field(np.random.default_rng(0), 30.0).on(field_of_view(2.0))
    step = np.diff(values, axis=0)  # 2 mm
    assert 0.04 < step.std() < 0.12  # derivative of about 1.2 / length


def test_field_is_the_same_at_every_voxel_size() -> None:
    fine = random_field(np.random.default_rng(3), 20.0).on(field_of_view(1.0).crop((slice(0, 20),) * 3))
    odd = random_field(np.random.default_rng(3), 20.0).on(field_of_view(3.0).crop((slice(0, 6),) * 3))
    np.testing.assert_allclose(odd, fine[1:18:3, 1:18:3, 1:18:3], atol=1e-5)


def test_values_at_an_index_equal_those_on_the_grid() -> None:
    grid = field_of_view(8.0)
    field = random_field(np.random.default_rng(1), 25.0)
    index = np.flatnonzero(np.random.default_rng(2).random(np.prod(grid.shape)) < 0.2)
    np.testing.assert_allclose(field.at(grid, index), field.on(grid).reshape(-1)[index], atol=1e-5)
