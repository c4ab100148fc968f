"""Calibration: what is fitted, on which half, and what is measured on the other."""

from dataclasses import dataclass, replace

import pytest
import torch

from model.readings import CAUSE_LINES, Cause
from model.types import EMOTIONS, INTENTS, SENTIMENTS, VOICE_EMOTIONS, Utterance
from perception.types import UserTurn
from tests.training.corpora import ScriptedModel, make_voices
from training.data import clips
from training.data import questions as q
from training.data.cases import Case
from training.release import calibrate, calibrated_again, fit_cause_lines, fit_scaling, halves, labels_of, score


@dataclass
class Read:
    """What stands for a prefix: the turn, and the modalities that were read."""

    turn: UserTurn
    single: dict


class Reader(ScriptedModel):
    """Says the emotion that the words name, with confidence 0.8."""

    def __init__(self):
        super().__init__(lambda prefix, task: prefix.turn.text.split()[0] if prefix.turn.text else "calm")

    def attend(self, turn, history=()):
        return Read(super().attend(turn, history), dict.fromkeys(turn.modalities))


def nll(scaling, scores, gold):
    return torch.nn.functional.cross_entropy(
        torch.tensor(scaling.weight) * scores + torch.tensor(scaling.bias), gold
    ).item()


def test_scaling_finds_the_temperature_and_the_biases_behind_the_labels():
    draw = torch.Generator().manual_seed(0)
    scores = torch.randn(4000, 3, generator=draw) * 3
    bias = torch.tensor([0.6, 0.0, -0.6])
    gold = torch.multinomial((0.5 * scores + bias).softmax(-1), 1, generator=draw)[:, 0]
    scaling = fit_scaling(scores, gold, SENTIMENTS, penalty=0.0)
    assert scaling.labels == SENTIMENTS
    assert scaling.weight == pytest.approx((0.5, 0.5, 0.5), abs=0.06)
    found = torch.tensor(scaling.bias)
    assert (found - found.mean()).tolist() == pytest.approx(bias.tolist(), abs=0.15)


def test_a_label_that_hardly_occurs_keeps_a_bounded_scale():
    draw = torch.Generator().manual_seed(0)
    scores = torch.randn(60, 4, generator=draw)
    scaling = fit_scaling(scores, torch.randint(0, 3, (60,), generator=draw), ("a", "b", "c", "never"))
    assert all(-8 < value < 8 for value in (*scaling.weight, *scaling.bias))


def test_no_speaker_is_on_both_sides():
    samples = [replace(q.emotion("", "sad"), speaker=f"{i % 7}") for i in range(40)]
    fitting, unseen = halves(samples)
    assert sorted(fitting + unseen) == list(range(40))
    assert not {samples[i].speaker for i in fitting} & {samples[i].speaker for i in unseen}
    assert {samples[i].speaker for i in fitting} == {"0", "2", "4", "6"}


def test_samples_of_nobody_are_halved_one_by_one():
    fitting, unseen = halves([q.emotion("", "sad")] * 11)
    assert sorted(fitting + unseen) == list(range(11))
    assert len(fitting) == 6


def test_a_voice_can_be_calm():
    assert labels_of("emotion", ("text", "voice")) == VOICE_EMOTIONS
    assert labels_of("emotion", ("text", "face")) == EMOTIONS
    assert (labels_of("sentiment/voice", ("voice",)), labels_of("intent/text", ("text",))) == (SENTIMENTS, INTENTS)
    assert len(labels_of("intent/text of MIntRec", ("text",))) == 20


def test_scores_are_log_probabilities_in_the_order_of_the_labels():
    samples = [q.emotion(f"{label} words", label) for label in ("sad", "fear")]
    scores, gold, labels = score(Reader(), "emotion", samples)
    assert labels == EMOTIONS
    assert gold.tolist() == scores.argmax(-1).tolist() == [EMOTIONS.index("sad"), EMOTIONS.index("fear")]
    assert scores.exp().sum(-1).tolist() == pytest.approx([1, 1])


def test_clips_are_read_with_their_words(tmp_path):
    make_voices(tmp_path, [("a.wav", "calm", "1", "valid", 0.2), ("b.wav", "sad", "2", "valid", 0.4)])
    samples = list(clips.ravdess(tmp_path, "valid"))
    samples[1] = replace(samples[1], text="sad words")
    model = Reader()
    scores, gold, labels = score(model, "emotion", samples)
    assert labels == VOICE_EMOTIONS
    assert gold.tolist() == scores.argmax(-1).tolist() == [labels.index("calm"), labels.index("sad")]


LABELS = ("sad", "happy", "fear", "neutral")


def texts(n=40):
    """Every fourth says another emotion than it is."""
    return [q.emotion(f"{'sad' if i % 4 == 3 else LABELS[i % 3]} words", LABELS[i % 3]) for i in range(n)]


def test_each_half_is_measured_by_what_was_fitted_on_the_other():
    samples = texts()
    scaling, metrics = calibrate(Reader(), {"emotion/text": samples, "intent/text": []})
    assert set(scaling) == {"emotion/text"}
    assert metrics["emotion/text n"] == 40
    right = [sample.text.split()[0] == sample.label for sample in samples]
    assert metrics["emotion/text accuracy"] == pytest.approx(sum(right) / 40, abs=0.05)

    first, second = halves(samples)
    changed = list(samples)
    for i in first:  # who says sad is happy here, so the other half is misread, and it misreads this one
        changed[i] = q.emotion(samples[i].text, "happy" if samples[i].text.startswith("sad") else "disgust")
    again, worse = calibrate(Reader(), {"emotion/text": changed})
    assert again != scaling
    assert worse["emotion/text accuracy"] < metrics["emotion/text accuracy"] - 0.3
    assert len(first) == len(second) == 20


def test_calibration_brings_confidence_to_how_often_it_is_right():
    samples = [q.emotion(f"{label} words", label) for label in LABELS for _ in range(20)]  # always right, 0.8 sure
    scaling, metrics = calibrate(Reader(), {"emotion/text": samples})
    assert metrics["emotion/text accuracy"] == 1
    assert metrics["emotion/text ece"] < 0.1
    scores, gold, _ = score(Reader(), "emotion", samples)
    assert nll(scaling["emotion/text"], scores, gold) < torch.nn.functional.cross_entropy(scores, gold)


class LastLineMind(ScriptedModel):
    """Finds half of the cause in the line said now and half in the line before."""

    def causes(self, prefix, emotion):
        now = len(self.histories[-1])
        return (Cause("before", now - 1, 0.5), Cause("now", now, 0.5))


def test_a_line_is_as_probable_a_cause_as_lines_said_so_long_ago_have_been():
    history = tuple(Utterance("user", f"line {i}") for i in range(3))
    said_now = [Case(f"{i}", {"emotion": "sad"}, "now", history, cause_lines=frozenset({3})) for i in range(30)]
    said_before = [Case(f"{i}", {"emotion": "sad"}, "now", history, cause_lines=frozenset({2})) for i in range(10)]
    scaling = fit_cause_lines(LastLineMind(), said_now + said_before)
    assert scaling.labels == CAUSE_LINES
    now, before = (torch.tensor(scaling.bias[at]).sigmoid().item() for at in (0, 1))  # the log-odds of a half are 0
    assert now == pytest.approx(0.75, abs=0.01)
    assert before == pytest.approx(0.25, abs=0.01)


def test_each_calibration_has_a_version_of_its_own():
    versions = ["p2e-5-800"]
    for day in ("2026-01-02", "2026-01-02", "2026-01-02", "2026-01-03"):
        versions.append(calibrated_again(versions[-1], day))
    assert [version.partition("+")[2] for version in versions[1:]] == [
        "2026-01-02", "2026-01-02.2", "2026-01-02.3", "2026-01-03"
    ]  # fmt: skip
