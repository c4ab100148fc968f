"""What a speaker wants and how to answer: MIntRec and MIntRec2.0 (MIR), AvaMERG (ERG)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from model.types import INTENTS, Thought, Utterance

from . import questions
from .published_files import Reading, Row, Unusable, cell, choose, load_json, media, messages, one_of, read
from .sample import CorpusError, Sample
from .splits import is_valid

_ROLES = {"speaker": "user", "listener": "assistant"}
_CHAIN = ("event_scenario", "speaker_emotion", "emotion_cause", "goal_to_response")


def mintrec(root: Path, split: str) -> Reading:
    """MIntRec: intents in a television series. `<train|test>_MIntRec_ann.json`, `video/`, `audio/`.

    The validation split is cut from the file for training, by season.
    """
    return _intents("mintrec", "MIntRec", root, split)


def mintrec2(root: Path, split: str) -> Reading:
    """MIntRec2.0, in the split that Nano-EmoX's authors made (section 4): not comparable with other published numbers.

    `<train|test>_MIntRec2_ann.json`, `video/`, `audio/`. The validation split is cut from the file for training, by
    dialogue.
    """
    return _intents("mintrec2", "MIntRec2", root, split)


def avamerg(root: Path, split: str) -> Reading:
    """AvaMERG: replies with their chain of empathy, and the speaker's emotion; two samples a turn (section 3.4).

    Of `train.json` every turn is read, of `v_test_v5_0.json` the last of each conversation. A turn's clip is called
    `dia<conversation>utt<2 x turn>_<speaker>`. Emotions stay as annotated: they are about 75 words.
    """
    path = root / choose("AvaMERG", split, {"train": "train.json", "test": "v_test_v5_0.json"})
    if split == "test":
        clip_of = media(root, pictures=("test_video", "video"), sounds=("test_audio", "audio"))
    else:
        clip_of = media(root)
    return read("avamerg", _turns(path, last_only=split == "test"), _reply, clip_of)


def _intents(corpus: str, file: str, root: Path, split: str) -> Reading:
    part = choose(file, split, {"train": "train", "valid": "train", "test": "test"})

    def ask(name: str, row: Row) -> list[Sample]:
        return [questions.intent(cell(row, "text"), one_of(file, name, cell(row, "label"), INTENTS))]

    def wanted(at: int, name: str, row: Row) -> bool:
        if split == "test" or not row:
            return True
        try:
            return is_valid(corpus, at, name) == (split == "valid")
        except ValueError as error:
            raise CorpusError(str(error)) from None

    rows = enumerate(messages(root / f"{part}_{file}_ann.json", "videos"))
    return read(corpus, ((name, row) for at, (name, row) in rows if wanted(at, name, row)), ask, media(root))


def _turns(path: Path, *, last_only: bool) -> Iterator[tuple[str, Row]]:
    conversations = load_json(path)
    if not isinstance(conversations, list):
        raise CorpusError(f"{path} should be a list of conversations")
    for number, conversation in enumerate(conversations, 1):
        try:
            dialogue, speaker = conversation["conversation_id"], str(conversation["speaker_profile"]["ID"])
            turns = conversation["turns"][-1:] if last_only else conversation["turns"]
            named = [(f"dia{dialogue}utt{2 * int(turn['turn_id'])}_{speaker}", turn) for turn in turns]
        except (KeyError, TypeError, ValueError):
            yield f"conversation {number}", {}
            continue
        for name, turn in named:
            yield name, {**turn, "speaker": speaker}


def _reply(name: str, row: Row) -> list[Sample]:
    *before, now = _lines(name, row.get("dialogue_history"))
    chain = row.get("chain_of_empathy")
    scenario, emotion, cause, goal = (cell(chain if isinstance(chain, dict) else {}, key) for key in _CHAIN)
    if now.role != "user":
        raise Unusable("its last line is not the speaker's")
    reply = questions.empathy(now.text, before, Thought(scenario, emotion.lower(), cause, goal), cell(row, "response"))
    felt = replace(questions.open_words(now.text, [emotion.lower()]), history=tuple(before))
    return [replace(sample, speaker=row["speaker"]) for sample in (reply, felt)]


def _lines(name: str, history: Any) -> Sequence[Utterance]:
    if not isinstance(history, list) or not history or not all(isinstance(line, dict) for line in history):
        raise Unusable("its dialogue_history is missing or empty")
    lines = []
    for line in history:
        role = one_of("AvaMERG's dialogue", name, cell(line, "role").lower(), tuple(_ROLES))
        lines.append(Utterance(_ROLES[role], cell(line, "utterance")))  # type: ignore[arg-type]
    return lines
