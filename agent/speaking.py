"""A reply is said aloud sentence by sentence, while its text still comes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

from .background import GivenUp
from .events import AllSpoken
from .sentences import split_sentences
from .speech import Audio, Speaker, VoiceStyle

FIRST_S = 1.0
"""The rest of a reply waits no longer for its first sentence."""


class Voice:
    """Says one reply in a thread of its own, telling each sentence as it is ready, or what went wrong, and the end."""

    def __init__(self, speaker: Speaker, tell: Callable[[Audio | Exception | AllSpoken], None]) -> None:
        self._speaker = speaker
        self._tell = tell
        self._texts: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._first_begun, self._first_said = threading.Event(), threading.Event()

    def begin(self, style: VoiceStyle) -> None:
        """Start to speak."""
        self._thread = threading.Thread(target=self._speak, args=(style,), name="voice", daemon=True)
        self._thread.start()

    def say(self, piece: str) -> None:
        """Add text. While the first sentence is synthesised this waits, so that nothing else slows it down."""
        self._texts.put(piece)
        if self._first_begun.is_set():
            self._first_said.wait(FIRST_S)

    def finish(self) -> None:
        """No more text comes."""
        self._texts.put(None)

    def join(self) -> None:
        """Wait until all is said."""
        if self._thread is not None:
            self._thread.join()

    def _speak(self, style: VoiceStyle) -> None:
        try:
            for sound in self._speaker.speak(self._sentences(), style):
                self._tell(sound)
                self._first_said.set()
        except GivenUp:
            pass
        except Exception as error:  # told like a sentence, as the turn goes on without its voice
            self._tell(error)
        finally:
            self._first_said.set()
            with suppress(GivenUp):
                self._tell(AllSpoken())

    def _sentences(self) -> Iterator[str]:
        for sentence in split_sentences(iter(self._texts.get, None)):
            self._first_begun.set()
            yield sentence
