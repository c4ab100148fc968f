"""A conversation to listen to: three spoken turns whose user lines are synthesised on the spot.

`python -m agent.demo` writes one WAV with both sides, checks by ear (level and transcript) that speech is in it,
and shows what was remembered. `make run` calls it where there is no terminal to talk in.
"""

from __future__ import annotations

import argparse
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
from rich.console import Console

from .edge import loading, main_guard
from .events import Finished, Heard, Perceived, Planned, Remembered, Spoken, Started, TurnResult
from .memory_views import episode_table
from .opening import open_agent, open_ears
from .session import Agent
from .settings import SetupError, load_settings
from .speech import STYLES, Audio, write_wav

USER = "demo"

LINES = (
    ("My dog Rosie died last night, and I cannot stop crying.", "calm"),
    ("I keep seeing her empty basket in the kitchen.", "calm"),
    ("Today my sister called, and we laughed about Rosie's first walk. That made me happy.", "bright"),
)
"""What the person says, and in which voice."""


def converse(agent: Agent, folder: Path, console: Console) -> tuple[Path, list[TurnResult]]:
    """Hold the conversation; returns the WAV with both sides and the turns."""
    sounds: list[Audio] = []
    results = []
    thread = f"demo-{datetime.now():%Y%m%d-%H%M%S}"
    for number, (line, style) in enumerate(LINES, 1):
        said = list(agent.speaker.speak(line, STYLES[style]))
        clip = folder / f"{thread}-{number}.wav"
        write_wav(clip, said)
        sounds += said
        console.print(f"\n[bold]{number}[/bold] [dim](spoken) {line}[/dim]")
        try:
            for event in agent.events(clip=clip, user=USER, thread=thread, speak=True):
                match event:
                    case Started(disclosure=str(told)):
                        console.print(f"  [dim]{told}[/dim]")
                    case Heard(text=text):
                        console.print(f"  heard    {text}")
                    case Perceived(affect=affect):
                        console.print(
                            f"  felt     {affect.emotion} {affect.confidence:.0%}, valence {affect.valence:+.2f}"
                        )
                    case Remembered(recollections=found) if found:
                        console.print(f"  recalls  “{found[0].episode.text}” (score {found[0].score:.2f})")
                    case Planned(plan=plan, thought=thought):
                        console.print(f"  thinks   {thought.cause if thought else plan.route} -> {plan.strategy}")
                    case Spoken(audio=audio):
                        sounds.append(audio)
                    case Finished(result=result):
                        results.append(result)
                        first = result.timings_ms.get("first_audio", float("nan"))
                        console.print(
                            f"  [bold]replies[/bold]  {result.reply}  [dim](first sound {first:.0f} ms)[/dim]"
                        )
        finally:
            clip.unlink(missing_ok=True)
    path = folder / f"{thread}.wav"
    write_wav(path, sounds)
    return path, results


def level_dbfs(samples: np.ndarray) -> float:
    """Root mean square of samples (T,) in dB below full scale."""
    return 20 * float(np.log10(max(np.sqrt(np.mean(np.square(samples))), 1e-9)))


def run(console: Console) -> None:
    """Hold the conversation on this machine, then check its sound and show what was remembered."""
    from perception.media import read_clip

    settings = load_settings()
    folder = settings.home / "demo"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(f"{folder} cannot be made ({error.strerror}): set EMOX_HOME to a folder you own") from None
    with console.status("waking up ..."), loading():
        agent = open_agent(settings)
    with agent:
        path, results = converse(agent, folder, console)
        speech = read_clip(path, want_frames=False).speech
        assert speech is not None
        transcript = open_ears(settings).asr().transcribe(speech)
        console.print(f"\nspeech level {level_dbfs(speech.samples):.1f} dBFS over {speech.duration_s:.1f} s")
        console.print(f"the recogniser hears: {transcript.text}")
        console.print()
        console.print(episode_table(agent.store.list(USER, limit=len(results)), "remembered"))
        console.print(f"\nthe whole conversation: {path}", soft_wrap=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--svg", type=Path, help="also draw what is printed, for the documentation")
    options = parser.parse_args()
    with main_guard():
        console = Console(width=None if sys.stdout.isatty() else 110, highlight=False, record=options.svg is not None)
        run(console)
        if options.svg is not None:
            console.save_svg(str(options.svg), title="make run")


if __name__ == "__main__":
    main()
