"""The tiny variant with a byte-level tokenizer, for tests of the model."""

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from model.build import NANO_EMOX_TINY, nano_emox_tiny
from model.engine import LocalModel
from model.processor import Processor
from model.types import ModelCard


def tiny_tokenizer():
    """One token a byte, then <|im_start|> and <|im_end|>."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|im_end|>", clean_up_tokenization_spaces=False
    )


def tiny_processor(**options):
    return Processor(tiny_tokenizer(), NANO_EMOX_TINY.prompt, face_px=NANO_EMOX_TINY.face_px, **options)


def tiny_model(modalities=("text", "voice", "face"), scaling=None):
    torch.manual_seed(0)
    model = nano_emox_tiny().eval()
    model.lm = model.lm.merge_and_unload()
    return LocalModel(model, tiny_processor(), ModelCard("nano_emox_tiny", "0", frozenset(modalities)), scaling)
