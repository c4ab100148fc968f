from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.voice.endpointing import WAITS, Waits, asks, distress, hesitates, is_backchannel, is_nothing, wait_s
from model.types import EMOTIONS, Evidence
from tests.fakes import affect_of

CALM = affect_of("neutral")
DONE = "I had a long day at work."

probabilities = st.floats(0, 1)
pieces = ["I", "think", "so", "what", "is", "and", "because", "um", "the", "dog", "ran", "away", "...", ",", ".", "?"]
texts = st.one_of(st.text(max_size=60), st.lists(st.sampled_from(pieces), max_size=9).map(" ".join))
affects = st.one_of(st.none(), st.builds(affect_of, st.sampled_from(EMOTIONS), probabilities))


@pytest.mark.parametrize(
    "text",
    [
        "I was, um",
        "I was, ummm...",
        "Well, uh.",
        "Er,",
        "Hmm.",
        "I went home and",
        "I could not sleep because.",
        "And then the.",
        "She told my",
        "I'm",
        "It's just that, you know.",
        "It was kind of",
        "When she died,",
        "I don't know...",
        "I don’t know…",
        "I was going to-",
        "I was trying to.",
        "I am afraid of.",
        "She would be able to see the kids in.",
        "So?..",
        '"Because,"',
    ],
)
def test_words_that_break_off_hesitate(text):
    assert hesitates(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "My dog died.",
        "I think so.",
        "I guess so",
        "I don't want to.",
        "Yes, I am.",
        "I know who you are.",
        "What are you looking for?",
        "Do you know what I mean?",
        "I gave up!",
        "He gave in.",
        "I have nobody to talk to.",
        "It is hard to deal with.",
        "They would not let me in.",
        "I miss her.",
        "A drum.",
        "[BLANK_AUDIO]",
        "Ich bin müde.",
        "。",
    ],
)
def test_whole_sentences_do_not_hesitate(text):
    assert not hesitates(text)


@pytest.mark.parametrize(
    "text",
    [
        "What should I do?",
        "Can you help me?",
        "My cat is gone. Where could she be?",
        "So, how are you?",
        "I failed, didn't I?",
        "It gets better, right?",
        "If you were me, what would you say?",
        "Why?",
        "With whom did you talk?",
        "Isn’t it sad?",
    ],
)
def test_crisp_questions_ask(text):
    assert asks(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "What a day.",
        "And then I went home?",
        "Is it all right? I think so.",
        "What would you do if you were in my place and your best friend had told everybody what you told them?",
        "What should I",
    ],
)
def test_statements_and_long_questions_do_not(text):
    assert not asks(text)


@pytest.mark.parametrize(
    "text",
    [
        "Mm-hmm.",
        "Mm-hm",
        "mm hmm",
        "Mhm.",
        "Mmhmm",
        "Mm.",
        "Mmm...",
        "Hmm.",
        "Hm",
        "Uh-huh.",
        "uh huh",
        "Uh-hum.",
        "Huh.",
        "Aha!",
        "Ah.",
        "Aww.",
        "Oh.",
        "Ohh.",
        "Yeah.",
        "Yeah, yeah, yeah.",
        "yea",
        "Yep",
        "Right.",
        "Right, right.",
        "Okay.",
        "OK",
        "Oh, okay.",
        "I see.",
        "Oh, I see",
        "That’s true.",
        "Got it.",
        "Really?",
        "Oh, really?",
        "Right?",
        "Wow!",
        "Ha ha ha!",
        "Hahaha.",
        "Heh.",
        "hehehe",
        "[Laughter]",
        "(laughs)",
        "*chuckles*",
        "Yeah. (laughs)",
    ],
)
def test_sounds_of_listening_are_backchannels(text):
    assert is_backchannel(text, 0.6)


@pytest.mark.parametrize(
    "text",
    [
        "No.",
        "No, no.",
        "Nope",
        "Wait.",
        "Wait, wait",
        "Stop!",
        "Okay, stop.",
        "Yeah, but",
        "Yeah, no.",
        "Oh no.",
        "Uh-uh.",
        "Mm-mm.",
        "Huh?",
        "What?",
        "Okay?",
        "Hello?",
        "Um",
        "I see a dog.",
        "Right now.",
        "Help",
        "Hum a song.",
        "Yeah okay right sure great.",
        "Thank you.",
        "",
        "(coughs)",
    ],
)
def test_a_wish_to_speak_is_no_backchannel(text):
    assert not is_backchannel(text, 0.6)


def test_who_goes_on_for_long_wants_to_speak():
    assert is_backchannel("Yeah.", 1.4)
    assert not is_backchannel("Yeah.", 1.6)


@pytest.mark.parametrize("text", ["", "  ", "...", "[BLANK_AUDIO]", "(coughs)", "*sighs*", "♪", "-"])
def test_noises_are_nothing(text):
    assert is_nothing(text)


@pytest.mark.parametrize("text", ["No.", "Mm", "7", "好", "(coughs) Sorry."])
def test_words_are_something(text):
    assert not is_nothing(text)


def test_waits_are_as_long_as_their_parts():
    assert wait_s(1, DONE, CALM) == WAITS.sure
    assert wait_s(0, DONE, CALM) == pytest.approx(WAITS.sure + WAITS.unsure)
    assert wait_s(1, "I went home and", CALM) == pytest.approx(WAITS.sure + WAITS.hesitation)
    assert wait_s(1, "What should I do?", CALM) == pytest.approx(WAITS.sure - WAITS.question)
    assert wait_s(1, DONE, affect_of("fear")) == pytest.approx(WAITS.sure + WAITS.distress)


def test_a_calm_whole_sentence_costs_no_time():
    assert wait_s(0.9, DONE, CALM) <= 0.8


def test_a_wait_needs_no_affect_and_no_words():
    assert wait_s(0.7, DONE, None) == wait_s(0.7, "", CALM)


@pytest.mark.parametrize("complete", [-0.1, 1.1, float("nan")])
def test_what_is_no_probability_is_refused(complete):
    with pytest.raises(ValueError, match="probability"):
        wait_s(complete, DONE, CALM)


def test_a_sad_voice_counts_though_the_words_are_calm():
    voice = affect_of("sad", 0.9).emotions
    assert distress(replace(CALM, evidence=Evidence(voice=voice))) == pytest.approx(0.9)


@pytest.mark.parametrize("emotion", ["neutral", "happy", "angry", "surprise"])
def test_only_the_sad_and_the_afraid_are_given_time(emotion):
    assert distress(affect_of(emotion)) == 0


@given(probabilities, texts, affects)
def test_waits_are_bounded(complete, text, affect):
    assert WAITS.least <= wait_s(complete, text, affect) <= WAITS.most
    narrow = Waits(least=0.6, most=0.7)
    assert 0.6 <= wait_s(complete, text, affect, narrow) <= 0.7


@given(probabilities, probabilities, texts, affects)
def test_who_sounds_more_complete_is_never_waited_for_longer(one, other, text, affect):
    low, high = sorted((one, other))
    assert wait_s(high, text, affect) <= wait_s(low, text, affect)


@given(probabilities, texts, st.sampled_from(["sad", "fear"]), probabilities, probabilities)
def test_who_is_sadder_is_never_waited_for_shorter(complete, text, emotion, one, other):
    low, high = sorted((one, other))
    assert wait_s(complete, text, affect_of(emotion, low)) <= wait_s(complete, text, affect_of(emotion, high))


@given(probabilities, texts, affects, st.sampled_from([" um", ", uh...", " and", " because.", ","]))
def test_a_hesitating_end_never_shortens_the_wait(complete, text, affect, end):
    assert wait_s(complete, text + end, affect) >= wait_s(complete, text, affect)


@given(st.text())
def test_any_text_is_decided_upon(text):
    decided = hesitates(text), asks(text), is_backchannel(text, 0.5), is_nothing(text)
    assert not (decided[0] and decided[1])
