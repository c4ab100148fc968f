from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessageChunk

from agent.reply import INSTEAD, ChatModelReply, ReplyRequest, guarded, instructions
from agent.state import Plan
from model.types import CutShort, Thought, Utterance
from tests.fakes import affect_of

REQUEST = ReplyRequest(
    text="I miss her.",
    dialogue=(Utterance("user", "My cat ran away."), Utterance("assistant", "Oh no.")),
    affect=affect_of("sad"),
    plan=Plan("empathize", "comfort", "congruent", "calm"),
    thought=Thought("a cat ran away", "sad", "she is gone", "comfort them"),
    memories=("On March 5 they said ...",),
    prefix=None,
)


def pieces(text, size):
    return [text[i : i + size] for i in range(0, len(text), size)]


@settings(deadline=None)  # a busy machine is no failure
@given(st.integers(1, 9))
def test_a_harmless_reply_passes_unchanged(size):
    text = "I am so sorry about your cat. That must hurt, and it shows how much she means to you. What was she like?"
    assert "".join(guarded(pieces(text, size))) == text


@pytest.mark.parametrize("size", [1, 4, 200])
def test_a_claim_is_stopped_before_its_first_word_and_the_rest_goes_on(size):
    text = "That sounds hard. As a human I know this well. I am here for you."
    told = "".join(guarded(pieces(text, size)))
    assert "human" not in told
    assert "As a" not in told
    assert told.startswith("That sounds hard.")
    assert told.endswith("I am here for you.")


def test_a_reply_of_claims_only_is_replaced():
    assert list(guarded(["I am a licensed therapist and a real person."])) == [INSTEAD]


def test_an_empty_reply_is_replaced():
    assert list(guarded([])) == [INSTEAD]


def test_words_come_before_the_sentence_ends():
    stream = guarded(iter(["I can hear how much this matters to you, and "] + ["more " for _ in range(50)]))
    assert next(stream)


def test_a_chat_model_gets_plan_thought_and_memories():
    class Chat:
        def stream(self, messages):
            self.messages = messages
            yield AIMessageChunk("I am ")
            yield AIMessageChunk("sorry.")

    chat = Chat()
    assert "".join(ChatModelReply(chat).reply(REQUEST)) == "I am sorry."
    system, *rest = [message.content for message in chat.messages]
    assert rest == ["My cat ran away.", "Oh no.", "I miss her."]
    for part in ("sad", "comfort them", "she is gone", "On March 5"):
        assert part in system


@pytest.mark.parametrize(("reason", "cut"), [("length", True), ("stop", False)])
def test_a_chat_model_that_runs_out_of_tokens_tells(reason, cut):
    class Chat:
        def stream(self, messages, max_tokens):
            yield AIMessageChunk("I am " * max_tokens)
            yield AIMessageChunk("", response_metadata={"finish_reason": reason})

    told = list(ChatModelReply(Chat()).reply(replace(REQUEST, max_tokens=2)))
    assert "".join(told) == "I am I am "
    assert isinstance(told[-1], CutShort) is cut


def test_instructions_forbid_claiming_to_be_human():
    assert "Never claim to be human" in instructions(REQUEST)
