"""Emotion wheels: free words for feelings become groups that can be compared.

Two lists lead from a word as written (7,386 *forms*) to *base words* (1,255) and from a base word to *labels* (253) on
five wheels. A wheel is a tree: level 1 (the hub) -> level 2 -> level 3 (the rim). The *group* of a word is the level-1
or level-2 ancestor of one of its labels; which one, where it has several, is the policy:

* `reference`: the first label in alphabetical order that lies on the wheel. Needed to equal published numbers, and
  often wrong: `fear` counts as happy, joyful or genius on wheels 2 to 5 (`fear` is also listed as a form of `fearless`,
  that leads to `brave`, and b comes before f and s), `surprise` becomes powerful, fear or nothing on wheels 3 to 5,
  `doubt` becomes angry, `contempt` is only on wheel 2 and `neutral` on none.
* `self_first`: the word itself, then each of its base words (the one spelled as the word first, then alphabetically),
  each followed by its own labels; the first that lies on the wheel.

The wheel files are not part of this package; the user names a folder. Two layouts are read, `wheel1.csv` to
`wheel5.csv` (columns level1, level2, level3; an empty cell repeats the one above) beside either

* `form_to_synonym.json` and `synonym_to_wheel_label.json`, or
* `format.json` (base word -> forms) and `synonym.json` (label -> [synonym, votes] pairs), as AffectGPT ships them.

`ew_lookup.csv` (form x five wheels x two levels), if there, is the composed table of the reference policy and needs no
other file. AffectGPT (arXiv:2501.16566); spec section 5.2.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Policy = Literal["reference", "self_first"]
POLICIES: tuple[Policy, ...] = ("reference", "self_first")
N_WHEELS = 5
LEVELS = (1, 2)
LOOKUP = "ew_lookup.csv"


@dataclass(frozen=True)
class Words:
    """`bases`: form -> its base words; `labels`: base word -> its labels on any wheel. Both sorted, lower case."""

    bases: Mapping[str, tuple[str, ...]]
    labels: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Wheels:
    """Five wheels under one policy.

    `forms` are all words known, some of which lie on no wheel. `tables[level][wheel]` maps a form to its group, with
    `wheel` from 0; a form that has no group there is missing.
    """

    policy: Policy
    forms: frozenset[str]
    tables: Mapping[int, tuple[Mapping[str, str], ...]]

    def groups(self, words: Iterable[str], wheel: int, level: int = 1) -> frozenset[str]:
        """The groups of some words on one wheel; words without a group are dropped. `wheel` counts from 0."""
        table = self.tables[level][wheel]
        return frozenset(table[w] for w in (word.strip().lower() for word in words) if w in table)


def load(folder: Path, policy: Policy = "reference") -> Wheels:
    """Read the wheels of a folder (layouts: see above).

    Raises:
        FileNotFoundError: a file is missing; `self_first` cannot be had from `ew_lookup.csv` alone.
        ValueError: no such policy, or a file that does not hold what its name says.
    """
    if policy not in POLICIES:
        raise ValueError(f"policy is {policy!r}, expected one of {', '.join(POLICIES)}")
    if policy == "reference" and (folder / LOOKUP).is_file():
        return _read_lookup(folder / LOOKUP)
    return compose(read_words(folder), [_read_wheel(folder, n) for n in range(1, N_WHEELS + 1)], policy)


def available_policies(folder: Path) -> tuple[Policy, ...]:
    """The policies `load` can serve from a folder: `reference` alone where it holds nothing but `ew_lookup.csv`."""
    return POLICIES if (folder / "wheel1.csv").is_file() else POLICIES[:1]


def compose(words: Words, wheels: Iterable[list[tuple[str, str, str]]], policy: Policy) -> Wheels:
    """Walk from every form to its group on every wheel; a wheel is its (level1, level2, level3) rows in file order."""
    tables: dict[int, list[dict[str, str]]] = {level: [] for level in LEVELS}
    for rows in wheels:
        ancestors = {level: _ancestors(rows, level) for level in LEVELS}
        chosen = {form: _label(form, words, policy, ancestors[1]) for form in words.bases}
        for level in LEVELS:
            tables[level].append({form: ancestors[level][label] for form, label in chosen.items() if label})
    return Wheels(policy, frozenset(words.bases), {level: tuple(tables[level]) for level in LEVELS})


def read_words(folder: Path) -> Words:
    """Read the lists of forms, base words and labels, in either layout."""
    if (folder / "form_to_synonym.json").is_file():
        return Words(
            _sorted_values(_read_json(folder / "form_to_synonym.json")),
            _sorted_values(_read_json(folder / "synonym_to_wheel_label.json")),
        )
    if not (folder / "format.json").is_file():
        raise FileNotFoundError(
            f"{folder} holds neither form_to_synonym.json with synonym_to_wheel_label.json nor format.json with "
            "synonym.json: name the folder of the emotion wheels"
        )
    bases: dict[str, set[str]] = {}
    labels: dict[str, set[str]] = {}
    for base, forms in _read_json(folder / "format.json").items():
        for form in (base, *forms):
            bases.setdefault(form, set()).add(base)
    for label, synonyms in _read_json(folder / "synonym.json").items():
        for word in (label, *(synonym for synonym, _votes in synonyms)):
            labels.setdefault(word, set()).add(label)
    return Words(_sorted_values(bases), _sorted_values(labels))


def _label(form: str, words: Words, policy: Policy, on_wheel: Mapping[str, str]) -> str | None:
    """The label that speaks for a form on one wheel, or None."""
    return next((label for label in _candidates(form, words, policy) if label in on_wheel), None)


def _candidates(form: str, words: Words, policy: Policy) -> Iterator[str]:
    bases = words.bases[form]
    if policy == "reference":
        yield from sorted({label for base in bases for label in words.labels[base]})
        return
    yield form
    for base in sorted(bases, key=lambda base: (base != form, base)):
        yield base
        yield from words.labels[base]


def _ancestors(rows: list[tuple[str, str, str]], level: int) -> dict[str, str]:
    """Each label of a wheel -> its ancestor at a level.

    Four labels of wheel 2 stand in two places; the last row wins, as in the reference. At level 2 a bare level-1 label
    becomes its alphabetically first child.
    """
    ancestors: dict[str, str] = {}
    for hub, middle, rim in rows:
        ancestors[rim] = ancestors[middle] = hub if level == 1 else middle
    for hub, middle, _ in sorted(rows, reverse=True):
        ancestors[hub] = hub if level == 1 else middle
    return ancestors


def _read_wheel(folder: Path, number: int) -> list[tuple[str, str, str]]:
    path = folder / f"wheel{number}.csv"
    rows: list[tuple[str, str, str]] = []
    hub = middle = ""
    for row in _read_csv(path, ("level1", "level2", "level3")):
        hub, middle = row["level1"] or hub, row["level2"] or middle
        if not (hub and middle and row["level3"]):
            raise ValueError(
                f"{path} has a row without a level: {row}; only level1 and level2 may repeat the row above"
            )
        rows.append((hub, middle, row["level3"]))
    return rows


def _read_lookup(path: Path) -> Wheels:
    columns = {level: [f"w{n}l{level}" for n in range(1, N_WHEELS + 1)] for level in LEVELS}
    rows = _read_csv(path, ("form", *columns[1], *columns[2]))
    tables = {
        level: tuple({row["form"]: row[column] for row in rows if row[column]} for column in columns[level])
        for level in LEVELS
    }
    return Wheels("reference", frozenset(row["form"] for row in rows), tables)


def _read_csv(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """Rows of a table, cells stripped and in lower case."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: name the folder of the emotion wheels")
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if missing := set(columns) - set(reader.fieldnames or ()):
            raise ValueError(f"{path} has no column {', '.join(sorted(missing))}; it has {reader.fieldnames}")
        return [{column: (row[column] or "").strip().lower() for column in columns} for row in reader]


def _read_json(path: Path) -> dict[str, list]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: name the folder of the emotion wheels")
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected an object of lists")
    return content


def _sorted_values(lists: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, ...]]:
    return {key: tuple(sorted(set(values))) for key, values in lists.items()}
