"""A reply is said aloud sentence by sentence, while its text still comes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from .background import GivenUp
from .sentences import split_sentences
from .speech import Audio, Speaker, VoiceStyle


class Voice:
    """Says one reply in a thread of its own, telling each sentence as it is ready, or what went wrong."""

    def __init__(self, speaker: Speaker, tell: Callable[[Audio | Exception], None]) -> None:
        self._speaker = speaker
        self._tell = tell
        self._texts: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def begin(self, style: VoiceStyle) -> None:
        """Start to speak."""
        self._thread = threading.Thread(target=self._speak, args=(style,), name="voice", daemon=True)
        self._thread.start()

    def say(self, piece: str) -> None:
        """Add text."""
        self._texts.put(piece)

    def finish(self) -> None:
        """No more text comes."""
        self._texts.put(None)

    def join(self) -> None:
        """Wait until all is said."""
        if self._thread is not None:
            self._thread.join()

    def _speak(self, style: VoiceStyle) -> None:
        try:
            for sound in self._speaker.speak(split_sentences(iter(self._texts.get, None)), style):
                self._tell(sound)
        except GivenUp:
            pass
        except Exception as error:  # told like a sentence, as the turn goes on without its voice
            self._tell(error)
