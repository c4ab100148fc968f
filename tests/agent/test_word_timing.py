import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.piper_durations import _field, with_durations
from agent.sentences import speakable
from agent.word_timing import Rendering, pair_words, time_words

RATE_HZ = 8000


def tone(*lengths_s: float) -> np.ndarray:
    """Tone and silence by turns, silence first."""
    parts = [np.full(round(s * RATE_HZ), 0.3 * (i % 2), np.float32) for i, s in enumerate(lengths_s)]
    return np.concatenate(parts)


def timed(sentence, rendering, **options):
    words = time_words(sentence, speakable(sentence), rendering, RATE_HZ, **options)
    return [(word.text, round(word.start_s, 2), round(word.end_s, 2)) for word in words]


# Which words say what is spoken


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("I hear  you.", ["I", "hear", "you."]),
        ("**Hi** there 😊!", ["**Hi**", "there 😊!"]),
        ("😊 Hi there", ["😊 Hi", "there"]),
        ("Well — yes.", ["Well —", "yes."]),
        ("See [this page](https://example.org/a_b).", ["See", "[this", "page](https://example.org/a_b)."]),
        ("Go to https://www.example.org/foo?x=1 now.", ["Go", "to", "https://www.example.org/foo?x=1", "now."]),
        ("Before ```print(1) or``` after", ["Before ```print(1) or```", "after"]),
        ("# A title", ["# A", "title"]),
        ("20°C :)", ["20°C :)"]),
    ],
)
def test_what_nobody_says_belongs_to_its_neighbour(sentence, words):
    assert [word for word, _ in pair_words(sentence, speakable(sentence))] == words


def test_digits_that_are_spoken_one_by_one_belong_to_their_number():
    pairs = pair_words("Samaritans: call 116 123.", "Samaritans: call 1 1 6, 1 2 3.")
    assert [(word, part.strip()) for word, part in pairs[2:]] == [("116", "1 1 6,"), ("123.", "1 2 3.")]


# From the durations of sounds


def sounds(text: str) -> list[tuple[str, int]]:
    """Each letter lasts 0.1 s, a space 0.05 s, a mark 0.3 s."""
    lasts = {" ": 0.05, ",": 0.3, ".": 0.3}
    return [(c, round(lasts.get(c, 0.1) * RATE_HZ)) for c in text]


def test_a_word_lasts_from_its_first_sound_to_its_last():
    told = sounds("^no, go.")
    rendering = Rendering(np.ones(sum(length for _, length in told), np.float32), told)
    assert timed("No, go.", rendering, spell=lambda text: [c for c in text.lower() if c.isalpha()]) == [
        ("No,", 0.1, 0.3),
        ("go.", 0.65, 0.85),
    ]


def test_words_that_are_spoken_as_one_are_told_apart():
    """A fluent voice says "of the" as one word, and with another vowel than in "of" alone."""
    told = sounds("ovthe end")
    rendering = Rendering(np.ones(sum(length for _, length in told), np.float32), told)
    alone = {"of ": "uv", "the ": "the", "end": "end"}
    assert timed("of the end", rendering, spell=lambda text: list(alone[text])) == [
        ("of", 0.0, 0.2),
        ("the", 0.2, 0.5),
        ("end", 0.55, 0.85),
    ]


# Estimated


def test_without_durations_words_share_what_is_audible_by_their_letters():
    assert timed("to walk", Rendering(tone(0.5, 0.6, 0.4))) == [("to", 0.5, 0.7), ("walk", 0.7, 1.1)]


def test_a_pause_within_a_sentence_is_no_part_of_a_word():
    assert timed("walk, walk", Rendering(tone(0, 0.4, 0.3, 0.4))) == [("walk,", 0.0, 0.4), ("walk", 0.7, 1.1)]


def test_a_pause_before_the_sentence_delays_its_words():
    assert timed("to walk", Rendering(tone(0, 0.6)), delay=RATE_HZ) == [("to", 1.0, 1.2), ("walk", 1.2, 1.6)]


words = st.sampled_from(
    [
        "I",
        "feel",
        "😊",
        "**so**",
        "3.5",
        "116 123",
        "—",
        "[a](http://b.c)",
        "``` x",
        "of",
        "the",
        "no",
        "no",
        ":)",
        "你好",
    ]
)
sentences = st.one_of(st.lists(words, max_size=12).map(" ".join), st.text(max_size=60))
some_sounds = st.lists(st.tuples(st.sampled_from([*"abcnoefl ,^", "ə"]), st.integers(0, 400)), max_size=40)


@given(sentences, some_sounds, st.integers(1, 3000), st.integers(0, 100), st.booleans())
def test_words_are_in_order_within_the_audio_and_join_to_the_sentence(sentence, told, n_samples, delay, tells):
    """Whatever the voice tells, even where it has nothing to do with the text."""
    if not (spoken := speakable(sentence)):
        return
    samples = np.sin(np.arange(1, n_samples + 1)).astype(np.float32)
    timed_words = time_words(sentence, spoken, Rendering(samples, told if tells else ()), RATE_HZ, delay=delay)
    assert " ".join(word.text for word in timed_words) == " ".join(sentence.split())
    edges = [edge for word in timed_words for edge in (word.start_s, word.end_s)]
    assert edges == sorted(edges)
    assert delay / RATE_HZ <= edges[0]
    assert edges[-1] <= (delay + n_samples) / RATE_HZ


# Piper's durations


def network(*operators: str, outputs: int = 1) -> bytes:
    """An ONNX file of these operators, each with an output of its name, as far as `with_durations` reads it."""
    nodes = b"".join(_field(1, _field(2, f"/{name}".encode()) + _field(4, name.encode())) for name in operators)
    return b"\x08\x07" + _field(7, nodes + outputs * _field(12, _field(1, b"audio")))


def test_the_durations_become_an_output():
    given = network("Conv", "Ceil", "Mul")
    assert with_durations(given) == given + _field(7, _field(12, _field(1, b"/Ceil")))


@pytest.mark.parametrize(
    "given", [network("Conv"), network("Ceil", "Ceil"), network("Ceil", outputs=2), b"no network", b"\xff", b""]
)
def test_a_network_whose_durations_cannot_be_found_stays_as_it_is(given):
    assert with_durations(given) == given
