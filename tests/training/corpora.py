"""Small folders laid out as the corpora are, and a model that answers by rule."""

import csv
import io
import json
import zipfile

import numpy as np
from PIL import Image

from model.readings import Cause
from model.types import EMOTIONS, ModelCard
from tests.fakes import FakeModel, affect_of
from tests.perception.clips import make_clip, tone


class ScriptedModel(FakeModel):
    """Answers label tasks by what the turn holds: `answer(turn, task)` names the label, with confidence 0.8."""

    def __init__(self, answer=lambda turn, task: "happy", modalities=("text", "voice", "face"), **options):
        super().__init__(modalities=modalities, **options)
        self.card = ModelCard("fake", "fake-1", frozenset(modalities))
        self.answer = answer
        self.asked = []

    def classify(self, prefix, task, labels):
        label = self.answer(prefix, task)
        self.asked.append((task, tuple(labels)))
        rest = 0.2 / (len(labels) - 1)
        return {other: 0.8 if other == label else rest for other in labels}

    def perceive(self, prefix):
        label = self.answer(prefix, "emotion")
        return affect_of(label if label in EMOTIONS else "neutral", 0.9)

    def causes(self, prefix, emotion):
        """The first line of the dialogue is why, always."""
        lines = [*(line.text for line in self.histories[-1]), prefix.text]
        return tuple(Cause(text, i, 0.9 if i == 0 else 0.1) for i, text in enumerate(lines))

    def cause_lines(self, prefix, emotion):
        """The first line probably, and the third, should there be one, by half."""
        lines = [*self.histories[-1], prefix]
        return {i: {0: 0.9, 2: 0.5}.get(i, 0.1) for i in range(len(lines))}


def write_table(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def write_lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def make_voices(folder, rows, column="split"):
    """`labels.csv` and a tone for each (name, emotion, speaker, split, loudness)."""
    folder.mkdir(parents=True, exist_ok=True)
    table = []
    for name, emotion, speaker, split, loudness in rows:
        make_clip(folder / name, audio="pcm_s16le", layout="mono", rate_hz=16_000, sound=loudness * tone(16_000, 0.5))
        table.append({"file": name, "emotion": emotion, "speaker": speaker, column: split})
    write_table(folder / "labels.csv", table)


def make_faces(folder, stem, labels):
    """A zip of grey pictures, each as bright as its position, and their table."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{label}/{stem}_{i}.png" for i, label in enumerate(labels)]
    with zipfile.ZipFile(folder / f"{stem}.zip", "w") as archive:
        for i, name in enumerate(names):
            picture = io.BytesIO()
            Image.fromarray(np.full((48, 48), 10 * i, np.uint8)).save(picture, "png")
            archive.writestr(name, picture.getvalue())
    write_table(
        folder / f"{stem}.csv", [{"file": name, "label": label} for name, label in zip(names, labels, strict=True)]
    )
    return names


def dialogue(id, *lines, **fields):
    """A dialogue of (speaker, text) pairs."""
    return {"id": id, "turns": [{"speaker": speaker, "text": text} for speaker, text in lines], **fields}
