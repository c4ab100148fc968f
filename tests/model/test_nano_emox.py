import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from model.build import nano_emox_tiny
from model.encoders.features import Features
from model.nano_emox import IGNORED, EncoderOutputs, SoftTokens
from model.processor import SLOTS, Inputs
from tests.model.tiny import tiny_model, tiny_processor
from training.freeze import freeze


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return nano_emox_tiny().eval()


def inputs(n, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return Inputs(
        frames=torch.randint(0, 256, (n, 8, 3, 224, 224), dtype=torch.uint8, generator=draw),
        faces=torch.randint(0, 256, (n, 8, 3, 64, 64), dtype=torch.uint8, generator=draw),
        clips=torch.randn(n, 8, 32000, generator=draw) * 0.1,
    )


def row(batch, i):
    return Inputs(batch.frames[i : i + 1], batch.faces[i : i + 1], batch.clips[i : i + 1])


@torch.no_grad()
def test_soft_tokens_have_the_widths_of_the_language_model(model):
    soft = model.soft_tokens(model.encode(inputs(2)))
    assert {slot: tuple(t.shape) for slot, t in soft.tokens.items()} == {
        "multi": (2, 1, 32),
        "audio": (2, 3, 32),
        "face": (2, 2, 32),
        "frame": (2, 3, 32),
    }
    assert list(soft.tokens) == list(SLOTS)
    torch.testing.assert_close(soft.gates.sum(1), torch.ones(2))


@torch.no_grad()
def test_a_sample_does_not_depend_on_its_batch_mates(model):
    batch = inputs(3)
    together = model.soft_tokens(model.encode(batch))
    for i in range(3):
        alone = model.soft_tokens(model.encode(row(batch, i)))
        for slot in SLOTS:
            torch.testing.assert_close(alone.tokens[slot][0], together.tokens[slot][i], rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_missing_modality_has_no_slot(model):
    batch = inputs(1)
    assert set(model.soft_tokens(model.encode(Inputs(clips=batch.clips))).tokens) == {"audio"}
    assert set(model.soft_tokens(model.encode(Inputs(faces=batch.faces, frames=batch.frames))).tokens) == {
        "face",
        "frame",
    }
    assert model.soft_tokens(EncoderOutputs()).tokens == {}


@torch.no_grad()
def test_frames_in_another_order_give_another_face(model):
    batch = inputs(1)
    turned = Inputs(faces=batch.faces.flip(1))
    tokens = [model.soft_tokens(model.encode(x)).tokens["face"] for x in (Inputs(faces=batch.faces), turned)]
    assert (tokens[0] - tokens[1]).abs().max() > 1e-6


def prompt(model, processor, n=1):
    soft = model.soft_tokens(model.encode(inputs(n)))
    ids = processor.header_ids() + processor.prefix_ids(soft.counts(), "hello") + processor.question_ids("How?", "Well")
    return soft, torch.tensor([ids] * n)


@torch.no_grad()
def test_soft_tokens_take_the_place_of_their_placeholders(model):
    processor = tiny_processor()
    soft, ids = prompt(model, processor, n=2)
    embeddings = model.embed(ids, soft, processor.placeholders)
    assert embeddings.shape == (2, ids.shape[1], 32)
    for slot, placeholder in processor.placeholders.items():
        at = ids[0] == placeholder
        for i in range(2):
            torch.testing.assert_close(embeddings[i, at], soft.tokens[slot][i])
    plain = ids[0] < 258
    torch.testing.assert_close(embeddings[0, plain], model.lm.get_input_embeddings()(ids[0, plain]))


def test_a_wrong_number_of_placeholders_is_an_error(model):
    processor = tiny_processor()
    soft, ids = prompt(model, processor)
    with pytest.raises(ValueError, match="slot audio"):
        model.embed(
            torch.cat([ids, torch.tensor([[processor.placeholders["audio"]]])], 1), soft, processor.placeholders
        )


def batch_of(model, processor):
    soft, ids = prompt(model, processor, n=2)
    answer = torch.tensor([processor.ids("sad###")] * 2)
    all_ids = torch.cat([ids, answer], 1)
    labels = torch.cat([torch.full_like(ids, IGNORED), answer], 1)
    mask = torch.ones_like(all_ids, dtype=torch.bool)
    return model.embed(all_ids, soft, processor.placeholders), labels, mask


def test_the_loss_is_the_cross_entropy_of_the_answer(model):
    embeddings, labels, mask = batch_of(model, tiny_processor())
    with torch.no_grad():
        loss = model.loss(embeddings, labels, mask)
        logits = model.lm(inputs_embeds=embeddings).logits[:, :-1].log_softmax(-1)
        supervised = labels[:, 1:] != IGNORED
        expected = -logits[supervised].gather(1, labels[:, 1:][supervised][:, None]).mean()
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)


def test_padding_changes_no_loss(model):
    processor = tiny_processor()
    embeddings, labels, mask = batch_of(model, processor)
    pad = 5
    padded = (
        torch.cat([embeddings, torch.randn(2, pad, 32)], 1),
        torch.cat([labels, torch.full((2, pad), IGNORED)], 1),
        torch.cat([mask, torch.zeros(2, pad, dtype=torch.bool)], 1),
    )
    with torch.no_grad():
        torch.testing.assert_close(model.loss(*padded), model.loss(embeddings, labels, mask), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("phase", ["1.1", "1.2", "2", "3"])
def test_a_step_changes_what_the_phase_trains_and_nothing_else(phase):
    torch.manual_seed(0)
    model = nano_emox_tiny().train()
    freeze(model, phase)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    for _ in range(2):  # LoRA's first factor learns only once the second is no longer zero
        model.loss(*batch_of(model, tiny_processor())).backward()
        optimiser.step()
        optimiser.zero_grad()
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert changed <= trained
    assert {name.split(".")[0] for name in changed} == {name.split(".")[0] for name in trained}


@torch.no_grad()
def test_soft_tokens_of_other_rows_than_have_places_are_refused(model):
    processor = tiny_processor()
    soft = model.soft_tokens(model.encode(inputs(2)))
    voices = SoftTokens({"audio": soft.tokens["audio"]})
    rows = [processor.prefix_ids({"audio": 3}), processor.prefix_ids({})]
    ids = pad_sequence([torch.tensor(row, dtype=torch.long) for row in rows], batch_first=True)
    with pytest.raises(ValueError, match=r"slot audio has \[3, 0\] placeholders for 3 soft tokens in each of 2 rows"):
        model.embed(ids, voices, processor.placeholders)
    fitting = model.embed(ids, SoftTokens({"audio": soft.tokens["audio"][:1]}), processor.placeholders)
    torch.testing.assert_close(fitting[0, ids[0] == processor.placeholders["audio"]], soft.tokens["audio"][0])


def test_what_an_acoustic_encoder_with_classes_hears_is_told():
    model = tiny_model().model
    heard = Features(torch.randn(2, 3, model.acoustic.width), (), torch.ones(2, 3, dtype=torch.bool))
    model.fusion = None
    assert model.soft_tokens(EncoderOutputs(acoustic=heard)).voice is None
    model.acoustic.classes = ("a", "b")
    soft = model.soft_tokens(EncoderOutputs(acoustic=heard))
    assert torch.equal(soft.voice, heard.hidden[:, 0])
    assert model.soft_tokens(EncoderOutputs()).voice is None
