"""The time that a study's training still takes."""

from __future__ import annotations

import pytest

from lab.experiments.time_left import Open, seconds_left

RATES = {"fast": [1.0], "slow": [9.0, 11.0]}


@pytest.mark.parametrize(
    ("trials", "workers", "seconds"),
    [
        ([], 1, 0),
        ([Open("fast", 10, 2.0)], 1, 20),  # its own rate
        ([Open("slow", 10, None), Open("fast", 10, None)], 1, 110),  # those of its label
        ([Open("new", 3, None)], 1, 21),  # the mean of all
        ([Open("fast", 10, None)] * 4, 2, 20),
        ([Open("slow", 10, None), Open("fast", 10, None)], 2, 100),  # the longest cannot be shared
    ],
)
def test_open_trials_take_their_measured_rate(trials, workers, seconds):
    assert seconds_left(trials, RATES, workers) == pytest.approx(seconds)


def test_trials_without_epochs_take_no_time():
    assert seconds_left([Open("fast", 0, None)], RATES, 1) == 0
