"""The model alone on a clip: all six tasks from one shared prefix, without memory."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

from model.types import STRATEGIES, ReplyBrief
from perception.listen import listen

from .nodes import readable
from .opening import load_model, open_ears
from .plan import plan_reply, think
from .settings import Settings


class Perceiver:
    """Loads the model once and answers for file after file."""

    def __init__(self, settings: Settings) -> None:
        self._consent = settings.consent.as_consent().allowed()
        self._ears = open_ears(settings)
        self._model = load_model(settings)

    def __call__(self, file: Path, tasks: Collection[str]) -> dict[str, Any]:
        """Answer `tasks` for one file.

        Raises:
            PerceptionError: the file cannot be used, or nothing in it can be read.
        """
        turn = listen(clip=file, asr=self._ears.asr, face_finder=self._ears.face_finder, consent=self._consent)
        read = readable(turn, self._model.card)
        prefix = self._model.attend(turn)
        affect = self._model.perceive(prefix)
        row: dict[str, Any] = {
            "file": str(file),
            "transcript": turn.text,
            "modalities": read,
            "absent": {modality: str(reason) for modality, reason in affect.absent.items()},
        }
        if "sentiment" in tasks:
            row["sentiment"] = affect.sentiment
        if "emotion" in tasks:
            row |= {"emotion": affect.emotion, "emotions": affect.emotions, "evidence": asdict(affect.evidence)}
        if not {"open", "reason", "intent", "empathy"} & set(tasks):
            return row
        understanding, open_words = self._model.understand(prefix, affect)
        if "open" in tasks:
            row["open"] = open_words
        if "reason" in tasks:
            row["reason"] = {key: getattr(understanding, key) for key in ("scenario", "cause", "evidence")}
        if "intent" in tasks:
            row |= {"intent": understanding.intent, "intents": understanding.intents}
        if "empathy" in tasks:
            plan = plan_reply(turn.text, affect, understanding)
            thought = think(affect, understanding, open_words, STRATEGIES[plan.strategy])
            reply = "".join(self._model.empathize(prefix, ReplyBrief(thought))).strip()
            row["empathy"] = {"thought": asdict(thought), "reply": reply}
        return row
