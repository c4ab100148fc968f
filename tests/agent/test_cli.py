"""Every command through `main`, with an agent of fakes: what is printed where, and how it exits."""

import json
import subprocess
import sys

import pytest

from agent import cli, opening
from agent.care import Consent
from memory.store import InMemoryStore
from tests.agent.test_graph import agent_of
from tests.fakes import FakeEmbedder, FakeModel, episode_of

SAID = "I am sad about my cat, she ran away."


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("EMOX_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def run(home, monkeypatch, capsys):
    store = InMemoryStore(FakeEmbedder())
    monkeypatch.setattr(opening, "open_agent", lambda settings: agent_of(store=store, consent=Consent(voice=True)))
    monkeypatch.setattr(opening, "open_store", lambda settings: store)

    def call(*arguments):
        with pytest.raises(SystemExit) as exit_:
            cli.main(list(arguments))
        told = capsys.readouterr()
        return exit_.value.code or 0, told.out, told.err

    call.store = store
    return call


def one_line(err):
    lines = [line for line in err.splitlines() if line.strip()]
    assert len(lines) == 1, err
    assert lines[0].startswith("emox: ")
    assert "Traceback" not in err
    return lines[0]


def test_turn_prints_one_document(run):
    status, out, err = run("turn", "--text", SAID, "--json")
    assert status == 0
    document = json.loads(out)
    assert document["affect"]["emotion"] == "sad"
    assert document["audio"] is None
    assert "I am a program" in err


def test_turn_for_people_names_the_feeling_and_the_reply(run):
    status, out, _ = run("turn", "--text", SAID)
    assert status == 0
    assert "sad" in out
    assert "I hear you." in out


def test_what_is_said_is_not_markup(run):
    status, out, _ = run("turn", "--text", "I am sad [red]really[/red] [/nothing]")
    assert status == 0
    assert "[red]really[/red]" in out


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["turn"], "--text"),
        (["turn", "--text", " "], "give --text or --clip"),
        (["turn", "--text", "x" * 100_000], "100,000"),
        (["turn", "--text", "caf\udce9"], "UTF-8"),
        (["turn", "--clip", "nowhere.wav"], "nowhere.wav"),
        (["turn", "--nonsense"], "nonsense"),
        (["turn", "--user", "", "--text", SAID], "user"),
        (["perceive", "a.wav", "--tasks", "telepathy"], "telepathy"),
        (["memory", "show", "unknown"], "unknown"),
        (["memory", "list", "--limit", "0"], "limit"),
    ],
)
def test_wrong_use_is_one_clear_line(run, arguments, why):
    status, out, err = run(*arguments)
    assert status == 2
    assert out == ""
    assert why in one_line(err)


def test_a_fault_is_one_line_without_words_or_traceback(run, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError(f"cannot handle {SAID}")

    monkeypatch.setattr(FakeModel, "perceive", broken)
    status, _, err = run("turn", "--text", SAID)
    assert status == 1
    assert "cat" not in one_line(next(line for line in err.splitlines() if line.startswith("emox")))


def test_a_full_disk_is_one_line(run, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "store")

    monkeypatch.setattr(run.store, "add", full)
    status, _, err = run("turn", "--text", SAID)
    assert status == 1
    assert "No space left on device" in err
    assert "Traceback" not in err


def test_memory_lists_shows_and_searches(run):
    run.store.add(episode_of("one", "My cat ran away", "sad"))
    run.store.add(episode_of("two", "The tea is good", "happy"))
    _, out, _ = run("memory", "list", "--user", "ann", "--json")
    listed = json.loads(out)
    assert listed["total"] == 2
    assert {e["id"] for e in listed["episodes"]} == {"one", "two"}
    _, out, _ = run("memory", "show", "one", "--user", "ann", "--json")
    assert json.loads(out)["text"] == "My cat ran away"
    _, out, _ = run("memory", "search", "cat", "--user", "ann", "--limit", "1", "--json")
    found = json.loads(out)["found"]
    assert found[0]["episode"]["id"] == "one"
    assert sum(found[0]["parts"].values()) == pytest.approx(found[0]["score"])
    status, out, _ = run("memory", "list", "--user", "ann")
    assert status == 0
    assert "cat" in out


def test_nobody_sees_another_ones_memory(run):
    run.store.add(episode_of("one", "My cat ran away", "sad", user="ann"))
    status, _, _ = run("memory", "show", "one", "--user", "bob")
    assert status == 2


def test_chat_goes_on_after_a_line_that_cannot_be_used(run, monkeypatch):
    lines = iter([SAID, "x" * 9_000, "I am happy now!", ""])
    monkeypatch.setattr("builtins.input", lambda *_: next(lines))
    status, out, err = run("chat")
    assert status == 0
    assert out.count("I hear you.") == 2
    assert "9,000" in err


def test_consent_is_kept_in_the_settings_file(run, home):
    assert json.loads(run("consent", "--json")[1]) == {"text": True, "voice": True, "face": True}
    run("consent", "--no-voice")
    assert json.loads(run("consent", "--json")[1])["voice"] is False
    (home / "settings.toml").write_text('locale = "de-AT"\n\n[consent]\nvoice = false\n\n[other]\n')
    run("consent", "--no-face", "--voice")
    text = (home / "settings.toml").read_text()
    assert 'locale = "de-AT"' in text
    assert "[other]" in text
    assert json.loads(run("consent", "--json")[1]) == {"text": True, "voice": True, "face": False}


@pytest.mark.parametrize("content", ["consent = 3\n", "not toml at all [", "[consent]\nsmell = true\n"])
def test_settings_that_cannot_be_understood_are_one_line(run, home, content):
    home.mkdir()
    (home / "settings.toml").write_text(content)
    status, _, err = run("consent")
    assert status == 1
    one_line(err)


def test_a_home_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "agent", "consent", "--no-voice"],
        capture_output=True, text=True, check=False, env={"EMOX_HOME": str(tmp_path / "file" / "home"), "PATH": ""},
    )  # fmt: skip
    assert done.returncode == 1
    assert "cannot be written" in one_line(done.stderr)


def test_help_costs_no_heavy_import():
    code = "import sys, agent.cli; print([m for m in ('torch', 'chromadb', 'langgraph', 'av') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
