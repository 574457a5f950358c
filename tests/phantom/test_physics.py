"""MR signal equations against their limits."""

from __future__ import annotations

import numpy as np
import pytest

from lab.phantom import physics
from lab.phantom.physics import TISSUES, Sequence


def test_long_tr_and_short_te_leave_the_proton_density() -> None:
    pd = np.array([0.2, 0.7, 1.0], dtype=np.float32)
    signal = physics.spin_echo(pd, 900.0, 80.0, tr_ms=1e7, te_ms=0.0)
    np.testing.assert_allclose(signal, pd, rtol=1e-6)
    recovered = physics.inversion_recovery(pd, 900.0, 80.0, tr_ms=1e7, te_ms=0.0, ti_ms=1e6)
    np.testing.assert_allclose(recovered, pd, rtol=1e-6)


def test_no_repetition_time_leaves_nothing() -> None:
    assert physics.spin_echo(1.0, 900.0, 80.0, tr_ms=0.0, te_ms=10.0) == 0


def test_spin_echo_after_one_time_constant_each() -> None:
    value = physics.spin_echo(1.0, 500.0, 80.0, tr_ms=500.0, te_ms=80.0)
    assert value == pytest.approx((1 - np.exp(-1)) * np.exp(-1), rel=1e-6)


@pytest.mark.parametrize(("t1_ms", "tr_ms"), [(4000.0, 9000.0), (260.0, 4000.0), (1000.0, 3000.0)])
def test_inversion_recovery_is_nulled_at_its_null_point(t1_ms: float, tr_ms: float) -> None:
    ti = physics.null_ti_ms(t1_ms, tr_ms)
    nulled = physics.inversion_recovery(1.0, t1_ms, 80.0, tr_ms=tr_ms, te_ms=10.0, ti_ms=ti)
    beside = physics.inversion_recovery(1.0, t1_ms, 80.0, tr_ms=tr_ms, te_ms=10.0, ti_ms=0.7 * ti)
    assert nulled < 1e-5 < 0.05 < beside


def test_null_point_for_long_tr_is_t1_ln_2() -> None:
    assert physics.null_ti_ms(1000.0, 1e6) == pytest.approx(1000 * np.log(2))
    assert physics.null_ti_ms(4000.0, 9000.0) == pytest.approx(2372, abs=2)


def test_no_inversion_time_inverts_fully() -> None:
    assert physics.inversion_recovery(1.0, 900.0, 80.0, tr_ms=1e7, te_ms=0.0, ti_ms=0.0) == pytest.approx(1.0)


def test_no_contrast_agent_changes_nothing() -> None:
    t1, t2 = physics.relax_with_gadolinium(1450.0, 150.0, 0.0)
    assert (t1, t2) == (1450.0, 150.0)
    t1w = Sequence(tr_ms=550, te_ms=12)
    pd = np.linspace(0.1, 1, 5, dtype=np.float32)
    np.testing.assert_array_equal(physics.signal(t1w, pd, 900, 80), physics.signal(t1w, pd, 900, 80, 0.0))


def test_relaxivity_is_a_rate_per_millimole() -> None:
    t1, t2 = physics.relax_with_gadolinium(1000.0, 100.0, 2.0)
    assert 1000 / t1 == pytest.approx(1.0 + 2 * physics.R1_RELAXIVITY, rel=1e-6)
    assert 1000 / t2 == pytest.approx(10.0 + 2 * physics.R2_RELAXIVITY, rel=1e-6)


def test_much_contrast_agent_forgets_the_native_t1() -> None:
    slow, _ = physics.relax_with_gadolinium(4000.0, 100.0, 1e4)
    fast, _ = physics.relax_with_gadolinium(500.0, 100.0, 1e4)
    assert slow == pytest.approx(fast, rel=1e-3)


def test_contrast_agent_brightens_the_t1_weighted_tumour_until_t2_takes_over() -> None:
    tumour, t1w = TISSUES["tumour"], Sequence(tr_ms=550, te_ms=12)
    dose = np.array([0, 0.05, 0.2, 1.0], dtype=np.float32)
    signal = physics.signal(t1w, tumour.pd, tumour.t1_ms, tumour.t2_ms, dose)
    assert (np.diff(signal) > 0).all()
    assert physics.signal(t1w, tumour.pd, tumour.t1_ms, tumour.t2_ms, 500.0) < 0.01


def test_textbook_contrast_of_the_three_weightings() -> None:
    t1w, t2w = Sequence(tr_ms=550, te_ms=12), Sequence(tr_ms=4500, te_ms=100)
    flair = Sequence(tr_ms=9000, te_ms=110, ti_ms=2400)

    def order(sequence: Sequence, *names: str) -> list[str]:
        value = {n: float(physics.signal(sequence, TISSUES[n].pd, TISSUES[n].t1_ms, TISSUES[n].t2_ms)) for n in names}
        return sorted(names, key=value.__getitem__)

    assert order(t1w, "white", "grey", "csf") == ["csf", "grey", "white"]
    assert order(t2w, "white", "grey", "csf", "oedema") == ["white", "grey", "oedema", "csf"]
    assert order(flair, "white", "grey", "csf", "oedema") == ["csf", "white", "grey", "oedema"]


def test_field_strength_lengthens_t1_of_tissue_but_not_of_fluid() -> None:
    white, csf = TISSUES["white"], TISSUES["csf"]
    assert physics.at_field(white, 1.5) == white
    assert physics.at_field(white, 3.0).t1_ms == pytest.approx(white.t1_ms * 2 ** (1 / 3))
    assert physics.at_field(csf, 3.0) == csf


def test_rician_noise_is_rayleigh_without_signal_and_gaussian_far_above_it() -> None:
    rng = np.random.default_rng(0)
    air = physics.rician_noise(np.zeros(200_000, dtype=np.float32), 2.0, rng)
    assert air.mean() == pytest.approx(2 * np.sqrt(np.pi / 2), rel=0.01)
    bright = physics.rician_noise(np.full(200_000, 100, dtype=np.float32), 2.0, rng)
    assert bright.mean() == pytest.approx(100 + 2.0**2 / 200, abs=0.03)
    assert bright.std() == pytest.approx(2.0, rel=0.01)
    silent = np.linspace(0, 3, 7, dtype=np.float32)
    np.testing.assert_array_equal(physics.rician_noise(silent, 0.0, rng), silent)


def test_everything_stays_float32() -> None:
    x = np.ones((2, 2), dtype=np.float32)
    assert physics.spin_echo(x, 900 * x, 80 * x, tr_ms=500, te_ms=10).dtype == np.float32
    assert physics.signal(Sequence(tr_ms=9000, te_ms=100, ti_ms=2400), x, 900 * x, 80 * x, x).dtype == np.float32
    assert physics.rician_noise(x, 0.1, np.random.default_rng(0)).dtype == np.float32
