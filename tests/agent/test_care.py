import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import care
from agent.care import Consent, Screening, crisis_reply, disclosure, guard_reply, screen
from model.types import EMOTIONS, Affect

SENTENCES = yaml.safe_load((Path(__file__).parent / "crisis_sentences.yaml").read_text(encoding="utf-8"))
ROOT = Path(__file__).parents[2]
DIALOGUE_LINES = ROOT.parent / "shared/data/text/goemotions/dev.jsonl"


def affect(emotion: str, confidence: float) -> Affect:
    emotions = dict.fromkeys(EMOTIONS, (1 - confidence) / 6) | {emotion: confidence}
    return Affect(-0.5, emotion, emotions, valence=-0.5, arousal=0.2, confidence=confidence)


def score(half: str) -> tuple[float, float, float]:
    """Recall and precision of flagging at all, and the share of risks given the right level and category."""
    found = [(level, category, screen(text)) for level, category, text in SENTENCES[half]]
    risks = [f for f in found if f[0] != "safe"]
    hits = [f for f in risks if f[2].level != "safe"]
    flagged = [f for f in found if f[2].level != "safe"]
    exact = [f for f in risks if (f[2].level, f[2].category) == f[:2]]
    return len(hits) / len(risks), len(hits) / len(flagged), len(exact) / len(risks)


# Measured on the sentences: development 1.00, 1.00, 1.00; held_out 0.96, 1.00, 0.94; later 1.00, 1.00, 1.00.
@pytest.mark.parametrize(
    ("half", "recall", "precision", "exact"),
    [("development", 0.99, 0.99, 0.99), ("held_out", 0.95, 0.95, 0.93), ("later", 0.98, 0.98, 0.96)],
)
def test_recall_and_precision_do_not_fall(half, recall, precision, exact):
    measured = score(half)
    assert measured[0] >= recall
    assert measured[1] >= precision
    assert measured[2] >= exact


def test_the_sentences_are_many_and_half_of_them_are_harmless():
    assert len(SENTENCES["development"] + SENTENCES["held_out"]) >= 120
    for half in ("development", "held_out"):
        assert sum(level == "safe" for level, *_ in SENTENCES[half]) == len(SENTENCES[half]) / 2


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("I'm not going to kill myself", "safe"),
        ("I don't want to live anymore", "crisis"),
        ("I can't go on", "crisis"),
        ("not suicidal but I think about dying", "crisis"),
        ("I'm not okay I want to die", "crisis"),
        ("I would never hurt myself", "safe"),
        ("why shouldn't I kill myself", "crisis"),
    ],
)
def test_negation_is_part_of_the_meaning(text, level):
    assert screen(text).level == level


@pytest.mark.parametrize(
    "text",
    [
        "I WANT TO DIE",
        "i want to dieeeee",
        "I w@nt to d1e",
        "i want to d i e",
        "I wаnt tо die",
        "ｉ ｗａｎｔ ｔｏ ｄｉｅ",
        "I want\u200b to d\u00adie",
        "i wanna die",
        "i want 2 die",
        "*I want to die*",
        "I WANT TO DIE!!!!! :(",
        "just let me kill mysefl",
        "i want to k*ll myself",
        "I’m going to kill myself",
        "im going to kill my self",
        "gonna kms",
        "i will unalive myself",
    ],
)
def test_spelling_and_disguise_do_not_hide_a_crisis(text):
    assert screen(text).level == "crisis"


def test_another_person_is_a_concern_about_them():
    assert screen("my friend wants to kill herself") == Screening("concern", "self_harm", "other_at_risk", "other")
    assert screen("My sister texted me that I want to die").about == "other"


def test_the_person_stays_the_subject_when_others_are_mentioned():
    assert screen("I had a fight with my friend and want to die").about == "self"
    assert screen("my boss makes me want to kill myself").about == "self"


def test_long_past_is_a_concern_and_present_is_not():
    assert screen("years ago I wanted to kill myself").level == "concern"
    assert screen("years ago I wanted to kill myself and now I want to again").level == "crisis"


def test_a_joke_is_a_concern_rather_than_nothing():
    assert screen("forgot my charger kms lol").level == "concern"


def test_the_most_severe_sentence_decides():
    text = "My friend wants to kill herself. My day was nice. I want to die."
    assert screen(text) == Screening("crisis", "self_harm", "want_to_die", "self")


def test_a_guard_in_one_sentence_does_not_reach_the_next():
    assert screen("I'm not hungry. I want to kill myself.").level == "crisis"
    assert screen("I watched a movie. I feel suicidal.").level == "crisis"


def test_hints_count_after_a_crisis_only():
    hint = "I have the pills here, I mean it"
    assert screen("I have the gun cleaned, I mean it").level == "safe"
    assert screen(hint, ["hello", "I want to die"]).level == "crisis"
    assert screen("I mean it", ["I want to die"]).rule == "after_crisis"
    assert screen("I mean it", ["I like tea"]).level == "safe"
    assert screen("I like tea", ["I want to die"]).level == "safe"
    assert screen("I mean it", ["my friend wants to kill herself"]).level == "safe"
    assert screen("I mean it", ["I want to die", *["ok"] * care.HISTORY_TURNS]).level == "safe"


def test_every_finding_names_a_rule_of_the_data_file():
    rules = {rule.id for language in care._languages() for rule in language.rules}
    found = [screen(text) for half in SENTENCES.values() for *_, text in half]
    assert {f.rule for f in found if f.level != "safe"} <= rules
    assert all((f.category is None) == (f.level == "safe") == (f.rule == "") for f in found)


@pytest.mark.parametrize(
    "text",
    [
        "want " * 20_000,
        "kill myself laughing " * 5_000,
        "I am not going to kill myself and " * 3_000,
        "a" * 100_000,
        "i " * 50_000,
        "how way " * 12_500,
        "'" * 100_000,
        "k!" * 50_000,
        "ж" * 100_000,
        ", " * 50_000,
        "he " * 33_000 + "hits",
    ],
    ids=range(11),
)
def test_long_hostile_text_takes_seconds_at_most(text):
    # Generous on purpose: a catastrophic pattern takes minutes, and the machine may be busy.
    start = time.perf_counter()
    screen(text)
    assert time.perf_counter() - start < 20


@settings(deadline=None)  # a busy machine is no failure
@given(st.text(max_size=300))
def test_any_text_can_be_screened_and_answered(text):
    found = screen(text)
    guard_reply(text)
    if found.level != "safe":
        assert crisis_reply(found, "en-US")


@settings(deadline=None)
@given(st.sampled_from([text for level, _, text in SENTENCES["development"] if level == "crisis"]), st.data())
def test_case_and_repeated_punctuation_never_change_the_answer(text, data):
    changed = data.draw(st.sampled_from([text.upper(), text.lower(), text.title(), f"{text}!!!", f"  {text}\n"]))
    assert screen(changed) == screen(text)


@pytest.mark.clips
def test_everyday_comments_are_rarely_flagged():
    if not DIALOGUE_LINES.exists():
        pytest.skip(f"no recordings at {DIALOGUE_LINES}")
    texts = [json.loads(line)["text"] for line in DIALOGUE_LINES.read_text(encoding="utf-8").splitlines()]
    flagged = [text for text in texts if screen(text).level != "safe"]
    assert len(flagged) / len(texts) <= 0.003  # measured 0.001, about half of them rightly


CASES = [
    Screening(level, category, "rule", about)
    for category in ("self_harm", "harm_to_others", "abuse")
    for level, about in (("crisis", "self"), ("concern", "self"), ("concern", "other"))
]


@pytest.mark.parametrize("finding", CASES)
def test_every_reply_is_short_complete_honest_and_points_to_humans(finding):
    reply = crisis_reply(finding, "en-GB", affect("sad", 0.9))
    assert "I'm a program" in reply
    assert "999" in reply
    assert ("116 123" if finding.category != "abuse" else "0808 2000 247") in reply
    assert "findahelpline.com" in reply
    assert len(reply.split()) <= 130
    assert "{" not in reply
    assert "  " not in reply
    assert "I can hear how much this hurts." in reply
    assert guard_reply(reply) is None


def test_replies_differ_by_category_and_by_whose_crisis_it_is():
    assert len({crisis_reply(case, "en-US") for case in CASES}) == len(CASES)


def test_the_feeling_is_named_only_when_it_was_read_with_confidence():
    assert "frightened" in crisis_reply(CASES[0], "en-US", affect("fear", 0.8))
    assert "frightened" not in crisis_reply(CASES[0], "en-US", affect("fear", 0.3))
    assert "frightened" not in crisis_reply(CASES[0], "en-US")


@pytest.mark.parametrize(
    ("locale", "number", "emergency"),
    [
        ("en-US", "988", "911"),
        ("en_US.UTF-8", "988", "911"),
        ("fr-CA", "988", "911"),
        ("de-AT", "142", "112"),
        ("zh-Hant-AU", "13 11 14", "000"),
        ("de", "0800 111 0 111", "112"),
        ("en", "findahelpline.com", "local emergency number"),
        ("es-AR", "findahelpline.com", "local emergency number"),
        ("", "findahelpline.com", "local emergency number"),
        ("C.UTF-8", "findahelpline.com", "local emergency number"),
    ],
)
def test_helplines_follow_the_country_of_the_locale(locale, number, emergency):
    reply = crisis_reply(CASES[0], locale)
    assert number in reply
    assert emergency in reply


def test_a_country_without_an_abuse_line_gets_the_international_list():
    reply = crisis_reply(CASES[6], "de-CH")
    assert reply.count("findahelpline.com") == 1
    assert "112" in reply


def test_a_safe_screening_has_no_crisis_reply():
    with pytest.raises(ValueError, match="safe"):
        crisis_reply(Screening(), "en-US")


def test_every_helpline_has_a_source_and_an_emergency_number():
    data = care._data("helplines.yaml")
    assert data["written"]
    for country in [*data["countries"].values(), data["default"]]:
        assert country["emergency"]
        for service in country.keys() - {"emergency"}:
            assert country[service]["source"].startswith("https://")
            assert country[service]["name"]
            assert country[service]["how"]
    assert set(data["languages"].values()) <= data["countries"].keys()


def test_only_text_is_read_without_further_consent():
    assert Consent().allowed() == {"text"}
    assert Consent(text=False, face=True).allowed() == {"face"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        Consent().voice = True


def test_disclosure_names_what_is_read_what_is_not_and_where_memory_is():
    said = disclosure(Consent(voice=True), frozenset(("text", "voice", "face")), kept="in /home/ada/emox")
    assert "your words and your voice" in said
    assert "your face unread" in said
    assert "/home/ada/emox" in said
    assert "program" in said
    assert "not a therapist" in said
    assert "turn" in said
    assert "erase" in said
    assert guard_reply(said) is None


def test_disclosure_says_so_when_no_feelings_are_read():
    said = disclosure(Consent(text=False), frozenset(("text",)))
    assert "I do not guess feelings" in said


@pytest.mark.parametrize(
    ("text", "claim"),
    [
        ("As a human, I feel that too.", "human"),
        ("I am a real person.", "human"),
        ("I’m a person who cares about you", "human"),
        ("I'm not a bot!", "human"),
        ("I am not an AI", "human"),
        ("I'm a licensed therapist.", "therapist"),
        ("As your therapist, I suggest rest.", "therapist"),
        ("In my clinical experience this passes.", "therapist"),
        ("Many of my patients say so.", "therapist"),
        ("My wife felt the same.", "life"),
        ("When I was a child I was shy.", "life"),
        ("I grew up in Texas", "life"),
        ("I have been through this myself.", "life"),
    ],
)
def test_claims_of_being_human_a_therapist_or_having_lived_are_caught(text, claim):
    assert guard_reply(text) == claim


@pytest.mark.parametrize(
    "text",
    [
        "I'm a program, not a human.",
        "I am not a therapist, but I can listen.",
        "I'm not a human being.",
        "Your wife must miss you.",
        "It is human to feel this way.",
        "Have you talked to a therapist about it?",
        "I'm really sorry you had to go through this.",
        "You were there for your mother when she needed you.",
        "Talking to a real person can help.",
        "",
    ],
)
def test_honest_sentences_pass_the_guard(text):
    assert guard_reply(text) is None


def test_the_answer_does_not_depend_on_the_hash_seed():
    code = "from agent.care import screen; print([screen(t) for t in ('so suicidle', 'kil mysellf', 'suicdal')])"
    answers = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(answers) == 1
