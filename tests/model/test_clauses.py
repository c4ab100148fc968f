"""Clauses: pieces of what was said, nothing added and no word lost."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.clauses import LEAST_WORDS, clauses, sentences

WORDS = st.sampled_from(
    ["I", "my", "cat", "ran", "away", "and", "but", "because", "since", "so", "when", "don't", "3.5", "U.S.", "é", "—"]
)
GAPS = st.sampled_from([" ", ", ", "; ", ": ", ". ", "! ", "?! ", "\n", "  ", ',"', '" ', "... "])
TEXTS = st.lists(st.tuples(WORDS, GAPS), max_size=30).map(lambda parts: "".join(word + gap for word, gap in parts))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("My cat ran away because it rained all day.", ["My cat ran away", "because it rained all day"]),
        ("I lost my job, and I am sad now. Help me!", ["I lost my job", "and I am sad now", "Help me"]),
        ("I lost my job, Ann.", ["I lost my job, Ann"]),
        ("Well, so it goes.", ["Well, so it goes"]),
        ("It was late; we went home: nobody was there", ["It was late", "we went home", "nobody was there"]),
        ("He came When I Was gone", ["He came When I Was gone"]),
        ("He came home When I Was gone", ["He came home", "When I Was gone"]),
        ("No.", ["No"]),
        ("... !", []),
        ("", []),
    ],
)
def test_text_is_cut_at_sentence_ends_commas_and_conjunctions(text, expected):
    assert clauses(text) == expected


@settings(deadline=None)  # how long it takes says how busy the machine is
@given(st.one_of(TEXTS, st.text(max_size=60)))
def test_every_clause_is_part_of_its_sentence_in_order(text):
    left = sentences(text)
    start = 0
    for clause in clauses(text):
        while left and (at := left[0].find(clause, start)) < 0:
            left, start = left[1:], 0
        assert left, f"nobody said {clause!r}, or not there"
        start = at + len(clause)


@settings(deadline=None)
@given(st.one_of(TEXTS, st.text(max_size=60)))
def test_no_word_is_lost_or_cut(text):
    assert [word for clause in clauses(text) for word in re.findall(r"\w+", clause)] == re.findall(r"\w+", text)


@settings(deadline=None)
@given(TEXTS)
def test_a_clause_is_clean_and_short_only_if_its_sentence_is(text):
    for sentence in sentences(text):
        found = clauses(sentence)
        for clause in found:
            assert clause == clause.strip(' ,;:.!?"')
            assert clause
        assert len(found) <= max(1, len(sentence.split()) // LEAST_WORDS)
