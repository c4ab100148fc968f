"""The bench of training runs the loop's own steps, wherever it is started, and its formula counts what is computed."""

import json
import os
import subprocess
import sys

import pytest

from tests.perception.clips import REPOSITORY

BARE = (
    "import runpy, sys\n"
    "for name in ('av', 'chromadb', 'faster_whisper', 'langgraph', 'platformdirs', 'pydantic', 'pydantic_settings',\n"
    "             'soxr'):\n"
    "    sys.modules[name] = None\n"  # a machine that only trains has none of them
    "runpy.run_module('bench.train', run_name='__main__')"
)


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-c", BARE, "--variant", "nano_emox_tiny", "--device", "cpu", *map(str, arguments)],
        cwd=REPOSITORY, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("phase", ["1.2", "3"])
def test_steps_of_a_phase_are_timed_without_weights_corpora_or_the_agent(phase, tmp_path):
    out = tmp_path / "results" / "train.json"
    done = run("--phase", phase, "--steps", 5, "--batch", 4, "--portion", 2, "--out", out)
    assert done.returncode == 0, done.stderr
    facts = json.loads(out.read_text())
    assert facts["machine"]["torch"]
    assert list(facts["phases"]) == [phase]
    figures = facts["phases"][phase]
    assert figures["timed_steps"] == 2
    assert 0 < figures["step_ms"]["median"] <= figures["step_ms"]["p95"]
    assert figures["samples_per_s"] * figures["tokens_per_sample"] == pytest.approx(figures["tokens_per_s"])
    assert figures["formula_by_counted"] == pytest.approx(1, abs=0.01)
    share = figures["tflops_per_s"] / facts["peak_tflops_per_s"]["of_matmul"]
    assert figures["utilisation"]["of_matmul"] == pytest.approx(share)


def test_too_few_steps_are_refused(tmp_path):
    done = run("--steps", 3, "--out", tmp_path / "train.json")
    assert done.returncode == 2
    assert "--steps is 3, of which the first 3 are not timed: give more" in done.stderr
