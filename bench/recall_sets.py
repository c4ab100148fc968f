"""What recall is measured on: people whose episodes are known, what they say next, and which episodes are right then.

`people` deals EmpatheticDialogues' dialogues out to fourteen made-up people, 196 each. How a dialogue begins is an
episode, and in its turn what is said now, while the other 195 are the memory:

    congruent  right are the episodes about a like subject that were felt alike (the same of the seven basic emotions);
               at least one about that subject was felt otherwise
    counter    the feeling is bad; right are the happy episodes about a like subject, and one at least was not happy
    factual    the listener's first question in the same dialogue; right is the one episode it was asked about

Two lines are about a like subject when both name one of `SUBJECTS`: word lists, written by hand after the commonest
nouns of the training situations, without a word for a feeling. No embedding has a part in it, so that none is marked by
its own answer. Feelings are as annotated (the emotion a situation was written for); what a memory is told is what the
model reads, which is wrong in a third of the lines. Times mean nothing in these sets: recency can only cost.

`locomo` reads long conversations in the format of LoCoMo (Maharana et al. 2024, arXiv:2402.17753).
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from memory.policy import DISTRESS_VALENCE
from model.cache import cache_dir
from model.types import CIRCUMPLEX, EMOTIONS, Affect
from training.data.sources import read_corpus
from training.data.splits import is_valid
from training.data.text import BASIC
from training.data.tidy import tidy

N_PEOPLE = 14
N_DEV = 4
"""People on whom weights may be tuned; the others are the test."""
SEED = 0
NOW = datetime(2026, 1, 1, tzinfo=UTC)
MIN_QUESTION_WORDS = 5
"""Shorter questions ("Are you okay?") ask about no episode in particular."""

SUBJECTS = (
    "dog dogs puppy puppies", "cat cats kitten kittens", "car cars truck", "driving drive drove traffic road highway",
    "job jobs", "interview interviews", "promotion promoted raise", "boss manager supervisor",
    "coworker coworkers colleague colleagues", "exam exams test tests", "school", "class teacher semester grade grades",
    "college university", "wife husband", "girlfriend boyfriend ex", "son sons", "daughter daughters",
    "kid kids child children", "baby babies pregnant newborn", "brother brothers", "sister sisters", "mom mother",
    "dad father", "grandma grandmother grandpa grandfather grandparents", "parents", "cousin nephew niece aunt uncle",
    "friend friends", "neighbor neighbors neighbour neighbours", "birthday", "party parties",
    "wedding married marriage engaged", "vacation trip cruise flight travel traveling", "house apartment",
    "restaurant pizza dinner lunch meal", "money bill bills rent debt", "lottery",
    "game games team football soccer basketball baseball", "movie movies film show", "concert band music song",
    "storm hurricane tornado thunder", "snake snakes spider spiders bug bugs roach bee",
    "doctor hospital surgery cancer", "dentist teeth tooth", "phone cell cellphone", "gift gifts present christmas",
    "gym weight diet", "beach ocean swimming pool", "clothes dress shoes pants shirt", "store shopping grocery mall",
    "computer laptop internet",
)  # fmt: skip
_SUBJECT = {word: number for number, words in enumerate(SUBJECTS) for word in words.split()}


@dataclass(frozen=True)
class Line:
    """How a dialogue begins: an episode, and once what is said now.

    `emotion` is the annotated one, among `EMOTIONS`; `subjects` are numbers of `SUBJECTS`; `question` is what the
    listener asks first, or empty; `unseen` says that no line of the dialogue was ever trained on.
    """

    id: str
    text: str
    at: datetime
    emotion: str = "neutral"
    subjects: frozenset[int] = frozenset()
    question: str = ""
    unseen: bool = False


@dataclass(frozen=True)
class Asked:
    """One recall from a person's episodes, and the ids that are right; `line` is the id of what is said, if kept."""

    person: str
    text: str
    right: frozenset[str]
    line: str = ""
    category: str = ""


People = dict[str, list[Line]]


def people(data: Path, split: str) -> People:
    """The made-up people of a split, "dev" or "test": an episode a day each, in random order; see the module.

    Raises:
        FileNotFoundError: EmpatheticDialogues is not in the data folder.
    """
    file = data / "text" / "empathetic_dialogues" / "dialogues_valid.jsonl"
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing: name the folder that holds the corpora with --data")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    dealt = sorted({tidy(row["turns"][0]["text"]): i for i, row in reversed(list(enumerate(rows)))}.values())
    random.Random(SEED).shuffle(dealt)
    size = len(dealt) // N_PEOPLE
    chosen = range(N_DEV) if split == "dev" else range(N_DEV, N_PEOPLE)
    return {f"person-{n}": [_line(rows[i], i, day) for day, i in enumerate(dealt[n * size :][:size])] for n in chosen}


def _line(row: Mapping[str, Any], number: int, day: int) -> Line:
    text = tidy(row["turns"][0]["text"])
    heard = [tidy(turn["text"]) for turn in row["turns"] if turn["speaker"] == "listener"]
    questions = [line for line in heard if line.endswith("?") and len(line.split()) >= MIN_QUESTION_WORDS]
    return Line(
        id=row["id"],
        text=text,
        at=NOW - timedelta(days=1 + day),
        emotion=BASIC[row["emotion"]],
        subjects=frozenset(_SUBJECT[word] for word in re.findall(r"[a-z]+", text.lower()) if word in _SUBJECT),
        question=questions[0] if questions else "",
        unseen=is_valid("empathetic_dialogues", number),
    )


def asked(everybody: People, policy: str) -> list[Asked]:
    """What is asked of these people's memories under a policy, and what is right; see the module."""
    found = []
    for person, lines in everybody.items():
        if policy == "factual":
            found += [Asked(person, line.question, frozenset({line.id})) for line in lines if line.question]
            continue
        for said in lines:
            if policy == "counter" and CIRCUMPLEX[said.emotion][0] > DISTRESS_VALENCE:
                continue
            wanted = "happy" if policy == "counter" else said.emotion
            like = [line for line in lines if line.id != said.id and line.subjects & said.subjects]
            right = frozenset(line.id for line in like if line.emotion == wanted)
            if 0 < len(right) < len(like):
                found.append(Asked(person, said.text, right, said.id))
    return found


def labelled(emotion: str) -> Affect:
    """The affect of an annotation: wholly that emotion."""
    valence, arousal = CIRCUMPLEX[emotion]
    return Affect(valence, emotion, {label: float(label == emotion) for label in EMOTIONS}, valence, arousal, 1.0)


def voices(data: Path, everybody: People) -> dict[str, Path]:
    """A clip for each text, in which its annotated emotion is acted.

    Each person has the voice of one actor of RAVDESS on whom the model was not trained. An actor's sentence is another
    than the text; only how it sounds is read.
    """
    clips = read_corpus("ravdess", data, "valid").samples
    actors = sorted({clip.speaker for clip in clips})
    chosen = {}
    for person, lines in everybody.items():
        actor = actors[int(person.split("-")[1]) % len(actors)]
        for line in lines:
            fit = [one.clip.sound for one in clips if one.speaker == actor and one.label == line.emotion]
            chosen[line.text] = random.Random(f"{SEED} {line.id}").choice(fit)
    return chosen


def readings(said: Mapping[str, Path | None]) -> dict[str, Affect]:
    """What the released checkpoint reads in each text, with the voice of a clip where there is one.

    A few tenths of a second a text, with a voice about a second, on one core; once, for they stay in the cache folder,
    by the checkpoint's version and the SHA-256 of the text and the clip's name.
    """
    from model.build import checkpoints_language_model, embedded_checkpoint, load, read_manifest
    from perception.media import read_clip
    from perception.types import UserTurn

    file = cache_dir() / "recall" / f"readings-{read_manifest(embedded_checkpoint()).version}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    known = {row.pop("sha256"): Affect(**row) for row in map(json.loads, file.read_text().splitlines())}
    keys = {
        text: hashlib.sha256((text if clip is None else f"{text}\n{clip.name}").encode()).hexdigest()
        for text, clip in said.items()
    }
    if missing := [text for text in said if keys[text] not in known]:
        model = load(checkpoints_language_model())
        with file.open("a") as lines:
            for text in missing:
                clip = said[text]
                speech = None if clip is None else read_clip(clip, want_frames=False).speech
                read = asdict(model.perceive(model.attend(UserTurn(text, speech))))
                kept = {name: read[name] for name in read if name not in ("open", "evidence", "absent")}
                known[keys[text]] = Affect(**kept)
                lines.write(json.dumps({"sha256": keys[text], **kept}) + "\n")
    return {text: known[keys[text]] for text in said}


LOCOMO_CATEGORIES = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop", 5: "adversarial"}
"""By their numbers in the file, as its authors' `task_eval/evaluation.py` has them; the paper's order differs."""


def locomo(file: Path) -> tuple[People, list[Asked]]:
    """Conversations and questions of a file like `locomo10.json`: every turn is an episode, named by its `dia_id`.

    A turn reads as "Speaker: text", with the caption of a picture they sent. Questions whose evidence names no turn of
    the conversation are left out. Evidence is written in several ways ("D8:6; D9:17", "D:11:26", "D30:05").
    """
    conversations: People = {}
    questions = []
    for number, sample in enumerate(json.loads(file.read_text(encoding="utf-8"))):
        name, talk = sample.get("sample_id", f"conversation-{number}"), sample["conversation"]
        lines = conversations[name] = []
        for session in (key for key in talk if re.fullmatch(r"session_\d+", key)):
            began = datetime.strptime(talk[f"{session}_date_time"], "%I:%M %p on %d %B, %Y").replace(tzinfo=UTC)
            for second, turn in enumerate(talk[session]):
                shown = f" [picture: {turn['blip_caption']}]" if turn.get("blip_caption") else ""
                text = f"{turn['speaker']}: {turn['text']}{shown}"
                lines.append(Line(_dia_ids(turn["dia_id"])[0], text, began + timedelta(seconds=second)))
        known = {line.id for line in lines}
        for qa in sample["qa"]:
            right = frozenset(id for evidence in qa.get("evidence", ()) for id in _dia_ids(evidence)) & known
            if right:
                questions.append(Asked(name, qa["question"], right, category=LOCOMO_CATEGORIES[qa["category"]]))
    return conversations, questions


def _dia_ids(written: str) -> list[str]:
    return [f"D{int(session)}:{int(turn)}" for session, turn in re.findall(r"D:?(\d+):(\d+)", written)]
