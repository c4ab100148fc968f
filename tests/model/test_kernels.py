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
            taken.append(rows.take(cache, 0, 9))
            into.append(rows.step({taken[0]: 5})[taken[0]])  # alone, as long as it is
        into += [candidates for _ in range(2) for candidates in rows.step(dict.fromkeys(taken, 7)).values()]
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(other.logits, one.logits, atol=1e-4)


class Hopper:
    """In place of Triton's driver, on a machine without a card: what to build for."""

    def get_current_target(self):
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", 90, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device=None):
        return 0


@torch.no_grad()
def build():
    """Build all kernels as a Hopper would run them, with early launches, which the interpreter leaves out."""
    from triton.runtime import driver
    from triton.runtime.jit import JITFunction

    from model import fused
    from model.kernels import Steps

    driver.set_active(Hopper())
    run, built = JITFunction.run, []

    def only_built(self, *args, warmup, **options):
        built.append((self.__name__, run(self, *args, warmup=True, **options)))

    JITFunction.run = only_built
    fused._multiplies_bf16 = lambda: False  # weights as they lie on a GPU
    config = Qwen2Config(vocab_size=320, hidden_size=256, intermediate_size=384, num_hidden_layers=1,
                         num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True)  # fmt: skip
    lm = Qwen2ForCausalLM(config).bfloat16().eval()
    steps = Steps(FusedLlama(lm), lm.get_input_embeddings(), 64)
    steps._early = True
    room = [torch.zeros(3, 2, 64, 64, dtype=torch.bfloat16)]
    for n in (1, 3):
        steps(torch.zeros(n, dtype=torch.long), torch.zeros(n, dtype=torch.long), room, room)
    assert [name for name, _ in built].count("_attend") == 2
    assert {name for name, _ in built} == {"_norm_product", "_add_product", "_attend"}
    for name, kernel in built:
        assert "griddepcontrol.wait" in kernel.asm["ptx"], f"{name} does not wait for the kernel before it"


def ran(call, **environment):
    """In a process of its own."""
    command = f"from tests.model.test_kernels import build, check; {call}"
    return subprocess.run(
        [sys.executable, "-c", command], env={**os.environ, **environment}, capture_output=True, text=True
    )


needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed: pip install triton")


@needs_triton
@pytest.mark.parametrize("kind", KINDS)
def test_steps_of_kernels_equal_those_of_torch(kind):
    found = ran(f"check('{kind}')", TRITON_INTERPRET="1")
    assert found.returncode == 0, found.stderr[-2000:]


@needs_triton
def test_kernels_can_be_built_for_a_hopper(tmp_path):
    found = ran("build()", TRITON_CACHE_DIR=str(tmp_path))
    assert found.returncode == 0, found.stderr[-2000:]
