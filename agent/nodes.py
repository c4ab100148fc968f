"""The steps of a turn, each an ordinary function of typed state; what it needs beside the state is passed in."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from memory.store import MemoryStore
from memory.types import Episode, Query, Recalled
from memory.when import window_of
from model.types import STRATEGIES, AffectModel, CutShort, ModelCard, Utterance
from perception.asr import Asr
from perception.errors import PerceptionError
from perception.face import FaceTracker
from perception.listen import listen as make_turn
from perception.types import MODALITIES, Absence, Modality, UserTurn

from . import care
from .plan import in_distress, is_small_talk, memory_line, plan_reply, think
from .reply import ReplyModel, ReplyRequest, guarded
from .state import Delivery, Plan, TurnBuffer, TurnState

logger = logging.getLogger(__name__)

N_RECALLED = 3
N_FACTS = 2
FACT_AT = 0.4
"""Cosine of a fact with what was said, above which it is told to the reply."""

N_IN_HASTE = 1
"""Of facts and earlier turns, so many are told to a reply that somebody waits for: each takes 30 ms to read."""

RECALL_TOKENS = 160
"""What the recalled words may have together, so that they do not crowd out the dialogue."""

BROKEN_OFF = " ... I am sorry, I have lost my words."
"""Ends a reply whose model fails while the person listens."""

CUT_OFF = "—"
"""Ends a line of the dialogue in which the agent was broken in upon."""

SCREENED_EPISODES = 6
"""Earlier episodes whose words the crisis screen sees, whatever thread they were said in."""


class NothingPerceived(PerceptionError):
    """A turn without words, in which nothing else can be read either."""


@dataclass(frozen=True)
class Ears:
    """Recogniser and face finder, built when first needed; `recogniser` is the former's name."""

    asr: Callable[[], Asr]
    face_finder: Callable[[], FaceTracker]
    recogniser: str = "recogniser"


def listen(state: TurnState, *, turns: TurnBuffer, ears: Ears) -> TurnState:
    """Decode, transcribe and find the face: whatever was given becomes a UserTurn."""
    live = turns[state["turn_id"]]
    live.turn = make_turn(
        live.text, live.clip, asr=ears.asr, face_finder=ears.face_finder, consent=live.consent.allowed()
    )
    return {"text": live.turn.text}


def perceive(state: TurnState, *, turns: TurnBuffer, model: AffectModel) -> TurnState:
    """Level 1: read the turn once and say what is felt."""
    live = turns[state["turn_id"]]
    assert live.turn is not None
    read = readable(live.turn, model.card)
    live.prefix = model.attend(live.turn, state.get("dialogue", ()), live.ahead)
    return {"affect": model.perceive(live.prefix), "modalities": read}


def screen(state: TurnState, *, store: MemoryStore) -> TurnState:
    """Look for a crisis in the words, in the light of what the same person said before, here or elsewhere."""
    screening = screened(state["text"], state["user"], store)
    if screening.level != "safe":
        logger.warning("turn %s: %s", state["turn_id"], screening.level)
    return {"screening": screening}


def screened(text: str, user: str, store: MemoryStore) -> care.Screening:
    """What the crisis screen says of somebody's words; it takes note of what they said before, where that counts."""
    earlier = store.list(user, limit=SCREENED_EPISODES) if care.is_hint(text) else []
    return care.screen(text, [episode.text for episode in reversed(earlier)])


def support(state: TurnState, *, locale: str) -> TurnState:
    """Answer a crisis without the language model."""
    screening, affect = state["screening"], state["affect"]
    assert screening is not None
    plan = Plan("crisis", "comfort", "none", "calm")
    return {"plan": plan, "reply": care.crisis_reply(screening, locale, affect)}


def understand(state: TurnState, *, turns: TurnBuffer, model: AffectModel) -> TurnState:
    """Level 2: scenario, cause and intent, and level 1's open words; in haste, only what the reply needs."""
    affect, live = state["affect"], turns[state["turn_id"]]
    assert affect is not None
    understanding, open_words = model.understand(live.prefix, affect, in_haste=live.playback is not None)
    return {"understanding": understanding, "affect": replace(affect, open=open_words)}


def plan(state: TurnState) -> TurnState:
    """Decide how to answer, and what to recall for it."""
    affect, understanding = state["affect"], state["understanding"]
    assert affect is not None
    chosen = plan_reply(state["text"], affect, understanding, _distressed(state))
    thought = think(affect, understanding, affect.open, STRATEGIES[chosen.strategy]) if understanding else None
    return {"plan": chosen, "thought": thought}


def recall(state: TurnState, *, turns: TurnBuffer, store: MemoryStore) -> TurnState:
    """Ask the memory for what the plan wants: times felt alike, brighter ones, or what was said about something.

    A question about a time ("last week") is answered from that time.
    """
    affect, chosen, text = state["affect"], state["plan"], state["text"]
    assert affect is not None
    assert chosen is not None
    if chosen.recall_policy == "none":
        return {"recalled": ()}
    now = datetime.now(UTC)
    asked = window_of(text, now.astimezone()) if chosen.recall_policy == "factual" else None
    live = turns[state["turn_id"]]
    live.recollections = store.recall(
        state["user"],
        Query(
            text,
            affect,
            chosen.recall_policy,
            limit=N_RECALLED,
            budget=RECALL_TOKENS,
            now=now,
            since=asked.since if asked else None,
            until=asked.until if asked else None,
        ),
    )
    live.facts = [one for one in store.recall_facts(state["user"], text, N_FACTS) if one.score >= FACT_AT]
    episodes = [Recalled(r.episode.id, r.score, dict(r.parts)) for r in live.recollections]
    facts = [Recalled(one.fact.id, one.score, {"text": one.score}) for one in live.facts]
    return {"recalled": (*episodes, *facts)}


def empathize(state: TurnState, *, turns: TurnBuffer, reply_model: ReplyModel) -> TurnState:
    """Level 3: word the reply, telling it piece by piece as it comes."""
    live = turns[state["turn_id"]]
    affect, chosen = state["affect"], state["plan"]
    assert affect is not None
    assert chosen is not None
    dialogue = state.get("dialogue", [])
    present = {line.text for line in dialogue}  # the model reads these lines anyway
    earlier = (memory_line(r.episode) for r in live.recollections if r.episode.text not in present)
    memories = (*(one.fact.text for one in live.facts), *earlier)
    if live.playback is not None:
        memories = memories[:N_IN_HASTE]
    request = ReplyRequest(
        state["text"], dialogue, affect, chosen, state["thought"], memories, live.prefix, live.max_tokens
    )
    pieces: list[str] = []
    cut_short = False

    def watched(told: Iterator[str]) -> Iterator[str]:
        nonlocal cut_short
        for piece in told:
            cut_short = isinstance(piece, CutShort)
            yield piece

    try:
        for piece in guarded(watched(reply_model.reply(request))):
            if live.playback is not None and live.playback.over:
                break  # the person has broken in, and waits for another answer
            pieces.append(piece)
            live.tell(piece)
    except Exception as error:
        if live.playback is None or not pieces:
            raise
        logger.error("turn %s: the reply broke off: %s", state["turn_id"], type(error).__name__)
        pieces.append(BROKEN_OFF)  # somebody may have heard its beginning: the turn was
        live.tell(BROKEN_OFF)
    return {"reply": "".join(pieces).strip(), "cut_short": cut_short}


def reflect(state: TurnState, *, turns: TurnBuffer, model: AffectModel) -> TurnState:
    """Understand in full what was understood in haste, now that the person listens."""
    affect, live = state["affect"], turns[state["turn_id"]]
    assert affect is not None
    if state["understanding"] is None or live.playback is None:
        return {"understanding": state["understanding"]}
    try:
        understanding, open_words = model.understand(live.prefix, affect)
    except Exception as error:  # what was understood in haste is kept, and so is the turn
        logger.error("turn %s: it was not understood in full: %s", state["turn_id"], type(error).__name__)
        return {"understanding": state["understanding"]}
    return {"understanding": understanding, "affect": replace(affect, open=open_words)}


def remember(state: TurnState, *, turns: TurnBuffer, store: MemoryStore, model: AffectModel) -> TurnState:
    """Keep the turn as an episode, and its lines as the dialogue so far: of a reply that is played, what was heard.

    Raises:
        TurnDropped: the turn was given up while its reply was to be played.
    """
    affect, chosen = state["affect"], state["plan"]
    assert affect is not None
    assert chosen is not None
    playback = turns[state["turn_id"]].playback
    heard = playback.wait() if playback is not None else Delivery(state["reply"])
    episode = Episode(
        id=state["turn_id"],
        user=state["user"],
        thread_id=state["thread_id"],
        at=datetime.fromtimestamp(time.time(), UTC),
        text=state["text"],
        reply=heard.text,
        cut_off=heard.cut_off,
        affect=affect,
        understanding=state["understanding"],
        thought=state["thought"],
        route=chosen.route,
        strategy=chosen.strategy,
        recall_policy=chosen.recall_policy,
        voice=chosen.voice,
        modalities=state["modalities"],
        recalled=state["recalled"],
        model_version=model.card.version,
    )
    store.add(episode)
    return {"reply": heard.text, "dialogue": lines_of(episode), "distressed": _distressed(state)}


def lines_of(episode: Episode) -> list[Utterance]:
    """A turn as lines of the dialogue."""
    said = f"{episode.reply} {CUT_OFF}".lstrip() if episode.cut_off else episode.reply
    return [Utterance("user", episode.text), Utterance("assistant", said)]


def _distressed(state: TurnState) -> int:
    """Turns in a row, this one included, on which the person was in distress."""
    affect = state["affect"]
    assert affect is not None
    return state.get("distressed", 0) + 1 if in_distress(affect) else 0


def readable(turn: UserTurn, card: ModelCard) -> tuple[Modality, ...]:
    """Modalities of the turn that this model reads.

    Raises:
        NothingPerceived: there is none; one sentence says why and what to do.
    """
    read = tuple(m for m in turn.modalities if m == "text" or m in card.modalities)
    if not read:
        absent = [turn.absent.get(m, Absence.UNTRAINED) for m in MODALITIES]
        reasons = dict.fromkeys(str(reason) for reason in absent if reason != Absence.NOT_GIVEN)
        raise NothingPerceived(f"there is nothing to answer: {', and '.join(reasons)}; speak up, or give --text")
    return read


def after_screen(state: TurnState) -> str:
    """Crisis, small talk, or everything else."""
    screening = state["screening"]
    if screening is not None and screening.level != "safe":
        return "support"
    return "plan" if is_small_talk(state["text"]) else "understand"
