"""Explanations of an emotion scored by a language model: clue overlap and label overlap on EMER; spec section 5.5.

Any endpoint that speaks the OpenAI protocol can judge, a local one too. Temperature 0, JSON answers, and every answer
is kept on disk, so that a score can be computed again without asking. Published numbers were judged by
gpt-3.5-turbo-0125 with prompts in Chinese: ours compare only with others from the same judge and these prompts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import write_bytes
from .answers import parse_list

HIGHEST = 10.0

_WORDS = (
    "You read a description of a person. List the emotions that the person feels according to it, as single words in "
    'English, most certain first. Answer in JSON: {"emotions": ["...", "..."]}; an empty list if it names none.'
)
_CLUES = (
    "You compare two descriptions of the same person in the same video clip: A is right, B is to be judged. Look only "
    "at the clues to the person's emotion: what is seen, what is heard, what is said. How far do the clues of B agree "
    'with those of A? 1 means not at all, 10 means fully. Answer in JSON: {"score": number}'
)
_LABELS = (
    "You compare two lists of emotions of the same person in the same video clip: A is right, B is to be judged. How "
    'far do they agree in meaning? 1 means not at all, 10 means fully. Answer in JSON: {"score": number}'
)


class JudgeError(ValueError):
    """The judge answered something else than it was asked for."""


@dataclass(frozen=True)
class Judge:
    """A language model that answers in JSON.

    `client` is an `openai.OpenAI` or anything with its `chat.completions.create`. `cache` is a folder with one file per
    question asked; use one folder per endpoint, as it goes by model name and question.
    """

    client: Any
    model: str
    cache: Path

    def ask(self, task: str, material: str) -> dict[str, Any]:
        """The judge's answer to a task on some material, from the cache if it was asked before.

        Raises:
            JudgeError: the answer is no JSON object. It is not kept.
        """
        messages = [{"role": "system", "content": task}, {"role": "user", "content": material}]
        key = json.dumps({"model": self.model, "messages": messages}, sort_keys=True)
        path = self.cache / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))["answer"]
        response = self.client.chat.completions.create(
            model=self.model, messages=messages, temperature=0, response_format={"type": "json_object"}
        )
        said = response.choices[0].message.content
        try:
            answer = json.loads(said or "")
        except json.JSONDecodeError:
            answer = None
        if not isinstance(answer, dict):
            raise JudgeError(
                f"{self.model} answered {said!r}, expected a JSON object; choose a model that can write JSON"
            )
        kept = {"model": self.model, "messages": messages, "answer": answer}
        write_bytes(json.dumps(kept, ensure_ascii=False, indent=1).encode(), path)
        return answer


def connect(model: str, cache: Path, *, base_url: str | None = None, api_key: str | None = None) -> Judge:
    """A judge behind an endpoint; without arguments the `openai` package takes OPENAI_BASE_URL and OPENAI_API_KEY.

    Raises:
        ImportError: the `openai` package is missing; it comes with the extra `chat`.
    """
    try:
        from openai import OpenAI
    except ImportError as error:
        raise ImportError("a judge needs the openai package: pip install 'emox[chat]'") from error
    return Judge(OpenAI(base_url=base_url, api_key=api_key), model, cache)


def emotion_words(judge: Judge, description: str) -> list[str]:
    """The emotions that a description names, in lower case.

    Raises:
        JudgeError: the answer has no list of emotions.
    """
    answer = judge.ask(_WORDS, description)
    if not isinstance(answer.get("emotions"), list):
        raise JudgeError(f"{judge.model} answered {answer}, expected a list under 'emotions'")
    return parse_list(answer["emotions"])


def clue_overlap(judge: Judge, gold: str, predicted: str) -> float:
    """How far the clues of two descriptions agree, 1 to 10; 0 for an empty prediction, about which nobody is asked."""
    return _score(judge, _CLUES, gold, predicted) if predicted.strip() else 0.0


def label_overlap(judge: Judge, gold: str, predicted: str) -> float:
    """How far the emotions named in two descriptions agree, 1 to 10; 0 if the prediction names none."""
    words = emotion_words(judge, predicted) if predicted.strip() else []
    return _score(judge, _LABELS, ", ".join(emotion_words(judge, gold)), ", ".join(words)) if words else 0.0


def reason_scores(judge: Judge, gold: Mapping[str, str], predicted: Mapping[str, str]) -> dict[str, float]:
    """Mean clue overlap and label overlap, 0 to 10; a missing prediction counts 0.

    Raises:
        ValueError: no gold, or a prediction without gold.
        JudgeError: the judge gave no score from 1 to 10.
    """
    if not gold:
        raise ValueError("no gold description: nothing can be scored")
    if unknown := sorted(set(predicted) - set(gold)):
        raise ValueError(f"{len(unknown)} predictions have no gold, the first is {unknown[0]!r}: check the names")
    return {
        "clue_overlap": sum(clue_overlap(judge, gold[n], predicted.get(n, "")) for n in gold) / len(gold),
        "label_overlap": sum(label_overlap(judge, gold[n], predicted.get(n, "")) for n in gold) / len(gold),
    }


def _score(judge: Judge, task: str, a: str, b: str) -> float:
    answer = judge.ask(task, f"A: {a}\n\nB: {b}")
    score = answer.get("score")
    if isinstance(score, bool) or not isinstance(score, int | float) or not 1 <= score <= HIGHEST:
        raise JudgeError(f"{judge.model} answered {answer}, expected a number from 1 to 10 under 'score'")
    return float(score)
