"""Who is answered: nobody without a token once there is one, nobody from elsewhere while there is none."""

import re

import httpx
import pytest
import websockets
from websockets.exceptions import ConnectionClosed, InvalidStatus

from agent.server.access import STRANGERS_A_MINUTE, Access, Rate, is_here
from agent.server.app import make_app
from tests.agent.server.house import EVERYTHING, SAID, app_of, client_of, house, served

OPEN = {"/health", "/ready", "/openapi.json", "/docs/oauth2-redirect"}
"""What everybody may see: that the server is there, and what its API is."""


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def at(tmp_path):
    with house(tmp_path) as at:
        yield at


async def ask(at, *, client=("127.0.0.1", 5), path="/api/consent", headers=None, **options):
    transport = httpx.ASGITransport(app_of(at, **options), client=client)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as asking:
        return await asking.get(path, headers=headers)


async def test_without_tokens_this_machine_alone_is_answered(at):
    assert (await ask(at)).status_code == 200
    assert (await ask(at, client=("::1", 5))).status_code == 200
    assert (await ask(at, client=("192.0.2.7", 5))).status_code == 401
    assert (await ask(at, headers={"X-Forwarded-For": "192.0.2.7"})).status_code == 401


async def test_with_a_token_everybody_needs_one(at):
    token = at.people.new_token("ann")
    assert (await ask(at)).status_code == 401
    assert (await ask(at, headers={"Authorization": f"Basic {token}"})).status_code == 401
    assert (await ask(at, headers={"Authorization": f"Bearer {token}x"})).status_code == 401
    assert (await ask(at, headers={"Authorization": f"Bearer {token}"}, client=("192.0.2.7", 5))).status_code == 200


async def test_a_revoked_token_is_worthless_at_once(at):
    token, other = at.people.new_token("ann"), at.people.new_token("ben")
    at.people.revoke(at.people.tokens()[0].id)
    async with client_of(at, token) as ann, client_of(at, other) as ben:
        assert (await ann.get("/api/consent")).status_code == 401
        assert (await ben.get("/api/consent")).status_code == 200


def test_tokens_are_kept_as_hashes_only(at):
    token = at.people.new_token("ann")
    kept = b"".join(path.read_bytes() for path in at.home.iterdir())
    assert token.encode() not in kept
    assert at.people.user_of(token) == "ann"


async def test_pages_of_other_sites_are_turned_away(at):
    assert (await ask(at, headers={"Origin": "http://evil.example"})).status_code == 403
    assert (await ask(at, headers={"Host": "evil.example"})).status_code == 403
    assert (await ask(at, headers={"Origin": "http://localhost"})).status_code == 200
    allowed = await ask(at, headers={"Origin": "http://app.example"}, origins=["http://app.example"])
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == "http://app.example"


async def test_who_asks_too_often_is_told_when_to_come_again(at):
    clock = Clock()
    app = app_of(at, a_minute=6, clock=clock)
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 5))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as asking:
        statuses = [(await asking.get("/api/consent")).status_code for _ in range(6)]
        refused = await asking.get("/api/consent")
        clock.now += int(refused.headers["retry-after"])
        assert (await asking.get("/api/consent")).status_code == 200
    assert statuses == [200] * 6
    assert refused.status_code == 429
    assert 0 < int(refused.headers["retry-after"]) <= 10


async def test_guessing_tokens_is_soon_not_even_looked_at(at):
    token = at.people.new_token("ann")
    async with client_of(at, "emox-wrong", clock=Clock()) as stranger:
        statuses = [(await stranger.get("/api/consent")).status_code for _ in range(STRANGERS_A_MINUTE + 1)]
        right = await stranger.get("/api/consent", headers={"Authorization": f"Bearer {token}"})
    assert statuses == [401] * STRANGERS_A_MINUTE + [429]
    assert right.status_code == 429


def test_a_rate_is_kept_for_each_and_for_not_too_many(monkeypatch):
    monkeypatch.setattr("agent.server.access.MAX_KNOWN", 2)
    rate = Rate(1, Clock())
    assert [rate.wait_s(asker) for asker in ("a", "b", "a")] == [0, 0, 60]
    assert [rate.wait_s(asker) for asker in ("c", "a", "b")] == [0, 60, 0]  # b was forgotten


@pytest.mark.parametrize(
    ("address", "here"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("", False),
    ],
)
def test_only_loopback_is_here(address, here):
    assert is_here(address) == here


def routes_of(app):
    """Each route with one way to ask it."""
    for path, methods in app.openapi()["paths"].items():
        for method in methods:
            yield method.upper(), path


@pytest.fixture
def voice(at):
    """Live voice, as `emox serve` has it."""
    pytest.importorskip("pipecat", reason="pipecat-ai is not installed")
    from agent.server.run import who_talks
    from agent.voice.server import VoiceRoutes

    access = Access(at.people, a_minute=100_000)
    return VoiceRoutes(at.host.agent, at.host.agent.ears, who_talks(at.host, access))


async def test_nobody_talks_aloud_without_a_token_or_before_they_were_asked(at, voice):
    token = at.people.new_token("ann")
    app = make_app(at.host, Access(at.people, a_minute=100_000), voice=voice)
    async with served(at, app) as address:
        for path in ("/ws-client", "/ws", "/ws-client?session=guessed"):
            with pytest.raises((ConnectionClosed, InvalidStatus)) as closed:
                async with websockets.connect(f"ws{address[4:]}{path}") as connection:
                    await connection.recv()
            assert "token" in str(closed.value)
        with pytest.raises((ConnectionClosed, InvalidStatus)):
            async with websockets.connect(f"ws{address[4:]}/ws", origin="http://evil.example") as connection:
                await connection.recv()
        async with httpx.AsyncClient(base_url=address) as client:
            assert (await client.post("/start")).status_code == 401
            client.headers["Authorization"] = f"Bearer {token}"
            assert (await client.post("/start")).status_code == 403
            at.people.agree("ann", EVERYTHING)
            started = await client.post("/start", json={"body": {"user": "ben", "thread": "x"}})
    talker = voice.waiting[started.json()["sessionId"]]
    assert (talker.user, talker.thread) == ("ann", "x")


async def test_a_stranger_reads_changes_and_learns_nothing_on_any_route(at, voice):
    """Every route is walked: without a token, with a wrong one, and with another person's."""
    at.people.agree("ann", EVERYTHING)
    ann, ben = at.people.new_token("ann"), at.people.new_token("ben")
    async with client_of(at, ann) as client:
        done = (await client.post("/api/turns", json={"text": SAID, "stream": False, "thread": "secret"})).json()
    before = at.store.list("ann")
    app = make_app(at.host, Access(at.people), voice=voice)
    walked = 0
    for method, path in routes_of(app):
        if path in OPEN:
            continue
        filled = re.sub(r"{\w+(:\w+)?}", done["turn_id"], path)
        for token in (None, "emox-wrong", ben):
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            fresh = make_app(at.host, Access(at.people, a_minute=100_000), voice=voice)
            transport = httpx.ASGITransport(fresh, client=("192.0.2.7", 5), raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
                for body in ({"json": {"all": True}}, {"json": {"text": "words", "emotion": "happy", "id": "x"}}):
                    response = await client.request(method, filled, **({} if method == "GET" else body))
                    if token != ben:
                        assert response.status_code == 401, (method, path, response.status_code)
                    assert "cat" not in response.text, (method, path)
                    assert "secret" not in response.text, (method, path)
        walked += 1
    assert walked >= 20
    assert at.store.list("ann") == before
    assert at.people.consent_of("ann") == EVERYTHING
