"""A reply is said aloud sentence by sentence, while its text still comes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from itertools import takewhile

from .background import GivenUp
from .events import AllSpoken
from .sentences import complete_sentences
from .speech import Audio, Speaker, VoiceStyle

FIRST_S = 1.0
"""The rest of a reply waits no longer than this for its first sentence to be synthesised."""


class Voice:
    """Says one reply in a thread of its own, telling each sentence as it is ready, or what went wrong, and the end.

    Args:
        over: whether nobody hears more of it; the sentences that are left are then not said.
    """

    def __init__(
        self,
        speaker: Speaker,
        tell: Callable[[Audio | Exception | AllSpoken], None],
        over: Callable[[], bool] = lambda: False,
    ) -> None:
        self._speaker = speaker
        self._tell = tell
        self._over = over
        self._held = ""
        self._sentences: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._first = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, style: VoiceStyle) -> None:
        """Start to speak."""
        self._thread = threading.Thread(target=self._speak, args=(style,), name="voice", daemon=True)
        self._thread.start()

    def say(self, piece: str) -> None:
        """Add text. The first sentence is waited for, so that to word the rest does not slow it down."""
        sentences, self._held = complete_sentences(self._held + piece)
        for sentence in sentences:
            self._sentences.put(sentence)
        if sentences:
            self._first.wait(FIRST_S)

    def finish(self) -> None:
        """No more text comes; a first sentence that ends with it is waited for, too."""
        last, self._held = self._held.strip(), ""
        if last:
            self._sentences.put(last)
        self._sentences.put(None)
        if last:
            self._first.wait(FIRST_S)

    def join(self) -> None:
        """Wait until all is said."""
        if self._thread is not None:
            self._thread.join()

    def _speak(self, style: VoiceStyle) -> None:
        try:
            wanted = takewhile(lambda sentence: not self._over(), iter(self._sentences.get, None))
            for sound in self._speaker.speak(wanted, style):
                self._tell(sound)
                self._first.set()
        except GivenUp:
            pass
        except Exception as error:  # told like a sentence, as the turn goes on without its voice
            self._tell(error)
        finally:
            self._first.set()
            with suppress(GivenUp):
                self._tell(AllSpoken())
