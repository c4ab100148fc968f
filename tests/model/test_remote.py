"""The agent's model behind HTTP says what it says in this process, and what goes wrong on the way is told as it is."""

import contextlib
import json
import socket
import threading
import time
from dataclasses import replace

import httpx
import numpy as np
import pytest

pytest.importorskip("starlette", reason="starlette is not installed")

from model import remote, wire
from model.remote import RemoteError, RemoteModel
from model.server import AT_MOST_S, Kept, make_app, under_names
from model.tokens import hash_of
from model.types import EMOTIONS, Busy, CutShort, ReplyBrief, Thought, Unreachable, Utterance
from perception.types import Absence, Faces, Frames, Speech, UserTurn
from tests.fakes import FakeModel, affect_of
from tests.model.model_server import SlowModel, free_port, served, start
from tests.model.test_engine import whole_turn
from tests.model.tiny import tiny_model

HISTORY = (Utterance("user", "Hello."), Utterance("assistant", "Hello, how are you?"))
BRIEF = ReplyBrief(Thought("a cat ran away", "sad", "she is gone", "comfort them"), ("The cat is called Tom.",))


class TurnKeepingModel(SlowModel):
    """Keeps the turns that it was given, and what was read ahead of them."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.turns, self.aheads = [], []

    def overhear(self, turn, history):
        super().overhear(turn, history)
        return ("ahead of", turn.text, tuple(history))

    def attend(self, turn, history=(), ahead=None):
        self.turns.append(turn)
        self.aheads.append(ahead)
        return super().attend(turn, history, ahead)


@contextlib.contextmanager
def asked(model, token=None, hashes=(), timeout_s=10.0, **options):
    """A remote model over a server of `model`."""
    with served(make_app(model, hashes, **options)) as url:
        found = RemoteModel(url, token, timeout_s=timeout_s)
        try:
            yield found
        finally:
            found.close()


def until(true, seconds=5.0):
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.01)
    return true()


def test_everything_is_answered_as_in_this_process():
    model = tiny_model()
    turn = whole_turn()
    here = model.attend(turn, HISTORY)
    affect = model.perceive(here)
    with asked(model) as there:
        assert there.card == model.card
        prefix = there.attend(turn, HISTORY)
        assert there.perceive(prefix) == affect
        for in_haste in (False, True):
            assert there.understand(prefix, affect, in_haste=in_haste) == model.understand(
                here, affect, in_haste=in_haste
            )
        assert there.classify(prefix, "emotion", ("bored", "happy")) == model.classify(
            here, "emotion", ("bored", "happy")
        )
        said, expected = (list(one.empathize(of, BRIEF)) for one, of in ((there, prefix), (model, here)))
        assert said == expected
        assert "".join(said)
        ahead = [one.overhear(replace(turn, text=""), HISTORY) for one in (there, model)]
        late = [one.attend(turn, HISTORY, each) for one, each in zip((there, model), ahead, strict=True)]
        assert there.perceive(late[0]) == model.perceive(late[1])


def test_a_reply_that_ran_out_of_tokens_says_so():
    with asked(FakeModel()) as there:
        *_, last = there.empathize(there.attend(UserTurn("hi")), ReplyBrief(None, max_tokens=2))
        assert isinstance(last, CutShort)


def test_what_was_read_ahead_is_used_once_and_by_its_turn():
    model = TurnKeepingModel()
    with asked(model) as there:
        ahead = there.overhear(UserTurn("", Speech(np.zeros(9, np.float32))), HISTORY)
        there.attend(UserTurn("one"), HISTORY, ahead)
        there.attend(UserTurn("two"), HISTORY, ahead)
    assert model.aheads == [("ahead of", "", HISTORY), None]


def test_only_what_the_model_reads_is_sent():
    turn = whole_turn()
    turn = replace(turn, frames=Frames(np.repeat(turn.frames.images, 4, 0), np.arange(32.0)))
    heard, seen, read = (TurnKeepingModel(modalities=m) for m in (["text", "voice"], ["text", "face"], ["text"]))
    for model in (heard, seen, read):
        with asked(model) as there:
            there.attend(turn)
    assert np.array_equal(heard.turns[0].speech.samples, turn.speech.samples)
    assert heard.turns[0].frames is heard.turns[0].faces is None
    assert heard.turns[0].absent == {"face": Absence.UNTRAINED}
    assert seen.turns[0].speech is None
    assert np.array_equal(seen.turns[0].frames.images, turn.frames.images[::4])
    assert np.array_equal(seen.turns[0].faces.crops, turn.faces.crops)
    assert read.turns[0].absent == {"voice": Absence.UNTRAINED, "face": Absence.UNTRAINED}


def test_the_frames_that_are_left_out_are_not_missed():
    model, turn = tiny_model(), whole_turn()
    draw = np.random.default_rng(1)
    for n in (3, 8, 11, 32):
        many = replace(
            turn,
            frames=Frames(draw.integers(0, 256, (n, 40, 40, 3), dtype=np.uint8), np.arange(float(n))),
            faces=Faces(
                draw.integers(0, 256, (n, 64, 64, 3), dtype=np.uint8),
                np.arange(float(n)),
                np.zeros((n, 4), "f"),
                margin=0.2,
            ),
        )
        sent = wire.turn_of(wire.reading_of(many, (), {"voice", "face"}).turn)
        assert sent.faces.margin == 0.2
        assert model.perceive(model.attend(sent)) == model.perceive(model.attend(many))


def test_a_stream_that_is_closed_is_closed_on_the_server():
    model = SlowModel(0.02, " ".join(["word"] * 1000))
    with asked(model) as there:
        reply = there.empathize(there.attend(UserTurn("hi")), BRIEF)
        next(reply)
        assert model.n_wording == 1
        reply.close()
        assert until(lambda: model.n_wording == 0, 2)


def test_a_closed_stream_frees_its_row_at_once():
    model = tiny_model()
    n_rows = model.rounds.rows.n_free
    with asked(model) as there:
        prefix = there.attend(UserTurn("my cat ran away"))
        replies = [there.empathize(prefix, replace(BRIEF, max_tokens=400)) for _ in range(n_rows)]
        for reply in replies:
            next(reply)
        for reply in replies:
            reply.close()
        assert until(lambda: model.rounds.rows.n_free == n_rows)
        assert not model._scheduler._running


def test_who_gives_up_before_the_first_word_is_not_answered():
    model = SlowModel(0.3, " ".join(["word"] * 100))
    app = make_app(model)
    with served(app) as url:
        there = RemoteModel(url)
        prefix = there.attend(UserTurn("hi"))
        body = wire.write(wire.Empathize(id=prefix.id, brief=BRIEF))
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/empathize", content=body, timeout=0.1)
        assert model.n_wording == 1
        assert until(lambda: model.n_wording == 0, 2)
        assert until(lambda: app.state.desk.n_here == 0)
        there.close()


def test_a_busy_model_is_busy_from_afar():
    class BusyModel(FakeModel):
        def perceive(self, prefix):
            raise Busy("too much")

        def empathize(self, prefix, brief):
            raise Busy("too much")
            yield ""

    with asked(BusyModel()) as there:
        prefix = there.attend(UserTurn("hi"))
        with pytest.raises(Busy, match="too much"):
            there.perceive(prefix)
        with pytest.raises(Busy, match="too much"):
            list(there.empathize(prefix, BRIEF))
        response = there._http.post("perceive", json={"id": prefix.id})
        assert response.status_code == 503
        assert int(response.headers["retry-after"]) >= 1


def test_a_server_with_no_place_left_is_busy():
    model = SlowModel(0.02, " ".join(["word"] * 100))
    with asked(model, at_once=1) as there:
        prefix = there.attend(UserTurn("hi"))
        reply = there.empathize(prefix, BRIEF)
        next(reply)
        with pytest.raises(Busy):
            there.perceive(prefix)
        reply.close()
        assert until(lambda: model.n_wording == 0)
        assert until(lambda: _perceives(there, prefix))


def _perceives(model, prefix):
    with contextlib.suppress(Busy):
        return model.perceive(prefix)


def test_who_has_no_token_is_turned_away_before_anything_is_read():
    model = TurnKeepingModel()
    with served(make_app(model, {hash_of("right")})) as url:
        for token in (None, "wrong", ""):
            with pytest.raises(RemoteError, match="token"):
                RemoteModel(url, token)
        for path in ("attend", "perceive", "empathize", "overhear", "understand", "classify"):
            response = httpx.post(f"{url}/{path}", content=b"{}")
            assert response.status_code == 401
            assert response.headers["www-authenticate"] == "Bearer"
        there = RemoteModel(url, "right")
        there.perceive(there.attend(UserTurn("hi")))
        there.close()
    assert len(model.turns) == 1


def test_web_pages_are_turned_away():
    with served(make_app(FakeModel())) as url:
        assert httpx.post(f"{url}/attend", headers={"Origin": url}, content=b"{}").status_code == 403


def test_what_is_gone_is_read_again():
    model = TurnKeepingModel()
    with asked(model, kept=1) as there:
        turn = replace(whole_turn(), text="so sad")
        first = there.attend(turn, HISTORY)
        there.attend(UserTurn("another"))
        assert there.perceive(first).emotion == "sad"
        there.attend(UserTurn("another"))
        assert "".join(there.empathize(first, BRIEF)) == model.reply
    again = model.turns[2]
    assert [each.text for each in model.turns] == ["so sad", "another", "so sad", "another", "so sad"]
    assert np.array_equal(again.speech.samples, turn.speech.samples)
    assert model.histories[2] == HISTORY


def test_what_is_kept_is_bounded_and_let_go():
    now = 0.0
    kept = Kept(2, 10.0, lambda: now)
    for name in "abc":
        kept.put(name, name)
    assert (kept.get("a"), kept.get("b"), len(kept)) == (None, "b", 2)
    kept.put("d", "d")
    assert (kept.get("c"), kept.get("b")) == (None, "b")
    now = 9.0
    assert kept.get("b") == "b"
    now = 12.0
    kept.clean()
    assert len(kept) == 1
    assert kept.pop("b") == "b"
    assert len(kept) == 0


def test_words_and_voices_are_not_kept_when_nobody_asks_any_more():
    app = make_app(FakeModel(), keep_s=0.1)
    with served(app) as url:
        there = RemoteModel(url)
        there.attend(UserTurn("hi"))
        assert len(app.state.answers.prefixes) == 1
        assert until(lambda: len(app.state.answers.prefixes) == 0, 3)
        there.close()


def test_a_server_that_dies_in_mid_reply_is_told_of_at_once():
    port = free_port()
    process = start(port, 0.02)
    try:
        there = RemoteModel(f"http://127.0.0.1:{port}", timeout_s=5)
        prefix = there.attend(UserTurn("hi"))
        reply = there.empathize(prefix, BRIEF)
        said = [next(reply) for _ in range(3)]
        process.kill()
        began = time.monotonic()
        with pytest.raises(Unreachable):
            said += list(reply)
        assert time.monotonic() - began < 2
        process.wait()
        with pytest.raises(Unreachable):
            there.perceive(prefix)
        process = start(port, 0.0)  # another one, which has read nothing yet
        assert there.perceive(prefix).emotion == "neutral"
        assert len(list(there.empathize(prefix, BRIEF))) == 1000
    finally:
        process.kill()
        process.wait()


class Scripted:
    """A server of a few bytes: answers each request in turn with the next of its scripts, then hangs up."""

    def __init__(self, *scripts):
        self._scripts = list(scripts)
        self.asked = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        held = []
        for script in self._scripts:
            connection, _ = self._socket.accept()
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(65536)
            length = next(
                (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0
            )
            body = head.partition(b"\r\n\r\n")[2]
            while len(body) < length:
                body += connection.recv(65536)
            self.asked.append(head.split()[1].decode())
            if script is None:
                held.append(connection)  # never answered
            else:
                connection.sendall(script)
                connection.close()


def answer(document, status="200 OK", more=b""):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    length = b"" if more else b"Content-Length: %d\r\n" % len(body)
    return b"HTTP/1.1 " + status.encode() + b"\r\n" + length + more + b"Connection: close\r\n\r\n" + body


CARD = answer({"variant": "fake", "version": "1", "modalities": ["text"]})
AFFECT = answer(wire.write(affect_of("sad")))
CHUNKED = b"Transfer-Encoding: chunked\r\n"


def chunk(text):
    return b"%x\r\n%s\r\n" % (len(text), text)


@pytest.mark.parametrize(
    "lost",
    [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", answer(b"bad gateway", "502 Bad Gateway"),
     answer(b"actor died", "500 Internal Server Error"), answer(b"no replica", "503 Service Unavailable")],
)  # fmt: skip
def test_a_lost_question_is_asked_again(lost, monkeypatch):
    monkeypatch.setattr(remote, "PAUSES_S", (0.0, 0.0))
    server = Scripted(CARD, CARD, lost, lost, AFFECT)
    there = RemoteModel(server.url)
    assert there.perceive(there.attend(UserTurn("hi"))).emotion == "sad"
    assert server.asked == ["/card", "/attend", *["/perceive"] * 3]


def test_in_the_end_a_lost_question_is_told_of(monkeypatch):
    monkeypatch.setattr(remote, "PAUSES_S", (0.0,))
    server = Scripted(CARD, CARD, b"", b"", answer(b"x", "503 No"), answer(b"x", "503 No"))
    there = RemoteModel(server.url)
    prefix = there.attend(UserTurn("hi"))
    with pytest.raises(Unreachable):
        there.perceive(prefix)
    with pytest.raises(Busy):
        there.perceive(prefix)


def test_a_lost_reply_is_asked_for_again_only_before_it_has_begun(monkeypatch):
    monkeypatch.setattr(remote, "PAUSES_S", (0.0,))
    whole = chunk(wire.line_of("one")) + chunk(wire.write(wire.Line(end=True)) + b"\n") + b"0\r\n\r\n"
    half = chunk(wire.line_of("one")) + chunk(wire.line_of("two"))
    broken = (half, half + b"0\r\n\r\n", half + chunk(b'{"pie'), half + chunk(b"Internal error\n") + b"0\r\n\r\n")
    server = Scripted(CARD, CARD, b"", answer(whole, more=CHUNKED), *(answer(one, more=CHUNKED) for one in broken))
    there = RemoteModel(server.url)
    prefix = there.attend(UserTurn("hi"))
    assert list(there.empathize(prefix, BRIEF)) == ["one"]
    for _ in broken:
        said = []
        with pytest.raises(Unreachable):
            said.extend(there.empathize(prefix, BRIEF))
        assert said == ["one", "two"]
    assert server.asked == ["/card", "/attend", *["/empathize"] * (2 + len(broken))]


def test_a_server_that_never_answers_is_not_waited_for():
    server = Scripted(CARD, CARD, None, answer(chunk(wire.line_of("one")), more=CHUNKED)[:-2] + b"\r\n")
    there = RemoteModel(server.url, timeout_s=0.3)
    prefix = there.attend(UserTurn("hi"))
    began = time.monotonic()
    with pytest.raises(Unreachable):
        there.perceive(prefix)
    assert time.monotonic() - began < 2
    with pytest.raises(Unreachable):
        list(there.empathize(prefix, BRIEF))


def test_a_model_that_takes_too_long_is_given_up_by_its_server():
    model = SlowModel(0.05, " ".join(["word"] * 1000))
    app = make_app(model)
    with served(app) as url:
        there = RemoteModel(url)
        prefix = there.attend(UserTurn("hi"))
        body = wire.write(wire.Empathize(id=prefix.id, brief=BRIEF))
        response = httpx.post(f"{url}/empathize", content=body, headers={wire.SECONDS: "0.3"})
        *_, last = response.iter_lines()
        assert json.loads(last)["error"] == "late"
        assert until(lambda: model.n_wording == 0)
        assert httpx.post(f"{url}/empathize", content=body, headers={wire.SECONDS: "0"}).status_code == 504
        there.close()
    assert AT_MOST_S >= 60


def test_a_fault_in_mid_reply_is_no_end():
    class Failing(FakeModel):
        def empathize(self, prefix, brief):
            yield "one"
            raise RuntimeError("what was said")

    with asked(Failing()) as there:
        reply = there.empathize(there.attend(UserTurn("hi")), BRIEF)
        assert next(reply) == "one"
        with pytest.raises(RemoteError, match=r"^(?!.*what was said)"):
            next(reply)


@pytest.mark.parametrize(
    ("turn", "wrong"),
    [
        ({"text": "x", "speech": {"dtype": "float32", "shape": [2], "data": "AAAA"}}, "bytes"),
        ({"text": "x", "speech": {"dtype": "uint8", "shape": [3], "data": "AAAA"}}, "expected float32"),
        ({"text": "x", "speech": {"dtype": "float32", "shape": [1], "data": "AADAfw=="}}, "finite"),
        ({"text": "x", "speech": {"dtype": "float32", "shape": [2**40, 2**40], "data": "AAAA"}}, "expected float32"),
        (
            {"text": "x", "frames": {"dtype": "uint8", "shape": [1, 1, 1, 3], "data": "AAAA"}},
            "frame_times_s is missing",
        ),
        ({"text": "x", "frames": {"dtype": "uint8", "shape": [0, 1, 1, 3], "data": ""}}, "expected uint8"),
        ({"text": "x" * 20_001}, "text"),
        ({"text": "x", "pickle": "gASVAAAA"}, "pickle"),
        ({}, "text"),
    ],
)
def test_what_is_no_turn_is_refused(turn, wrong):
    model = TurnKeepingModel()
    with served(make_app(model)) as url:
        response = httpx.post(f"{url}/attend", json={"id": "0" * 32, "reading": {"turn": turn}})
        assert response.status_code == 422
        assert wrong in response.json()["detail"]
        assert "AAAA" not in response.text
    assert not model.turns


def test_what_is_too_long_is_refused(monkeypatch):
    monkeypatch.setattr(wire, "MAX_BYTES", 1000)
    with asked(FakeModel()) as there:
        with pytest.raises(ValueError, match="longer than"):
            there.attend(UserTurn("x" * 2000))
        response = there._http.post("attend", content=iter([b"x" * 600] * 4))
        assert response.status_code == 413


def test_a_labels_task_that_is_none_is_the_askers_mistake():
    with asked(FakeModel()) as there, pytest.raises(ValueError, match="scores no labels"):
        there.classify(there.attend(UserTurn("hi")), "emotion", EMOTIONS)


def test_several_models_stand_side_by_side():
    apps = {"one": make_app(FakeModel("One.")), "two": make_app(FakeModel("Two."))}
    with served(under_names(apps)) as url:
        for name in apps:
            there = RemoteModel(f"{url}/models/{name}")
            assert "".join(there.empathize(there.attend(UserTurn("hi")), BRIEF)) == f"{name.title()}."
            there.close()
        with pytest.raises(RemoteError, match="EMOX_MODEL_URL"):
            RemoteModel(f"{url}/models/three")


def test_the_card_is_that_of_the_model_that_read_last():
    model = FakeModel()
    with asked(model) as there:
        model.card = replace(model.card, version="fake-2")
        there.attend(UserTurn("hi"))
        assert there.card.version == "fake-2"


def test_many_streams_at_once_each_get_their_own():
    model = tiny_model()
    with asked(model, timeout_s=60) as there:
        texts = [f"my cat ran away {n} days ago" for n in range(12)]
        expected = ["".join(model.empathize(model.attend(UserTurn(text)), BRIEF)) for text in texts]
        said = [""] * len(texts)

        def talk(n):
            said[n] = "".join(there.empathize(there.attend(UserTurn(texts[n])), BRIEF))

        threads = [threading.Thread(target=talk, args=(n,)) for n in range(len(texts))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert said == expected
