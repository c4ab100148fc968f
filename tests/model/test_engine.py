import itertools
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from model.readings import CAUSE_LINES, Cause, Scaling, fitting, line_logits, open_words, with_the_ear
from model.types import EMOTIONS, INTENTS, VOICE_EMOTIONS, CutShort, ReplyBrief, Thought, Utterance
from perception.types import Absence, Faces, Frames, Speech, UserTurn
from tests.model.tiny import tiny_model

THOUGHT = Thought("a cat ran away", "sad", "she is gone", "comfort them")


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def whole_turn(seed=0):
    draw = np.random.default_rng(seed)
    times = np.arange(8.0)
    return UserTurn(
        "my cat ran away",
        Speech(draw.normal(0, 0.1, 40_000).astype(np.float32)),
        Frames(draw.integers(0, 256, (8, 40, 40, 3), dtype=np.uint8), times),
        Faces(draw.integers(0, 256, (8, 64, 64, 3), dtype=np.uint8), times, np.zeros((8, 4), np.float32)),
    )


def test_every_distribution_sums_to_one(model):
    affect = model.perceive(model.attend(whole_turn()))
    read = [affect.emotions, affect.evidence.text, affect.evidence.voice, affect.evidence.face, affect.evidence.fusion]
    for distribution in read:
        assert tuple(distribution) == EMOTIONS
        assert sum(distribution.values()) == pytest.approx(1, abs=1e-9)
    assert affect.confidence == max(affect.emotions.values()) == affect.emotions[affect.emotion]
    assert -1 <= affect.sentiment <= 1
    assert -1 <= affect.valence <= 1
    assert -1 <= affect.arousal <= 1


def test_each_modality_alone_reads_what_a_turn_of_it_alone_reads(model):
    turn = whole_turn()
    together = model.perceive(model.attend(turn)).evidence
    voice = UserTurn("", turn.speech)
    words = UserTurn(turn.text)
    face = UserTurn("", None, turn.frames, turn.faces)
    for name, alone in (("voice", voice), ("text", words), ("face", face)):
        expected = model.perceive(model.attend(alone)).emotions
        assert getattr(together, name) == pytest.approx(expected, abs=1e-4)


def test_the_same_turn_twice_gives_the_same_affect(model):
    assert model.perceive(model.attend(whole_turn())) == model.perceive(model.attend(whole_turn()))


def test_a_feeling_is_read_from_this_turn_and_not_from_the_dialogue(model):
    history = [Utterance("user", "I am so sad."), Utterance("assistant", "Oh.")]
    alone, after = (model.perceive(model.attend(whole_turn(), lines)).emotions for lines in ((), history))
    assert after == pytest.approx(alone, abs=1e-5)


def test_an_untrained_modality_is_reported_and_not_read():
    model = tiny_model(modalities=("text",))
    affect = model.perceive(model.attend(whole_turn()))
    assert affect.absent["voice"] == affect.absent["face"] == Absence.UNTRAINED
    assert affect.evidence.voice is None
    assert affect.emotions == model.perceive(model.attend(UserTurn("my cat ran away"))).emotions


def test_scaling_calibrates():
    even = Scaling(EMOTIONS, (0.0,) * 7, (0.0, 0.0, 5.0, 0.0, 0.0, 0.0, 0.0))
    model = tiny_model(scaling={"emotion/text": even})
    affect = model.perceive(model.attend(UserTurn("hello")))
    assert affect.emotion == "sad"
    assert affect.emotions["happy"] == pytest.approx(1 / (6 + np.exp(5)))
    spoken = UserTurn("hello", whole_turn().speech)
    together = model.perceive(model.attend(spoken))
    assert together.evidence.text == affect.emotions
    assert together.emotions != affect.emotions  # fitted on words alone, so used for words alone


def test_labels_are_calibrated_among_as_few_as_were_asked():
    many = Scaling(("sad", "happy", "bored"), (1.0,) * 3, (5.0, 0.0, 0.0))
    few = Scaling(("sad", "happy"), (1.0,) * 2, (0.0, 5.0))
    scalings = {"emotion/text": many, "emotion/text of somebody": few, "emotion/text+voice": few}
    assert fitting(scalings, "emotion/text", ("happy", "sad")) is few
    assert fitting(scalings, "emotion/text", ("sad", "bored")) is many
    assert fitting(scalings, "emotion/text", ("sad", "angry")) is None
    assert fitting(scalings, "emotion/voice", ("sad",)) is None


def test_an_intent_is_calibrated_by_words_wherever_there_are_words():
    thank = Scaling(INTENTS, (0.0,) * 30, tuple(9.0 if intent == "Thank" else 0.0 for intent in INTENTS))
    model = tiny_model(scaling={"intent/text": thank})
    prefix = model.attend(UserTurn("hello", whole_turn().speech))
    assert model.understand(prefix, model.perceive(prefix))[0].intent == "Thank"


def test_clear_words_are_not_overruled_and_plain_words_leave_room(model):
    affect = model.perceive(model.attend(UserTurn("my cat ran away", whole_turn().speech)))
    words, together = affect.evidence.text, affect.evidence.fusion
    assert affect.emotions == pytest.approx({label: (words[label] + together[label]) / 2 for label in EMOTIONS})
    silent = model.perceive(model.attend(UserTurn("", whole_turn().speech)))
    assert silent.emotions == silent.evidence.fusion


def test_any_labels_can_be_scored(model):
    found = model.classify(model.attend(whole_turn()), "emotion", ("bored", "happy"))
    assert tuple(found) == ("bored", "happy")
    assert sum(found.values()) == pytest.approx(1)


def test_a_turn_is_felt_exactly_alike_after_a_dialogue(model):
    history = [Utterance("user", "I won, hurray!"), Utterance("assistant", "Well done!")]
    first, second = (model.attend(whole_turn(), before) for before in ((), history))
    alone, later = model.perceive(first), model.perceive(second)
    assert alone == later
    assert first.cache.n_slots == second.cache.n_slots  # in a pass of another shape bf16 would round otherwise
    assert model.understand(model.attend(whole_turn(), history), alone)[0].intents != (
        model.understand(model.attend(whole_turn()), alone)[0].intents
    )  # which does read the dialogue


def test_a_calm_voice_counts_as_neutral():
    calm = Scaling(VOICE_EMOTIONS, (0.0,) * 8, (0.0,) * 7 + (5.0,))
    model = tiny_model(scaling={"emotion/voice": calm})
    affect = model.perceive(model.attend(UserTurn("", whole_turn().speech)))
    assert tuple(affect.emotions) == EMOTIONS
    assert affect.emotion == "neutral"
    assert sum(affect.emotions.values()) == pytest.approx(1)


def test_a_calm_voice_counts_as_neutral_among_any_labels_without_calm():
    calm = Scaling(VOICE_EMOTIONS, (0.0,) * 8, (0.0,) * 7 + (5.0,))
    model = tiny_model(scaling={"emotion/voice": calm})
    prefix = model.attend(UserTurn("", whole_turn().speech))
    found = model.classify(prefix, "emotion", ("neutral", "sad"))
    assert tuple(found) == ("neutral", "sad")
    assert found["neutral"] > 0.98
    assert sum(found.values()) == pytest.approx(1)
    assert model.classify(prefix, "emotion", ("happy", "sad")).keys() == {"happy", "sad"}


def test_understanding_is_typed(model):
    prefix = model.attend(whole_turn())
    understanding, words = model.understand(prefix, model.perceive(prefix))
    assert tuple(understanding.intents) == INTENTS
    assert sum(understanding.intents.values()) == pytest.approx(1, abs=1e-9)
    assert understanding.intent in INTENTS
    assert understanding.cause
    assert understanding.scenario
    assert understanding.cause in "my cat ran away"
    assert understanding.scenario in "my cat ran away"
    assert understanding.evidence in "my cat ran away"
    assert all(word == word.lower() for word in words)


def test_the_reply_streams_and_is_bounded(model):
    prefix = model.attend(whole_turn())
    pieces = list(model.empathize(prefix, ReplyBrief(THOUGHT, ("On March 5 they said hello.",), max_tokens=12)))
    assert len("".join(pieces)) <= 12
    assert isinstance(pieces[-1], CutShort)


def test_a_reply_given_up_halfway_does_not_disturb_the_next(model):
    brief = ReplyBrief(THOUGHT, max_tokens=12)
    expected = list(model.empathize(model.attend(whole_turn()), brief))
    prefix = model.attend(whole_turn())
    given_up = model.empathize(prefix, brief)
    next(given_up)
    given_up.close()
    assert list(model.empathize(prefix, brief)) == expected


def test_asking_more_does_not_change_the_reply(model):
    brief = ReplyBrief(THOUGHT, max_tokens=12)
    asked = model.attend(whole_turn())
    model.understand(asked, model.perceive(asked))
    assert list(model.empathize(asked, brief)) == list(model.empathize(model.attend(whole_turn()), brief))


def test_gradients_are_never_kept(model):
    prefix = model.attend(whole_turn())
    model.perceive(prefix)
    assert not prefix.cache.row(prefix.now)[0][0].requires_grad
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (" sad, lonely, sad.", ("sad", "lonely")),
        ("Anger and disgust", ("anger", "disgust")),
        ("; ,", ()),
        ("worn out, 123", ("worn out",)),
    ],
)
def test_open_words_are_clean(answer, words):
    assert open_words(answer) == words


def test_the_cause_is_a_clause_that_was_said(model):
    history = [Utterance("user", "My cat ran away because it rained. Then I slept."), Utterance("assistant", "Oh.")]
    prefix = model.attend(UserTurn("I am sad, and I miss her so."), history)
    understanding, _ = model.understand(prefix, model.perceive(prefix))
    causes = model.causes(model.attend(UserTurn("I am sad, and I miss her so."), history), "sad")
    assert [cause.line for cause in causes] == [0, 0, 0, 1, 2, 2]
    assert sum(cause.probability for cause in causes) == pytest.approx(1)
    said = [line.text for line in history] + [prefix.turn.text]
    assert all(cause.text in said[cause.line] for cause in causes)
    best = max(causes, key=lambda cause: cause.probability)
    assert understanding.cause in {cause.text for cause in causes}
    assert understanding.cause in understanding.evidence
    assert understanding.evidence in said[best.line] or understanding.cause != best.text


def test_lines_may_each_hold_a_cause():
    history = [Utterance("user", "My cat ran away because it rained. Then I slept."), Utterance("assistant", "Oh.")]
    turn = UserTurn("I am sad, and I miss her so.")
    plain = tiny_model()
    shares = {line: 0.0 for line in range(3)}
    for cause in plain.causes(plain.attend(turn, history), "sad"):
        shares[cause.line] += cause.probability
    assert plain.cause_lines(plain.attend(turn, history), "sad") == pytest.approx(
        shares, abs=2e-4
    )  # which stay off 0 and 1

    sure = tiny_model(scaling={"cause/line": Scaling(CAUSE_LINES, (0.0,) * 4, (2.0, -2.0, 2.0, 0.0))})
    lines = sure.cause_lines(sure.attend(turn, history), "sad")
    assert lines == pytest.approx({0: 0.881, 1: 0.119, 2: 0.881}, abs=1e-3)


def test_what_was_said_long_ago_is_all_alike():
    causes = [Cause("a", 0, 0.1), Cause("b", 1, 0.2), Cause("c", 5, 0.4), Cause("d", 5, 0.3)]
    found = line_logits(causes, 5)
    assert [(line, ago) for line, _, ago in found] == [(0, "3+"), (1, "3+"), (5, "0")]
    assert found[2][1] == pytest.approx(np.log(0.7 / 0.3))
    assert np.isfinite(line_logits([Cause("a", 0, 1.0)], 0)[0][1])


def test_what_was_overheard_changes_nothing_but_the_time(model):
    history = [Utterance("user", "I am so sad."), Utterance("assistant", "Oh.")]
    turn = whole_turn()
    told = []
    for ahead in (None, model.overhear(UserTurn("", turn.speech, turn.frames, turn.faces), history)):
        prefix = model.attend(turn, history, ahead)
        affect = model.perceive(prefix)
        understanding, words = model.understand(prefix, affect)
        told.append((affect, understanding, words, list(model.empathize(prefix, ReplyBrief(THOUGHT, max_tokens=8)))))
    at_once, ahead_of_it = told
    assert ahead_of_it[0].emotions == pytest.approx(at_once[0].emotions, abs=1e-5)
    assert ahead_of_it[1].intents == pytest.approx(at_once[1].intents, abs=1e-5)
    assert ahead_of_it[2:] == at_once[2:]


def test_what_was_overheard_of_another_dialogue_is_not_used(model):
    turn, history = whole_turn(), [Utterance("user", "I am so sad.")]
    ahead = model.overhear(UserTurn("", turn.speech, turn.frames, turn.faces), [Utterance("user", "Hooray!")])
    assert model.attend(turn, history, ahead).cache is not ahead.cache


def test_in_haste_the_cause_is_sought_in_what_is_said_now_and_only_a_question_has_an_intent(model):
    history = [Utterance("user", "my dog died"), Utterance("assistant", "Oh.")]
    prefix = model.attend(UserTurn("I cannot stop crying"), history)
    hasty, words = model.understand(prefix, model.perceive(prefix), in_haste=True)
    assert (hasty.cause, hasty.intent, hasty.intents, words) == ("I cannot stop crying", "", {}, ())
    full, _ = model.understand(prefix, model.perceive(prefix))
    assert tuple(full.intents) == INTENTS
    asked = model.attend(UserTurn("what can I do?"), history)
    assert model.understand(asked, model.perceive(asked), in_haste=True)[0].intent in INTENTS


def ask(model, number):
    """All that one person asks of a turn, which differs in modalities and dialogue."""
    turn = whole_turn(number) if number % 3 else UserTurn(f"only words {number}")
    history = (Utterance("user", "hello"), Utterance("assistant", f"hi {number}")) if number % 2 else ()
    prefix = model.attend(turn, history)
    affect = model.perceive(prefix)
    understood = model.understand(prefix, affect)
    return affect, understood, list(model.empathize(prefix, ReplyBrief(THOUGHT, max_tokens=16)))


def test_a_turn_is_read_alone_as_among_31_others(model):
    n = 32
    alone = [ask(model, number) for number in range(n)]
    together = [None] * n

    def one(number):
        together[number] = ask(model, number)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    for (affect, understood, reply), (affect_, understood_, reply_) in zip(alone, together, strict=True):
        assert affect_.emotion == affect.emotion
        assert affect_.emotions == pytest.approx(affect.emotions, abs=1e-3)
        assert understood_[0].intents == pytest.approx(understood[0].intents, abs=1e-3)
        assert (understood_[0].cause, understood_[1], reply_) == (understood[0].cause, understood[1], reply)


@pytest.mark.parametrize("seed", range(3))
def test_giving_up_replies_at_any_word_disturbs_no_neighbour(model, seed):
    draw = np.random.default_rng(seed)
    brief = ReplyBrief(THOUGHT, max_tokens=16)
    turns = [UserTurn(f"my cat ran away {number}") for number in range(20)]
    whole = [list(model.empathize(model.attend(turn), brief)) for turn in turns]
    n_heard = [int(draw.integers(0, 17)) if number % 2 else 99 for number in range(20)]
    heard = [None] * 20

    def listen(number):
        reply = model.empathize(model.attend(turns[number]), brief)
        heard[number] = list(itertools.islice(reply, n_heard[number]))
        reply.close()

    threads = [threading.Thread(target=listen, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert heard == [reply[:n] for reply, n in zip(whole, n_heard, strict=True)]
    assert model.perceive(model.attend(turns[0]))  # a round later every row is free again
    assert model.rounds.rows.n_free == model.rounds.room.rows


def test_a_turn_that_cannot_be_encoded_fails_alone(model, monkeypatch):
    encode = model.model.encode

    def deaf(inputs):
        if inputs.clips is not None:
            raise ValueError("no sound can be read")
        return encode(inputs)

    monkeypatch.setattr(model.model, "encode", deaf)
    with pytest.raises(ValueError, match="no sound"):
        model.attend(whole_turn())
    assert model.perceive(model.attend(UserTurn("fine"))).emotion in EMOTIONS


DIALOGUE = (
    Utterance("user", "My cat is three years old and black."),
    Utterance("assistant", "She sounds lovely. What is her name?"),
    Utterance("user", "Her name is Luna, she sleeps on my bed."),
    Utterance("assistant", "A good place to sleep."),
)


def test_a_dialogue_is_read_once(monkeypatch):
    model, fresh = tiny_model(), tiny_model()
    passes = []
    serve = model.rounds.serve
    monkeypatch.setattr(
        model.rounds, "serve",
        lambda needs: passes.extend(need.cache.n_waiting for need in needs if hasattr(need, "cache")) or serve(needs),
    )  # fmt: skip
    model._scheduler._serve = lambda needs: model.rounds.serve(needs)

    def answered(by, text, history):
        prefix = by.attend(UserTurn(text), history)
        affect = by.perceive(prefix)
        return affect, by.understand(prefix, affect), "".join(by.empathize(prefix, ReplyBrief(None, max_tokens=12)))

    answered(model, "Now she is gone.", DIALOGUE[:2])
    passes.clear()
    again = answered(model, "She ran away.", DIALOGUE)
    n_with = sum(passes)
    passes.clear()
    model._prefixes.limit = 0
    model._prefixes._known.clear()
    without = answered(model, "She ran away.", DIALOGUE)
    assert n_with < sum(passes) - 60  # bytes are tokens here
    affect, (understanding, words), reply = again
    expected, (expected_understanding, expected_words), expected_reply = without
    assert (affect, words, reply) == (expected, expected_words, expected_reply)
    assert understanding.cause == expected_understanding.cause
    assert understanding.intents == pytest.approx(expected_understanding.intents, abs=1e-4)
    assert fresh.perceive(fresh.attend(UserTurn("She ran away."), DIALOGUE)) == affect


def test_another_dialogue_is_not_mistaken_for_what_was_read():
    model, fresh = tiny_model(), tiny_model()
    other = (DIALOGUE[0], Utterance("assistant", "She sounds awful. Get rid of her."), *DIALOGUE[2:])
    for history in (DIALOGUE, other):
        found = []
        for by in (model, fresh if history is other else model):
            prefix = by.attend(UserTurn("She ran away."), history)
            found.append(by.understand(prefix, by.perceive(prefix))[0].intents)
        assert found[0] == pytest.approx(found[1], abs=1e-4)


def test_without_words_the_ear_counts_by_half():
    scores, heard = torch.tensor([0.0, 2.0, -1.0]), torch.tensor([-0.1, -3.0, -4.0])
    found = with_the_ear(scores, heard).softmax(-1)
    expected = (scores.softmax(-1) * heard.softmax(-1)).sqrt()
    torch.testing.assert_close(found, expected / expected.sum())


def test_the_ear_is_asked_for_voices_and_not_for_words():
    model, turn = tiny_model(), whole_turn()
    silent = replace(turn, text="")
    before = {one.text: model.perceive(model.attend(one)) for one in (turn, silent)}
    model.model.acoustic.classes = VOICE_EMOTIONS  # of which this encoder says something, whatever it be
    soft_tokens = model.model.soft_tokens
    says = torch.full((1, 8), -6.0)
    says[0, VOICE_EMOTIONS.index("disgust")] = 0.0
    model.model.soft_tokens = lambda features: replace(soft_tokens(features), voice=says)
    with_words, without = (model.perceive(model.attend(one)) for one in (turn, silent))
    assert with_words.evidence.fusion == before[turn.text].evidence.fusion
    assert with_words.evidence.voice["disgust"] > 5 * before[turn.text].evidence.voice["disgust"]
    assert without.emotions["disgust"] > 5 * before[""].emotions["disgust"]
