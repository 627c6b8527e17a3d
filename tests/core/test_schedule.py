import math

import numpy as np
import pytest

from stages.core.schedule import RateSchedule


def test_a_constant_rate_is_the_rate_to_the_bit():
    assert RateSchedule(1e-3).list_rates(5, (0.2, 0.3)) == [1e-3] * 5


def test_it_rises_to_the_highest_and_falls_to_zero():
    schedule = RateSchedule(0.1, "cosine", warmup=0.2)
    assert schedule.find_rate(0) == 0
    assert schedule.find_rate(0.1) == pytest.approx(0.05)
    assert schedule.find_rate(0.2) == 0.1
    assert schedule.find_rate(0.6) == pytest.approx(0.05), "half of what is left of the run"
    assert schedule.find_rate(0.4) == pytest.approx(0.1 * (1 + math.cos(math.pi / 4)) / 2)
    assert schedule.find_rate(1) == pytest.approx(0)
    rates = schedule.list_rates(100)
    assert min(rates) > 0, "no step is wasted"
    assert np.argmax(rates) in (19, 20)
    assert (np.diff(rates[:20]) > 0).all()
    assert (np.diff(rates[20:]) < 0).all()


def test_the_parts_of_a_run_are_the_run():
    schedule = RateSchedule(0.1, "cosine", warmup=0.1)
    parts = [rate for part in ((0, 0.5), (0.5, 0.8), (0.8, 1)) for rate in schedule.list_rates(10, part)]
    steps = [0.025 + 0.05 * number for number in range(10)]
    np.testing.assert_allclose(parts[:10], [schedule.find_rate(step) for step in steps])
    whole = schedule.list_rates(10)
    halves = schedule.list_rates(5, (0, 0.5)) + schedule.list_rates(5, (0.5, 1))
    np.testing.assert_allclose(whole, halves, rtol=1e-12)
