"""A reply is said aloud sentence by sentence, while its text still comes."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .background import Background
from .sentences import split_sentences
from .speech import Audio, Speaker, VoiceStyle, write_wav


class Voice:
    """Says one reply in a thread of its own.

    `first_at` is when its first sentence was ready (`time.perf_counter`), `seconds` how long all of them last.
    """

    def __init__(self, speaker: Speaker, path: Path | None) -> None:
        """Take the speaker, and the WAV file to write at the end, if one is wanted."""
        self.path = path
        self.seconds = 0.0
        self.first_at = float("nan")
        self._speaker = speaker
        self._texts: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._sounds: Background[Audio] | None = None
        self._said: list[Audio] = []

    def begin(self, style: VoiceStyle) -> None:
        """Start to speak."""

        def speak(tell: Callable[[Audio], None]) -> None:
            for sound in self._speaker.speak(split_sentences(iter(self._texts.get, None)), style):
                tell(sound)

        self._sounds = Background(speak)

    def say(self, piece: str) -> None:
        """Add text."""
        self._texts.put(piece)

    def ready(self) -> Iterator[Audio]:
        """Sentences that are synthesised by now."""
        if self._sounds is not None:
            yield from map(self._kept, self._sounds.ready())

    def rest(self) -> Iterator[Audio]:
        """No more text comes: wait for what is left, and write the file if one is wanted."""
        self._texts.put(None)
        if self._sounds is not None:
            yield from map(self._kept, self._sounds.rest())
        if self.path is not None:
            write_wav(self.path, self._said)

    def stop(self) -> None:
        """Say no more."""
        self._texts.put(None)
        if self._sounds is not None:
            self._sounds.give_up()

    def _kept(self, sound: Audio) -> Audio:
        if not self._said:
            self.first_at = time.perf_counter()
        self._said.append(sound)
        self.seconds += sound.duration_s
        return sound
