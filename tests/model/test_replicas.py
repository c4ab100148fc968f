"""Ray Serve on this machine, with two replicas: nothing is lost, and nobody is answered twice.

They host the tiny variant, or the packaged checkpoint with `EMOX_REPLICAS_OF=embedded`, which takes some minutes.
"""

import json
import os
import shutil
import threading
import time
from collections import Counter
from dataclasses import replace

import httpx
import pytest
import torch

from model.build import NANO_EMOX_TINY, Manifest, compose, save
from model.export import export_merged
from model.manifest import embedded_checkpoint, read_manifest, write_manifest
from model.remote import RemoteError, RemoteModel
from model.replicas import Hosted, Replica, Size
from model.server import make_app
from model.tokens import hash_of
from model.types import Busy, ReplyBrief, Unreachable
from perception.types import UserTurn
from tests.model.model_server import SlowModel, free_port
from tests.model.tiny import tiny_tokenizer

BRIEF = ReplyBrief(None, max_tokens=40)
BEGUN = Counter()
"""How often a reply to each prefix has begun."""


class Counting(httpx.HTTPTransport):
    """The network, of which it is written down which replies begin."""

    def handle_request(self, request):
        response = super().handle_request(request)
        if request.url.path.endswith("/empathize") and response.status_code == 200:
            BEGUN[json.loads(request.content)["id"]] += 1
        return response


def checkpoint(folder, version):
    """A merged checkpoint of the tiny variant, or the packaged one under another version."""
    if os.environ.get("EMOX_REPLICAS_OF") == "embedded":
        shutil.copytree(embedded_checkpoint(), folder / "embedded")
        write_manifest(folder / "embedded", replace(read_manifest(embedded_checkpoint()), version=version))
        return str(folder / "embedded")
    torch.manual_seed(int(version))
    compose(NANO_EMOX_TINY, lora=False).lm.to(torch.bfloat16).save_pretrained(folder / "lm")
    tiny_tokenizer().save_pretrained(folder / "lm")
    facts = Manifest("nano_emox_tiny", version, "3", ("text",), ("synthetic",), "2026-01-01", "CC0")
    save(compose(NANO_EMOX_TINY), folder / "checkpoint", facts)
    export_merged(folder / "checkpoint", folder / "merged", {"lm": str(folder / "lm")})
    return str(folder / "merged")


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    """Two checkpoints, one hosted under two names; the address, and what was hosted."""
    pytest.importorskip("ray", reason="ray is not installed: pip install 'emox[cluster]'")
    pytest.importorskip("ray.serve", reason="ray has no serve: pip install 'emox[cluster]'")
    from model import replicas

    one, two = (checkpoint(tmp_path_factory.mktemp("made"), version) for version in "12")
    port = free_port()
    hosted = Hosted(one, hashes=(hash_of("right"),), threads=1)
    os.environ["PYTHONPATH"] = os.getcwd()
    started = replicas.start("127.0.0.1", port)
    assert started
    try:
        replicas.deploy({"tiny": hosted}, Size(2, 2))
        yield f"http://127.0.0.1:{port}/models/", hosted, two
    finally:
        replicas.stop({"tiny": hosted}, started)


@pytest.fixture
def model(hosts):
    url, _, _ = hosts
    BEGUN.clear()
    there = RemoteModel(f"{url}tiny", "right", timeout_s=60, transport=Counting())
    yield there
    there.close()


class Load:
    """Persons who each say something and are answered, again and again, in threads."""

    def __init__(self, model, n_persons, n_turns=None):
        self.model = model
        self.answered, self.retriable, self.odd = {}, [], []
        self.begun = 0
        self._over = threading.Event()
        self._n_turns = n_turns
        self.threads = [threading.Thread(target=self._person, args=(n,), daemon=True) for n in range(n_persons)]
        for thread in self.threads:
            thread.start()

    def _person(self, number):
        turn = 0
        while not self._over.is_set() and (self._n_turns is None or turn < self._n_turns):
            text, pieces = f"person {number} says thing {turn}", []
            turn += 1
            try:
                prefix = self.model.attend(UserTurn(text))
                affect = self.model.perceive(prefix)
                self.model.understand(prefix, affect, in_haste=True)
                for piece in self.model.empathize(prefix, BRIEF):
                    self.begun += not pieces
                    pieces.append(piece)
                self.answered[text] = (self.model.card.version, "".join(pieces))
            except (Unreachable, Busy) as error:
                self.retriable.append((text, pieces, error))
            except BaseException as error:
                self.odd.append((text, error))

    def finish(self, within_s):
        self._over.set()
        return self.wait(within_s)

    def wait(self, within_s):
        until = time.monotonic() + within_s
        for thread in self.threads:
            thread.join(max(0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in self.threads)


def replica_pids():
    import psutil

    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any("ServeReplica" in part for part in process.info["cmdline"] or ()):
            found.append(process.pid)
    return found


@pytest.fixture
def as_many_threads():
    """Give the process its threads back: with others the last digits differ."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_replicas_answer_as_the_model_does(model, hosts, as_many_threads):
    _, hosted, _ = hosts
    here = hosted.open()
    assert model.card == here.card
    for n in range(6):
        text = f"my cat ran away {n} days ago"
        prefix, local = model.attend(UserTurn(text)), here.attend(UserTurn(text))
        assert model.perceive(prefix) == here.perceive(local)
        assert list(model.empathize(prefix, BRIEF)) == list(here.empathize(local, BRIEF))


def test_who_has_no_token_is_turned_away(hosts):
    for token in (None, "wrong"):
        with pytest.raises(RemoteError, match="token"):
            RemoteModel(f"{hosts[0]}tiny", token)


def test_a_replica_that_is_killed_takes_no_answer_with_it(model, hosts):
    assert len(replica_pids()) == 2
    load = Load(model, 10, 10)
    while load.begun < 20:
        time.sleep(0.01)
    os.kill(replica_pids()[0], 9)
    assert load.wait(300), "somebody waits for ever"
    print(f"answered {len(load.answered)}, retriable {len(load.retriable)}: {[str(e[2]) for e in load.retriable][:3]}")
    assert not load.odd
    assert len(load.answered) + len(load.retriable) == 100
    assert len(load.answered) >= 80
    assert all(said for _, said in load.answered.values())
    assert set(BEGUN.values()) == {1}, "somebody was answered twice"
    until = time.monotonic() + 60
    while len(replica_pids()) < 2 and time.monotonic() < until:
        time.sleep(0.2)
    assert len(replica_pids()) == 2


def test_another_checkpoint_takes_over_without_a_request_lost(model, hosts):
    from model import replicas

    _, hosted, other = hosts
    load = Load(model, 4)
    while load.begun < 8:
        time.sleep(0.01)
    pids = replica_pids()
    replicas.deploy({"tiny": replace(hosted, checkpoint=other)}, Size(2, 2))
    seen = len(load.answered)
    while len(load.answered) < seen + 20:
        time.sleep(0.01)
    assert load.finish(60)
    print(f"answered {len(load.answered)}, {seen} before the change was over")
    assert not load.odd
    assert not load.retriable
    assert sorted(replica_pids()) == sorted(pids)
    versions = [version for version, _ in load.answered.values()]
    assert {"1", "2"} == set(versions)
    assert versions[-1] == "2"
    assert set(BEGUN.values()) == {1}


def test_models_stand_side_by_side(model, hosts):
    from model import replicas

    url, hosted, _ = hosts
    replicas.deploy({"other": hosted}, Size())
    there = RemoteModel(f"{url}other", "right", timeout_s=60)
    assert there.card.version == "1"
    assert model.card.version == "2"
    there.close()


class SlowReplica(Replica):
    """One that words a reply for 20 s."""

    def __init__(self):
        super().__init__()
        self._app = make_app(SlowModel(0.02, " ".join(["word"] * 1000)))


def test_a_closed_stream_is_closed_on_its_replica_at_once(hosts):
    from ray import serve

    slow = serve.deployment(ray_actor_options={"num_cpus": 0}, max_ongoing_requests=64)(serve.ingress()(SlowReplica))
    serve.run(slow.bind(), name="slow", route_prefix="/models/slow")
    url = f"{hosts[0]}slow"
    there = RemoteModel(url)
    prefix = there.attend(UserTurn("hi"))
    replies = [there.empathize(prefix, BRIEF) for _ in range(8)]
    for reply in replies:
        next(reply)
    assert httpx.get(f"{url}/health").json()["answering"] == 8
    began = time.monotonic()
    for reply in replies:
        reply.close()
    while httpx.get(f"{url}/health").json()["answering"] and time.monotonic() - began < 10:
        time.sleep(0.01)
    took_s = time.monotonic() - began
    print(f"closed on the replica after {took_s:.2f} s")
    assert took_s < 5
    there.close()
