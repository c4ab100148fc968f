"""The agent in the pipeline: it answers each turn ahead of its end, speaks once the turn is over, and stops when asked.

a pause of the person's    think of an answer, unheard
they go on                 drop it
their turn is over         play it
they make a sound          hold it: stop at once
it was only a "mm-hm"      go on where it stopped
it begins a turn           close it: what was heard is remembered, with a mark that it was cut off

Words are written down in haste, as somebody waits. While the answer is said they are heard again, in full, for the sake
of the crisis screen alone: a crisis that was misheard is answered at once, in place of that answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any, Literal

import numpy as np
from pipecat.frames.frames import (
    Frame,
    InterruptionFrame,
    LLMConfigureOutputFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMMessagesAppendFrame,
    LLMTextFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    UserBackchannelFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.processors.frameworks.rtvi import RTVIServerMessageFrame
from pipecat.utils.text.base_text_aggregator import TextType

from agent.care import Consent, disclosure
from agent.events import (
    AllSpoken,
    Event,
    Finished,
    Perceived,
    Planned,
    Replied,
    ReplyText,
    Screened,
    Spoken,
    Started,
    TurnResult,
    Understood,
    Unspoken,
)
from agent.nodes import Ears, screened
from agent.session import Agent
from agent.speech import STYLES, Audio
from perception.types import SAMPLE_RATE_HZ, Absence, Speech, Transcript, UserTurn

from .answering import Answer, Word, n_thinking, words_of
from .frames import Answering, Felt, HeardSoFar, HearingFailed, WordFrame
from .timing import TurnTiming

logger = logging.getLogger(__name__)

APOLOGY = "I am sorry, something went wrong on my side. Could you say that once more?"
STILL_HERE = "Take your time. I am here."
PATIENCE_S = 20.0
"""After the end of a turn, an answer of which nothing has come for so long is given up, with an apology; for so many
times as long where as many answers are thought of at once."""

AHEAD_AT_MOST = 1
"""While more answers than this are thought of in other conversations, none is thought ahead: half of those are dropped,
and who waits already would wait for them."""

HEARD_AGAIN_S = 30.0
"""Of sound that is to be heard in full, the last so many seconds are: Whisper's window, which takes about a second."""

LOOK_S = 0.1
"""How often it is asked whether anybody still waits for the processor."""

_NOTHING = np.zeros(0, np.float32)

Report = Callable[[TurnResult, TurnTiming], None]
"""Told of each turn that is remembered."""

_Told = tuple[Answer, Event | Exception | None]


class Companion(FrameProcessor):
    """Answers the turns of one person.

    Args:
        agent: whoever thinks and remembers; other sessions may use it at the same time.
        ears: the recogniser that hears in full what was heard in haste.
        user, thread, consent: as for `Agent.events`.
        report: told of each turn that is remembered.
    """

    def __init__(
        self,
        agent: Agent,
        ears: Ears,
        *,
        user: str,
        thread: str,
        consent: Consent,
        report: Report = lambda result, timing: None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._agent = agent
        self._ears = ears
        self._options: dict[str, Any] = {"user": user, "thread": thread, "consent": consent}
        self._report = report
        self._answer: Answer | None = None
        self._before: Answer | None = None
        self._state: Literal["ahead", "playing", "held"] = "ahead"
        self._n_played = 0
        self._n_written = 0
        self._speaks = True
        self._reached = False  # something of the answer was heard, or shown where it has no sound
        self._person_speaks = False
        self._turn_over = False
        self._failed = False
        self._heard: HeardSoFar | None = None
        self._told: asyncio.Queue[_Told] = asyncio.Queue()
        self._lock = asyncio.Lock()  # what is played and what is held are decided one after the other
        self._encouraged = False  # since the person last said something
        self._listener: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._saying: asyncio.Task[None] | None = None
        self._again: asyncio.Task[None] | None = None  # hearing in full what is being answered
        self._unheard = _NOTHING  # of turns that are over, what was heard in haste only
        self._timings: dict[Answer, TurnTiming] = {}

    # ---- frames ------------------------------------------------------------------------------------------------------

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """See `FrameProcessor.process_frame`."""
        await super().process_frame(frame, direction)
        if self._listener is None:
            self._listener = self.create_task(self._listen())
        async with self._lock:
            if isinstance(frame, VADUserStartedSpeakingFrame):
                self._person_speaks, self._turn_over, self._failed, self._heard = True, False, False, None
                self._encouraged = False
                if self._state == "ahead":
                    self._drop()
            elif isinstance(frame, VADUserStoppedSpeakingFrame):
                self._person_speaks = False
            elif isinstance(frame, InterruptionFrame):
                await self._end(self._saying)
                self._stop()
            elif isinstance(frame, UserBackchannelFrame):
                await self._go_on()
            elif isinstance(frame, UserStartedSpeakingFrame):
                await self._give_the_floor()
            elif isinstance(frame, HeardSoFar):
                self._heard = frame
                await self._think()
            elif isinstance(frame, UserStoppedSpeakingFrame):
                await self._begin()
            elif isinstance(frame, HearingFailed):
                logger.error("the recogniser failed: %s", frame.error)
                if self._state == "held":
                    self._close()
                await self._say(APOLOGY)
            elif isinstance(frame, LLMMessagesAppendFrame):
                await self._read(frame)
            elif isinstance(frame, LLMConfigureOutputFrame):
                self._speaks = not frame.skip_tts
            await self.push_frame(frame, direction)

    async def cleanup(self) -> None:
        """The person is gone: what they heard is remembered."""
        await super().cleanup()
        self._close()
        self._drop()
        for task in (self._listener, self._watch, self._saying, self._again):
            await self._end(task)
        if self._before is not None:
            await asyncio.to_thread(self._before.join, PATIENCE_S)
        while not self._told.empty():
            answer, event = self._told.get_nowait()
            if isinstance(event, Finished):
                self._finish(answer, event.result)

    @property
    def quiet(self) -> bool:
        """Whether no answer is being thought of, played or held."""
        return self._answer is None

    def heard(self, word: WordFrame) -> None:
        """The output played a word."""
        if self._answer is None or word.context_id != self._answer.id:
            return
        self._answer.heard_up_to(word.number)
        self._close_if_over()

    async def played(self, context_id: str | None) -> None:
        """The output played a sound of the answer of that id."""
        if self._answer is not None and context_id == self._answer.id and self._state == "playing":
            self._timings[self._answer].mark("played")
            await self._reaches()

    async def greet(self) -> None:
        """Say hello, and at first contact what is read of them."""
        user, consent = self._options["user"], self._options["consent"]
        first = await asyncio.to_thread(self._agent.store.count, user) == 0
        told = disclosure(consent, self._agent.model.card.modalities | {"text"}) if first else None
        async with self._lock:
            await self._say(f"{told or 'Hello. It is good to hear from you.'} How are you today?")

    async def encourage(self) -> None:
        """Nobody has said anything for a while: say that there is time, once."""
        async with self._lock:
            if self._answer is None and not self._encouraged:
                self._encouraged = True
                await self._say(STILL_HERE)

    # ---- the answer --------------------------------------------------------------------------------------------------

    async def _think(self) -> None:
        """Think of an answer to the turn so far."""
        if self._state != "ahead" or self._heard is None or self._heard.nothing:
            return
        self._drop()
        if self._turn_over:
            await self._begin()
        elif n_thinking() <= AHEAD_AT_MOST:
            self._answer_to(self._heard)

    def _answer_to(self, heard: HeardSoFar) -> None:
        sound = heard.sound
        if sound is not None:
            before = np.concatenate([self._unheard, sound.samples])
            sound = Speech(before[-round(HEARD_AGAIN_S * SAMPLE_RATE_HZ) :])
        self._start(heard.turn, ahead=heard.ahead, sound=sound)
        assert self._answer is not None
        timing = self._timings[self._answer]
        timing.mark("speech_end", heard.silent_since)
        timing.mark("pause", heard.noticed)
        timing.mark("words", heard.written)

    def _start(self, turn: UserTurn, **more: Any) -> None:
        loop = asyncio.get_running_loop()

        def tell(answer: Answer, event: Event | Exception | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._told.put_nowait, (answer, event))

        self._answer = Answer(self._agent, turn, tell, before=self._before, speak=self._speaks, **more, **self._options)
        self._timings[self._answer] = TurnTiming()
        self._state, self._n_played, self._n_written, self._reached = "ahead", 0, 0, False

    def _drop(self) -> None:
        """The answer was never meant."""
        if self._answer is not None:
            self._answer.drop()
            self._timings.pop(self._answer, None)
            self._before, self._answer = self._answer, None
        self._state = "ahead"

    def _stop(self) -> None:
        """Play nothing more for now."""
        if self._state != "playing":
            return
        if not self._reached:
            self._drop()  # answered too early; `Hearing` still has what they said
        elif self._person_speaks:
            self._state = "held"
        else:  # a client's button, or a typed line
            self._close()

    async def _give_the_floor(self) -> None:
        """The person begins a turn."""
        heard = self._heard
        if self._state == "playing" and not self._reached:
            self._drop()
        self._close()
        self._heard = heard
        await self._think()  # of what was heard before it was known to be a turn

    def _close(self) -> None:
        """Nobody hears more of it."""
        if self._answer is None or self._state == "ahead":
            return
        self._answer.close()
        if self._answer.sound is not None:
            self._unheard = self._answer.sound.samples
        self._before, self._answer, self._heard = self._answer, None, None
        self._state = "ahead"

    def _close_if_over(self) -> None:
        """It was heard whole, and so was what it answers."""
        if self._answer is not None and self._answer.heard_whole and self._answer.sound is None:
            self._close()

    async def _begin(self) -> None:
        """The person's turn is over: play what is there of the answer, and what comes."""
        if self._state != "ahead":
            return
        self._turn_over = True
        if self._answer is None and self._failed:
            self._failed = False
            await self._say(APOLOGY)
            return
        if self._answer is None and self._heard is not None and not self._heard.nothing:
            self._answer_to(self._heard)
        if self._answer is None:
            return
        self._timings[self._answer].mark("turn_end")
        self._state = "playing"
        await self._end(self._watch)
        await self._end(self._again)
        self._again = None
        self._watch = self.create_task(self._watch_over(self._answer))
        await self.push_frame(LLMFullResponseStartFrame())
        await self._advance()

    async def _go_on(self) -> None:
        """It was no turn: play on from the word at which it stopped."""
        if self._state == "ahead":
            self._drop()  # the agent had just said all, and a "mm-hm" needs no answer
        if self._state != "held" or self._answer is None:
            return
        self._state, self._n_played = "playing", self._answer.n_heard
        await self._advance()

    async def _advance(self) -> None:
        """Hand over to the output what it does not have yet."""
        answer = self._answer
        if answer is None or self._state != "playing":
            return
        if len(answer.text) > self._n_written:
            await self.push_frame(LLMTextFrame(answer.text[self._n_written :]))
            self._n_written = len(answer.text)
            if not answer.speaks:
                await self._reaches()
        if self._n_played == answer.n_heard and self._n_played < len(answer.words):
            await self.push_frame(TTSStartedFrame(context_id=answer.id))
        while self._n_played < len(answer.words):
            await self._play(answer.words[self._n_played], self._n_played, answer.id)
            self._n_played += 1
        if answer.complete:
            await self.push_frame(TTSStoppedFrame())
            await self.push_frame(LLMFullResponseEndFrame())
            if answer.heard_whole:  # it had no sound, or all of it was played before its end was known
                await self._reaches()
            if answer.sound is not None and self._again is None:
                self._again = self.create_task(self._hear_again(answer, answer.sound))
            self._close_if_over()

    async def _hear_again(self, answer: Answer, sound: Speech) -> None:
        """Hear in full what was heard in haste, once nobody waits: a crisis that was misheard is answered at once.

        The answer is then broken off and forgotten, and the turn is remembered as it was heard in full. Who breaks in
        before that has the floor; what they said is heard in full with what they say next.
        """
        while answer is self._answer and (self._state == "held" or self._somebody_waits(answer)):
            await asyncio.sleep(LOOK_S)
        if answer is not self._answer:
            return
        try:
            heard, crisis = await asyncio.to_thread(self._screen_again, answer.turn, sound)
        except Exception as error:
            logger.error("a turn was not heard in full: %s", type(error).__name__)
            crisis = False
        async with self._lock:
            self._again = None
            if answer is not self._answer or self._state != "playing":
                return
            answer.sound, self._unheard = None, _NOTHING
            if crisis:
                await self.push_frame(InterruptionFrame())
                self._drop()
                self._start(replace(answer.turn, text=heard.text, transcript=heard))
                await self._begin()
            else:
                self._close_if_over()

    def _somebody_waits(self, answer: Answer) -> bool:
        return not answer.heard_whole and (not self._reached or n_thinking() > 0)

    def _screen_again(self, turn: UserTurn, sound: Speech) -> tuple[Transcript, bool]:
        language = turn.transcript.language if turn.transcript is not None else ""
        heard = self._ears.asr().transcribe(sound, language or None)
        return heard, screened(heard.text, self._options["user"], self._agent.store).level == "crisis"

    async def _play(self, word: Word, number: int, context_id: str | None = None) -> None:
        await self.push_frame(TTSAudioRawFrame(word.sound, word.sample_rate_hz, 1))
        await self.push_frame(WordFrame(word.text, TextType.WORD, context_id, number=number))

    async def _reaches(self) -> None:
        """The answer reaches the person: from now on they cannot take it for a pause of theirs."""
        if not self._reached:
            self._reached = True
            await self.push_frame(Answering(), FrameDirection.UPSTREAM)

    async def _say(self, text: str) -> None:
        """Say something that is no answer and is not remembered."""
        await self.push_frame(Answering(), FrameDirection.UPSTREAM)
        await self.push_frame(LLMFullResponseStartFrame())
        await self.push_frame(LLMTextFrame(text))
        await self._end(self._saying)
        if self._speaks:
            self._saying = self.create_task(self._sound(text))
        else:
            await self.push_frame(LLMFullResponseEndFrame())

    async def _sound(self, text: str) -> None:
        """Say it aloud, unless somebody speaks by the time the voice has it."""
        sounds: list[Audio] = []
        try:
            async with asyncio.timeout(PATIENCE_S):
                sounds = await asyncio.to_thread(lambda: list(self._agent.speaker.speak(text, STYLES["warm"])))
        except Exception as error:
            logger.error("the voice failed: %s", type(error).__name__)
        async with self._lock:
            if sounds and not self._person_speaks and self._state == "ahead":
                await self.push_frame(TTSStartedFrame())
                for sound in sounds:
                    for number, word in enumerate(words_of(sound)):
                        await self._play(word, number)
                await self.push_frame(TTSStoppedFrame())
            await self.push_frame(LLMFullResponseEndFrame())

    async def _end(self, task: asyncio.Task[None] | None) -> None:
        if task is not None:
            await self.cancel_task(task)

    async def _read(self, frame: LLMMessagesAppendFrame) -> None:
        """Answer what was typed."""
        messages: list[Any] = list(frame.messages)
        lines = [message["content"] for message in messages if message.get("role") == "user"]
        if not lines or not frame.run_llm:
            return
        self._encouraged = False
        await self._end(self._saying)
        self._close()
        self._drop()
        absent = {"voice": Absence.NOT_GIVEN, "face": Absence.NOT_GIVEN}
        self._start(UserTurn("\n".join(map(str, lines)), absent=absent))  # type: ignore[arg-type]
        await self._begin()

    # ---- what the agent tells ----------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        while True:
            answer, event = await self._told.get()
            async with self._lock:
                if isinstance(event, Finished):
                    waited = self._finish(answer, event.result)
                    await self._tell("turn", turn_id=event.result.turn_id, latency_ms=waited)
                elif answer is self._answer:
                    await self._take(answer, event)
                elif isinstance(event, Exception):
                    logger.error("a turn that was over failed: %s", type(event).__name__)

    async def _take(self, answer: Answer, event: Event | Exception | None) -> None:
        timing = self._timings[answer]
        match event:
            case Started(disclosure=str(told)):
                await self._tell("disclosure", text=told)
            case Perceived(affect=affect):
                timing.mark("felt")
                await self.push_frame(Felt(affect), FrameDirection.UPSTREAM)
                await self._tell(
                    "affect", emotion=affect.emotion, confidence=affect.confidence, valence=affect.valence,
                    arousal=affect.arousal, evidence=asdict(affect.evidence),
                )  # fmt: skip
            case Screened(screening) if screening.level == "crisis":
                answer.sound, self._unheard = None, _NOTHING
            case Understood():
                timing.mark("understood")
            case Planned(plan=plan, thought=thought):
                timing.mark("understood")
                why = asdict(thought) if thought else None
                await self._tell("plan", route=plan.route, strategy=plan.strategy, voice=plan.voice, thought=why)
            case ReplyText():
                timing.mark("first_text")
            case Spoken():
                timing.mark("first_sound")
            case Unspoken(error=error):
                logger.error("the voice failed: %s", type(error).__name__)
                await self._tell("error", text="The voice failed; the reply is shown in words only.")
            case Replied() if not answer.speaks:
                answer.complete = True
            case AllSpoken():
                answer.complete = True
            case Exception():
                await self._fail(answer, event)
                return
        if event is not None and not isinstance(event, Exception):
            answer.take(event)
        await self._advance()

    async def _tell(self, kind: str, **more: Any) -> None:
        """Tell the client, by RTVI's server messages."""
        await self.push_frame(RTVIServerMessageFrame({"type": kind, **more}))

    async def _fail(self, answer: Answer, error: Exception) -> None:
        """An answer failed: say so, once the person's turn is over; the next turn finds everything as it was."""
        logger.error("the answer failed: %s", type(error).__name__)
        over = self._state != "ahead"
        self._drop()
        if over:
            await self._say(APOLOGY)
        else:
            self._failed = True

    async def _watch_over(self, answer: Answer) -> None:
        spent = 0.0
        while spent < PATIENCE_S * max(1, n_thinking()):
            await asyncio.sleep(PATIENCE_S / 4)
            spent += PATIENCE_S / 4
        async with self._lock:
            if answer is self._answer and not (answer.words if answer.speaks else answer.text):
                await self._fail(answer, TimeoutError())
                self._before = None  # whoever stalls is not waited for

    def _finish(self, answer: Answer, result: TurnResult) -> float | None:
        """Report a turn that is remembered; how many milliseconds the person waited, if they heard an answer."""
        timing = self._timings.pop(answer, None)
        if timing is None:
            return None
        try:
            timing.trace(result.turn_id)
            self._report(result, timing)
        except Exception as error:  # whoever keeps the figures must not end the conversation
            logger.error("turn %s was not reported: %s", result.turn_id, type(error).__name__)
        return timing.stages_ms().get("latency")
