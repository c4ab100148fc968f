"""Requests and responses of OpenAI's API, as far as this server understands and gives them.

What a request holds beside these fields is ignored.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool

CHAT_MODEL = "nano-emox"
SPEECH_MODEL = "emox-voice"

IGNORED = "Accepted and ignored."

Role = Literal["system", "developer", "user", "assistant"]
Included = Literal[
    "affect", "understanding", "thought", "recalled", "plan", "screening", "transcript", "modalities", "absent",
    "timings_ms", "disclosure",
]  # fmt: skip


class TextPart(BaseModel):
    """Words."""

    type: Literal["text"]
    text: str


class Sound(BaseModel):
    """A sound file of 25 MiB and two minutes at most, as base64."""

    data: str
    format: Literal["wav", "mp3"]


class AudioPart(BaseModel):
    """Something said. Its words are written down if no text comes along; how they sound is read by consent to voice."""

    type: Literal["input_audio"]
    input_audio: Sound


class Picture(BaseModel):
    """A picture of 25 MiB at most, inside the address itself: no other address is ever fetched."""

    url: str = Field(examples=["data:image/png;base64,..."])


class ImagePart(BaseModel):
    """A picture of the person, read by consent to face."""

    type: Literal["image_url"]
    image_url: Picture


Part = Annotated[TextPart | AudioPart | ImagePart, Field(discriminator="type")]


class ChatMessage(BaseModel):
    """A line of the conversation. What `system` and `developer` say is not followed: the agent is who it is."""

    role: Role
    content: str | list[Part] | None = None


class StreamOptions(BaseModel):
    """Of a streamed answer."""

    include_usage: bool | None = Field(default=None, description="Tell the usage in a last chunk.")


class Extension(BaseModel):
    """What OpenAI's API has no words for."""

    model_config = ConfigDict(extra="forbid")

    thread: str | None = Field(
        default=None, min_length=1, max_length=200,
        description="Which conversation. The server keeps it, and of the messages only the last one counts.",
    )  # fmt: skip
    include: list[Included] = Field(
        default=[], max_length=100, description="What the answer's `emox` shall hold of the turn."
    )
    id: str | None = Field(
        default=None, min_length=1, max_length=200,
        description="Your name for this message, as Idempotency-Key: sent again, it is told the same answer.",
    )  # fmt: skip
    disclosed: StrictBool = Field(
        default=False, description="The person has been shown the disclosure: do not begin with it."
    )


class ChatRequest(BaseModel):
    """Messages to be answered; the last one is the user's."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"model": CHAT_MODEL, "messages": [{"role": "user", "content": "My cat ran away, and I miss her."}]}
            ]
        }
    )

    model: str = CHAT_MODEL
    messages: list[ChatMessage] = Field(min_length=1, max_length=10_000)
    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None
    max_completion_tokens: int | None = Field(
        default=None,
        ge=1,
        le=2**31 - 1,
        description="Of the reply, fewer than it has anyway. A crisis is answered whole.",
    )
    max_tokens: int | None = Field(default=None, ge=1, le=2**31 - 1, description="The same, by its former name.")
    emox: Extension = Field(default_factory=Extension)
    temperature: float | None = Field(default=None, description=IGNORED)
    top_p: float | None = Field(default=None, description=IGNORED)
    seed: int | None = Field(
        default=None, description="Accepted and ignored: the same turn is answered the same anyway."
    )
    user: str | None = Field(default=None, description="Accepted and ignored: whose token it is, is the user.")
    n: int | None = Field(default=None, description="One answer is given.")
    stop: str | list[str] | None = Field(default=None, description="Refused.")
    logprobs: StrictBool | None = Field(default=None, description="Refused if true.")
    top_logprobs: int | None = Field(default=None, description="Refused if not 0.")
    tools: list[Any] | None = Field(default=None, description="Refused.")
    functions: list[Any] | None = Field(default=None, description="Refused.")
    modalities: list[str] | None = Field(
        default=None, description="Only text is answered; /v1/audio/speech says it aloud."
    )
    audio: dict[str, Any] | None = Field(default=None, description="Refused.")
    response_format: dict[str, Any] | None = Field(default=None, description="Only of the type text.")


class Usage(BaseModel):
    """Tokens, estimated: one for every four bytes."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Answer(BaseModel):
    """The reply."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Choice(BaseModel):
    """The one answer; `length` says that it may have had more to say than it had tokens for."""

    index: Literal[0] = 0
    message: Answer
    logprobs: None = None
    finish_reason: Literal["stop", "length"]


class ChatCompletion(BaseModel):
    """The answer. `emox` is there if `include` asks for it: ids of turn and thread, and what is asked for."""

    id: str = Field(examples=["chatcmpl-0f5a1c9e22d34b17"])
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    system_fingerprint: str
    emox: dict[str, Any] | None = None


class SpeechRequest(BaseModel):
    """What to say aloud, and how."""

    model: str = SPEECH_MODEL
    input: str = Field(min_length=1, examples=["I am here, and I am listening."])
    voice: str = Field(
        default="plain", description="A manner of speaking: plain, warm, calm or bright. Other names are plain."
    )
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] = Field(
        default="mp3", description="`pcm` is 16 bits, mono, 24 kHz."
    )
    speed: float = Field(default=1.0, ge=0.25, le=4.0, description="Brought within half and double the voice's own.")
    instructions: str | None = Field(default=None, description=IGNORED)
    stream_format: Literal["audio"] | None = Field(default=None, description="Sound comes as it is made.")


class HeardWord(BaseModel):
    """A word, and when it is said, in seconds."""

    word: str
    start: float
    end: float


class Transcription(BaseModel):
    """What was said; nothing where nobody speaks. All but `text` only with `verbose_json`."""

    text: str
    task: Literal["transcribe"] | None = None
    language: str | None = Field(default=None, description="ISO 639-1.")
    duration: float | None = Field(default=None, description="Seconds.")
    words: list[HeardWord] | None = None


class EmbeddingsRequest(BaseModel):
    """Texts to be turned into vectors."""

    model: str
    input: str | Annotated[list[str], Field(min_length=1, max_length=2048)] = Field(examples=["I miss my cat."])
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(default=None, description="Only as many as the model has.")


class Embedding(BaseModel):
    """A vector of length 1: numbers, or the base64 of float32, the least significant byte first."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingsUsage(BaseModel):
    """Tokens, estimated: one for every four bytes."""

    prompt_tokens: int
    total_tokens: int


class Embeddings(BaseModel):
    """In the order of the texts."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingsUsage


class Model(BaseModel):
    """A model by its name."""

    id: str = Field(examples=[CHAT_MODEL])
    object: Literal["model"] = "model"
    created: int = Field(default=0, description="Not known.")
    owned_by: str = "emox"


class Models(BaseModel):
    """Those there are."""

    object: Literal["list"] = "list"
    data: list[Model]
