"""Is a style heard? `python -m bench.delivery`: the model listens to the agent's own voice.

The same twelve sentences in every style of `agent/speech.py`: how fast, how loud and after what pauses they are said,
and what the model reads from the voice alone, without the words. Each measure is a mean over the sentences with its
95 % bootstrap interval; `against plain` are differences between the same sentences. Also how exactly the voice tells
when a word ends, against the recogniser's times. Writes `bench/results/delivery.json`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import soxr
from rich.console import Console
from rich.table import Table

from agent.edge import main_guard
from agent.opening import load_model, open_speaker
from agent.sentences import speakable
from agent.settings import Settings, load_settings
from agent.speech import STYLES, Audio, Speaker
from agent.word_timing import Rendering, time_words
from bench.machine import machine
from model.engine import LocalModel
from model.types import EMOTIONS
from model.weights import locate
from perception.asr import WhisperAsr
from perception.types import Speech, UserTurn
from training.metrics.bootstrap import intervals

SENTENCES = (
    # comfort
    "I am so sorry that happened to you.",
    "It makes sense that you feel tired after a week like that.",
    "Nobody should have to carry all of this alone, not even you.",
    # joy
    "That is wonderful news, you worked hard for it!",
    "I am so happy for you and your sister!",
    "I remember how much you were looking forward to that trip.",
    # questions
    "Would you like to talk about what happened at work today?",
    "What was it about the house that made you feel at home?",
    "Who could sit with you this evening while you wait?",
    # suggestions
    "Take a slow breath, and let your shoulders drop a little.",
    "Sometimes it helps to write things down before going to bed.",
    "Let us look at the smallest step that you could take tomorrow morning.",
)
HEARD = (*EMOTIONS, "calm")
OUT = Path(__file__).parent / "results" / "delivery.json"

Row = dict[str, float]


def at_16_khz(audio: Audio) -> Speech:
    """As the model hears it."""
    return Speech(soxr.resample(audio.samples, audio.sample_rate_hz, 16_000).astype(np.float32))


def without_pause(audio: Audio) -> tuple[Audio, float]:
    """What is said, and the silence before it in seconds: what is 40 dB below the loudest sample."""
    first = int(np.argmax(np.abs(audio.samples) > 0.01 * np.abs(audio.samples).max()))
    return Audio(audio.samples[first:], audio.sample_rate_hz), first / audio.sample_rate_hz


def delivered(model: LocalModel, audio: Audio, pauses: bool) -> Row:
    """What can be measured of a sentence, and what the model reads from its voice."""
    said, pause_s = without_pause(audio)
    prefix = model.attend(UserTurn("", speech=at_16_khz(said)))
    affect = model.perceive(prefix)
    spoken_s = audio.words[-1].end_s - audio.words[0].start_s
    return {
        "words_per_s": len(audio.words) / spoken_s,
        "level_db": float(10 * np.log10(np.mean(np.square(said.samples)))),
        **({"pause_s": pause_s} if pauses else {}),
        "valence": affect.valence,
        "arousal": affect.arousal,
        **model.classify(prefix, "emotion", HEARD),
    }


def means(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Mean and interval of each measure; a measure that a row lacks is that of the others."""
    facts = {}
    for name in rows[-1]:
        values = np.array([row[name] for row in rows if name in row])
        units = [str(i) for i in range(len(values))]
        low, high = intervals(lambda at, values=values: {"mean": float(values[at].mean())}, units)["mean"]
        facts[name] = {"mean": round(float(values.mean()), 4), "low": round(low, 4), "high": round(high, 4)}
    return facts


def word_ends(speaker: Speaker) -> dict[str, dict[str, float]]:
    """Errors of word ends against the recogniser's times, told by the voice and estimated from letters alone."""
    asr = WhisperAsr(locate("whisper-base"), language="en", cpu_threads=1)
    errors: dict[str, list[float]] = {"told": [], "estimated": []}
    wrong: dict[str, list[bool]] = {"told": [], "estimated": []}
    for sentence in SENTENCES:
        (audio,) = speaker.speak([sentence], STYLES["plain"])
        estimated = time_words(sentence, speakable(sentence), Rendering(audio.samples), audio.sample_rate_hz)
        heard = np.array([word.end_s for word in asr.transcribe(at_16_khz(audio)).words])
        if len(heard) != len(audio.words):
            continue  # it heard other words
        cuts = np.arange(0, audio.duration_s, 0.02)[:, None]
        for name, words in (("told", audio.words), ("estimated", estimated)):
            ends = np.array([word.end_s for word in words])
            errors[name].extend(np.abs(ends - heard))
            wrong[name].extend(np.abs((ends <= cuts).sum(1) - (heard <= cuts).sum(1)) > 1)
    return {
        name: {
            "n": len(errors[name]),
            "median_s": round(float(np.median(errors[name])), 3),
            "p90_s": round(float(np.quantile(errors[name], 0.9)), 3),
            "cuts_wrong_by_two_words": round(float(np.mean(wrong[name])), 4),
        }
        for name in errors
    }


def bench(settings: Settings) -> dict[str, Any]:
    """Run everything and return the figures."""
    onnxruntime.set_seed(0)  # Piper draws its liveliness at random
    speaker = open_speaker(settings)
    model = load_model(settings)
    assert isinstance(model, LocalModel)
    facts: dict[str, Any] = {"command": "python -m bench.delivery", "machine": machine()}
    facts["model"] = {"variant": model.card.variant, "version": model.card.version}
    facts |= {"speaker": settings.speaker, "sentences": len(SENTENCES), "styles": {}}
    rows: dict[str, list[Row]] = {}
    for style in STYLES.values():
        said = speaker.speak(SENTENCES, style)
        rows[style.name] = [delivered(model, audio, pauses=i > 0) for i, audio in enumerate(said)]
        paired = zip(rows[style.name], rows["plain"], strict=True)
        differences = [{name: row[name] - plain[name] for name in row} for row, plain in paired]
        facts["styles"][style.name] = {
            "requested": asdict(style),
            "delivered": means(rows[style.name]),
            "against_plain": means(differences) if style.name != "plain" else {},
        }
    facts["word_ends"] = word_ends(speaker)
    return facts


def show(facts: dict[str, Any], console: Console) -> None:
    """Print the figures; after a mean, half its interval."""
    styles = facts["styles"]
    plain = styles["plain"]["delivered"]
    columns = ("style", "rate", "heard", "words/s", "level, dB", "heard", "pause, s", "heard")
    asked = Table(*columns, show_edge=False)
    for name, style in styles.items():
        wanted, got = style["requested"], {measure: value["mean"] for measure, value in style["delivered"].items()}
        asked.add_row(
            name,
            f"{wanted['rate']:.2f}",
            f"{got['words_per_s'] / plain['words_per_s']['mean']:.2f}",
            f"{got['words_per_s']:.2f}",
            f"{wanted['loudness']:+.1f}",
            f"{got['level_db'] - plain['level_db']['mean']:+.1f}",
            f"{wanted['pause_s']:.2f}",
            f"{got['pause_s']:.2f}",
        )
    console.print(asked)
    for title, kind in (("read from the voice", "delivered"), ("against plain", "against_plain")):
        read = Table(title, *styles, show_edge=False)
        for measure in ("valence", "arousal", *HEARD):
            values = [style[kind].get(measure) for style in styles.values()]
            if any(value and max(abs(value["low"]), abs(value["high"])) >= 0.01 for value in values):
                cells = [f"{v['mean']:+.2f} ± {(v['high'] - v['low']) / 2:.2f}" if v else "" for v in values]
                read.add_row(measure, *cells)
        console.print(read)
    for name, ends in facts["word_ends"].items():
        console.print(
            f"word ends {name}: median error {ends['median_s']:.3f} s, p90 {ends['p90_s']:.3f} s, n = {ends['n']}; "
            f"{ends['cuts_wrong_by_two_words']:.1%} of moments count two words wrong"
        )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of tables")
    args = parser.parse_args()
    with main_guard():
        facts = bench(load_settings())
        OUT.parent.mkdir(exist_ok=True)
        OUT.write_text(json.dumps(facts, indent=1) + "\n")
        if args.json:
            print(json.dumps(facts))
            return
        console = Console(highlight=False)
        show(facts, console)
        console.print(f"written to {OUT}")


if __name__ == "__main__":
    main()
