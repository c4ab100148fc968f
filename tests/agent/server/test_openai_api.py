"""OpenAI's own client against the server."""

import asyncio
import base64
import contextlib
import io
import threading
import wave

import numpy as np
import pytest

from agent.care import Consent
from agent.encoding import FORMATS
from agent.host import Message
from model.types import Utterance
from perception.listen import MAX_CHARACTERS
from tests.agent.server.house import EVERYTHING, SAID, house, served
from tests.fakes import FakeAsr, FakeEmbedder, FakeModel, FakeSpeaker

openai = pytest.importorskip("openai", reason="openai is not installed")

REPLY = "I hear you. Tell me more?"
HELLO = [{"role": "user", "content": SAID}]


def wav(seconds=0.5):
    held = io.BytesIO()
    with wave.open(held, "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        tone = 3_000 * np.sin(np.arange(round(16_000 * seconds)) / 20)
        file.writeframes(tone.astype("<i2").tobytes())
    return held.getvalue()


def picture():
    image = pytest.importorskip("PIL.Image").new("RGB", (64, 64), "white")
    held = io.BytesIO()
    image.save(held, "PNG")
    return held.getvalue()


def sound_part(content=None):
    data = base64.b64encode(content or wav()).decode()
    return {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}


def picture_part(url=None):
    return {
        "type": "image_url",
        "image_url": {"url": url or f"data:image/png;base64,{base64.b64encode(picture()).decode()}"},
    }


@pytest.fixture
def at(tmp_path):
    with house(tmp_path) as at:
        at.people.agree("ann", EVERYTHING)
        yield at


@contextlib.asynccontextmanager
async def client_of(at, *, key=None, headers=None, **options):
    key = key or at.people.new_token("ann")
    async with (
        served(at, **options) as address,
        openai.AsyncOpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0, default_headers=headers) as client,
    ):
        yield client


async def ask(client, messages=HELLO, **options):
    return await client.chat.completions.create(**{"model": "nano-emox", "messages": messages} | options)


async def streamed(client, messages=HELLO, **options):
    return [chunk async for chunk in await ask(client, messages, stream=True, **options)]


def said_in(chunks):
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


# ---- chat ------------------------------------------------------------------------------------------------------------


async def test_a_message_is_answered(at):
    async with client_of(at) as client:
        answer = await ask(client, temperature=0.2, seed=3)
    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", REPLY, "stop")
    assert (answer.object, answer.model, answer.system_fingerprint) == ("chat.completion", "nano-emox", "fake-1")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (len(SAID) // 4, len(REPLY) // 4)
    assert answer.usage.total_tokens == len(SAID) // 4 + len(REPLY) // 4
    assert "emox" not in answer.model_extra
    (episode,) = at.store.list("ann")
    assert (episode.text, episode.reply) == (SAID, REPLY)


async def test_an_answer_is_streamed_as_it_is_worded(at):
    async with client_of(at) as client:
        chunks = await streamed(client)
    assert said_in(chunks) == REPLY
    assert len([chunk for chunk in chunks if chunk.choices[0].delta.content]) > 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert len({chunk.id for chunk in chunks}) == 1
    assert all("emox" not in chunk.model_extra and chunk.usage is None for chunk in chunks)


async def test_a_stream_ends_as_the_api_says(at):
    async with client_of(at) as client:
        raw = await client.chat.completions.with_raw_response.create(model="nano-emox", messages=HELLO, stream=True)
        text = (await raw.http_response.aread()).decode()
    assert raw.headers["content-type"].startswith("text/event-stream")
    assert text.endswith("}\n\ndata: [DONE]\n\n")


async def test_a_stream_tells_its_usage_if_asked(at):
    async with client_of(at) as client:
        *chunks, last = await streamed(client, stream_options={"include_usage": True})
        whole = await ask(client)
    assert last.choices == []
    assert last.usage == whole.usage
    assert all(chunk.usage is None for chunk in chunks)


async def test_a_reply_cut_short_says_so(at):
    async with client_of(at) as client:
        for name in ("max_tokens", "max_completion_tokens"):
            answer = await ask(client, **{name: 2})
            chunks = await streamed(client, **{name: 2})
            assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("I hear", "length")
            assert (said_in(chunks), chunks[-1].choices[0].finish_reason) == ("I hear", "length")


async def test_the_messages_before_are_the_dialogue(at):
    messages = [
        {"role": "system", "content": "Be a pirate."},
        {"role": "user", "content": "My cat ran away."},
        {"role": "assistant", "content": [{"type": "text", "text": "Oh no."}]},
        *HELLO,
    ]
    async with client_of(at) as client:
        first = await ask(client, messages[:2], extra_body={"emox": {"include": ["plan"]}})
        answer = await ask(client, messages, extra_body={"emox": {"include": ["plan"]}})
        await ask(client, HELLO)
    assert at.model.histories[1] == (Utterance("user", "My cat ran away."), Utterance("assistant", "Oh no."))
    assert at.model.histories[2] == ()
    assert answer.usage.prompt_tokens == sum(len(text) // 4 for text in ("My cat ran away.", "Oh no.", SAID))
    assert first.emox["thread_id"] == answer.emox["thread_id"]
    assert answer.emox["thread_id"].startswith("chat-")
    assert {episode.thread_id for episode in at.store.list("ann")} > {answer.emox["thread_id"]}


async def test_no_more_of_a_dialogue_is_read_than_the_model_can_hold(at):
    lines = [{"role": "user", "content": letter * (MAX_CHARACTERS // 2)} for letter in "abc"]
    async with client_of(at) as client:
        await ask(client, [*lines, *HELLO])
    assert [line.text[0] for line in at.model.histories[0]] == ["b", "c"]


async def test_a_thread_is_kept_by_the_server(at):
    kept = {"emox": {"thread": "cats"}}
    async with client_of(at) as client:
        await ask(client, [{"role": "user", "content": "My cat ran away."}], extra_body=kept)
        await ask(client, [{"role": "user", "content": "Forged."}, {"role": "assistant", "content": "Yes."}, *HELLO],
                  extra_body=kept)  # fmt: skip
    assert at.model.histories[1] == (Utterance("user", "My cat ran away."), Utterance("assistant", REPLY))
    assert {episode.thread_id for episode in at.store.list("ann")} == {"cats"}


async def test_speech_is_heard(at):
    async with client_of(at) as client:
        answer = await ask(client, [{"role": "user", "content": [sound_part()]}],
                           extra_body={"emox": {"include": ["transcript", "modalities"]}})  # fmt: skip
    assert answer.choices[0].message.content == REPLY
    assert (answer.emox["transcript"], list(answer.emox["modalities"])) == ("I had a long day.", ["text", "voice"])


async def test_a_picture_is_seen(at):
    parts = [{"type": "text", "text": SAID}, picture_part()]
    async with client_of(at) as client:
        answer = await ask(client, [{"role": "user", "content": parts}],
                           extra_body={"emox": {"include": ["modalities"]}})  # fmt: skip
    assert list(answer.emox["modalities"]) == ["text", "face"]


async def test_without_consent_only_the_words_of_speech_are_read(at):
    at.people.agree("ann", Consent())
    async with client_of(at) as client:
        answer = await ask(client, [{"role": "user", "content": [sound_part()]}],
                           extra_body={"emox": {"include": ["transcript", "modalities", "absent"]}})  # fmt: skip
    assert (answer.emox["transcript"], list(answer.emox["modalities"])) == ("I had a long day.", ["text"])
    assert set(answer.emox["absent"]) == {"voice", "face"}


async def test_the_turn_is_told_if_asked(at):
    wanted = ["affect", "thought", "recalled", "understanding", "plan", "disclosure"]
    async with client_of(at) as client:
        answer = await ask(client, extra_body={"emox": {"include": wanted}})
        chunks = await streamed(client, extra_body={"emox": {"include": ["affect"]}})
    assert set(answer.emox) == {"turn_id", "thread_id", *wanted}
    assert (answer.emox["affect"]["emotion"], answer.emox["plan"]["strategy"]) == ("sad", "comfort")
    assert answer.emox["disclosure"] is None
    assert chunks[-1].emox["affect"]["emotion"] == "sad"


@pytest.mark.parametrize("where", ["header", "body"])
async def test_a_message_sent_again_is_answered_once(at, where):
    options = (
        {"extra_headers": {"Idempotency-Key": "m1"}} if where == "header" else {"extra_body": {"emox": {"id": "m1"}}}
    )
    async with client_of(at) as client:
        first = await ask(client, **options)
        again = await ask(client, **options)
        chunks = await streamed(client, **options)
        other = await ask(client)
    assert first.id == again.id == chunks[0].id != other.id
    assert said_in(chunks) == again.choices[0].message.content == REPLY
    assert at.store.count("ann") == 2


# ---- first contact ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_at_first_contact_the_disclosure_comes_before_the_reply(tmp_path, stream):
    with house(tmp_path) as at:
        async with client_of(at) as client:
            said = [
                said_in(await streamed(client)) if stream else (await ask(client)).choices[0].message.content
                for _ in range(2)
            ]
            disclosure, _, reply = said[0].partition("\n\n")
            await ask(client, [*HELLO, {"role": "assistant", "content": said[0]}, *HELLO])
        assert disclosure.startswith("Hi! Before we start: I am a program")
        assert "/api/consent" in disclosure
        assert reply == said[1] == REPLY
        assert at.people.consent_of("ann") == Consent(text=True, voice=False, face=False)
        assert at.model.histories[-1] == (Utterance("user", SAID), Utterance("assistant", REPLY))


async def test_a_disclosure_shown_elsewhere_is_not_repeated(tmp_path):
    with house(tmp_path) as at:
        async with client_of(at) as client:
            answer = await ask(client, extra_body={"emox": {"disclosed": True, "include": ["disclosure"]}})
        assert answer.choices[0].message.content == REPLY
        assert answer.emox["disclosure"].startswith("Hi! Before we start")
        assert at.people.consent_of("ann") == Consent()


async def test_a_first_answer_that_got_lost_is_told_again_with_its_disclosure(tmp_path):
    with house(tmp_path) as at:
        async with client_of(at) as client:
            first, again = [await ask(client, extra_body={"emox": {"id": "m1"}}) for _ in range(2)]
            next_one = await ask(client, extra_body={"emox": {"id": "m2"}})
        assert first.choices[0].message.content == again.choices[0].message.content
        assert next_one.choices[0].message.content == REPLY


async def test_a_first_message_that_fails_is_no_consent(tmp_path):
    with house(tmp_path) as at:
        async with client_of(at) as client:
            with pytest.raises(openai.BadRequestError):
                await ask(client, [{"role": "user", "content": [sound_part(b"no sound at all")]}])
        assert at.people.consent_of("ann") is None


# ---- what cannot be used ---------------------------------------------------------------------------------------------


REFUSED = [
    ({"n": 2}, "n"),
    ({"stop": ["."]}, "stop"),
    ({"logprobs": True}, "logprobs"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
    ({"functions": [{"name": "f"}]}, "functions"),
    ({"modalities": ["text", "audio"]}, "modalities"),
    ({"audio": {"voice": "alloy", "format": "wav"}}, "modalities"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"extra_body": {"emox": {"include": ["secrets"]}}}, "emox.include.0"),
    ({"extra_body": {"emox": {"unknown": 1}}}, "emox.unknown"),
    ({"messages": []}, "messages"),
    ({"messages": [*HELLO, {"role": "assistant", "content": "I"}]}, "messages"),
    ({"messages": [{"role": "user", "content": " "}]}, "messages"),
    ({"messages": [{"role": "tool", "content": "1", "tool_call_id": "x"}]}, "messages.0.role"),
    ({"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]}, "messages.0.content.0"),
    ({"messages": [{"role": "user", "content": [sound_part(), sound_part()]}]}, "messages"),
    ({"messages": [{"role": "user", "content": [sound_part(), picture_part("data:,")]}]}, "messages"),
    ({"messages": [{"role": "user", "content": [picture_part("https://example.org/cat.png")]}]}, "messages"),
    ({"messages": [{"role": "user", "content": [picture_part("file:///etc/passwd")]}]}, "messages"),
]  # fmt: skip


async def test_what_is_not_done_here_is_refused(at):
    async with client_of(at) as client:
        for options, param in REFUSED:
            with pytest.raises(openai.BadRequestError) as refused:
                await ask(client, **options)
            assert (refused.value.type, refused.value.param) == ("invalid_request_error", param)
            assert refused.value.code in ("unsupported_value", "invalid_value")
            assert param in refused.value.message
    assert at.model.calls == []


async def test_a_text_that_is_too_long_is_called_so(at):
    async with client_of(at) as client:
        with pytest.raises(openai.BadRequestError) as refused:
            await ask(client, [{"role": "user", "content": "a" * (MAX_CHARACTERS + 1)}])
    assert refused.value.code == "context_length_exceeded"
    assert "8,001 characters" in refused.value.message


async def test_a_damaged_recording_is_a_bad_request(at):
    part = {"type": "input_audio", "input_audio": {"data": "?", "format": "wav"}}
    async with client_of(at) as client:
        for stream in (False, True):
            with pytest.raises(openai.BadRequestError, match="cannot be read"):
                await ask(client, [{"role": "user", "content": [sound_part(b"no sound at all")]}], stream=stream)
            with pytest.raises(openai.BadRequestError, match="base64"):
                await ask(client, [{"role": "user", "content": [part]}], stream=stream)


async def test_an_unknown_model_is_not_found(at):
    async with client_of(at) as client:
        for request in (
            ask(client, model="gpt-4o"),
            client.models.retrieve("gpt-4o"),
            client.embeddings.create(model="text-embedding-3-small", input="a"),
            client.audio.speech.create(model="gpt-4o-mini-tts", voice="plain", input="a"),
            client.audio.transcriptions.create(model="gpt-4o-transcribe", file=("a.wav", wav())),
        ):
            with pytest.raises(openai.NotFoundError) as refused:
                await request
            assert (refused.value.code, refused.value.param) == ("model_not_found", "model")


async def test_what_else_the_api_has_is_not_found(at):
    async with client_of(at) as client:
        for request in (client.responses.create(model="nano-emox", input="a"), client.files.list()):
            with pytest.raises(openai.NotFoundError) as refused:
                await request
            assert refused.value.code == "unknown_url"


async def test_what_is_too_big_is_refused(at):
    async def in_pieces():
        for _ in range(36):
            yield b" " * 2**20

    options = {"headers": {"Content-Type": "application/json"}}
    async with client_of(at) as client:
        for request in (
            ask(client, [{"role": "user", "content": "a" * (35 * 2**20)}]),
            client.post("/embeddings", cast_to=object, content=in_pieces(), options=options),
            client.audio.transcriptions.create(model="whisper-1", file=("a.wav", b"0" * (25 * 2**20 + 1))),
        ):
            with pytest.raises(openai.APIStatusError) as refused:
                await request
            assert (refused.value.status_code, refused.value.code) == (413, "request_too_large")


async def test_what_is_no_json_is_a_bad_request(at):
    options = {"headers": {"Content-Type": "application/json"}}
    async with client_of(at) as client:
        for content in (b"{", b"\xff", b'{"messages": "\\ud800"}', b'{"\\ud800": 1, "emox": {"\\ud800": 1}}'):
            with pytest.raises(openai.BadRequestError) as refused:
                await client.post("/chat/completions", cast_to=object, content=content, options=options)
            assert refused.value.type == "invalid_request_error"


async def test_a_wrong_key_is_refused(at):
    async with client_of(at, key="sk-wrong") as client:
        at.people.new_token("ann")
        for request in (ask(client), client.models.list(), client.embeddings.create(model="m", input="a")):
            with pytest.raises(openai.AuthenticationError) as refused:
                await request
            assert refused.value.code == "invalid_api_key"
    assert at.model.calls == []


async def test_too_many_requests_are_told_to_wait(at):
    async with client_of(at, a_minute=1) as client:
        await client.models.list()
        with pytest.raises(openai.RateLimitError) as refused:
            await ask(client)
    assert refused.value.code == "rate_limit_exceeded"
    assert int(refused.value.response.headers["retry-after"]) > 0


async def test_another_sites_page_is_turned_away(at):
    async with client_of(at, headers={"Origin": "https://evil.example"}) as client:
        with pytest.raises(openai.PermissionDeniedError) as refused:
            await ask(client)
    assert refused.value.code == "permission_denied"


class SlowModel(FakeModel):
    def __init__(self):
        super().__init__()
        self.go_on = threading.Event()

    def attend(self, *args):
        assert self.go_on.wait(10)
        return super().attend(*args)


async def test_when_too_much_is_asked_at_once_all_of_it_is_told_to_wait(tmp_path):
    model = SlowModel()
    with house(tmp_path, model=model, at_once=1, waiting=0) as at:
        at.people.agree("ann", EVERYTHING)
        async with client_of(at) as client:
            running = asyncio.create_task(ask(client))
            while not at.host.n_here:
                await asyncio.sleep(0.01)
            for request in (
                ask(client),
                ask(client, stream=True),
                client.audio.speech.create(model="emox-voice", voice="plain", input="Hello."),
                client.audio.transcriptions.create(model="whisper-1", file=("a.wav", wav())),
                client.embeddings.create(model="fake-embedder", input="a"),
            ):
                with pytest.raises(openai.RateLimitError) as refused:
                    await request
                assert refused.value.code == "rate_limit_exceeded"
                assert int(refused.value.response.headers["retry-after"]) > 0
            model.go_on.set()
            assert (await running).choices[0].message.content == REPLY
            await client.embeddings.create(model="fake-embedder", input="a")
        assert at.host.n_here == 0


async def test_a_failure_in_the_middle_of_a_stream_is_told(tmp_path):
    class Breaking(FakeModel):
        def empathize(self, prefix, brief):
            yield "One two three four five six seven eight "
            raise OSError("words of somebody")

    with house(tmp_path, model=Breaking()) as at:
        at.people.agree("ann", EVERYTHING)
        async with client_of(at) as client:
            with pytest.raises(openai.APIError, match="something went wrong") as failed:
                await streamed(client)
            assert "words of somebody" not in str(failed.value)
            with pytest.raises(openai.InternalServerError):
                await ask(client)


# ---- sound -----------------------------------------------------------------------------------------------------------


async def test_a_text_is_said_aloud(at):
    async with client_of(at) as client:
        sound = await client.audio.speech.create(
            model="emox-voice", voice="calm", input="I am here. I am listening.", response_format="wav"
        )
    with wave.open(io.BytesIO(sound.content)) as file:
        samples = np.frombuffer(file.readframes(10**9), "<i2")
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
    assert len(samples) == 6 * 800
    assert [(text, style.name, style.rate) for text, style in at.speaker.said] == [
        ("I am here.", "calm", 0.85), ("I am listening.", "calm", 0.85),
    ]  # fmt: skip


async def test_voice_and_speed_choose_the_manner(at):
    wishes = {("alloy", 1): ("plain", 1), ("warm", 1.5): ("warm", 1.38), ("plain", 0.25): ("plain", 0.5),
              ("bright", 4): ("bright", 2)}  # fmt: skip
    async with client_of(at) as client:
        for voice, speed in wishes:
            await client.audio.speech.create(model="tts-1", voice=voice, input="Hello.", speed=speed)
    assert [(style.name, round(style.rate, 3)) for _, style in at.speaker.said] == list(wishes.values())


async def test_sound_comes_in_every_format(at):
    av = pytest.importorskip("av")
    options = {"model": "emox-voice", "voice": "plain", "input": "one two three four. " * 5}
    async with client_of(at) as client:
        sounds = {form: await client.audio.speech.create(**options, response_format=form) for form in FORMATS}
        usual = await client.audio.speech.create(**options)
    for form, sound in sounds.items():
        assert sound.response.headers["content-type"] == FORMATS[form].media_type
        if form == "pcm":
            seconds = len(sound.content) / 2 / 24_000
        else:
            with av.open(io.BytesIO(sound.content)) as file:
                seconds = sum(frame.samples / frame.sample_rate for frame in file.decode(audio=0))
        assert seconds == pytest.approx(20 * 0.05, abs=0.15), form
    assert usual.content == sounds["mp3"].content


async def test_sound_comes_while_it_is_made(tmp_path):
    heard = threading.Event()

    class Waiting(FakeSpeaker):
        def speak(self, sentences, style):
            sounds = super().speak(sentences, style)
            yield next(sounds)
            assert heard.wait(10)  # the first sentence is heard before the second is made
            yield from sounds

    with house(tmp_path) as at:
        at.host.agent.__dict__["speaker"] = Waiting()
        async with client_of(at) as client:
            wish = client.audio.speech.with_streaming_response.create(
                model="emox-voice", voice="plain", input="I am here. I am listening.", response_format="wav"
            )
            async with wish as sound:
                n_bytes = 0
                async for piece in sound.iter_bytes():
                    n_bytes += len(piece)
                    heard.set() if n_bytes > 44 else None
        assert n_bytes == 44 + 2 * 6 * 800


async def test_what_cannot_be_said_is_a_bad_request(at):
    async with client_of(at) as client:
        for options in ({"speed": 5.0}, {"input": "a" * 9000}, {"input": "\U0001f642"}, {"response_format": "ra"}):
            with pytest.raises(openai.BadRequestError):
                await client.audio.speech.create(**{"model": "emox-voice", "voice": "plain", "input": "a"} | options)
    assert at.host.n_here == 0


async def test_speech_is_written_down(at):
    async with client_of(at) as client:
        plain = await client.audio.transcriptions.create(model="whisper-1", file=("a.wav", wav()))
        text = await client.audio.transcriptions.create(
            model="whisper-1", file=("a.wav", wav()), response_format="text"
        )
        verbose = await client.audio.transcriptions.create(
            model="recogniser", file=("a.wav", wav(1.0)), response_format="verbose_json", language="en",
            timestamp_granularities=["word"],
        )  # fmt: skip
    assert (plain.text, plain.model_extra) == ("I had a long day.", {})
    assert text == "I had a long day.\n"
    assert (verbose.text, verbose.language, verbose.duration) == ("I had a long day.", "en", 1.0)
    assert [(word.word, round(word.start, 2), round(word.end, 2)) for word in verbose.words][:2] == [
        ("I", 0.0, 0.2), ("had", 0.2, 0.4),
    ]  # fmt: skip
    assert at.store.count("ann") == 0


async def test_words_are_not_written_down_without_consent(at):
    at.people.agree("ann", Consent(text=False, voice=True))
    async with client_of(at) as client:
        with pytest.raises(openai.PermissionDeniedError, match="did not agree"):
            await client.audio.transcriptions.create(model="whisper-1", file=("a.wav", wav()))


async def test_what_cannot_be_written_down_is_a_bad_request(at):
    usual = {"model": "whisper-1", "file": ("a.wav", wav())}
    async with client_of(at) as client:
        for options in ({"response_format": "srt"}, {"stream": True}, {"file": ("a.wav", b"no sound")}):
            with pytest.raises(openai.BadRequestError):
                await client.audio.transcriptions.create(**usual | options)


async def test_the_loop_goes_on_while_speech_is_written_down(tmp_path):
    go_on = threading.Event()

    class Slow(FakeAsr):
        def transcribe(self, *args, **options):
            assert go_on.wait(10)
            return super().transcribe(*args, **options)

    with house(tmp_path, asr=Slow()) as at:
        async with client_of(at) as client:
            writing = asyncio.create_task(client.audio.transcriptions.create(model="whisper-1", file=("a.wav", wav())))
            while not at.host.n_here:
                await asyncio.sleep(0.01)
            assert len((await client.models.list()).data) == 4
            assert not writing.done()
            go_on.set()
            assert (await writing).text == "I had a long day."


# ---- embeddings and models -------------------------------------------------------------------------------------------


async def test_texts_become_the_memorys_vectors(at):
    texts = [f"{SAID} {n}" for n in range(40)]
    async with client_of(at) as client:
        found = await client.embeddings.create(model="fake-embedder", input=texts)
        one = await client.embeddings.create(model="fake-embedder", input=texts[3], encoding_format="float")
        same = await client.embeddings.create(model="fake-embedder", input=texts[3], encoding_format="base64")
    rows = FakeEmbedder().embed(texts)
    assert [item.index for item in found.data] == list(range(40))
    np.testing.assert_array_equal(np.array([item.embedding for item in found.data], np.float32), rows)
    np.testing.assert_array_equal(np.array(one.data[0].embedding, np.float32), rows[3])
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(same.data[0].embedding), "<f4"), rows[3])
    assert found.usage.prompt_tokens == sum(len(text) // 4 for text in texts)


async def test_what_has_no_vector_is_a_bad_request(at):
    async with client_of(at) as client:
        for name, value in (("input", [1]), ("input", [[1]]), ("input", ""), ("input", ["a", " "]), ("dimensions", 3)):
            with pytest.raises(openai.BadRequestError) as refused:
                await client.embeddings.create(**{"model": "fake-embedder", "input": "a"} | {name: value})
            assert refused.value.param.partition(".")[0] == name


async def test_the_models_are_listed(at):
    async with client_of(at) as client:
        names = [model.id async for model in await client.models.list()]
        one = await client.models.retrieve("nano-emox")
    assert names == ["nano-emox", "emox-voice", "recogniser", "fake-embedder"]
    assert (one.id, one.object) == ("nano-emox", "model")


# ---- the host --------------------------------------------------------------------------------------------------------


async def test_other_work_that_nobody_listens_to_ends_and_makes_room(at):
    made = []

    def items():
        for number in range(1_000_000):
            made.append(number)
            yield number

    work = at.host.work("ann", items())
    assert await anext(work) == 0
    assert at.host.n_here == 1
    await work.aclose()
    while at.host.n_here:
        await asyncio.sleep(0.01)
    assert len(made) < 1_000_000
    await at.host.ask(Message("ann", "main", SAID))
