"""What the processors of the voice loop tell each other, beside Pipecat's own frames."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from pipecat.frames.frames import SystemFrame, TTSTextFrame

from model.types import Affect
from perception.types import Absence, Speech, UserTurn

from .endpointing import is_nothing


@dataclass
class HeardSoFar(SystemFrame):
    """The person fell silent: what they said in this turn up to here.

    `complete` is the probability in [0, 1] that the turn is complete by its sound, `spoken_s` how long the last stretch
    of speech lasted. `silent_since` is when it ended, `noticed` when that was noticed and `written` when the words were
    written down (`time.monotonic`). `ahead` is what the model overheard before, to be used once. `sound` is what the
    words were written down from, in haste; None where words may not be read.
    """

    turn: UserTurn
    complete: float
    spoken_s: float
    silent_since: float
    noticed: float
    ahead: Any = None
    sound: Speech | None = None
    written: float = field(default_factory=time.monotonic)

    @property
    def nothing(self) -> bool:
        """Whether no word was said. Where words may not be read, speech that may be is taken for something."""
        if self.turn.absent.get("text") is Absence.NO_CONSENT:
            return self.turn.speech is None
        return is_nothing(self.turn.text)


@dataclass
class Felt(SystemFrame):
    """What the person seems to feel, by what was heard so far."""

    affect: Affect


@dataclass
class Answering(SystemFrame):
    """Something the agent says reaches the person from now on: what they say next belongs to another turn."""


@dataclass
class HearingFailed(SystemFrame):
    """What the person said could not be written down."""

    error: str


@dataclass
class WordFrame(TTSTextFrame):
    """A word of the agent, which follows its sound through the output: where it arrives, the sound was played.

    `context_id` is that of the answer, or None for something that is no answer; `number` counts its words from 0.
    """

    number: int = 0
