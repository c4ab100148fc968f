"""`/v1/audio/...`: text said aloud, and speech written down."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form, UploadFile
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse

from agent.encoding import FORMATS, encoded
from agent.host import Host, file_of
from agent.speech import STYLES
from perception.listen import clean_text
from perception.media import read_clip
from perception.types import Transcript

from .access import Refused
from .openai_errors import Unusable, no_model
from .openai_types import SPEECH_MODEL, HeardWord, SpeechRequest, Transcription
from .seam import TheHost, User
from .turns_api import MAX_CLIP_BYTES, UNBUFFERED

RATES = (0.5, 2.0)
"""Between which a `VoiceStyle` may speak, relative to the voice's own speed."""

OTHER_SPEECH_MODELS = ("tts-1",)
OTHER_TRANSCRIPTION_MODELS = ("whisper-1",)
"""Names that programs ask for without letting one choose."""

router = APIRouter(prefix="/audio")


@router.post(
    "/speech",
    summary="Say a text aloud",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "The sound, as it is made.",
            "content": {
                form.media_type: {"schema": {"type": "string", "format": "binary"}} for form in FORMATS.values()
            },
        }
    },
)
async def speech(wish: SpeechRequest, host: TheHost, user: User) -> Any:
    """In the agent's own voice."""
    if wish.model not in (SPEECH_MODEL, *OTHER_SPEECH_MODELS):
        raise no_model(wish.model, SPEECH_MODEL)
    text = clean_text(wish.input)
    style = STYLES.get(wish.voice, STYLES["plain"])
    slowest, fastest = RATES
    style = replace(style, rate=min(max(style.rate * wish.speed, slowest), fastest))

    def said() -> Generator[bytes]:
        yield from encoded(host.agent.speaker.speak(text, style), wish.response_format)

    pieces = host.work(user, said())
    first = await anext(pieces)  # what is refused is refused before the answer begins

    async def told() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    return StreamingResponse(told(), media_type=FORMATS[wish.response_format].media_type, headers=UNBUFFERED)


@router.post(
    "/transcriptions",
    summary="Write down what is said",
    response_model=Transcription,
    response_model_exclude_none=True,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "What was said."}},
)
async def transcriptions(
    host: TheHost, user: User,
    file: Annotated[UploadFile, File(description="A sound or video file of 25 MiB and two minutes at most.")],
    model: Annotated[str, Form()],
    response_format: Annotated[Literal["json", "text", "verbose_json"], Form()] = "json",
    language: Annotated[str | None, Form(max_length=20, description="ISO 639-1.")] = None,
    stream: Annotated[bool, Form(description="Refused if true.")] = False,
) -> Any:  # fmt: skip
    """Nothing is kept, and no feeling is read. `verbose_json` tells when each word was said."""
    recogniser = host.agent.ears.recogniser
    if model not in (recogniser, *OTHER_TRANSCRIPTION_MODELS):
        raise no_model(model, recogniser)
    if stream:
        raise Unusable("stream: what is said is told at once", "stream", "unsupported_value")
    if "text" not in host.consent_of(user).allowed():
        raise Refused(403, "you did not agree that your words are read: PUT /api/consent")
    content = await file.read(MAX_CLIP_BYTES + 1)
    if len(content) > MAX_CLIP_BYTES:
        raise Refused(413, f"the file has more than {MAX_CLIP_BYTES:,} bytes: send a shorter one")
    written, duration_s = await host.do(user, lambda: _written(host, content, language))
    if response_format == "text":
        return PlainTextResponse(written.text + "\n")
    document = Transcription(text=written.text)
    if response_format == "verbose_json":
        words = [HeardWord(word=word.text, start=word.start_s, end=word.end_s) for word in written.words]
        document = Transcription(
            text=written.text, task="transcribe", language=written.language, duration=duration_s, words=words
        )
    return JSONResponse(document.model_dump(exclude_none=True))


def _written(host: Host, content: bytes, language: str | None) -> tuple[Transcript, float]:
    with file_of(content) as path:
        assert path is not None
        speech = read_clip(path, want_frames=False).speech
    if speech is None:
        raise Unusable("file: there is no sound in it", "file")
    return host.agent.ears.asr().transcribe(speech, language or None), speech.duration_s
