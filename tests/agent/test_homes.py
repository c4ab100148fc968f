"""Homes that cannot be written and disks that fill up: one clear line, and nothing that was kept is lost.

`emox` runs as a process with a scripted model (`light_emox`), on the real memory and checkpoints.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.agent.light_emox import open_light

REPO = Path(__file__).parents[2]
SOMEBODY = 65534 if os.geteuid() == 0 else 0  # root may write everywhere; everybody else runs as themselves
SAID = "I am sad about my cat, she ran away."


def refused(home, *arguments, uid=0, lines=""):
    """Run a command that is to fail; return its one line, and what it printed before."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.agent.light_emox", str(uid), *arguments],
        cwd=REPO, input=lines, capture_output=True, text=True, check=False, env=os.environ | {"EMOX_HOME": str(home)},
    )  # fmt: skip
    assert done.returncode in (1, 2), done.stderr
    complaints = [line for line in done.stderr.splitlines() if line.startswith("emox: ")]
    assert done.stderr.splitlines()[-1:] == complaints
    assert "Traceback" not in done.stderr
    assert "fault" not in complaints[0]
    return complaints[0], done.stdout


def say(home, text):
    with open_light(home) as agent:
        agent.ask(text)


def remembered(home):
    with open_light(home) as agent:
        return [episode.text for episode in agent.store.list("me", limit=1000)]


@pytest.fixture
def home():
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to other users
        Path(folder).chmod(0o755)
        yield Path(folder) / "home"
        for path in [Path(folder), *Path(folder).rglob("*")]:
            path.chmod(0o755)


def forbid_writing(home):
    for path in [*home.rglob("*"), home]:
        path.chmod(0o555 if path.is_dir() else 0o444)


@pytest.mark.parametrize("command", [["turn", "--text", SAID], ["memory", "list"], ["consent", "--no-voice"]])
def test_a_home_that_can_only_be_read_is_named_and_stays_as_it_is(home, command):
    say(home, SAID)
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    forbid_writing(home)
    complaint, _ = refused(home, *command, uid=SOMEBODY)
    assert "cannot be written (Permission denied)" in complaint
    assert str(home) in complaint
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before


def test_a_home_that_cannot_be_made_is_named(home):
    home.parent.chmod(0o555)
    complaint, _ = refused(home, "chat", uid=SOMEBODY)
    assert f"the memory at {home}/memory cannot be written (Permission denied)" in complaint


def test_conversations_that_cannot_be_written_are_named_before_anything_is_said(home):
    say(home, SAID)
    if SOMEBODY:
        os.chown(home / "threads.sqlite", SOMEBODY, SOMEBODY)
    (home / "threads.sqlite").chmod(0o444)
    for path in [home, *(home / "memory").rglob("*"), home / "memory"]:
        path.chmod(0o777)
    complaint, _ = refused(home, "turn", "--text", "I am sad again.", uid=SOMEBODY)
    assert f"the conversations in {home}/threads.sqlite cannot be opened" in complaint
    assert remembered(home) == [SAID]


def test_conversations_are_private_to_their_owner_and_let_go_of(home):
    with open_light(home) as agent:
        agent.ask(SAID)
        assert (home / "threads.sqlite").stat().st_mode & 0o077 == 0
        assert (home / "threads.sqlite-wal").exists()
    assert agent.store
    assert not (home / "threads.sqlite-wal").exists()


@pytest.fixture
def tiny_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a tiny disk")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=768k", "tmpfs", disk], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no tiny disk can be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.mark.parametrize("full", ["everything", "conversations only"])
def test_a_disk_that_fills_up_in_a_conversation_loses_nothing_that_was_answered(tiny_disk, tmp_path, full):
    home = tiny_disk / "home"
    home.mkdir()
    if full == "conversations only":
        (tmp_path / "roomy").mkdir()
        (home / "memory").symlink_to(tmp_path / "roomy")
    said = [f"I am sad about cat number {i}, she ran away." for i in range(200)]
    complaint, out = refused(home, "chat", lines="\n".join(said))
    assert "full" in complaint
    answered = out.count("I hear you.")
    assert 2 < answered < len(said)
    if full == "everything":
        assert "disk is not full" in refused(home, "turn", "--text", SAID)[0]
        assert "settings.toml cannot be written (No space left" in refused(home, "consent", "--no-voice")[0]
    subprocess.run(["mount", "-o", "remount,size=16m", tiny_disk], check=True)
    kept = remembered(home)
    assert kept in (said[:answered][::-1], said[: answered - 1][::-1])  # the last may fail after its reply was shown
    say(home, SAID)
    assert remembered(home) == [SAID, *kept]
