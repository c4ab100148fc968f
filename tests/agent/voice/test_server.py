"""The voice server with an agent of fakes: RTVI over a WebSocket, sound over WebRTC, and who is turned away."""

import asyncio
import contextlib
import json
import socket
import time

import httpx
import numpy as np
import pytest

pytest.importorskip("pipecat", reason="pipecat-ai is not installed")
import pipecat.frames.protobufs.frames_pb2 as protobufs
import uvicorn
import websockets
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack
from websockets.exceptions import ConnectionClosed, InvalidStatus

from agent.care import Consent
from agent.nodes import Ears
from agent.voice import companion
from agent.voice.server import MESSAGE_BYTES, both, make_app
from memory.store import InMemoryStore
from tests.agent.server.page.invented import InventedModel
from tests.agent.test_graph import agent_of
from tests.fakes import FakeAsr, FakeEmbedder, FakeFaceFinder, FakeModel, FakeSpeaker

SAID = "I am sad about my cat, she ran away."


@contextlib.asynccontextmanager
async def serving(model=None, **options):
    """A server on a free port; its agent's memory is `.store`."""
    store = InMemoryStore(FakeEmbedder())
    agent = agent_of(model, store=store, speaker=FakeSpeaker())
    ears = Ears(FakeAsr, FakeFaceFinder)
    app = make_app(agent, ears, **{"consent": Consent(), "completeness": lambda _: 1.0} | options)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws_max_size=MESSAGE_BYTES))
        server.store, server.address = store, f"127.0.0.1:{listener.getsockname()[1]}"
        running = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        try:
            async with asyncio.timeout(30):
                yield server
        finally:
            server.should_exit = True
            await running
            agent.close()


def rtvi(type, **data):
    return json.dumps({"label": "rtvi-ai", "type": type, "id": type, "data": data})


def packed(type, **data):
    return protobufs.Frame(message=protobufs.MessageFrame(data=rtvi(type, **data))).SerializeToString()


def ready():
    return packed("client-ready", version="2.0.0", about={"library": "test"})


async def until(connection, type, seen=None):
    """Read RTVI messages up to one of this type; returns its data."""
    while True:
        frame = protobufs.Frame.FromString(await connection.recv())
        if frame.WhichOneof("frame") != "message":
            continue
        message = json.loads(frame.message.data)
        if seen is not None:
            seen.append(message)
        if message["type"] == type:
            return message.get("data")


def texts(messages):
    return "".join(message["data"]["text"] for message in messages if message["type"] == "bot-llm-text")


async def test_a_client_is_greeted_answered_and_remembered():
    async with serving() as server:
        async with websockets.connect(f"ws://{server.address}/ws-client?user=ann") as connection:
            await connection.send(ready())
            await until(connection, "bot-ready")
            greeting = []
            await until(connection, "bot-llm-stopped", greeting)
            assert texts(greeting).startswith("Hi! Before we start: I am a program")
            await connection.send(packed("send-text", content=SAID))
            answer = []
            await until(connection, "bot-stopped-speaking")  # the greeting, cut off
            await until(connection, "bot-stopped-speaking", answer)
            assert texts(answer) == "I hear you. Tell me more?"
            told = {
                message["data"]["type"]: message["data"] for message in answer if message["type"] == "server-message"
            }
            assert told["affect"]["emotion"] == "sad"
            assert "strategy" in told["plan"]
        for _ in range(100):
            if server.store.count("ann"):
                break
            await asyncio.sleep(0.02)
        (episode,) = server.store.list("ann")
        assert episode.text == SAID
        assert episode.thread_id.startswith("talk-")


async def test_a_client_is_told_what_each_source_showed_the_thought_and_which_turn_it_was():
    async with serving(InventedModel()) as server:
        async with websockets.connect(f"ws://{server.address}/ws-client?user=ann") as connection:
            await connection.send(ready())
            await until(connection, "bot-stopped-speaking")
            await connection.send(packed("send-text", content=SAID))
            told = {}
            while "turn" not in told:
                data = await until(connection, "server-message")
                told[data["type"]] = data
        (episode,) = server.store.list("ann")
    assert told["affect"]["evidence"]["text"] == episode.affect.evidence.text
    assert told["affect"]["evidence"]["voice"] is None
    assert told["plan"]["thought"]["emotion"] == episode.thought.emotion
    assert told["turn"] == {"type": "turn", "turn_id": episode.id, "latency_ms": None}


async def test_a_typed_line_may_ask_for_an_answer_without_sound():
    async with serving() as server:
        async with websockets.connect(f"ws://{server.address}/ws-client?user=ann") as connection:
            await connection.send(ready())
            await until(connection, "bot-stopped-speaking")
            await connection.send(packed("send-text", content=SAID, options={"audio_response": False}))
            answer = []
            await until(connection, "bot-llm-stopped", answer)
            assert texts(answer) == "I hear you. Tell me more?"
            assert "bot-tts-started" not in [message["type"] for message in answer]
        for _ in range(100):
            if server.store.count("ann"):
                break
            await asyncio.sleep(0.02)
        (episode,) = server.store.list("ann")
        assert episode.reply == "I hear you. Tell me more?"


async def test_an_answer_that_is_read_may_take_its_time_once_it_has_begun(monkeypatch):
    class Slow(FakeModel):
        def empathize(self, prefix, brief):
            for piece in super().empathize(prefix, brief):
                time.sleep(0.3)
                yield piece

    monkeypatch.setattr(companion, "PATIENCE_S", 1.5)
    async with serving(Slow()) as server, websockets.connect(f"ws://{server.address}/ws-client") as connection:
        await connection.send(ready())
        await until(connection, "bot-llm-stopped")
        await connection.send(packed("send-text", content=SAID, options={"audio_response": False}))
        answer = []
        await until(connection, "bot-llm-stopped", answer)
        assert texts(answer) == "I hear you. Tell me more?"


async def test_what_was_heard_before_the_line_broke_is_remembered():
    async with serving() as server:
        async with websockets.connect(f"ws://{server.address}/ws-client?user=ann&thread=mine") as connection:
            await connection.send(ready())
            await until(connection, "bot-llm-stopped")
            await connection.send(packed("send-text", content=SAID))
            await until(connection, "bot-llm-text")
            await until(connection, "bot-llm-text")
            connection.transport.abort()
        for _ in range(200):
            if server.store.count("ann"):
                break
            await asyncio.sleep(0.02)
        (episode,) = server.store.list("ann")
        assert episode.thread_id == "mine"
        assert len(episode.reply) < len("I hear you. Tell me more?")


async def test_one_more_than_may_talk_is_told_why():
    async with serving(limit=1) as server:
        async with websockets.connect(f"ws://{server.address}/ws-client") as first:
            await first.send(ready())
            await until(first, "bot-ready")
            async with websockets.connect(f"ws://{server.address}/ws-client") as second:
                with pytest.raises(ConnectionClosed) as closed:
                    await second.recv()
            assert closed.value.rcvd.code == 1013
            assert "1 people are talking here already" in closed.value.rcvd.reason
            async with httpx.AsyncClient(base_url=f"http://{server.address}") as client:
                answer = await client.post("/api/offer", json={"sdp": "v=0\nm=audio", "type": "offer"})
            assert answer.status_code == 503
            assert "try again later" in answer.json()["detail"]
        for _ in range(100):  # there is room again
            await asyncio.sleep(0.05)
            with contextlib.suppress(ConnectionClosed):
                async with websockets.connect(f"ws://{server.address}/ws-client") as third:
                    await third.send(ready())
                    await until(third, "bot-ready")
                    break
        else:
            pytest.fail("the seat stays taken")


@pytest.mark.parametrize(
    ("path", "body", "status", "why"),
    [
        ("/start", {"transport": "pigeon"}, 422, "transport"),
        ("/start", {"body": {"consent": ["smell"]}}, 422, "consent"),
        ("/start", {"body": {"user": ""}}, 422, "user"),
        ("/api/offer", {"type": "offer"}, 422, "sdp"),
        ("/api/offer", {"sdp": "not one", "type": "offer"}, 422, "sdp"),
        ("/sessions/none/api/offer", {"sdp": "v=0", "type": "offer"}, 404, "/start"),
        ("/start", {"body": {"user": "x" * MESSAGE_BYTES}}, 403, "bytes"),
    ],
)
async def test_a_bad_body_is_told_in_one_sentence(path, body, status, why):
    async with serving() as server, httpx.AsyncClient(base_url=f"http://{server.address}") as client:
        answer = await client.post(path, json=body)
    assert answer.status_code == status
    assert why in answer.json()["detail"]
    assert "\n" not in answer.json()["detail"]


async def test_a_bad_address_of_a_websocket_is_told_in_one_sentence():
    async with serving() as server:
        for path, why in {"/ws-client?consent=smell": "consent", "/ws": "/ws-client"}.items():
            async with websockets.connect(f"ws://{server.address}{path}") as connection:
                with contextlib.suppress(ConnectionClosed):
                    while True:
                        await connection.send('{"event": "nothing"}')
                        await asyncio.sleep(0.05)
            assert why in connection.close_reason


async def test_pages_of_other_sites_are_not_answered_unless_they_are_named():
    async with serving(origins=["http://localhost:5173"]) as server:
        async with httpx.AsyncClient(base_url=f"http://{server.address}") as client:
            for headers in ({"origin": "https://example.com"}, {"host": "example.com"}):
                answer = await client.post("/start", json={}, headers=headers)
                assert answer.status_code == 403, headers
            named = await client.post("/start", json={}, headers={"origin": "http://localhost:5173"})
            assert named.headers["access-control-allow-origin"] == "http://localhost:5173"
            own = await client.post("/start", json={}, headers={"origin": f"http://{server.address}"})
            assert own.status_code == 200
        with pytest.raises(InvalidStatus):
            await websockets.connect(f"ws://{server.address}/ws-client", origin="https://example.com")


async def test_start_says_where_to_connect_and_the_page_is_there():
    async with serving() as server, httpx.AsyncClient(base_url=f"http://{server.address}") as client:
        body = {"user": "ann", "consent": ["text", "voice"], "colour": "ignored"}
        answer = await client.post("/start", json={"transport": "websocket", "body": body})
        assert answer.json()["wsUrl"].startswith(f"ws://{server.address}/ws-client?session=")
        async with websockets.connect(answer.json()["wsUrl"]) as connection:
            await connection.send(ready())
            await until(connection, "bot-ready")
            await connection.send(packed("send-text", content=SAID, options={"audio_response": False}))
            await until(connection, "bot-llm-stopped")
            while not server.store.count("ann"):
                await asyncio.sleep(0.02)
        assert (await client.post("/start")).json()["sessionId"]
        page = await client.get("/", follow_redirects=True)
        assert page.url.path == "/client/"
        assert "<script" in page.text


def test_a_caller_may_allow_less_and_never_more():
    mine = Consent(text=True, voice=True, face=False)
    assert both(mine, None) == mine
    assert both(mine, ["text", "face"]) == Consent(text=True, voice=False, face=False)
    assert both(mine, []) == Consent(text=False, voice=False, face=False)


async def test_the_greeting_is_heard_over_webrtc():
    async with serving() as server, httpx.AsyncClient(base_url=f"http://{server.address}") as client:
        peer = RTCPeerConnection()
        peer.addTrack(AudioStreamTrack())
        peer.addTransceiver("video", direction="recvonly")
        channel = peer.createDataChannel("chat")
        loudest = asyncio.get_running_loop().create_future()

        @channel.on("open")
        def on_open():
            channel.send(
                json.dumps({"label": "rtvi-ai", "type": "client-ready", "id": "1", "data": {"version": "2.0.0"}})
            )

        @peer.on("track")
        def on_track(track):
            async def listen():
                while not loudest.done():
                    samples = (await track.recv()).to_ndarray()
                    if np.abs(samples).max() > 1000:
                        loudest.set_result(time.monotonic())

            if track.kind == "audio":
                listening.append(asyncio.create_task(listen()))

        listening = []
        await peer.setLocalDescription(await peer.createOffer())
        session = (await client.post("/start", json={"body": {"user": "ann"}})).json()["sessionId"]
        local = peer.localDescription
        answer = await client.post(f"/sessions/{session}/api/offer", json={"sdp": local.sdp, "type": local.type})
        assert answer.status_code == 200, answer.text
        await peer.setRemoteDescription(RTCSessionDescription(answer.json()["sdp"], answer.json()["type"]))
        await loudest
        await peer.close()
        await asyncio.gather(*listening, return_exceptions=True)
