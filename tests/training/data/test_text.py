"""Readers of text corpora on folders of a few lines: what they ask, what they leave out, and which split it is in."""

import pytest

from memory.privacy import correct, labels
from memory.store import InMemoryStore
from model.processor import CAUSE_LEAD, CAUSE_QUESTION, EMPATHY_QUESTION
from model.types import EMOTIONS, INTENTS, STRATEGIES, Utterance
from tests.fakes import FakeEmbedder, episode_of
from tests.training.corpora import dialogue, write_lines
from training.data import text
from training.data.sample import CorpusError


def asked(samples):
    """Task, words and label of each sample."""
    return [(sample.task, sample.text, sample.label) for sample in samples]


def supervised(sample):
    return "".join(part for part, counts in sample.answer if counts)


def test_every_corpus_label_has_one_of_the_basic_ones():
    assert set(text.BASIC.values()) == set(EMOTIONS)


def test_goemotions_asks_for_the_emotion_where_its_labels_agree(tmp_path):
    write_lines(tmp_path / "train.jsonl", [
        {"text": "ha", "labels": ["joy", "amusement"]},
        {"text": "hm", "labels": ["joy", "fear"]},
        {"text": "so", "labels": ["neutral"]},
    ])  # fmt: skip
    write_lines(tmp_path / "dev.jsonl", [{"text": "no", "labels": ["grief"]}])
    assert asked(text.goemotions(tmp_path, "train")) == [
        ("emotion", "ha", "happy"), ("sentiment", "ha", "positive"), ("open", "ha", "joy, amusement"),
        ("open", "hm", "joy, fear"),
        ("emotion", "so", "neutral"), ("sentiment", "so", "neutral"),
    ]  # fmt: skip
    assert asked(text.goemotions(tmp_path, "valid")) == [
        ("emotion", "no", "sad"), ("sentiment", "no", "negative"), ("open", "no", "grief"),
    ]  # fmt: skip


def test_situations_train_and_never_validate(tmp_path):
    rows = [{"text": "i won", "emotion": "proud"}, {"text": "hm", "emotion": "unheard of"}]
    write_lines(tmp_path / "situations_train.jsonl", rows)
    assert asked(text.situations(tmp_path, "train")) == [
        ("emotion", "i won", "happy"), ("sentiment", "i won", "positive"), ("open", "i won", "proud"),
    ]  # fmt: skip
    assert list(text.situations(tmp_path, "valid")) == []


def test_television_lines_are_tidied(tmp_path):
    write_lines(tmp_path / "train.jsonl", [])
    write_lines(tmp_path / "dev.jsonl", [{"text": "It 's fine , Ross .", "emotion": "anger"}])
    assert asked(text.meld(tmp_path, "valid")) == [
        ("emotion", "It's fine, Ross.", "angry"), ("sentiment", "It's fine, Ross.", "negative"),
    ]  # fmt: skip


@pytest.mark.parametrize(("reader", "emotion"), [(text.isear, "guilt"), (text.merr, "worried")])
def test_every_tenth_report_validates(tmp_path, reader, emotion):
    write_lines(tmp_path / "train.jsonl", [{"text": f"line {i}", "emotion": emotion} for i in range(20)])
    valid, train = ({sample.text for sample in reader(tmp_path, split)} for split in ("valid", "train"))
    assert valid == {"line 9", "line 19"}
    assert train == {f"line {i}" for i in range(20)} - valid


def test_what_people_corrected_is_learnt_from(tmp_path):
    with pytest.raises(CorpusError, match="emox memory export"):
        list(text.corrections(tmp_path, "train"))
    store = InMemoryStore(FakeEmbedder())
    store.add_all([episode_of("a", "I am fine", "sad"), episode_of("b", "as it was", "sad")])
    correct(store, "ann", "a", emotion="angry")
    write_lines(tmp_path / "ann.jsonl", list(labels(store, "ann")))
    samples = list(text.corrections(tmp_path, "train"))
    assert [(s.task, s.text, s.label) for s in samples] == [("emotion", "I am fine", "angry"),
                                                            ("sentiment", "I am fine", "negative")]  # fmt: skip
    write_lines(tmp_path / "ann.jsonl", [{"text": "a", "emotion": "meh"}])
    with pytest.raises(CorpusError, match="line 1: 'meh' is no basic emotion"):
        list(text.corrections(tmp_path, "train"))


def test_pseudo_labels_are_open_words_and_silent_clips_are_left_out(tmp_path):
    write_lines(tmp_path / "train.jsonl", [{"text": "", "emotion": "sad"}, {"text": "oh", "emotion": "doubt"}])
    assert asked(text.merr(tmp_path, "train")) == [("open", "oh", "doubt")]


@pytest.mark.parametrize(
    ("reader", "train", "valid"),
    [(text.mintrec, "S05_E16_329.mp4", "S06_E06_589.mp4"), (text.mintrec2, "dia8_utt0.mp4", "dia19_utt3.mp4")],
)
def test_intents_are_spelled_as_annotated_and_no_scene_lies_on_both_sides(tmp_path, reader, train, valid):
    rows = [{"clip": train, "text": "a", "intent": "Ask for help"}, {"clip": valid, "text": "b", "intent": "Joke"}]
    write_lines(tmp_path / "train.jsonl", rows)
    assert asked(reader(tmp_path, "train")) == [("intent", "a", "Ask for help")]
    (joke,) = reader(tmp_path, "valid")
    assert supervised(joke) == "Joke"
    assert {"Ask for help", "Joke"} <= set(INTENTS)


# ---- causes ----------------------------------------------------------------------------------------------------------


def turn(speaker, text, emotion="neutral", spans=(), turns=()):
    return {"speaker": speaker, "text": text, "emotion": emotion, "cause_spans": spans, "cause_turns": turns}


def read_causes(tmp_path, *turns):
    write_lines(tmp_path / "train.jsonl", [{"id": "1", "turns": list(turns)}])
    return list(text.reccon(tmp_path, "train"))


def test_the_cause_is_the_clause_that_holds_most_of_what_was_annotated(tmp_path):
    (sample,) = read_causes(
        tmp_path,
        turn("A", "I went to town , but my old cat ran away . Then I slept ."),
        turn("B", "Oh no !", "sadness", ["my old cat ran"], [1]),
    )
    assert sample.question == CAUSE_QUESTION.format(emotion="sad")
    assert sample.answer == ((CAUSE_LEAD, False), ("but my old cat ran away", True), ('"', True))
    assert (sample.text, sample.label) == ("Oh no!", "but my old cat ran away")
    # Who feels is the user, who else speaks the assistant.
    assert sample.history == (Utterance("assistant", "I went to town, but my old cat ran away. Then I slept."),)


def test_each_line_with_a_cause_gives_one_sample_of_its_longest_span(tmp_path):
    found = read_causes(
        tmp_path,
        turn("A", "We lost the big game today"),
        turn("A", "I am sad because we lost it again", "sadness", ["lost", "big game", "we lost it again"], [1, 1, 2]),
    )
    assert [sample.label for sample in found] == ["We lost the big game today", "because we lost it again"]


@pytest.mark.parametrize(
    "spans",
    [
        {"spans": ["we"], "turns": ["b"]},  # the cause lies in the background, in no line
        {"spans": ["we"], "turns": [3]},  # in a line to come
        {"emotion": "neutral"},
    ],
)
def test_a_line_without_a_cause_said_so_far_gives_nothing(tmp_path, spans):
    felt = turn("B", "oh", **{"emotion": "sadness", **spans})
    assert not read_causes(tmp_path, turn("A", "hello there"), felt, turn("A", "we left you"))


def test_a_cause_that_the_prompt_does_not_show_any_more_gives_nothing(tmp_path):
    lines = [turn("A", f"line number {i}") for i in range(8)]
    far = turn("B", "oh", "sadness", ["line number 0", "line number 7"], [1, 8])
    (sample,) = read_causes(tmp_path, *lines, far)
    assert sample.label == "line number 7"
    assert len(sample.history) == 6


# ---- replies ---------------------------------------------------------------------------------------------------------


def write_empathetic(folder, n):
    lines = [("1", "I passed my exam , and I am so happy ."), ("2", "great ! how did it go ?"), ("1", "It went well .")]
    dialogues = [dialogue(i, *lines, ("2", f"i am glad to hear number {i}"), emotion="proud") for i in range(n)]
    dialogues[1]["turns"][1]["text"] = "My wife passed hers too."
    write_lines(folder / "dialogues_valid.jsonl", dialogues)
    write_lines(folder / "situations_valid.jsonl", [{"text": "s", "emotion": "proud"}] * n)


def test_a_reply_comes_after_its_thought(tmp_path):
    write_empathetic(tmp_path, 2)
    first, second, third = text.dialogues(tmp_path, "train")
    thought, reply = (part for part, _ in first.answer)
    assert first.question == EMPATHY_QUESTION
    assert (first.text, first.history, reply) == (
        "I passed my exam, and I am so happy.", (), "Great! how did it go?"
    )  # fmt: skip
    for line in (
        'what happened: "I passed my exam, and I am so happy"', "the emotion of the speaker is happy.",
        'its cause: "and I am so happy"', f"my goal: {STRATEGIES['celebrate']}.",
    ):  # fmt: skip
        assert line in thought
    assert [line.role for line in second.history] == ["user", "assistant"]
    assert (second.text, second.answer[-1][0]) == ("It went well.", "I am glad to hear number 0")
    # Of every second dialogue the fine label is thought, and nobody who has a wife is imitated.
    assert third.answer[-1][0] == "I am glad to hear number 1"
    assert "the emotion of the speaker is proud." in third.answer[0][0]


def test_dialogues_are_cut_as_wholes(tmp_path):
    write_empathetic(tmp_path, 20)
    valid, train = (
        {sample.answer[-1][0].rsplit(" ", 1)[-1] for sample in text.dialogues(tmp_path, split)} - {"go?"}
        for split in ("valid", "train")
    )
    assert valid == {"9", "19"}
    assert train == {str(i) for i in range(20)} - valid


@pytest.mark.parametrize(
    ("reply", "emotion", "strategy"),
    [
        ("Really? When?", "happy", "celebrate"),
        ("What happened then?", "sad", "explore"),
        ("I hope it gets better", "fear", "comfort"),
        ("That sounds hard", "sad", "reflect"),
        ("Shopeful", "sad", "reflect"),
    ],
)
def test_a_reply_without_annotation_follows_a_strategy_by_its_words(reply, emotion, strategy):
    assert text._strategy_of(reply, emotion) == strategy


def support_line(speaker, text, strategy=None):
    return {"speaker": speaker, "text": text, "strategy": strategy}


def test_a_supporter_is_imitated_where_the_strategy_is_ours(tmp_path):
    turns = [
        support_line("supporter", "hello , how are you ?", "Questions"),  # nothing was said before
        support_line("seeker", "I lost my job ."),
        support_line("supporter", "what happened ?", "Questions"),
        support_line("seeker", "They closed ."),
        support_line("supporter", "I lost mine too once", "Self-disclosure"),
        support_line("supporter", "you could ask a friend", "Providing Suggestions"),  # the seeker did not speak last
        support_line("seeker", "Maybe ."),
        support_line("supporter", "my wife would say so", "Providing Suggestions"),
    ]
    write_lines(tmp_path / "dev.jsonl", [{"turns": turns}] * 10)
    found = list(text.support(tmp_path, "valid"))
    assert [sample.answer[-1][0] for sample in found] == ["What happened?"]
    (sample,) = found
    assert f"my goal: {STRATEGIES['explore']}." in sample.answer[0][0]
    assert supervised(sample) == "What happened?"  # nobody annotated the thought
    assert sample.history == (Utterance("assistant", "hello, how are you?"),)
    assert len(list(text.support(tmp_path, "train"))) == 9


# ---- what is wrong with a folder -------------------------------------------------------------------------------------


def test_a_missing_file_is_named_and_how_to_name_its_folder(tmp_path):
    with pytest.raises(CorpusError, match=r"isear/train\.jsonl is missing: name the folder .* with --data"):
        list(text.isear(tmp_path / "isear", "train"))


def test_a_line_that_is_not_json_is_named(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"text": "a", "emotion": "joy"}\n{"text": \n')
    with pytest.raises(CorpusError, match=r"train\.jsonl line 2 is not JSON"):
        list(text.isear(tmp_path, "train"))
