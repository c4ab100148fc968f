"""One turn being answered: the agent thinks in a thread of its own, and what it says is kept until it is heard."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from agent.events import AllSpoken, Event, Finished, ReplyText, Spoken, TurnResult
from agent.session import Agent
from agent.speech import Audio
from agent.state import Playback, TurnDropped
from agent.word_timing import SpokenWord
from perception.types import Speech, UserTurn


@dataclass(frozen=True)
class Word:
    """A word of the reply with its sound: 16-bit mono PCM, the pause before it included."""

    text: str
    sound: bytes
    sample_rate_hz: int


_thinking: set[int] = set()  # of this process, whose conversations share one model


def n_thinking() -> int:
    """How many answers are being thought of, in all conversations."""
    return len(_thinking)


class Answer:
    """The answer to one turn.

    It is thought ahead: nothing of it is heard before it is played, and `drop` leaves no trace of it. Every event of
    the agent, and at last the error that ended it or None, goes to `tell`, in the thread that thinks. Methods are
    called from the event loop.

    Args:
        speak: say it aloud; else it is read.
        sound: what the words of the turn were heard from in haste, as long as it is to be heard in full.
        before: the answer to the turn before, whose memory this one builds on.
    """

    def __init__(
        self,
        agent: Agent,
        turn: UserTurn,
        tell: Callable[[Answer, Event | Exception | None], None],
        *,
        speak: bool = True,
        sound: Speech | None = None,
        before: Answer | None = None,
        **options: Any,
    ) -> None:
        self.id = uuid.uuid4().hex[:16]
        self.turn = turn
        self.speaks = speak
        self.sound = sound
        self.words: list[Word] = []
        self.text = ""
        self.result: TurnResult | None = None
        self.complete = False
        self.n_heard = 0
        self._playback = Playback()
        self._dropped = threading.Event()
        self._thread = threading.Thread(
            target=self._think, args=(agent, tell, before, options | {"speak": speak}), daemon=True
        )
        self._thread.start()

    def take(self, event: Event) -> None:
        """Keep what an event brings."""
        if isinstance(event, ReplyText):
            self.text += event.text
        elif isinstance(event, Spoken):
            self.words += words_of(event.audio)
        elif isinstance(event, Finished):
            self.result = event.result

    def heard_up_to(self, number: int) -> None:
        """The word of this number, counted from 0, was heard to its end."""
        self.n_heard = max(self.n_heard, number + 1)

    @property
    def heard_whole(self) -> bool:
        """Whether all of it was said and heard, or shown."""
        return self.complete and self.n_heard == len(self.words)

    def close(self) -> None:
        """Nobody hears more of it: the turn is remembered with what was heard, or shown."""
        if self.heard_whole or not self.speaks:
            self._playback.heard(self.text.strip(), cut_off=not self.complete)
        else:
            self._playback.heard(" ".join(word.text for word in self.words[: self.n_heard]), cut_off=True)

    def drop(self) -> None:
        """It was never meant: the turn goes on, or is over in another way."""
        self._dropped.set()
        self._playback.drop()

    def join(self, timeout_s: float | None = None) -> None:
        """Wait until it is remembered or dropped, or for so long."""
        self._thread.join(timeout_s)

    def _think(
        self,
        agent: Agent,
        tell: Callable[[Answer, Event | Exception | None], None],
        before: Answer | None,
        options: dict[str, Any],
    ) -> None:
        error: Exception | None = None
        try:
            if before is not None:
                before.join()
            if self._dropped.is_set():
                return
            _thinking.add(id(self))
            events = agent.events(turn=self.turn, playback=self._playback, **options)
            for event in events:
                if self._dropped.is_set():
                    events.close()  # type: ignore[attr-defined]
                    return
                if isinstance(event, AllSpoken):
                    _thinking.discard(id(self))
                tell(self, event)
        except TurnDropped:
            return
        except Exception as raised:
            error = raised
        finally:
            _thinking.discard(id(self))
        tell(self, error)


def words_of(audio: Audio) -> list[Word]:
    """The sound of a sentence cut at the ends of its words; the pause before a word belongs to it.

    Sound whose words nobody timed is one piece without a word, so that it is heard though nobody knows what was.
    """
    samples = (np.clip(audio.samples, -1, 1) * 32767).round().astype("<i2")
    if not len(samples):
        return []
    words = []
    start = 0
    spoken = audio.words or (SpokenWord("", 0.0, audio.duration_s),)
    for i, word in enumerate(spoken):
        last = i == len(spoken) - 1
        end = len(samples) if last else max(start, round(word.end_s * audio.sample_rate_hz))
        words.append(Word(word.text, samples[start:end].tobytes(), audio.sample_rate_hz))
        start = end
    return words
