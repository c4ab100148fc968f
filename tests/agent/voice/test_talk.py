"""`emox talk` with an agent of fakes: recordings, a microphone that is not there, wrong use told in one line."""

import json
import os
import signal
import socket
import sys
import time
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("pipecat", reason="pipecat-ai is not installed")
import uvicorn
from pipecat.frames.frames import BotStartedSpeakingFrame, BotStoppedSpeakingFrame, InputAudioRawFrame
from pipecat.processors.frame_processor import FrameDirection

from agent import cli, opening
from agent.nodes import Ears
from agent.session import Agent
from agent.speech import Audio, write_wav
from agent.voice import half_duplex, talk
from agent.voice.half_duplex import HalfDuplex
from agent.voice.pipeline import build_session
from perception.media import read_clip
from tests.agent.test_cli import one_line
from tests.agent.voice.conversation import Loudness, SeeingModel, agent_of
from tests.fakes import FakeAsr, FakeFaceFinder

SAID = "I am sad about my cat, she ran away."


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    asr = FakeAsr(SAID)
    monkeypatch.setenv("EMOX_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(opening, "open_agent", lambda settings: agent_of(SeeingModel("I hear you.")))
    monkeypatch.setattr(talk, "open_ears", lambda _: Ears(lambda: asr, FakeFaceFinder))
    monkeypatch.setattr(talk, "build_session", partial(build_session, vad=Loudness(), completeness=lambda _: 1.0))
    monkeypatch.setattr(talk, "SETTLED_S", 0.2)

    def call(*arguments):
        with pytest.raises(SystemExit) as exit_:
            cli.main(["talk", *map(str, arguments)])
        told = capsys.readouterr()
        return exit_.value.code or 0, told.out, told.err

    call.asr, call.home = asr, tmp_path / "home"
    return call


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "said.wav"
    write_wav(path, [Audio(np.full(4800, 0.1, np.float32), 16_000)])
    return path


def test_recordings_are_answered_one_after_the_other(run, clip, tmp_path):
    spoken = tmp_path / "replies.wav"
    status, out, err = run("--clip", clip, "--clip", clip, "--user", "ann", "--speak", spoken, "--json")
    assert status == 0, err
    turns = json.loads(out)
    assert [each["turn"]["transcript"] for each in turns] == [SAID, SAID]
    assert turns[0]["turn"]["reply"]
    assert turns[0]["stages_ms"]["latency"] > 0
    stored = [json.loads(line) for line in (run.home / "voice" / "timings.jsonl").read_text().splitlines()]
    assert [row["turn_id"] for row in stored] == [each["turn"]["turn_id"] for each in turns]
    assert read_clip(spoken).speech.duration_s == pytest.approx(
        2 * 0.05 * len(turns[0]["turn"]["reply"].split()), abs=0.2
    )
    for told in ("heard", SAID, "felt", "sad", "valence", "plan", "reply", "latency"):
        assert told in err


def test_people_see_the_turn(run, clip):
    status, out, _ = run("--clip", clip)
    assert status == 0
    assert SAID in out
    assert "latency" in out


@pytest.mark.parametrize(
    ("arguments", "status", "why"),
    [
        (["--clip", "nowhere.wav"], 2, "nowhere.wav"),
        (["--clip", __file__], 2, "test_talk.py"),
        (["--clip", "CLIP", "--browser"], 2, "--browser"),
        (["--speak", "out.wav"], 2, "--clip"),
        (["--clip", "CLIP", "--speak", "nowhere/out.wav"], 1, "nowhere"),
        (["--clip", "CLIP", "--user", ""], 2, "user"),
    ],
)
def test_wrong_use_is_one_clear_line(run, clip, arguments, status, why):
    code, out, err = run(*[clip if argument == "CLIP" else argument for argument in arguments])
    assert code == status
    assert out == ""
    assert why in one_line(err)


def test_a_recording_in_which_nobody_speaks_is_told(run, clip):
    run.asr.text = ""
    code, _, err = run("--clip", clip)
    assert code == 2
    assert "nobody speaks in" in one_line(err)


def test_a_recording_that_cannot_be_understood_is_given_up(run, clip, monkeypatch):
    monkeypatch.setattr(talk, "REPLY_S", 1.0)
    monkeypatch.setattr(run.asr, "hears_speech", lambda _: True)
    run.asr.text = ""
    code, _, err = run("--clip", clip)
    assert code == 2
    assert "got no answer" in one_line(err)


def test_a_port_that_is_taken_is_told_before_anything_is_loaded(run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, _, err = run("--browser", "--port", taken.getsockname()[1])
    assert code == 1
    assert "choose another --port" in one_line(err)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_a_server_that_is_ended_closes_the_memory(run, monkeypatch, ending):
    closed = []
    monkeypatch.setattr(Agent, "close", lambda _: closed.append(True))
    monkeypatch.setattr(uvicorn.Server, "run", lambda *_, **__: signal.raise_signal(ending))
    before = signal.getsignal(signal.SIGTERM)
    try:
        code, out, _ = run("--browser", "--port", "0")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert code == 0
    assert "Talk at http://127.0.0.1:" in out
    assert closed


def test_without_pyaudio_the_browser_is_named(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyaudio", None)
    code, _, err = run()
    assert code == 1
    assert "emox[local]" in one_line(err)
    assert "--browser" in err


class Devices:
    """A sound card: a silent microphone, and a loudspeaker whose first sound makes somebody press Ctrl-C."""

    played = bytearray()

    def open(self, **options):
        return SimpleNamespace(
            start_stream=lambda: None, stop_stream=lambda: None, close=lambda: None, write=self._write
        )

    def _write(self, sound):
        if not self.played:
            os.kill(os.getpid(), signal.SIGINT)
        self.played += sound
        time.sleep(len(sound) / 2 / 22_050)

    def get_format_from_width(self, width):
        return width

    def get_default_input_device_info(self):
        return {}

    get_default_output_device_info = get_default_input_device_info

    def terminate(self):
        pass


def test_who_sits_at_the_microphone_is_greeted_and_ends_it_with_ctrl_c(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyaudio", SimpleNamespace(PyAudio=Devices, paContinue=0))
    monkeypatch.delitem(sys.modules, "pipecat.transports.local.audio", raising=False)
    code, out, err = run("--json")
    assert code == 0, err
    assert json.loads(out) == []
    assert Devices.played


async def test_a_microphone_beside_the_loudspeaker_is_deaf_while_the_agent_speaks(monkeypatch):
    monkeypatch.setattr(half_duplex, "ECHO_S", 0.05)
    processor = HalfDuplex()
    heard = []

    async def push(frame, direction):
        if isinstance(frame, InputAudioRawFrame):
            heard.append(any(frame.audio))

    monkeypatch.setattr(processor, "push_frame", push)

    async def see(*frames):
        for frame in frames:
            await processor.process_frame(frame, FrameDirection.DOWNSTREAM)

    def sound():
        return InputAudioRawFrame(b"\1\1" * 320, 16_000, 1)

    await see(sound(), BotStartedSpeakingFrame(), sound(), BotStoppedSpeakingFrame(), sound())
    time.sleep(0.06)
    await see(sound())
    assert heard == [True, False, False, True]
