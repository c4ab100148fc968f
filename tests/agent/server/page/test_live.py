"""Talking aloud in the page: Chromium's fake microphone and camera play files, and the agent is one of fakes."""

import wave

import numpy as np
import pytest

pytest.importorskip("pipecat", reason="pipecat-ai is not installed")
from pipecat.audio.vad.vad_analyzer import VADAnalyzer, VADParams

from agent.care import Consent
from agent.nodes import Ears
from agent.server.access import Access
from agent.server.app import make_app
from agent.voice import turns
from agent.voice.server import Talker, VoiceRoutes, both
from perception.types import SAMPLE_RATE_HZ
from tests.agent.server.house import house
from tests.agent.server.page.browser import chromium, expect, visit
from tests.agent.server.page.invented import InventedModel
from tests.fakes import FakeAsr, FakeFaceFinder

SAID = "I am sad about my cat."
RATE_HZ = 48_000


class Loud(VADAnalyzer):
    """What is loud is speech."""

    def __init__(self):
        super().__init__(params=VADParams(start_secs=0.06, stop_secs=0.2, min_volume=0))

    async def cleanup(self):
        """It is shared by all conversations."""

    def num_frames_required(self):
        return SAMPLE_RATE_HZ // 50

    def voice_confidence(self, buffer):
        return float(np.abs(np.frombuffer(buffer, np.int16).astype(int)).max() > 1500)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(turns, "wait_s", lambda complete, text, affect: 0.2)


@pytest.fixture
def devices(tmp_path):
    """Arguments for Chromium: a microphone that is silent, hums for a second, and is silent again; a grey camera."""
    t = np.arange(RATE_HZ) / RATE_HZ
    hum = sum(np.sin(2 * np.pi * f * t) for f in (150, 300, 450, 900, 1500)) * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * t))
    sound = np.concatenate([np.zeros(2 * RATE_HZ), 0.15 * hum, np.zeros(5 * RATE_HZ)])
    microphone = tmp_path / "microphone.wav"
    with wave.open(str(microphone), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes((sound * 32767).astype("<i2").tobytes())
    camera = tmp_path / "camera.y4m"
    picture = b"FRAME\n" + bytes([120]) * (160 * 120) + bytes([128]) * (160 * 120 // 2)
    camera.write_bytes(b"YUV4MPEG2 W160 H120 F10:1 Ip A1:1 C420jpeg\n" + 10 * picture)
    return [
        f"--use-file-for-fake-audio-capture={microphone}",
        f"--use-file-for-fake-video-capture={camera}",
        "--allow-loopback-in-peer-connection",
    ]


@pytest.fixture
async def talking(tmp_path):
    """A house whose server also talks; `.app` is that server."""
    with house(tmp_path / "home", model=InventedModel()) as at:
        at.people.agree("me", Consent(text=True, voice=True))

        def who(_, caller):
            return Talker("me", caller.thread, both(at.host.consent_of("me"), caller.consent))

        options = {"vad": Loud(), "completeness": lambda _: 1.0, "silence_s": 0}
        voice = VoiceRoutes(at.host.agent, Ears(lambda: FakeAsr(SAID), FakeFaceFinder), who, **options)
        at.app = make_app(at.host, Access(at.people, a_minute=10_000), voice=voice)
        yield at
        await voice.close()


async def test_a_spoken_turn_is_written_down_felt_answered_and_remembered(talking, devices):
    async with chromium(devices) as browser, visit(talking, browser, app=talking.app) as page:
        await page.get_by_role("button", name="Talk aloud").click()
        await expect(page.locator("#call-reads")).to_have_text("I read your words and your voice.")
        await expect(page.locator("#log")).to_contain_text("Hi! Before we start: I am a program")
        turn = page.locator(".turn[data-turn]").first
        await expect(turn.locator(".said")).to_have_text(SAID)
        await expect(turn.locator(".chip")).to_have_text("sad")
        await expect(turn.locator(".evidence li")).to_have_count(3)  # words, voice, together
        await expect(turn.locator(".reply")).to_have_text("I hear you. Tell me more?")
        await expect(turn.locator(".latency")).to_contain_text("you waited")
        await expect(turn.get_by_role("button", name="Why did you say that?")).to_be_visible()
        mute = page.get_by_role("button", name="Mute")
        await mute.click()
        await expect(mute).to_have_attribute("aria-pressed", "true")
        await expect(page.get_by_text("Your microphone is muted")).to_be_visible()
        await expect(page.locator("#thread")).to_contain_text(SAID)
        await page.get_by_role("button", name="End", exact=True).click()
        await expect(page.get_by_role("button", name="Talk aloud")).to_be_visible()
    episode = talking.store.list("me")[-1]
    assert (episode.text, episode.thread_id, episode.modalities) == (SAID, "main", ("text", "voice"))


async def test_the_camera_is_looked_at_only_after_it_was_allowed(talking, devices):
    async with chromium(devices) as browser, visit(talking, browser, app=talking.app) as page:
        await page.get_by_role("button", name="Talk aloud").click()
        camera, picture = page.get_by_role("button", name="Camera"), page.locator("#call-picture")
        await expect(page.locator("#log")).to_contain_text("I am a program")
        await camera.click()
        asked = page.get_by_role("dialog", name="May I look at your face?")
        await asked.get_by_role("button", name="No, thank you").click()
        await expect(picture).to_be_hidden()
        assert not talking.people.consent_of("me").face
        await camera.click()
        await asked.get_by_role("button", name="Yes, you may").click()
        await expect(picture).to_be_visible()
        await expect(page.locator("#call-reads")).to_contain_text("your face while the camera is on")
        assert talking.people.consent_of("me").face
        seen = page.locator(".turn[data-turn]").filter(has=page.locator(".source", has_text="face"))
        await expect(seen.first.locator(".said")).to_have_text(SAID, timeout=20_000)
        await camera.click()
        await expect(picture).to_be_hidden()
        await page.get_by_role("button", name="End", exact=True).click()
    assert any("face" in episode.modalities for episode in talking.store.list("me"))


async def test_a_line_typed_in_the_middle_is_answered_aloud(talking, devices):
    async with chromium(devices) as browser, visit(talking, browser, app=talking.app) as page:
        await page.get_by_role("button", name="Talk aloud").click()
        await expect(page.locator("#log")).to_contain_text("I am a program")
        await page.get_by_role("button", name="Mute").click()
        await page.get_by_label("What you want to say").fill("I am glad that you are here.")
        await page.keyboard.press("Enter")
        turn = page.locator(".turn[data-turn]").filter(has_text="I am glad")
        await expect(turn.locator(".chip")).to_have_text("happy")
        await expect(turn.locator(".reply")).to_have_text("I hear you. Tell me more?")
        await page.get_by_role("button", name="End", exact=True).click()
    assert "I am glad that you are here." in [episode.text for episode in talking.store.list("me")]


async def test_who_finds_every_place_taken_is_told_so(tmp_path, devices):
    with house(tmp_path / "home", model=InventedModel()) as at:
        at.people.agree("me", Consent())
        ears = Ears(FakeAsr, FakeFaceFinder)
        voice = VoiceRoutes(at.host.agent, ears, lambda _, caller: Talker("me", caller.thread, Consent()), limit=0)
        app = make_app(at.host, Access(at.people), voice=voice)
        async with chromium(devices) as browser, visit(at, browser, app=app, refused=True) as page:
            await page.get_by_role("button", name="Talk aloud").click()
            await expect(page.locator("#notice")).to_contain_text("which is as many as may: try again later")
            await expect(page.get_by_role("button", name="Talk aloud")).to_be_visible()
