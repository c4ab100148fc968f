"""A UserTurn and a question become tensors and token ids: one prompt builder, one fixed slot order (section 2.8)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from perception.media import clip_bounds, frame_indices
from perception.types import SAMPLE_RATE_HZ, UserTurn

from .config import PromptStyle
from .types import Utterance

SLOTS = ("multi", "audio", "face", "frame")
"""Soft-token slots in prompt order; the subtitle or the dialogue follows them."""

N_STEPS = 8
FRAME_PX = 224

SPECIAL_TOKENS = ("<ImageHere>", "<AudioHere>", "<FrameHere>", "<FaceHere>", "<MultiHere>")
"""In the order in which the release adds them to Qwen2.5's vocabulary."""

_MARKS = {"multi": "<MultiHere>", "audio": "<AudioHere>", "face": "<FaceHere>", "frame": "<FrameHere>"}
_LEAD = {
    "multi": ("Joint audio-visual summary: <Multi>", "</Multi>\n"),
    "audio": ("Speech: <Audio>", "</Audio>\n"),
    "face": ("Face: <Video>", "</Video>\n"),
    "frame": ("Frames: <Video>", "</Video>\n"),
}

# Questions keep the tag, the slots and the answer shape of section 1.3 and are as short as they can be: each is
# prefilled in every turn, and a model that is tuned on them needs no list of candidates, which are scored anyway.
SENTIMENT_QUESTION = "Which sentiment?"
SENTIMENT_LEAD = "The character's sentiment state is"
EMOTION_QUESTION = "[Recognition] Which emotion?"
EMOTION_LEAD = "The most likely label is"
OPEN_QUESTION = "[Recogn_OV] Which emotions?"
OPEN_LEAD = "The character's emotional state is"
INTENT_QUESTION = "[Intent] Which intent?"
INTENT_LEAD = ""
CAUSE_QUESTION = "[Inference] Why {emotion}?"
CAUSE_LEAD = 'The emotion cause is "'
EMPATHY_QUESTION = "[Interaction] Think, then reply with care."
SMALL_TALK_QUESTION = "[Interaction] Reply with care."
THOUGHT = (
    '<think>\nFirstly, what happened: "{scenario}"\nSecondly, the emotion of the speaker is {emotion}.\n'
    'Thirdly, its cause: "{cause}"\nFourthly, my goal: {goal}.\n</think>\n'
)
"""The chain of empathy (section 3.5); "the emotion of the speaker is" is the clause that scorers look for."""


@dataclass(frozen=True)
class Inputs:
    """Encoder inputs of a batch; a modality that nobody in the batch has is None.

    `frames` uint8 (B, 8, 3, 224, 224), `faces` uint8 (B, 8, 3, S, S), `clips` float32 (B, 8, 32000) and `speech`, the
    same utterances whole, float32 (S,) each.
    """

    frames: Tensor | None = None
    faces: Tensor | None = None
    clips: Tensor | None = None
    speech: tuple[Tensor, ...] | None = None

    def to(self, device: torch.device) -> Inputs:
        """The same on a device."""
        frames, faces, clips = (one if one is None else one.to(device) for one in (self.frames, self.faces, self.clips))
        speech = None if self.speech is None else tuple(one.to(device) for one in self.speech)
        return Inputs(frames, faces, clips, speech)


class Processor:
    """Turns text into ids and a turn into encoder inputs.

    `tokenizer` is a transformers fast tokenizer. Where its vocabulary leaves room (Qwen2.5), the five special tokens
    take the ids after its last one; otherwise they lie beyond the embedding table. Either way they only mark places:
    `NanoEmoX.embed` overwrites them.
    """

    def __init__(
        self,
        tokenizer: Any,
        style: PromptStyle,
        *,
        max_tokens: int = 1024,
        face_px: int = 224,
        face_margin: float | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.style = style
        self.max_tokens = max_tokens
        self.face_px, self.face_margin = face_px, face_margin
        self._ids = lru_cache(1024)(lambda text: tuple(tokenizer(text, add_special_tokens=False).input_ids))
        self.first_placeholder = len(tokenizer)
        self.stop_ids = frozenset(self.ids(style.stop)[:1]) | {tokenizer.eos_token_id}

    def ids(self, text: str) -> list[int]:
        """Token ids of text of ours, without any special tokens added; questions and labels are always the same, so
        they are remembered.
        """
        return list(self._ids(text))

    def plain_ids(self, text: str) -> list[int]:
        """Token ids of text from outside, in which `<|im_end|>` and its like are ordinary characters."""
        return self.tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids

    def tokens_with(self, characters: str) -> frozenset[int]:
        """All tokens whose text holds one of `characters`."""
        single = [[token] for token in range(len(self.tokenizer))]
        texts = self.tokenizer.backend_tokenizer.decode_batch(single, skip_special_tokens=False)
        wanted = set(characters)
        return frozenset(token for token, text in enumerate(texts) if not wanted.isdisjoint(text))

    def text(self, ids: Sequence[int]) -> str:
        """The text of token ids."""
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    @property
    def placeholders(self) -> dict[str, int]:
        """Slot -> the id that marks its soft tokens (Qwen2.5: 151665 to 151669 in the order of the release)."""
        return {slot: self.first_placeholder + SPECIAL_TOKENS.index(name) for slot, name in _MARKS.items()}

    def header_ids(self) -> list[int]:
        """What every prompt starts with, whatever modalities follow."""
        return self.ids(self.style.bos + self.style.human)

    def prefix_ids(self, soft: dict[str, int], text: str = "", history: Sequence[Utterance] = ()) -> list[int]:
        """Slots in fixed order, then the dialogue so far and what is said now; the header is not included.

        Args:
            soft: slot -> number of soft tokens, for the slots that are there.
            text: what the person says now; may be empty.
            history: the dialogue before it; its oldest lines are dropped when the prompt would exceed `max_tokens`.
        """
        ids: list[int] = []
        for slot in SLOTS:
            if slot in soft:
                before, after = _LEAD[slot]
                ids += self.ids(before) + [self.placeholders[slot]] * soft[slot] + self.ids(after)
        subtitle = self.ids('Subtitle: "') + self.plain_ids(text) + self.ids('"\n') if text else []
        room = self.max_tokens - len(ids) - len(subtitle)
        lines = [self.plain_ids(f"{line.role}: {line.text}\n") for line in history]
        while lines and sum(map(len, lines)) > room:
            lines.pop(0)
        if lines:
            ids += self.ids("Dialogue so far:\n") + [i for line in lines for i in line]
        return ids + subtitle

    def question_ids(self, question: str, answer_lead: str = "") -> list[int]:
        """The question, the change of sides and how the answer begins.

        Each part is tokenised by itself, here as in training, so that a token never spans what is given and what
        is asked for.
        """
        return self.ids(question + self.style.assistant) + self.ids(answer_lead)

    def inputs(self, turn: UserTurn, slots: Collection[str], device: torch.device | None = None) -> Inputs:
        """Encoder inputs of one turn (B = 1) for the slots that will be read; pictures are resized on the device."""
        wants = set(slots)
        frames = faces = clips = speech = None
        if wants & {"frame", "multi"} and turn.frames is not None:
            images = turn.frames.images[frame_indices(len(turn.frames.images), N_STEPS)]
            frames = _resized(images, FRAME_PX, device)[None]
        if wants & {"face", "multi"} and turn.faces is not None:
            crops = turn.faces.crops[frame_indices(len(turn.faces.crops), N_STEPS)]
            if self.face_margin is not None:
                crops = _middle(crops, (1 + 2 * self.face_margin) / (1 + 2 * turn.faces.margin))
            faces = _resized(crops, self.face_px, device)[None]
        if wants & {"audio", "multi"} and turn.speech is not None:
            clips = speech_clips(turn.speech.samples)[None]
            speech = (torch.from_numpy(np.asarray(turn.speech.samples, dtype=np.float32)),)
        return Inputs(frames, faces, clips, speech)


def speech_clips(samples: np.ndarray) -> Tensor:
    """Eight two-second clips of speech (T,) at 16 kHz -> (8, 32000), zero-padded when shorter than two seconds."""
    padded = np.pad(samples, (0, max(0, 32_000 - len(samples))))
    return torch.from_numpy(
        np.stack([padded[start:end] for start, end in clip_bounds(len(padded) / SAMPLE_RATE_HZ)]).astype(np.float32)
    )


def _middle(images: np.ndarray, share: float) -> np.ndarray:
    """The middle of images (N, H, W, 3): of each side a share, if that is below 1."""
    height, width = images.shape[1:3]
    y, x = (round(side * max(0.0, 1 - share) / 2) for side in (height, width))
    return images[:, y : height - y, x : width - x]


def _resized(images: np.ndarray, size_px: int, device: torch.device | None) -> Tensor:
    """Images uint8 (N, H, W, 3) -> uint8 (N, 3, S, S); the aspect ratio is not kept (section 2.2)."""
    given = torch.from_numpy(np.ascontiguousarray(images)).to(device, non_blocking=True)
    channels_first = given.permute(0, 3, 1, 2).contiguous()
    if given.is_cuda:  # where it is not done in whole numbers
        floats = F.interpolate(channels_first.float(), (size_px, size_px), mode="bilinear", antialias=True)
        return floats.round_().clamp_(0, 255).to(torch.uint8)
    return F.interpolate(channels_first, (size_px, size_px), mode="bilinear", antialias=True)
