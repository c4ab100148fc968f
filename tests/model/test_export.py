"""A merged checkpoint says what the unmerged one says, here and in plain transformers; both are verified."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from model.build import (
    NANO_EMOX_EMBEDDED,
    NANO_EMOX_TINY,
    CheckpointError,
    Manifest,
    checkpoints_language_model,
    compose,
    embedded_checkpoint,
    load,
    merged_language_model,
    read_manifest,
    save,
)
from model.cache import sha256
from model.export import export_merged
from model.types import EMOTIONS, INTENTS
from model.verify import examine, verify
from model.weights import MissingWeights, locate
from perception.types import UserTurn
from tests.model.tiny import tiny_tokenizer

FACTS = Manifest("nano_emox_tiny", "1", "3", ("text",), ("synthetic",), "2026-01-01", "CC0")
SAID = ("I lost my keys again.", "We won!", "She left without a word, and I do not know why.")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folders of a language model, of a checkpoint whose adapters change it, and of both merged."""
    torch.manual_seed(0)
    base = tmp_path_factory.mktemp("made")
    compose(NANO_EMOX_TINY, lora=False).lm.to(torch.bfloat16).save_pretrained(base / "lm")
    tiny_tokenizer().save_pretrained(base / "lm")
    model = compose(NANO_EMOX_TINY)
    for name, parameter in model.lm.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    save(model, base / "checkpoint", FACTS)
    (base / "checkpoint" / "README.md").write_text("# tiny\n")
    export_merged(base / "checkpoint", base / "merged", {"lm": str(base / "lm")})
    return base / "lm", base / "checkpoint", base / "merged"


@pytest.fixture
def merged(made, tmp_path):
    return shutil.copytree(made[2], tmp_path / "merged")


def relist(folder):
    """Bring a manifest's hashes up to date."""
    facts = json.loads((folder / "manifest.json").read_text())
    facts["files"] = {name: sha256(folder / name) for name in facts["files"]}
    (folder / "manifest.json").write_text(json.dumps(facts))


def problems(folder):
    return {check.name: check.problem for check in examine(folder) if check.problem}


@torch.inference_mode()
def logits(lm, text, tokenizer):
    return lm(input_ids=torch.tensor([tokenizer(text).input_ids])).logits


def test_a_merged_model_says_the_same(made):
    lm, checkpoint, merged = made
    apart, whole = load(lm, checkpoint), load(checkpoints_language_model(merged), merged)
    for text in SAID:
        for task, labels in (("emotion", EMOTIONS), ("intent", INTENTS)):
            found = [model.classify(model.attend(UserTurn(text)), task, labels) for model in (apart, whole)]
            assert found[0] == found[1]
    assert whole.card.version == "1"


def test_plain_transformers_opens_it(made):
    lm, checkpoint, merged = made
    tokenizer = AutoTokenizer.from_pretrained(merged, local_files_only=True)
    plain = AutoModelForCausalLM.from_pretrained(merged, local_files_only=True)
    assert plain.dtype == torch.bfloat16
    untuned = AutoModelForCausalLM.from_pretrained(lm, local_files_only=True)
    for text in SAID:
        expected = logits(merged_language_model(lm, checkpoint, NANO_EMOX_TINY), text, tokenizer)
        assert torch.equal(logits(plain, text, tokenizer), expected)
        assert not torch.allclose(logits(untuned, text, tokenizer), expected, atol=0.05)


def test_a_merged_folder_is_all_that_is_needed(made, tmp_path):
    _, _, merged = made
    manifest = read_manifest(merged)
    assert manifest.merged
    assert set(manifest.files) >= {"model.safetensors", "config.json", "tokenizer.json", "branches.safetensors"}
    assert not any(name.startswith("lora/") for name in manifest.files)
    assert verify(merged) == manifest
    assert "**Merged**" in (merged / "README.md").read_text()
    assert load(tmp_path / "no language model here", merged).card.variant == "nano_emox_tiny"
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in merged.rglob("*"))
    for path in merged.glob("*.json"):
        assert str(merged.parent) not in path.read_text()


def test_it_is_merged_once(merged, tmp_path):
    with pytest.raises(CheckpointError, match="merged already"):
        export_merged(merged, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_nothing_half_exported_stays(made, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    lm, checkpoint, merged = made
    monkeypatch.setattr("model.export.shutil.copyfile", full)
    with pytest.raises(OSError, match="No space"):
        export_merged(checkpoint, tmp_path / "out", {"lm": str(lm)})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileExistsError, match="exists already"):
        export_merged(checkpoint, merged, {"lm": str(lm)})


def test_the_packaged_checkpoint_fits_its_variant():
    checks = {check.name: check for check in examine(embedded_checkpoint())}
    assert not any(check.problem for check in checks.values())
    assert checks["lora/adapter_model.safetensors"].n_tensors == 420


def test_tensors_that_do_not_fit_are_named(made, tmp_path):
    folder = shutil.copytree(made[1], tmp_path / "c")
    state = load_file(folder / "branches.safetensors")
    save_file(state | {"audio.queries": torch.zeros(7, 7), "extra": torch.zeros(1)}, folder / "branches.safetensors")
    relist(folder)
    assert problems(folder) == {
        "branches.safetensors": "does not fit its variant: audio.queries is (7, 7) where nano_emox_tiny has "
        "(3, 16); 2 tensors differ"
    }
    with pytest.raises(CheckpointError, match=r"branches\.safetensors does not fit"):
        verify(folder)


def test_a_configuration_of_another_model_is_refused(merged):
    config = json.loads((merged / "config.json").read_text())
    (merged / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    relist(merged)
    assert "does not fit its variant: model.layers.2" in problems(merged)["config.json"]
    (merged / "config.json").write_text("{}")
    relist(merged)
    assert "no configuration" in problems(merged)["config.json"]


def test_adapters_of_another_rank_are_refused(made, tmp_path):
    folder = shutil.copytree(made[1], tmp_path / "c")
    config = folder / "lora" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"r": 4}))
    relist(folder)
    assert "rank 4" in problems(folder)["lora/adapter_config.json"]


def test_each_bad_file_is_named(made, tmp_path):
    folder = shutil.copytree(made[1], tmp_path / "c")
    (folder / "branches.safetensors").write_bytes(b"no tensors")
    relist(folder)
    (folder / "lora" / "adapter_model.safetensors").unlink()
    (folder / "more.safetensors").write_bytes(b"x")
    (folder / "notes.txt").write_text("these are nobody's business")
    found = problems(folder)
    assert found["branches.safetensors"] == "is not a safetensors file"
    assert "is missing" in found["lora/adapter_model.safetensors"]
    assert "not listed" in found["more.safetensors"]
    assert len(found) == 3


def test_a_manifest_without_weights_is_no_checkpoint(made, tmp_path):
    folder = shutil.copytree(made[1], tmp_path / "c")
    facts = json.loads((folder / "manifest.json").read_text())
    for changes in ({"files": {}}, {"merged": True}):
        (folder / "manifest.json").write_text(json.dumps(facts | changes))
        with pytest.raises(CheckpointError, match="its manifest lists no"):
            verify(folder)


@pytest.mark.weights
def test_the_packaged_checkpoint_merged_says_the_same(tmp_path):
    try:
        lm = locate("smollm2")
        locate("whisper-base-encoder")
    except MissingWeights as error:
        pytest.skip(str(error))
    export_merged(embedded_checkpoint(), tmp_path / "merged")
    verify(tmp_path / "merged")
    apart, whole = load(lm), load(tmp_path / "merged", tmp_path / "merged")
    for text in SAID:
        found = [model.perceive(model.attend(UserTurn(text))) for model in (apart, whole)]
        assert found[0] == found[1]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged", local_files_only=True)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", local_files_only=True)
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": SAID[0]}], tokenize=False)
    kept = merged_language_model(lm, embedded_checkpoint(), NANO_EMOX_EMBEDDED)
    assert torch.equal(logits(plain, prompt, tokenizer), logits(kept, prompt, tokenizer))
