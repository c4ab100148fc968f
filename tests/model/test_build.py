import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.build import (
    NANO_EMOX_EMBEDDED,
    NANO_EMOX_TINY,
    CheckpointError,
    Manifest,
    _fill,
    compose,
    nano_emox_2b,
    nano_emox_embedded,
    nano_emox_tiny,
    read_manifest,
    save,
)
from model.encoders.features import Features
from model.fusion import ExpertFusion
from model.nano_emox import EncoderOutputs
from training.freeze import freeze

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "spec" / "golden" / "param_counts.json"
COUNTS = {  # arXiv 2603.02123 as computed from its configuration; the release's face LayerNorm of 512 is never applied
    "llm_qwen2.5_1.5b": 1_543_714_304,
    "lora_total": 18_464_768,
    "clip_vision": 303_179_776,
    "hubert_large": 315_438_720,
    "face_encoder_frozen": 87_497_912,
    "video_branch": 20_930_048,
    "audio_branch": 20_905_472,
    "face_mha": 263_168,
    "face_query": 1_024,
    "face_proj": 1_378_560,
    "fusion_encoder": 6_568_963,
    "fusion_proj_512_1536": 787_968,
    "total_clip_vision_only": 2_319_131_195,
    "face_lynorm_unused": 512,
    "phase1_1_trainable_intended": 20_905_472,
    "phase1_2_trainable_intended": 22_572_800,
    "phase2_trainable_intended": 50_835_203,
    "adapters_total_phase3_trainable": 69_299_971,
}


@pytest.fixture(scope="module")
def paper_model():
    with torch.device("meta"):
        return nano_emox_2b()


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_paper_model_has_the_papers_parameters(paper_model):
    lora = sum(p.numel() for name, p in paper_model.lm.named_parameters() if "lora_" in name)
    found = {
        "llm_qwen2.5_1.5b": count(paper_model.lm) - lora,
        "lora_total": lora,
        "clip_vision": count(paper_model.visual),
        "hubert_large": count(paper_model.acoustic),
        "face_encoder_frozen": count(paper_model.facial),
        "video_branch": count(paper_model.video),
        "audio_branch": count(paper_model.audio),
        "face_query": paper_model.face.queries.numel(),
        "face_mha": count(paper_model.face.attention),
        "face_proj": count(paper_model.face.projection),
        "fusion_encoder": count(paper_model.fusion) - count(paper_model.fusion.projection),
        "fusion_proj_512_1536": count(paper_model.fusion.projection),
        "total_clip_vision_only": count(paper_model) + COUNTS["face_lynorm_unused"],
    }
    assert found == {name: COUNTS[name] for name in found}


@pytest.mark.parametrize(
    ("phase", "name"),
    [
        ("1.1", "phase1_1_trainable_intended"),
        ("1.2", "phase1_2_trainable_intended"),
        ("2", "phase2_trainable_intended"),
        ("3", "adapters_total_phase3_trainable"),
    ],
)
def test_each_phase_trains_what_the_curriculum_says(paper_model, phase, name):
    assert freeze(paper_model, phase) == COUNTS[name]
    assert sum(p.numel() for p in paper_model.parameters() if p.requires_grad) == COUNTS[name]


@pytest.mark.skipif(not GOLDEN.is_file(), reason="the golden values are not beside the project")
def test_the_counts_above_are_the_golden_ones():
    golden = json.loads(GOLDEN.read_text())
    assert {name: golden.get(name) for name in COUNTS} == COUNTS


def test_expert_input_projections_can_be_unshared():
    widths = (8, 8, 8)
    shared, own = (ExpertFusion(widths, widths, 4, width=4, n_heads=2, share_inputs=s) for s in (True, False))
    assert count(own) - count(shared) == 2 * 2 * (8 * 4 + 4)


def test_the_embedded_model_is_small():
    with torch.device("meta"):
        model = nano_emox_embedded()
    assert count(model) < 180e6


def manifest(**changes):
    facts = Manifest("nano_emox_tiny", "1", "3", ("text", "voice"), ("synthetic",), "2026-01-01", "CC0")
    return replace(facts, **changes)


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    model = nano_emox_tiny()
    written = save(model, tmp_path / "c", manifest())
    assert read_manifest(tmp_path / "c") == written
    from safetensors.torch import load_file

    other = compose(NANO_EMOX_TINY, lora=False)
    _fill(other, load_file(tmp_path / "c" / "branches.safetensors"), tmp_path)
    assert torch.equal(other.audio.queries, model.audio.queries.to(torch.bfloat16).float())


def test_only_trained_branches_are_kept(tmp_path):
    save(compose(NANO_EMOX_TINY, branches={"audio"}), tmp_path / "c", manifest())
    from safetensors.torch import load_file

    assert {name.split(".")[0] for name in load_file(tmp_path / "c" / "branches.safetensors")} == {"audio"}


def test_nothing_half_written_stays(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("model.build.save_file", full)
    with pytest.raises(OSError, match="No space"):
        save(nano_emox_tiny(), tmp_path / "c", manifest())
    assert list(tmp_path.iterdir()) == []


def test_a_changed_file_is_refused(tmp_path):
    save(nano_emox_tiny(), tmp_path / "c", manifest())
    with (tmp_path / "c" / "branches.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x55")
    with pytest.raises(CheckpointError, match="differs from its manifest"):
        read_manifest(tmp_path / "c")


def test_a_pickle_is_refused(tmp_path):
    save(nano_emox_tiny(), tmp_path / "c", manifest())
    facts = json.loads((tmp_path / "c" / "manifest.json").read_text())
    (tmp_path / "c" / "weights.pt").write_bytes(b"x")
    facts["files"]["weights.pt"] = "0"
    (tmp_path / "c" / "manifest.json").write_text(json.dumps(facts))
    with pytest.raises(CheckpointError, match="safetensors"):
        read_manifest(tmp_path / "c")


def test_tensors_of_another_variant_are_refused(tmp_path):
    state = {"audio.queries": torch.zeros(7, 7)}
    with pytest.raises(CheckpointError, match="does not fit"):
        _fill(nano_emox_tiny(), state, tmp_path)


def test_a_folder_without_manifest_is_no_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="no manifest"):
        read_manifest(tmp_path)


def test_shapes_of_the_paper_model(paper_model):
    """Section 7.2 behind the encoders; theirs are asserted beside each encoder."""
    n, device = 3, "meta"
    mask = torch.ones(n, 8, dtype=torch.bool, device=device)
    scales = tuple(torch.zeros(n, 8, 1024, device=device) for _ in range(3))
    clip = Features(torch.zeros(n, 8, 1024, device=device), scales, mask)
    face = Features(torch.zeros(n, 8, 256, device=device), (), mask)
    before_projection = []
    for branch in (paper_model.audio, paper_model.video):
        branch.projection.register_forward_pre_hook(lambda _, args: before_projection.append(tuple(args[0].shape)))
    fused = []
    paper_model.fusion.projection.register_forward_pre_hook(lambda _, args: fused.append(tuple(args[0].shape)))
    soft = paper_model.soft_tokens(EncoderOutputs(visual=clip, acoustic=clip, facial=face))
    assert before_projection == [(n, 32, 768), (n, 32, 768)]
    assert fused == [(n, 512)]
    assert tuple(soft.gates.shape) == (n, 3)
    shapes = {slot: tuple(tokens.shape) for slot, tokens in soft.tokens.items()}
    assert shapes == {"multi": (n, 1, 1536), "audio": (n, 32, 1536), "face": (n, 4, 1536), "frame": (n, 32, 1536)}
    assert sum(soft.counts().values()) == 69
    ids = torch.zeros(n, 40, dtype=torch.long, device=device)
    assert tuple(paper_model.lm.get_input_embeddings()(ids).shape) == (n, 40, 1536)


def test_a_still_face_reads_the_same_once_and_repeated():
    """The cache keeps a still once and trains on it; live it fills all eight steps."""
    torch.manual_seed(0)
    adapter = compose(NANO_EMOX_EMBEDDED, lm=nano_emox_tiny().lm, branches={"face"}, lora=False).face.eval()
    still = torch.randn(1, 1, 256)
    once = adapter(Features(still, (), torch.ones(1, 1, dtype=torch.bool)))
    repeated = adapter(Features(still.expand(1, 8, 256), (), torch.ones(1, 8, dtype=torch.bool)))
    torch.testing.assert_close(once, repeated, atol=1e-5, rtol=1e-5)
