"""The benchmarks by name: where each corpus lies under the data folder, how it is laid out and what is scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from model.types import EMOTIONS, INTENTS, SENTIMENTS, VOICE_EMOTIONS
from perception.types import Modality

from .data import cases
from .data.cases import Case, Skip
from .data.layouts import Layout, Lines, Published, Row, Table, Zipped
from .data.sample import CorpusError
from .metrics.scores_files import ON_WHEELS, PLAIN

MINTREC_INTENTS = (
    "Complain", "Praise", "Apologise", "Thank", "Criticize", "Agree", "Taunt", "Flaunt", "Joke", "Oppose", "Comfort",
    "Care", "Inform", "Advise", "Arrange", "Introduce", "Leave", "Prevent", "Greet", "Ask for help",
)  # fmt: skip
"""The 20 classes of MIntRec; MIntRec2.0 has all 30 of `INTENTS`."""

Kind = Literal["labels", "views", "polarity", "words", "sets", "causes", "replies"]
"""`labels`: one of some classes; `views`: that from voice, from face and from both; `polarity`: positive or not;
`words`: free words against one label; `sets`: against several; `causes`: which line is why; `replies`: what is
answered."""


@dataclass(frozen=True)
class Bench:
    """How a corpus is scored.

    `labels` are the candidates of each label task, of which the first is the headline; `needs` is what a checkpoint
    must have been trained to read; `note` says what a reader of the scores should know.
    """

    folder: str
    kind: Kind
    layout: Layout
    cases: Callable[[Path, int, Row], cases.Found]
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    needs: tuple[Modality, ...] = ("text",)
    note: str = ""


@dataclass(frozen=True)
class Split:
    """A split of a benchmark that was found and read; `wheels` is the emotion wheels' folder, where it is near."""

    bench: str
    name: str
    cases: tuple[Case, ...]
    skipped: tuple[Skip, ...]
    wheels: Path | None = None


_EMODB = ("neutral", "happy", "sad", "angry", "fear", "disgust")
_ISEAR = ("happy", "sad", "angry", "fear", "disgust")
_REPLY_NOTE = (
    "the thought before each reply is the model's own, its goal chosen by the perceived emotion; Dist counts n-grams "
    "over all replies together, so compare it on the same number of them"
)

BENCHES: dict[str, Bench] = {
    "ravdess": Bench(
        "speech/ravdess", "labels", Table(), cases.voice, {"emotion": VOICE_EMOTIONS}, ("voice",), "voice alone"
    ),
    "ravdess_av": Bench(
        "av/ravdess_actor01", "views", Table(corpus="ravdess_av"), cases.voice_and_face,
        {"emotion": EMOTIONS}, ("voice", "face"),
        "one actor, of whom nothing is trained on: little follows for other people",
    ),
    "emodb": Bench("speech_restricted/emodb", "labels", Table(), cases.voice, {"emotion": _EMODB}, ("voice",),
                   "voice alone; a language and speakers that are not trained on"),
    "urdu": Bench("speech_restricted/urdu", "labels", Table(), cases.voice, {"emotion": _EMODB[:4]}, ("voice",),
                  "voice alone; many speakers have one emotion only"),
    "fer2013": Bench(
        "face_restricted/fer2013", "labels",
        Zipped({"train": "train", "valid": "publictest", "test": "privatetest"}), cases.picture,
        {"emotion": EMOTIONS}, ("face",),
    ),
    "goemotions": Bench("text/goemotions", "labels", Lines("goemotions", {"valid": "dev"}), cases.comment,
                        {"emotion": EMOTIONS}),
    "isear": Bench("text_restricted/isear", "labels", Lines("isear"), cases.report, {"emotion": _ISEAR}),
    "meld": Bench("text_restricted/meld", "labels", Lines("meld", {"valid": "dev"}), cases.television,
                  {"emotion": EMOTIONS, "sentiment": SENTIMENTS}, note="the line alone, without the dialogue before"),
    "mintrec": Bench("text_restricted/mintrec", "labels", Lines("mintrec"), cases.intent,
                     {"intent": MINTREC_INTENTS}, note="text alone; validation is season 6"),
    "mintrec2": Bench("text_restricted/mintrec2", "labels", Lines("mintrec2"), cases.intent,
                      {"intent": INTENTS}, note="text alone; validation is every tenth dialogue"),
    "empathetic_dialogues": Bench(
        "text/empathetic_dialogues", "replies",
        Lines("empathetic_dialogues", {"train": "dialogues_valid", "test": "dialogues_test"}), cases.empathetic,
        {"emotion": EMOTIONS}, note=_REPLY_NOTE,
    ),
    "esconv": Bench("text/esconv", "replies", Lines("esconv", {"train": "dev"}), cases.support, note=_REPLY_NOTE),
    "reccon": Bench("text_restricted/reccon_dailydialog", "causes", Lines("reccon"), cases.causes,
                    note="the annotated emotion is given; one line is named for each case"),
    "merr": Bench("text_restricted/merr", "words", Lines("merr"), cases.word, {"emotion": EMOTIONS},
                  note="text alone, without the clips; the words to be found are pseudo labels"),
    "emer": Bench("text_restricted/emer", "words", Table("gt-eng.csv"), cases.emer, {"emotion": EMOTIONS},
                  note="text alone, without the clips"),
}  # fmt: skip


def _unibench(kind: Kind, name: str, published: str, *marks: str) -> Bench:
    labels = {"sentiment": SENTIMENTS} if kind == "polarity" else {}
    return Bench(name, kind, Published(published, marks or ("label.npz",)), cases.published, labels)


BENCHES |= {
    "mer2023": _unibench("words", "mer2023", "mer2023", "label-6way.npz"),
    "mer2024": _unibench("words", "mer2024", "mer2024", "label-6way.npz"),
    "meld_clips": _unibench("words", "meld", "meld"),
    "iemocap": _unibench("words", "iemocap", "iemocap4", "label_4way.npz"),
    "mosi": _unibench("polarity", "mosi", "cmu_mosi"),
    "mosei": _unibench("polarity", "mosei", "cmu_mosei"),
    "sims": _unibench("polarity", "sims", "sims"),
    "simsv2": _unibench("polarity", "simsv2", "simsv2"),
    "ovmerd": _unibench("sets", "ovmerd", "ov_merd", "track2_train_ovmerd.csv"),
}
"""MER-UniBench; its corpora ship with clips, of which a checkpoint reads what it was trained for."""


def find(name: str, data: Path, split: str = "valid", wheels: Path | None = None) -> Split:
    """Read the cases of a benchmark's split.

    Args:
        name: one of `BENCHES`; `meld` is `meld_clips` in a folder that is laid out as for MER-UniBench.
        data: the folder that holds all corpora, or the corpus' own.
        split: a split found there.
        wheels: folder of the emotion wheels; by default one called `emotion_wheel` in or near the data folder.

    Raises:
        CorpusError: no such benchmark, folder or split, or files that are laid out otherwise.
    """
    if name not in BENCHES:
        metrics = ", ".join((*PLAIN, *ON_WHEELS))
        raise CorpusError(
            f"there is no benchmark {name}: choose from {', '.join(BENCHES)}; or a metric of a file: {metrics}"
        )
    if name == "meld" and any((place / "label.npz").is_file() for place in (data / "meld", data)):
        name = "meld_clips"
    bench = BENCHES[name]
    if not data.is_dir():
        raise CorpusError(f"there is no folder {data}: name the one that holds the corpora with --data")
    places = (data / bench.folder, data / Path(bench.folder).name, data)
    folder = next((place for place in places if bench.layout.splits(place)), None)
    if folder is None:
        raise CorpusError(f"{name} is not in {data}: expected {bench.folder} there, or name its own folder with --data")
    if split not in (there := bench.layout.splits(folder)):
        raise CorpusError(f"{folder} has no split {split}: choose from {', '.join(there)}")
    kept: list[Case] = []
    skipped: list[Skip] = []
    for at, row in bench.layout.rows(folder, split):
        try:
            found = list(bench.cases(folder, at, row))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CorpusError(f"row {at + 1} of {split} in {folder} is not one of {name}: {error!r}") from None
        for item in found:
            odd = None if isinstance(item, Skip) else _odd_label(item, bench)
            if odd:
                skipped.append(Skip(item.name, f"{odd} is none of the labels of {name}"))
            elif isinstance(item, Skip):
                skipped.append(item)
            else:
                kept.append(item)
    if not kept:
        raise CorpusError(f"nothing in {split} of {folder} can be scored")
    near = (parent / "emotion_wheel" for parent in (data, *data.resolve().parents[:2]))
    wheels = wheels or next((place for place in near if place.is_dir()), None)
    return Split(name, split, tuple(kept), tuple(skipped), wheels)


def _odd_label(case: Case, bench: Bench) -> str | None:
    return next((gold for task, gold in case.gold.items() if gold not in bench.labels.get(task, (gold,))), None)
