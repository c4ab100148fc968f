"""Learning rates: warm-up, cosine, and what the reference's scheduler really did (specification, section 3.3)."""

import pytest

from training.config import Phase
from training.curriculum import READS, learning_rate
from training.freeze import TRAINED


def phase(**fields):
    return Phase({}, **{"steps": 100, "lr": 3e-4, "min_lr": 1e-4, "warmup": 10, **fields})


def test_the_rate_rises_in_a_line_and_falls_along_a_cosine():
    assert [learning_rate(phase(), step) for step in (1, 5, 10)] == pytest.approx([3e-5, 1.5e-4, 3e-4])
    assert learning_rate(phase(), 55) == pytest.approx(2e-4)
    assert learning_rate(phase(), 100) == pytest.approx(1e-4)
    rates = [learning_rate(phase(), step) for step in range(10, 101)]
    assert rates == sorted(rates, reverse=True)


def test_without_warm_up_the_first_step_is_nearly_the_highest():
    assert learning_rate(phase(warmup=0), 1) == pytest.approx(3e-4, rel=1e-3)


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        (3, {1: 2.5e-4, 5001: 1.5e-4, 10_001: 1.0e-4, 15_000: 1.5e-4}),
        (5, {1: 2.81e-4, 20_001: 1.0e-4, 25_000: 1.19e-4}),
    ],
)
def test_the_reference_is_an_epoch_ahead_and_rises_again(epochs, expected):
    reference = phase(steps=epochs * 5000, schedule="reference", warmup=5000)
    for step, rate in expected.items():
        assert learning_rate(reference, step) == pytest.approx(rate, abs=1e-6)


def test_every_phase_says_what_it_reads_and_trains():
    assert tuple(READS) == tuple(TRAINED) == ("1.1", "1.2", "2", "3")
