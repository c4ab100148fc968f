"""What is drawn: a function of seed and step alone, in the shares that were asked for."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from training.data import questions as q
from training.data.mixture import NEUTRAL_WORDS, SENTIMENTS, Mixture
from training.data.questions import SIGN
from training.data.sample import Clip


def many(corpus, label, n=20, *, text="", voice=False, face=False, task=q.emotion):
    clips = [
        Clip(
            sound=Path(f"{label}-{corpus}-{i}.wav") if voice else None,
            pictures=Path(f"{label}-{corpus}-{i}.jpg") if face else None,
            cropped=face,
        )
        for i in range(n)
    ]
    return [
        replace(task(text and f"{text} {i}", label), clip=clip, corpus=corpus, name=f"{label}-{i}")
        for i, clip in enumerate(clips)
    ]


LABELS = ("neutral", "happy", "sad", "angry")
CORPORA = {
    "voices": [s for label in (*LABELS, "calm") for s in many("voices", label, voice=True)],
    "faces": [s for label in LABELS for s in many("faces", label, face=True)],
    "words": [s for label in LABELS for s in many("words", label, text=label)],
    "intents": many("intents", "Leave", 30, text="go", task=q.intent) + many("intents", "Joke", 10, task=q.intent),
    "films": many("films", "sad", voice=True, face=True),
}


def drawn(weights, n=4000, corpora=CORPORA, **options):
    """So many samples, of one seed."""
    return Mixture(corpora, weights, 3, **options).batch(1, n)


def shares(values):
    found = Counter(values)
    return {value: n / found.total() for value, n in found.items()}


def near(share, n=4000):
    """Four standard deviations of a share among n draws."""
    return pytest.approx(share, abs=4 * (share * (1 - share) / n) ** 0.5)


WHOLE = {"voices": 0.4, "text+voice": 0.3, "words/emotion": 0.2, "intents": 0.1}


def test_a_batch_is_a_function_of_seed_and_step_alone():
    mixture = Mixture(CORPORA, WHOLE, 3, views={"voices": 4})
    batches = {step: mixture.batch(step, 16) for step in (1, 2, 3)}
    again = Mixture(CORPORA, dict(reversed(WHOLE.items())), 3, views={"voices": 4})
    assert {step: again.batch(step, 16) for step in (3, 1, 2)} == batches
    assert batches[1] != batches[2]
    assert Mixture(CORPORA, WHOLE, 4, views={"voices": 4}).batch(1, 16) != batches[1]


def test_ingredients_are_drawn_by_their_weights():
    found = shares(each.sample.corpus for each in drawn({"voices": 7.0, "words": 2.0, "intents": 1.0}))
    assert found == {"voices": near(0.7), "words": near(0.2), "intents": near(0.1)}


def test_an_ingredient_may_name_one_task_of_a_corpus():
    corpora = {"felt": [s for task in (q.emotion, q.open_words) for s in tasked(task)]}
    assert shares(each.sample.task for each in drawn({"felt": 1.0}, corpora=corpora)) == {
        "emotion": near(0.5), "open": near(0.5),
    }  # fmt: skip
    assert {each.sample.task for each in drawn({"felt/open": 1.0}, 50, corpora)} == {"open"}


def tasked(task):
    label = ["sad"] if task is q.open_words else "sad"
    return [replace(task(f"words {i}", label), corpus="felt") for i in range(3 if task is q.emotion else 30)]


@pytest.mark.parametrize(("flatten", "share"), [(1.0, 0.75), (0.0, 0.5), (0.5, 3**0.5 / (3**0.5 + 1))])
def test_labels_are_drawn_by_a_power_of_their_frequency(flatten, share):
    found = drawn({"intents": 1.0}, flatten=flatten)
    assert shares(each.sample.label for each in found)["Leave"] == near(share)


def test_the_reference_draws_corpora_evenly_and_keeps_a_fraction_once():
    weights = {"voices": 0.9, "words": 0.05, "intents": 0.05}
    found = drawn(weights, keep={"voices": 0.1, "intents": 0.001}, even=True)
    assert shares(each.sample.corpus for each in found) == {corpus: near(1 / 3) for corpus in weights}
    kept = {corpus: {each.sample.name for each in found if each.sample.corpus == corpus} for corpus in weights}
    assert {corpus: len(names) for corpus, names in kept.items()} == {"voices": 10, "words": 80, "intents": 1}


def test_every_sound_is_heard_in_all_its_views_and_nothing_else_has_any():
    found = drawn({"voices": 1.0, "faces": 1.0}, views={"voices": 3, "faces": 3})
    views = shares(each.view for each in found if each.sample.corpus == "voices")
    assert views == {view: pytest.approx(0.25, abs=0.05) for view in range(4)}
    assert {each.view for each in found if each.sample.corpus == "faces"} == {0}


def shown(sample):
    """Labels of the clip's sound and pictures, and of the words, by their names."""
    of = {"voice": sample.clip.sound, "face": sample.clip.pictures, "text": sample.text}
    return {modality: str(value).split("-")[0].split()[0] for modality, value in of.items() if value}


def asks_for(sample, label):
    if sample.task == "emotion":
        return sample.label == label
    return (
        sample.task == "sentiment" and sample.label == ("negative", "neutral", "positive")[int(SIGN.get(label, -1) + 1)]
    )


@pytest.mark.parametrize("modalities", ["voice", "face", "voice+face", "text+voice", "text+face", "text+voice+face"])
def test_what_is_put_together_shows_one_label(modalities):
    found = [each.sample for each in drawn({modalities: 1.0}, views={"voices": 2})]
    neutral_words = Counter()
    labels = Counter()
    for sample in found:
        labels_shown = shown(sample)
        words = labels_shown.pop("text", None)
        (label,) = set(labels_shown.values())
        assert {*labels_shown, *(["text"] if words else [])} == set(modalities.split("+"))
        assert asks_for(sample, label)
        assert sample.corpus == modalities
        labels[label] += 1
        if words and label != "neutral":
            assert words in {label, "neutral"}
            neutral_words[words == "neutral"] += 1
        if "face" in labels_shown:
            assert sample.clip.cropped
    expected = {*LABELS, "calm"} if modalities == "voice" else set(LABELS)
    assert shares(labels.elements()) == {label: near(1 / len(expected)) for label in expected}
    assert shares(sample.task for sample in found)["sentiment"] == near(SENTIMENTS)
    if neutral_words:
        assert shares(neutral_words.elements())[True] == near(NEUTRAL_WORDS, neutral_words.total())


def test_what_is_put_together_comes_from_clips_of_one_modality_and_words_without_history():
    corpora = {**CORPORA, "talk": [replace(s, history=("a line",)) for s in many("talk", "happy", text="talk")]}
    found = [each.sample for each in drawn({"text+voice": 1.0, "voice+face": 1.0}, corpora=corpora)]
    assert not any(sample.text.startswith("talk") for sample in found)
    assert all("-voices-" in str(sample.clip.sound) for sample in found)
    assert not any("films" in str(sample.clip.pictures) for sample in found)


def test_the_view_of_a_pair_is_that_of_its_voice():
    views = [each.view for each in drawn({"voice+face": 1.0}, 300, views={"voices": 2, "voice+face": 9})]
    assert set(views) == {0, 1, 2}


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ({"goemotion": 1.0}, "the mixture names goemotion, of which there is no sample"),
        ({"voices/intent": 1.0}, "the mixture names voices/intent, of which there is no sample"),
    ],
)
def test_an_unknown_ingredient_is_named(weights, told):
    with pytest.raises(ValueError, match=told):
        Mixture(CORPORA, weights, 3)


@pytest.mark.parametrize(
    ("corpora", "weights"),
    [
        ({"voices": CORPORA["voices"]}, {"voice+face": 1.0}),
        ({"voices": CORPORA["voices"], "faces": many("faces", "fear", face=True)}, {"voice+face": 1.0}),
        ({"voices": CORPORA["voices"], "words": many("words", "sad", text="oh")}, {"text+voice": 1.0}),
    ],
    ids=["no face", "no common label", "no neutral words"],
)
def test_what_cannot_be_put_together_is_named(corpora, weights):
    (name,) = weights
    with pytest.raises(ValueError, match=f"nothing can be put together for {name}".replace("+", r"\+")):
        Mixture(corpora, weights, 3)
