"""A run's YAML: what is wrong with it is said in one sentence."""

from pathlib import Path

import pytest
import yaml

import training
from model.build import VARIANTS
from training.config import ConfigError, as_table, load_config

GOOD = {
    "variant": "nano_emox_tiny",
    "data": "data",
    "out": "~/runs/a",
    "phases": {
        "1.1": {"mixture": {"ravdess": 1}, "steps": 10, "lr": "1e-4", "min_lr": 0},
        "2": {"mixture": {"voice": 1}, "steps": 10, "lr": 1e-4, "min_lr": 0, "start": ["1.1"]},
    },
}
CONFIGS = sorted((Path(training.__file__).parent / "configs").glob("*.yaml"))


def write(path, table):
    path.write_text(table if isinstance(table, str) else yaml.safe_dump(table))
    return path


def changed(phase=None, drop=None, **fields):
    table = yaml.safe_load(yaml.safe_dump(GOOD))
    where = table["phases"][phase] if phase else table
    where |= fields
    where.pop(drop, None)
    return table


def test_values_get_their_types(tmp_path):
    config = load_config(write(tmp_path / "a.yaml", GOOD), data=Path("elsewhere"), out=None)
    assert (config.data, config.out) == (Path("elsewhere"), Path.home() / "runs" / "a")
    assert config.phases["1.1"].lr == 1e-4
    assert config.phases["2"].start == ("1.1",)
    assert config.cache is None


def test_a_phase_may_stand_without_quotes(tmp_path):
    text = yaml.safe_dump(GOOD).replace("'1.1':", "1.1:").replace("'2':", "2:")
    assert tuple(load_config(write(tmp_path / "a.yaml", text)).phases) == ("1.1", "2")


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (changed(speed=3), "a.yaml: 'speed' is not a setting; these are: variant, data, out, phases"),
        (changed("1.1", speed=3), r"phase 1.1: 'speed' is not a setting; these are: mixture, steps"),
        (changed(drop="variant"), "a.yaml: `variant`: field required"),
        (changed("1.1", drop="steps"), "a.yaml, phase 1.1: `steps`: field required"),
        (changed("1.1", lr="fast"), "a.yaml, phase 1.1: `lr`: input should be a valid number"),
        (changed("1.1", schedule="linear"), "phase 1.1: `schedule`: input should be 'cosine' or 'reference'"),
        (changed("1.1", mixture_rule="even"), "`mixture_rule`: input should be 'weights' or 'reference'"),
        (changed("1.1", mixture=["ravdess"]), "phase 1.1: `mixture`: input should be a valid dictionary"),
        (changed(phases={"4": {}}), r"names the phase '4', expected some of 1\.1, 1\.2, 2, 3"),
        (changed(phases=["1.1"]), "`phases` is not a table"),
        (changed(phases={"1.1": None}), r"phase 1\.1 is not a table of settings"),
        (changed("2", start=["1.2"]), r"phase 2 starts from '1\.2', which is not one of its phases"),
        ("- a\n- b\n", "a.yaml is not a table of settings"),
        ("a: [1", "a.yaml is not YAML"),
        ("", "a.yaml is not a table of settings"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_sentence(tmp_path, table, told):
    with pytest.raises(ConfigError, match=told) as error:
        load_config(write(tmp_path / "a.yaml", table))
    assert "\n" not in str(error.value)


def test_a_missing_or_unreadable_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"b\.yaml is missing: name a run's YAML with --config"):
        load_config(tmp_path / "b.yaml")
    (tmp_path / "c.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ConfigError, match=r"c\.yaml is not YAML"):
        load_config(tmp_path / "c.yaml")


def test_the_resolved_configuration_loads_as_itself(tmp_path):
    config = load_config(write(tmp_path / "a.yaml", GOOD))
    assert load_config(write(tmp_path / "b.yaml", as_table(config))) == config


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_configuration_of_the_package_loads(path):
    config = load_config(path)
    assert config.variant in VARIANTS
    assert config.phases
