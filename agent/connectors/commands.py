"""What a person can tell the agent to do in a chat: /agree, /disagree, /memory, /forget, /export, /quiet, /help.

A command works with "!" in place of "/", too, as some platforms keep "/" for themselves.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agent import inspection
from agent.care import Consent
from agent.host import Host
from agent.speech import Audio
from memory import privacy
from memory.exchange import export_lines
from memory.mood import mood
from memory.types import Episode
from perception.types import MODALITIES

from .connector import Incoming

HELP = """\
/agree [voice] [face] - I may read your words, and what else you name
/disagree - I may read nothing any more
/memory [WORDS] - what I remember of you, or what of it is about something
/memory why ID - why I said that
/memory correct ID EMOTION - what you really felt
/forget ID, /forget about WORDS, /forget all - take it away for good
/export - all of it, as a file
/quiet, /quiet off - be silent here, or speak again"""

PRIVATELY = "That is between the two of us: ask me in a private chat."
N_SHOWN = 8

_COMMAND = re.compile(
    r"[/!](agree|disagree|memory|forget|export|quiet|help|start)(?:@\w+)?(?:\s+(.*))?", re.DOTALL | re.IGNORECASE
)


@dataclass(frozen=True)
class Command:
    """`rest` is what stands behind its name."""

    name: str
    rest: str = ""


@dataclass(frozen=True)
class Reply:
    """What is sent: words, and with them a voice note or a file (its name and content)."""

    text: str
    sound: Audio | None = None
    file: tuple[str, bytes] | None = None


def command_in(text: str) -> Command | None:
    """The command that a message is, if it is one; "/memory@its_name" counts in groups of Telegram."""
    found = _COMMAND.fullmatch(text.strip())
    return Command(found[1].lower(), (found[2] or "").strip()) if found else None


async def answer_to(command: Command, message: Incoming, host: Host, user: str, possible: Consent) -> Reply:
    """Do it, and say so; /quiet is the desk's own.

    Args:
        possible: what could be read of people on this platform.
    """
    if command.name in ("memory", "forget", "export") and not message.private:
        return Reply(PRIVATELY)
    try:
        match command.name:
            case "agree":
                return _agree(command.rest, host, user, possible)
            case "disagree":
                host.people.agree(user, Consent(text=False))
                return Reply("I read nothing of you any more. /agree changes that; /forget all takes away what was.")
            case "memory":
                return await asyncio.to_thread(_memory, command.rest, host, user)
            case "forget":
                return await _forget(command.rest, host, user)
            case "export":
                lines = await asyncio.to_thread(lambda: list(export_lines(host.store, [user])))
                content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
                told = f"This is all I remember: {host.store.count(user)} turns. Keep it safe, it is not encrypted."
                return Reply(told, file=("emox-memory.jsonl", content.encode()))
    except ValueError as error:  # what was asked for cannot be done, and the error says why
        return Reply(f"{str(error)[:1].upper()}{str(error)[1:]}.")
    return Reply(HELP)


def _agree(rest: str, host: Host, user: str, possible: Consent) -> Reply:
    wanted = set(rest.lower().replace(",", " ").split())
    if unknown := wanted - set(MODALITIES):
        return Reply(f"I do not know {' or '.join(sorted(unknown))}: write /agree, with voice or face behind it.")
    allowed = (wanted | {"text"}) & possible.allowed()
    host.people.agree(user, Consent(**{m: m in allowed for m in MODALITIES}))
    names = {"text": "your words", "voice": "your voice", "face": "your face"}
    read = " and ".join(names[m] for m in MODALITIES if m in allowed)
    left = " Here I cannot read more." if wanted - allowed else ""
    return Reply(f"Thank you. I read {read}.{left} /disagree takes it back; /help lists what else you can say.")


def _memory(rest: str, host: Host, user: str) -> Reply:
    store = host.store
    word, _, more = rest.partition(" ")
    if word == "why" and more:
        return Reply(_why(inspection.why(store, user, _id(host, user, more))))
    if word == "correct" and more:
        id, _, emotion = more.partition(" ")
        episode = privacy.correct(store, user, _id(host, user, id), emotion=emotion.strip().lower())
        return Reply(f"Thank you, I have corrected it: {_line(episode)}")
    if rest:
        _, found, facts = inspection.found_about(store, user, rest, N_SHOWN)
        lines = [*(one.fact.text for one in facts), *(_line(r.episode) for r in found)]
        return Reply("\n".join([f"About “{rest}” I remember:", *lines]) if lines else "I remember nothing of that.")
    n = store.count(user)
    if not n:
        return Reply("I remember nothing of you.")
    newest = store.list(user, limit=100)
    now = mood(newest, datetime.now().astimezone())
    lines = [f"I remember {_turns(n)} with you, the latest first:"]
    lines += [_line(episode) for episode in newest[:N_SHOWN]]
    if now is not None:
        lines.append(f"Lately your mood seems {_worded(now.valence)}.")
    lines.append("/memory WORDS searches, /memory why ID explains, /memory correct ID EMOTION corrects.")
    return Reply("\n".join(lines))


async def _forget(rest: str, host: Host, user: str) -> Reply:
    words = rest.removesuffix(" yes").strip()
    sure = rest.endswith(" yes")
    about = words.partition(" ")[2].strip()
    if not words or (words.startswith("about") and not about):
        return Reply("Say what: /forget ID, /forget about WORDS, or /forget all.")
    what: dict[str, Any]
    if words == "all":
        what, n = {"all": True}, host.store.count(user)
    else:
        what = {"about": about} if words.startswith("about ") else {"ids": [_id(host, user, words)]}
        n = len(await asyncio.to_thread(lambda: privacy.chosen(host.store, user, **what)))
    if not n:
        return Reply("I remember nothing of that.")
    if not sure:
        return Reply(f"I would forget {_turns(n)} for good. If you are sure: /forget {words} yes")
    gone = await host.forget(user, **what)
    n_traces = len(gone.search.traces) or "none"
    return Reply(
        f"I have forgotten {_turns(gone.n_episodes)}. Of {gone.search.n_files} files searched {n_traces} holds a trace."
    )


def _turns(n: int) -> str:
    return f"{n} turn" if n == 1 else f"{n} turns"


def _id(host: Host, user: str, given: str) -> str:
    """The id that begins so, among the newest episodes; they are long to write.

    Raises:
        ValueError: none does, or several do.
    """
    known = [e.id for e in host.store.list(user, limit=1000) if given and e.id.startswith(given.strip())]
    if len(known) != 1:
        raise ValueError(f"{len(known) or 'no'} turns are called {given.strip()!r}; /memory lists them")
    return known[0]


def _line(episode: Episode) -> str:
    text = episode.text if len(episode.text) <= 80 else f"{episode.text[:79]}…"
    return f"{episode.at.astimezone():%d %b %H:%M}, {episode.affect.emotion}: “{text}” [{episode.id[:6]}]"


def _why(found: dict[str, Any]) -> str:
    felt = f"{found['affect']['emotion']} ({found['affect']['confidence']:.0%})"
    lines = [f"You said “{found['text']}”, which I read as {felt}."]
    if found["cause"]:
        lines.append(f"The cause seemed to be “{found['cause']}”.")
    if found["thought"]:
        lines.append(f"I wanted to {found['thought']['goal']}.")
    recalled = [one["text"] for one in found["recalled"] if one["text"]]
    if recalled:
        lines.append("It brought back: " + "; ".join(f"“{text}”" for text in recalled))
    lines.append(f"So I answered: “{found['reply']}”")
    return "\n".join(lines)


def _worded(valence: float) -> str:
    return "low" if valence < -0.25 else "bright" if valence > 0.25 else "even"
