"""Kernels for a GPU, run on the CPU by Triton's interpreter, which takes the place of its compiler where it is loaded:
so in a process of their own.
"""

import os
import subprocess
import sys
from copy import deepcopy
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from model.branches import BranchCache, run_together
from model.fused import FusedLlama
from model.rows import Rows

KINDS = {"llama": (LlamaForCausalLM, LlamaConfig), "qwen2": (Qwen2ForCausalLM, Qwen2Config)}


@torch.no_grad()
def check(kind):
    """Steps of one row and of several, over more slots than a program takes at once, against those in torch."""
    from model.kernels import Steps

    torch.manual_seed(0)
    model, config = KINDS[kind]
    lm = model(
        config(vocab_size=320, hidden_size=96, intermediate_size=160, num_hidden_layers=2, num_attention_heads=6,
               num_key_value_heads=2, head_dim=16, tie_word_embeddings=True, pad_token_id=0)
    ).eval()  # fmt: skip
    for parameter in lm.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    sequences = [torch.randint(0, 320, (n,)) for n in (300, 64, 1)]
    expected, found = [], []
    for steps, into in ((False, expected), (True, found)):
        own = deepcopy(lm)
        llama = FusedLlama(own)
        rows = Rows(own, 4, 400, llama=llama)
        rows._steps = Steps(llama, own.get_input_embeddings(), 400) if steps else None
        table, taken = own.get_input_embeddings(), []
        for sequence in sequences:
            cache = BranchCache(own.model)
            cache.append(0, table(sequence))
            run_together([cache], llama)
            taken.append(rows.take(cache, 0, 9, penalty=1.3))
            into.append(rows.step({taken[0]: 5})[taken[0]])  # alone, as long as it is
        into += [candidates for _ in range(2) for candidates in rows.step(dict.fromkeys(taken, 7)).values()]
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(other.logits, one.logits, atol=1e-4)


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
@pytest.mark.parametrize("kind", KINDS)
def test_steps_of_kernels_equal_those_of_torch(kind):
    command = f"from tests.model.test_kernels import check; check('{kind}')"
    ran = subprocess.run(
        [sys.executable, "-c", command], env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
