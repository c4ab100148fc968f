"""Published encoders are read from local folders laid out as their authors do, strictly."""

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel, HubertConfig, HubertModel, SwinConfig

from model.build import NANO_EMOX_2B, NANO_EMOX_TINY, compose, language_model, load_encoders
from model.encoders.acoustic import HubertAcoustic
from model.encoders.facexformer import to_facexformer
from model.encoders.facial import SwinFacial
from model.encoders.visual import ClipVisual
from model.published import FACEXFORMER, load_published
from model.weights import WeightsError

CLIP = CLIPVisionConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=4, num_attention_heads=2,
                        image_size=224, patch_size=56)  # fmt: skip
HUBERT = HubertConfig(hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32,
                      conv_dim=(8,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2)  # fmt: skip
SWIN = SwinConfig(image_size=64, patch_size=4, embed_dim=8, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8), window_size=2,
                  qkv_bias=True, hidden_act="gelu")  # fmt: skip


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_clip_and_hubert_come_out_of_folders_as_transformers_writes_them(tmp_path):
    torch.manual_seed(1)
    clip, hubert = CLIPVisionModel(CLIP), HubertModel(HUBERT)
    clip.save_pretrained(tmp_path / "clip")
    hubert.save_pretrained(tmp_path / "hubert")
    torch.manual_seed(2)
    model = compose(NANO_EMOX_TINY)
    assert not equal(model.visual.clip.state_dict(), clip.state_dict())
    load_encoders(model, {"visual": str(tmp_path / "clip"), "acoustic": str(tmp_path / "hubert"), "lm": "elsewhere"})
    assert equal(model.visual.clip.state_dict(), clip.state_dict())
    assert equal(model.acoustic.hubert.state_dict(), hubert.state_dict())


@pytest.mark.parametrize("as_folder", [True, False])
def test_facexformer_comes_out_of_its_checkpoint(tmp_path, as_folder):
    torch.manual_seed(1)
    written = SwinFacial(SWIN, width=8)
    path = tmp_path / FACEXFORMER
    path.parent.mkdir()
    torch.save({"state_dict_backbone": to_facexformer(written.state_dict(), SWIN.depths)}, path)
    torch.manual_seed(2)
    read = SwinFacial(SWIN, width=8)
    load_published(read, str(tmp_path if as_folder else path))
    assert equal(read.state_dict(), written.state_dict())


def test_weights_of_another_size_are_refused_in_one_sentence(tmp_path):
    CLIPVisionModel(CLIP).save_pretrained(tmp_path)
    wider = CLIPVisionConfig(**{**CLIP.to_dict(), "hidden_size": 32})
    with pytest.raises(WeightsError, match="does not hold the weights of ClipVisual") as told:
        load_published(ClipVisual(wider, scales=(1, 2, 4)), str(tmp_path))
    assert "\n" not in str(told.value)


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="does not hold the weights of HubertAcoustic"):
        load_published(HubertAcoustic(HUBERT, scales=(1, 2, 4)), str(tmp_path))


def test_an_encoder_of_ours_has_no_published_weights(tmp_path):
    with pytest.raises(WeightsError, match="CnnFacial has no published weights"):
        load_encoders(compose(NANO_EMOX_TINY), {"facial": str(tmp_path)})


def test_the_papers_model_names_where_each_part_comes_from(tmp_path):
    assert set(NANO_EMOX_2B.sources) == {"lm", "visual", "acoustic", "facial"}
    assert language_model(NANO_EMOX_2B, {"lm": str(tmp_path)}) == tmp_path
