"""What endpointing is measured on: turns with pauses inside, and what is known at each pause and at each end.

    whole         a sentence of EmpatheticDialogues or ESConv, without a pause
    question      the same, a question
    clause        a pause before a conjunction ("My dog died | and I cannot stop crying.")
    conjunction   a pause after it ("My dog died and | I cannot stop crying.")
    filler        a pause after an "um" or "uh" before it ("My dog died, um, | and I cannot stop crying.")
    sentence      a pause between two sentences
    real whole    a clip of RAVDESS, as it is
    real cut      a pause between two words of such a clip
    real pair     a pause between two clips of one actor and emotion

Sentences are said by the Piper voice at a rate drawn for each turn, in one breath, with a comma where the pause shall
be; there the sound is cut and the pause put in, so that what comes before it does not fall as an end does. Pauses are
drawn evenly from 0.3 to 2 s, whatever is said and felt: how long people pause, and when, these turns do not know. The
split goes by turn and by actor (17 and 18 development, 19 and 20 test; the model was not trained on their voices).
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime
import soxr
from rich.progress import track

from agent.opening import load_model, open_speaker
from agent.settings import Settings
from agent.speech import VoiceStyle
from bench.recall_sets import labelled
from model.cache import cache_dir
from model.types import Affect, Evidence
from model.weights import locate
from perception.asr import Asr, WhisperAsr
from perception.media import read_clip
from perception.types import SAMPLE_RATE_HZ, Speech, UserTurn
from training.data.sources import read_corpus
from training.data.text import BASIC
from training.data.tidy import tidy

SEED = 0
SPLITS = ("dev", "test")
SIZES = {"whole": 10, "question": 6, "clause": 10, "conjunction": 8, "filler": 8, "sentence": 6}
"""Synthesised turns of each kind in each split."""
REAL_SIZES = {"real whole": 5, "real cut": 10, "real pair": 5}
ACTORS = {"dev": ("17", "18"), "test": ("19", "20")}
PAUSES_S = (0.3, 2.0)
RATES = (0.85, 1.15)
STATEMENTS = {"01": "Kids are talking by the door.", "02": "Dogs are sitting by the door."}
"""What RAVDESS' actors say, by the fifth part of a file's name."""
CUTS = (3, 4, 5)
"""After so many of their words a real cut is made."""

HEARD_S = 0.2
"""Of a silence, so much is heard when smart-turn is asked: Pipecat's voice activity detector needs it to be sure."""
NOISE = 3e-4
"""Standard deviation of the noise in a pause, that of a quiet room."""
FLOOR_DB = -36.0
"""Frames of 20 ms this far below a piece's loudest are not speech: what leads and trails it is cut off."""

CUT_WITHIN = 0.15
"""The cut is sought so far around the comma's place among the letters, as a share of the sound's length."""

_PLAIN = re.compile(r"[A-Za-z][A-Za-z',. !?]+[.!?]")
_JOINT = re.compile(r" (and|but|because|when|while|until|although|since|if) ")
_SENTENCE_END = re.compile(r"(?<=[.!?]) ")


@dataclass(frozen=True)
class Turn:
    """One turn: the words of its pieces, the pauses between them, and the feeling as annotated, if it is.

    `clips` are the recordings it is made of; without any it is synthesised at `rate`.
    """

    id: str
    kind: str
    split: str
    pieces: tuple[str, ...]
    pauses_s: tuple[float, ...]
    emotion: str | None
    rate: float = 1.0
    clips: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Moment:
    """Silence has begun: after the turn's end (`pause_s` None), or in a pause as long as `pause_s`; and what is known.

    `complete` is smart-turn's probability from what was said since the last pause, `complete_turn` from the whole turn
    so far; `text` the words so far, `affect` what the person seems to feel.
    """

    turn: Turn
    pause_s: float | None
    complete: float
    complete_turn: float
    text: str
    affect: Affect | None


def turns(data: Path) -> list[Turn]:
    """All turns of both splits, the same ones every time.

    Raises:
        FileNotFoundError: EmpatheticDialogues or ESConv is not in the data folder.
        CorpusError: RAVDESS is not.
    """
    rng = random.Random(SEED)
    lines = list(_lines(data))
    rng.shuffle(lines)
    found: list[Turn] = []
    for kind, size in SIZES.items():
        n = 0
        while n < size * len(SPLITS):
            text, emotion = lines.pop()
            if pieces := _pieces(kind, text, rng):
                pauses = tuple(round(rng.uniform(*PAUSES_S), 3) for _ in pieces[1:])
                rate = round(rng.uniform(*RATES), 3)
                found.append(Turn(f"{kind}-{n}", kind, SPLITS[n % len(SPLITS)], pieces, pauses, emotion, rate))
                n += 1
    return found + list(_real_turns(data, rng))


def _lines(data: Path) -> Iterator[tuple[str, str | None]]:
    """What speakers of EmpatheticDialogues and seekers of ESConv say, once each."""
    seen = set()
    for name in ("empathetic_dialogues/dialogues_valid.jsonl", "esconv/dev.jsonl"):
        file = data / "text" / name
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing: name the folder that holds the corpora with --data")
        for row in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
            emotion = BASIC[row["emotion"]] if "emotion" in row else None
            for turn in row["turns"]:
                text = tidy(turn["text"])
                if turn["speaker"] in ("speaker", "seeker") and text not in seen and _PLAIN.fullmatch(text):
                    seen.add(text)
                    yield text[0].upper() + text[1:], emotion


def _pieces(kind: str, text: str, rng: random.Random) -> tuple[str, ...]:
    """The text in the pieces that a kind asks for, or nothing where it does not fit."""
    sentences = _SENTENCE_END.split(text)
    lengths = [len(sentence.split()) for sentence in sentences]
    if kind == "sentence":
        fits = len(sentences) == 2 and all(4 <= n <= 14 for n in lengths) and not text.endswith("?")
        return tuple(sentences) if fits and sentences[0][-1] in ".!" else ()
    if len(sentences) != 1 or not 4 <= lengths[0] <= 22:
        return ()
    if kind in ("whole", "question"):
        return (text,) if text.endswith("?") == (kind == "question") else ()
    joints = [
        joint
        for joint in _JOINT.finditer(text)
        if min(len(text[: joint.start()].split()), len(text[joint.end() :].split())) >= 3
    ]
    if not joints or text.endswith("?"):
        return ()
    joint = rng.choice(joints)
    left, right = text[: joint.start()].rstrip(","), text[joint.start() + 1 :]
    if kind == "conjunction":
        return f"{left} {joint[1]},", text[joint.end() :]
    return (f"{left}, {rng.choice(('um', 'uh'))},", right) if kind == "filler" else (f"{left},", right)


def _real_turns(data: Path, rng: random.Random) -> Iterator[Turn]:
    clips = sorted(read_corpus("ravdess", data, "valid").samples, key=lambda sample: str(sample.clip.sound))
    for split, actors in ACTORS.items():
        own = [clip for clip in clips if clip.speaker in actors]
        rng.shuffle(own)
        for kind, size in REAL_SIZES.items():
            for n in range(size):
                first = own.pop()
                chosen = [Path(first.clip.sound or "")]
                if kind == "real pair":
                    second = next(one for one in own if (one.speaker, one.label) == (first.speaker, first.label))
                    own.remove(second)
                    chosen.append(Path(second.clip.sound or ""))
                pieces = tuple(STATEMENTS[clip.name.split("-")[4]] for clip in chosen)
                if kind == "real cut":
                    words, cut = pieces[0].split(), rng.choice(CUTS)
                    pieces = (" ".join(words[:cut]), " ".join(words[cut:]))
                pauses = tuple(round(rng.uniform(*PAUSES_S), 3) for _ in pieces[1:])
                emotion = "neutral" if first.label == "calm" else first.label
                yield Turn(f"{kind}-{split}-{n}", kind, split, pieces, pauses, emotion, clips=tuple(chosen))


def known_moments(everything: Sequence[Turn], settings: Settings) -> list[Moment]:
    """Every moment with the words that were said and the annotated feeling: fast, for a first look."""
    smart_turn = _SmartTurn()
    found = []
    for turn, sound in zip(everything, _sounds(everything, settings), strict=True):
        affect = None if turn.emotion is None else labelled(turn.emotion)
        for n, (heard, last) in enumerate(_heard(turn, sound)):
            whole = " ".join(turn.pieces[: n + 1])
            text = (
                whole.rstrip(",.!") + "." if n < len(turn.pauses_s) else whole
            )  # as recognisers close what breaks off
            completes = smart_turn.complete(last), smart_turn.complete(heard)
            found.append(Moment(turn, (*turn.pauses_s, None)[n], *completes, text, affect))
    return found


def read_moments(everything: Sequence[Turn], settings: Settings) -> list[Moment]:
    """Every moment with the words that the recogniser hears and the feeling that the model reads in them and the voice.

    Some seconds each on one core, once: readings stay in the cache folder, by what was said and the model's version.
    """
    from model.build import embedded_checkpoint, read_manifest

    version = read_manifest(settings.checkpoint or embedded_checkpoint()).version
    file = cache_dir() / "endpointing" / f"readings-{version}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    known = {row["sha256"]: row for row in map(json.loads, file.read_text(encoding="utf-8").splitlines())}
    keys = {turn.id: _key(turn) for turn in everything}
    if any(key not in known for key in keys.values()):
        smart_turn, model, asr = _SmartTurn(), load_model(settings), _recogniser(settings)
        with file.open("a", encoding="utf-8") as rows:
            both = zip(everything, _sounds(everything, settings), strict=True)
            development_first = sorted(both, key=lambda one: one[0].split)
            for turn, sound in track(development_first, "reading", transient=True):
                if keys[turn.id] in known:
                    continue
                readings = []
                for heard, last in _heard(turn, sound):
                    text = asr.transcribe(Speech(heard)).text
                    felt = asdict(model.perceive(model.attend(UserTurn(text, Speech(heard)))))
                    readings.append({
                        "complete": smart_turn.complete(last),
                        "complete_turn": smart_turn.complete(heard),
                        "text": text,
                        "affect": {name: felt[name] for name in felt if name not in ("open", "absent")},
                    })  # fmt: skip
                known[keys[turn.id]] = {"sha256": keys[turn.id], "readings": readings}
                rows.write(json.dumps(known[keys[turn.id]]) + "\n")
                rows.flush()
    found = []
    for turn in everything:
        for pause_s, read in zip((*turn.pauses_s, None), known[keys[turn.id]]["readings"], strict=True):
            affect = Affect(**read["affect"] | {"evidence": Evidence(**read["affect"]["evidence"])})
            found.append(Moment(turn, pause_s, read["complete"], read["complete_turn"], read["text"], affect))
    return found


def _key(turn: Turn) -> str:
    named = replace(turn, clips=tuple(Path(clip.name) for clip in turn.clips))
    return hashlib.sha256(repr((named, HEARD_S, NOISE, FLOOR_DB, CUT_WITHIN)).encode()).hexdigest()


class _SmartTurn:
    """The model of https://github.com/pipecat-ai/smart-turn that comes with Pipecat, on one thread."""

    def __init__(self) -> None:
        from loguru import logger

        logger.disable("pipecat")
        from pipecat.audio.turn.smart_turn.local_smart_turn_v3 import LocalSmartTurnAnalyzerV3

        self._analyzer = LocalSmartTurnAnalyzerV3()

    def complete(self, samples: np.ndarray) -> float:
        """Probability that the turn is complete, from its last 8 s: float32 (T,) at 16 kHz."""
        return float(self._analyzer._predict_endpoint(samples)["probability"])


def _recogniser(settings: Settings) -> Asr:
    return WhisperAsr(locate(settings.recogniser), cpu_threads=1)


def _sounds(everything: Sequence[Turn], settings: Settings) -> list[list[np.ndarray]]:
    """The pieces of every turn, float32 at 16 kHz without silence around them; the same samples every time.

    Piper draws from a stream of random numbers, so all are synthesised in one order.
    """
    onnxruntime.set_seed(SEED)
    speaker = open_speaker(settings)
    asr = _recogniser(settings)
    sounds = []
    for turn in everything:
        if turn.clips:
            sounds.append(_recorded(turn, asr))
            continue
        said = next(iter(speaker.speak([" ".join(turn.pieces)], VoiceStyle(rate=turn.rate))))
        whole = _trimmed(soxr.resample(said.samples, said.sample_rate_hz, SAMPLE_RATE_HZ))
        sounds.append([_trimmed(piece) for piece in _cut(whole, turn.pieces)])
    return sounds


def _cut(whole: np.ndarray, pieces: Sequence[str]) -> list[np.ndarray]:
    """The sound in as many pieces, one or two: cut in the quietest 80 ms near the place, rather in the nearest such."""
    if len(pieces) == 1:
        return [whole]
    size = SAMPLE_RATE_HZ // 100
    frames = whole[: len(whole) // size * size].reshape(-1, size)
    levels_db = 10 * np.log10(np.mean(np.square(frames), axis=1) + 1e-12)
    away = np.abs(np.arange(len(frames)) / len(frames) - len(pieces[0]) / len(" ".join(pieces)))
    quiet_db = np.convolve(levels_db, np.ones(8) / 8, "same") + 20 * away
    at = size * int(np.argmin(np.where(away < CUT_WITHIN, quiet_db, np.inf)))
    return [whole[:at], whole[at:]]


def _recorded(turn: Turn, asr: Asr) -> list[np.ndarray]:
    clips = [read_clip(clip, want_frames=False).speech for clip in turn.clips]
    whole = [_trimmed(clip.samples) for clip in clips if clip is not None]
    if turn.kind != "real cut":
        return whole
    words, n_words = asr.transcribe(Speech(whole[0])).words, len(turn.pieces[0].split())
    share = n_words / len(" ".join(turn.pieces).split())
    at = words[n_words - 1].end_s * SAMPLE_RATE_HZ if len(words) >= n_words else share * len(whole[0])
    return [whole[0][: int(at)], whole[0][int(at) :]]


def _trimmed(samples: np.ndarray) -> np.ndarray:
    """Without what is silent before and after; see `FLOOR_DB`."""
    size = SAMPLE_RATE_HZ // 50
    frames = samples[: len(samples) // size * size].reshape(-1, size)
    levels = np.sqrt(np.mean(np.square(frames), axis=1))
    loud = np.flatnonzero(levels > levels.max() * 10 ** (FLOOR_DB / 20))
    return samples[loud[0] * size : (loud[-1] + 1) * size].astype(np.float32)


def _heard(turn: Turn, sound: Sequence[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The audio up to each pause and to the end, with the first of the silence that follows; and its last piece alone.

    The last piece has as much silence before it.
    """
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(turn.id.encode()).digest()[:4]))

    def silence(seconds: float) -> np.ndarray:
        return rng.normal(0, NOISE, int(seconds * SAMPLE_RATE_HZ)).astype(np.float32)

    so_far = silence(HEARD_S)
    for piece, pause_s in zip(sound, (*turn.pauses_s, HEARD_S), strict=True):
        so_far = np.concatenate([so_far, piece])
        after = silence(HEARD_S)
        yield np.concatenate([so_far, after]), np.concatenate([silence(HEARD_S), piece, after])
        so_far = np.concatenate([so_far, silence(pause_s)])
