"""A phase from its first step to its last, on the tiny variant: what learns, what stays, and what a stop costs."""

import errno
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from model.encoders.features import Features
from tests.perception.clips import REPOSITORY
from tests.training.tiny_run import CORPORA, MIXTURES, fetch, make_config, make_model, train
from training.config import Phase
from training.freeze import TRAINED, freeze, frozen_hash
from training.loop import TrainingError

STEPS = 20


def log_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def losses(folder):
    """(step, training or validation) -> its figures, without how fast it was."""
    entries = log_of(folder)
    found = {(entry.pop("step"), "lr" in entry): entry for entry in entries}
    assert len(found) == len(entries), "a step is in the log twice"
    for entry in entries:
        entry.pop("tokens_per_s", None)
    return found


def assert_same(found, expected, tolerance=1e-6):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=tolerance, atol=tolerance)


def start(*arguments, **variables):
    """The tiny run as a program."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.training.tiny_run", *map(str, arguments)],
        cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("name", MIXTURES)
def test_a_phase_overfits_a_few_clips_and_changes_what_it_trains_alone(name, tmp_path):
    model = make_model()
    freeze(model, name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    hash_before = frozen_hash(model)
    config = make_config(tmp_path, 30, evaluate_every=15)
    _, done = train(name, config, model=model, validation=[s for c in config.phases[name].mixture for s in CORPORA[c]])

    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    branches = set(TRAINED[name]) - {"lora"}
    assert changed == {
        key for key in before if key.split(".")[0] in branches or ("lora" in TRAINED[name] and "lora_" in key)
    }
    assert frozen_hash(model) == hash_before

    entries = log_of(done.folder)
    first, *_, last = [entry["loss"] for entry in entries if "lr" in entry]
    assert last < first - 0.7
    halfway, end = [entry["valid/loss"] for entry in entries if "valid/loss" in entry]
    assert end < halfway
    assert done.step == 30
    assert done.figures["loss"] == end


def test_the_hash_of_what_is_frozen_sees_every_tensor_that_is_not_trained():
    model = make_model()
    freeze(model, "1.1")
    before = frozen_hash(model)
    assert frozen_hash(model) == before
    with torch.no_grad():
        model.audio.queries += 1
        assert frozen_hash(model) == before
        tensors = {key: value for key, value in model.state_dict().items() if not key.startswith("audio.")}
        some = [next(k for k in tensors if k.startswith(part)) for part in ("face.", "lm.", "visual.", "facial.")]
        some.append(next(key for key, _ in model.named_buffers() if key in tensors))
        for key in some:
            value = tensors[key].clone()
            tensors[key].view(-1)[0] += 1
            assert frozen_hash(model) != before, key
            tensors[key].copy_(value)
            assert frozen_hash(model) == before


def test_an_unknown_phase_trains_nothing():
    with pytest.raises(KeyError):
        freeze(make_model(), "4")


def test_a_changed_frozen_tensor_is_noticed(tmp_path):
    model = make_model()

    def spoil(entry):
        with torch.no_grad():
            model.face.queries += 1

    with pytest.raises(TrainingError, match=r"phase 1\.1 changed a tensor that it should not train"):
        train("1.1", make_config(tmp_path, 1), model=model, log=spoil)


@pytest.fixture(scope="module")
def never_killed(tmp_path_factory):
    config = make_config(tmp_path_factory.mktemp("whole"), STEPS)
    return train("3", config)[1].folder


def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path, never_killed):
    config = make_config(tmp_path, STEPS)
    folder = tmp_path / "phase-3"
    at, rest_s = random.randint(1, STEPS - 2), random.uniform(0, 0.05)
    with start("3", tmp_path, "--steps", STEPS, "--pause-s", 0.05) as process:
        while not (folder / "log.jsonl").is_file() or (folder / "log.jsonl").read_text().count("lr") < at:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.002)
        time.sleep(rest_s)
        process.send_signal(signal.SIGKILL)
    expected = {at: pytest.approx(figures, rel=1e-6) for at, figures in losses(never_killed).items()}
    before = losses(folder)
    assert at <= len(before) < len(expected), "killed too late to prove anything"
    assert before == {at: expected[at] for at in before}
    saved = folder / "last.safetensors"
    done = int(load_file(saved)["step"]) if saved.is_file() else 0

    told = []
    train("3", config, log=told.append)
    assert told[0]["step"] == done + 1
    assert losses(folder) == expected
    for file in ("last.safetensors", "best.safetensors"):
        assert_same(load_file(folder / file), load_file(never_killed / file))


def test_half_a_line_in_the_log_is_forgotten(tmp_path):
    log = train("1.1", make_config(tmp_path, 2, save_every=1), validation=())[1].folder / "log.jsonl"
    whole = log.read_text()
    log.write_text(whole + '{"step": 2, "los')
    train("1.1", make_config(tmp_path, 3, save_every=1), validation=())
    assert log.read_text().startswith(whole)
    assert [entry["step"] for entry in log_of(log.parent)] == [1, 2, 3]


def test_a_finished_phase_is_not_trained_again(tmp_path, never_killed):
    before = (never_killed / "last.safetensors").read_bytes(), log_of(never_killed)
    model, done = train("3", make_config(never_killed.parent, STEPS))
    assert ((never_killed / "last.safetensors").read_bytes(), log_of(never_killed)) == before
    assert done.step == STEPS
    saved = load_file(never_killed / "last.safetensors")
    assert_same({"queries": model.audio.queries.detach()}, {"queries": saved["audio.queries"]})


def test_the_best_weights_are_those_of_the_lowest_validation_loss(tmp_path):
    config = make_config(tmp_path, 4, evaluate_every=1, mixtures={"1.1": {"voices": 1.0}})
    worse = replace(config, phases={"1.1": replace(config.phases["1.1"], lr=100.0)})  # it can only get worse
    model, done = train("1.1", worse, validation=CORPORA["voices"])
    found = [entry["valid/loss"] for entry in log_of(done.folder) if "valid/loss" in entry]
    best = load_file(done.folder / "best.safetensors")
    assert set(best) == {key for key, p in model.named_parameters() if p.requires_grad}
    assert min(found) < found[-1]
    assert not torch.equal(best["audio.queries"], model.audio.queries)
    progress = json.loads((done.folder / "progress.json").read_text())
    assert progress == {"step": 4, "best": pytest.approx(min(found))}


def test_two_processes_share_a_batch_as_one_has_it(tmp_path):
    if not torch.distributed.is_gloo_available():
        pytest.skip("torch was built without gloo, by which processes on CPUs talk")
    free = 20_000 + os.getpid() % 20_000
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free)}
    steps = 8
    processes = [
        start("3", tmp_path / "two", "--steps", steps, "--no-dropout", RANK=str(i), LOCAL_RANK=str(i), **shared)
        for i in range(2)
    ]
    try:
        told = [process.communicate(timeout=500)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    broken = next(
        (text for text in told if re.search(r"gloo|Connection refused|Address already in use", text, re.I)), ""
    )
    if broken and any(process.returncode for process in processes):
        pytest.skip(f"gloo does not start here: {broken.splitlines()[-1]}")
    assert [process.returncode for process in processes] == [0, 0], told

    config = make_config(tmp_path / "one", steps)
    _, done = train("3", config, model=make_model(dropout=False))
    alone, together = losses(done.folder), losses(tmp_path / "two" / "phase-3")
    assert alone.keys() == together.keys()
    for at, figures in alone.items():  # the gradients' norm tells rounding most
        assert together[at].pop("norm", 0) == pytest.approx(figures.pop("norm", 0), rel=1e-3)
        assert together[at] == pytest.approx(figures, abs=1e-5)
    counted = [
        {key: value for key, value in load_file(folder / "last.safetensors").items() if key.endswith(".step")}
        for folder in (done.folder, tmp_path / "two" / "phase-3")
    ]  # so often each tensor was stepped: where no process touches a tensor, none steps it
    assert len(set(map(float, counted[0].values()))) > 1
    assert counted[0] == counted[1]


def test_a_loss_that_is_not_finite_ends_the_run_with_the_save_before(tmp_path):
    def broken(drawn):
        outputs = fetch(drawn)
        hidden = outputs.acoustic.hidden * torch.nan
        return replace(outputs, acoustic=Features(hidden, outputs.acoustic.scales, outputs.acoustic.mask))

    train("1.1", make_config(tmp_path, 2, save_every=1))
    before = (tmp_path / "phase-1.1" / "last.safetensors").read_bytes()
    with pytest.raises(FloatingPointError) as told:
        train("1.1", make_config(tmp_path, 4), fetch=broken)
    assert str(told.value) == (
        "phase 1.1, step 3: the loss is nan and its gradient nan; lower `lr`, or look at what step 3 draws"
    )
    assert (tmp_path / "phase-1.1" / "last.safetensors").read_bytes() == before


@pytest.mark.parametrize("file", ["last.safetensors", "best.safetensors"])
def test_a_full_disk_is_told_and_the_save_before_still_loads(tmp_path, monkeypatch, file):
    config = make_config(tmp_path, 4, save_every=1, evaluate_every=1)
    train("1.1", make_config(tmp_path, 2, save_every=1, evaluate_every=3), validation=())
    folder = tmp_path / "phase-1.1"
    with monkeypatch.context() as patch:
        patch.setattr("training.files.os.fsync", full_disk(file))
        with pytest.raises(TrainingError) as told:
            train("1.1", config)
    assert str(told.value) == (
        f"step 3 could not be saved in {folder} (No space left on device); free some space and run again, it goes on "
        f"from the save before"
    )
    assert not list(folder.glob(".*"))
    assert int(load_file(folder / "last.safetensors")["step"]) == 2
    assert train("1.1", config)[1].step == 4
    steps = [entry["step"] for entry in log_of(folder) if "lr" in entry]
    assert steps == [1, 2, 3, 4]


def full_disk(file):
    """An `os.fsync` for a disk on which one file has no room any more."""

    def fsync(descriptor):
        if file in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return fsync


def test_a_save_of_another_phase_or_variant_is_refused_by_name(tmp_path):
    folder = tmp_path / "phase-1.1"
    train("1.1", make_config(tmp_path, 1), validation=())
    (tmp_path / "phase-1.2").symlink_to(folder)
    with pytest.raises(TrainingError, match=r"phase-1\.2/last\.safetensors is of another model or phase: name another"):
        train("1.2", make_config(tmp_path, 1))

    model = make_model()
    model.audio.queries = torch.nn.Parameter(torch.zeros(5, 16))
    with pytest.raises(TrainingError, match=r"phase-1\.1/last\.safetensors is of another model or phase"):
        train("1.1", make_config(tmp_path, 1), model=model)


def test_clips_that_fill_no_slot_of_the_phase_teach_it_nothing_and_stop_nothing(tmp_path):
    config = make_config(tmp_path, 6, {"1.1": {"voices": 0.5, "lines": 0.5}})
    assert train("1.1", config, validation=CORPORA["lines"])[1].figures["lines/intent/loss"] > 0
    lines = make_config(tmp_path / "lines", 2, {"1.1": {"lines": 1.0}})
    model, _ = train("1.1", lines, validation=())
    assert torch.equal(model.audio.queries, make_model().audio.queries)


def test_what_a_batch_does_not_touch_stays(tmp_path):
    config = make_config(tmp_path, 3, {"2": {"voices": 1.0}})
    model, _ = train("2", config, validation=())
    untouched = make_model()
    assert torch.equal(model.face.queries, untouched.face.queries)
    assert not torch.equal(model.audio.queries, untouched.audio.queries)


def test_matrices_decay_and_vectors_do_not(tmp_path):
    config = make_config(tmp_path, 1, {"1.1": {"voices": 1.0}}, weight_decay=50.0)
    config = replace(config, phases={"1.1": replace(config.phases["1.1"], lr=1e-2, min_lr=1e-2, warmup=0)})
    model, _ = train("1.1", config, validation=())
    before = make_model()
    # A step moves a value by no more than lr, and decay takes half of it first.
    moved = [(model.audio.projection.weight, before.audio.projection.weight * 0.5),
             (model.audio.norm.weight, before.audio.norm.weight)]  # fmt: skip
    for now, expected in moved:
        torch.testing.assert_close(now, expected, rtol=0, atol=1.01e-2)


def test_validation_counts_labels_that_are_certain(tmp_path):
    config = make_config(tmp_path, 40, {"3": {"lines": 1.0}})
    phase = Phase({"lines": 1.0}, 40, lr=3e-2, min_lr=1e-2, batch=4, warmup=2)
    _, done = train("3", replace(config, phases={"3": phase}, evaluate_every=100), validation=CORPORA["lines"])
    assert done.figures["lines/intent/sure"] == 1
    assert done.figures["lines/intent/loss"] < 0.5
    assert done.figures["loss"] == pytest.approx(done.figures["lines/intent/loss"])


def test_a_branch_warms_up_once_and_the_same_way_each_time(tmp_path):
    config = make_config(tmp_path / "a", 3, {"1.1": {"voices": 1.0}}, save_every=1)
    config = replace(config, phases={"1.1": replace(config.phases["1.1"], warm_up=4)})
    folder = train("1.1", config)[1].folder
    again = replace(config, out=tmp_path / "b")
    train("1.1", replace(again, phases={"1.1": replace(config.phases["1.1"], steps=2)}), validation=())
    expected = train("1.1", again)[1].folder
    assert_same(load_file(folder / "last.safetensors"), load_file(expected / "last.safetensors"))
