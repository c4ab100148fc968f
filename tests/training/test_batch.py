"""Rows and portions: padding and portion mates change nothing, and training asks what the engine asks."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model import processor as p
from model.engine import LABEL_TASKS
from model.heads import Choice
from model.nano_emox import IGNORED
from model.types import EMOTIONS, INTENTS, SENTIMENTS, VOICE_EMOTIONS, Thought, Utterance
from model.weights import MissingWeights, locate
from perception.types import Faces, Frames, Speech, UserTurn
from tests.model.tiny import tiny_model, tiny_processor
from tests.training.tiny_run import CORPORA, fetch, make_accelerator, make_model
from training.batch import portions, row, weight
from training.curriculum import READS
from training.data import questions as q
from training.data.mixture import Drawn
from training.data.sample import Clip, Sample
from training.loop import forward

HISTORY = (Utterance("user", "My cat ran away because it rained."), Utterance("assistant", "Oh no."))
THOUGHT = Thought("a cat ran away", "sad", "it rained", "comfort them")
MIXED = [
    *CORPORA["scenes"], CORPORA["voices"][0], *CORPORA["faces"], *CORPORA["lines"],
    q.empathy("I miss her.", HISTORY, THOUGHT, "I am sorry. Shall we look for her?"),
]  # fmt: skip


@pytest.fixture(scope="module")
def model():
    return make_model().eval()


def rows_of(samples, model, phase="3"):
    return [row(Drawn(sample), model, tiny_processor(), fetch, READS[phase]) for sample in samples]


def weighed(rows, size, model):
    """The batch's weighed sum, of portions of a size, and its gradient."""
    model.zero_grad()
    total = 0.0
    for portion in portions(rows, size):
        losses, at = forward(portion, model, tiny_processor(), make_accelerator())
        part = (losses * portion.weights[at]).sum()
        part.backward()
        total += part.item()
    adapter = next(p for name, p in model.lm.named_parameters() if "lora_B" in name)
    return total, model.audio.projection.weight.grad.clone(), adapter.grad.clone()


def test_portions_add_up_to_what_single_rows_do(model):
    rows = rows_of(MIXED, model)
    assert len({len(each.ids) for each in rows}) > 3
    alone, *gradients_alone = weighed(rows, 1, model)
    for size in (3, 8):
        found, *gradients = weighed(rows, size, model)
        assert found == pytest.approx(alone, rel=1e-5)
        for gradient, expected in zip(gradients, gradients_alone, strict=True):
            torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-4)


def test_portions_hold_every_row_once_beside_rows_of_its_length(model):
    rows = rows_of(MIXED, model)
    found = list(portions(rows, 5))
    held = [ids[mask].tolist() for portion in found for ids, mask in zip(portion.ids, portion.mask, strict=True)]
    assert held == sorted((each.ids for each in rows), key=len)
    assert [len(portion.ids) for portion in found] == [5, 5, 2]
    assert all((portion.labels[~portion.mask] == IGNORED).all() for portion in found)


def test_a_row_weighs_as_the_root_of_its_tokens(model):
    label, reply = rows_of([CORPORA["voices"][0], MIXED[-1]], model)
    assert label.n_supervised == len(" happy.###")
    for each in (label, reply):
        assert weight(each) * each.n_supervised == pytest.approx(each.n_supervised**0.5)


@pytest.mark.parametrize(
    ("phase", "slots"),
    [("1.1", ("audio",)), ("1.2", ("face", "frame")), ("2", p.SLOTS), ("3", p.SLOTS)],
)
def test_a_phase_fills_its_slots_alone(model, phase, slots):
    (found,) = rows_of(CORPORA["scenes"][:1], model, phase)
    assert found.slots == slots
    placeholders = tiny_processor().placeholders
    assert {slot for slot, at in placeholders.items() if at in found.ids} == set(slots)


def test_only_the_answer_and_its_end_are_supervised(model):
    (found,) = rows_of([replace(CORPORA["lines"][0], history=HISTORY)], model)
    processor = tiny_processor()
    supervised = [label for label in found.labels if label != IGNORED]
    assert processor.text(supervised) == "Leave###"
    assert found.ids[-len(supervised) :] == supervised
    asked = processor.text(found.ids[: -len(supervised)])
    assert asked == (
        '###Human: Dialogue so far:\nuser: My cat ran away because it rained.\nassistant: Oh no.\n'
        'Subtitle: "Leave!"\n[Intent] Which intent? ###Assistant: '
    )  # fmt: skip


def test_a_lead_is_given_and_not_supervised(model):
    (found,) = rows_of(CORPORA["voices"][:1], model)
    processor = tiny_processor()
    text = processor.text(found.ids)
    assert text.endswith("The most likely label is happy.###")
    assert processor.text([label for label in found.labels if label != IGNORED]) == " happy.###"


# ---- training and the engine -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def engine():
    engine = tiny_model()
    with torch.no_grad():
        for parameter in engine.model.lm.parameters():
            if parameter.ndim == 2:
                torch.nn.init.normal_(parameter, std=0.25)
    return engine


def turn(**fields):
    draw, times = np.random.default_rng(0), np.arange(8.0)
    speech = Speech(draw.normal(0, 0.1, 40_000).astype(np.float32))
    frames = Frames(draw.integers(0, 256, (8, 40, 40, 3), dtype=np.uint8), times)
    faces = Faces(draw.integers(0, 256, (8, 64, 64, 3), dtype=np.uint8), times, np.zeros((8, 4), np.float32))
    return replace(UserTurn("my cat ran away", speech, frames, faces), **fields)


TURNS = {
    "everything": (turn(), "3"),
    "voice": (turn(text="", frames=None, faces=None), "1.1"),
    "face": (turn(text="", speech=None), "1.2"),
    "words": (turn(speech=None, frames=None, faces=None), "3"),
}
FILES = Clip(sound=Path("a.wav"), pictures=Path("a.mp4"))


def trained_log_p(engine, given, phase, sample, n):
    """The log-probability of the first `n` supervised tokens, as the loss of training sees it."""
    outputs = engine.model.encode(engine.processor.inputs(given, p.SLOTS))
    each = row(Drawn(sample), engine.model, engine.processor, lambda drawn: outputs, READS[phase])
    (portion,) = portions([each], 1)
    with torch.no_grad():
        losses, _ = forward(portion, engine.model, engine.processor, make_accelerator())
    return -losses[:n].sum().item()


@pytest.mark.parametrize("read", TURNS)
@pytest.mark.parametrize("task", LABEL_TASKS)
def test_the_loss_of_a_label_is_what_the_engine_scores_it(engine, read, task):
    given, phase = TURNS[read]
    asked = {
        "emotion": q.emotion,
        "sentiment": lambda text, label: q.sentiment(text, SENTIMENTS.index(label) - 1),
        "intent": q.intent,
    }[task]
    labels = {"emotion": VOICE_EMOTIONS, "sentiment": SENTIMENTS, "intent": INTENTS[:4]}[task]
    question, lead, written = LABEL_TASKS[task]
    ids = [engine.processor.ids(written.format(label)) for label in labels]
    prefix = engine.attend(given)
    choice = Choice(prefix.now, engine.processor.question_ids(question, lead), ids)
    scores = engine.score(prefix, {task: choice})[task].tolist()
    for label, score, tokens in zip(labels, scores, ids, strict=True):
        sample = replace(asked(given.text, label), clip=FILES)
        assert trained_log_p(engine, given, phase, sample, len(tokens)) == pytest.approx(score, abs=1e-3)


def test_the_loss_of_a_cause_is_what_the_engine_scores_it(engine):
    given = turn()
    causes = engine.causes(engine.attend(given, HISTORY), "sad")
    log_p = []
    for cause in causes:
        answer = ((p.CAUSE_LEAD, False), (cause.text, True), ('"', True))
        sample = Sample("cause", given.text, p.CAUSE_QUESTION.format(emotion="sad"), answer, HISTORY, FILES)
        log_p.append(trained_log_p(engine, given, "3", sample, 6))
    assert len(causes) > 2
    shares = torch.tensor(log_p).softmax(-1).tolist()
    assert shares == pytest.approx([cause.probability for cause in causes], abs=1e-4)


@pytest.mark.weights
def test_a_label_has_the_same_tokens_in_training_and_at_work():
    try:
        folder = locate("smollm2")
    except MissingWeights as error:
        pytest.skip(str(error))
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    for label in (*EMOTIONS, *VOICE_EMOTIONS, *SENTIMENTS):
        scored = tokenizer(f" {label}", add_special_tokens=False).input_ids
        (_, _), (trained, _) = q.emotion("", label).answer
        assert tokenizer(trained, add_special_tokens=False).input_ids[: len(scored)] == scored
