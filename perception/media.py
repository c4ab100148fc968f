"""A media file becomes speech and frames, and the rule by which the model samples both.

PyAV decodes, soxr resamples, Pillow reads still pictures; they are imported when a clip is read. Limits are checked
on the file's size and header before anything is decoded, and again while decoding, for files whose header says
nothing. The errors are drawn in errors.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .errors import TooLarge, TooShort, UnreadableMedia
from .types import SAMPLE_RATE_HZ, Absence, Clip, Frames, Modality, Speech

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame

MAX_DURATION_S = 120.0
"""A turn is a contribution to a conversation, not a recording of one."""
MAX_BYTES = 512 * 2**20
"""Two minutes of 1080p from a phone are about 300 MB."""
MAX_PIXELS = 64 * 10**6
"""Largest picture that is decoded."""
MIN_SOUND_S = 0.1
N_FRAMES = 32
"""Frames kept of a video: enough to follow a face; the model takes 8 of them."""
MAX_SIDE_PX = 640
"""Frames are scaled down to this, so that a clip's frames fit in 40 MB."""

CLIP_S = 2
N_CLIPS = 8

FORMATS = "wav,flac,ogg,mp3,aac,mov,matroska,avi"
"""FFmpeg's names of what may be opened. It knows playlists too, which would make it open other files."""
STILLS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
"""How JPEG and PNG files begin. FFmpeg would take their names for patterns such as a%02d.png."""
KINDS = "wav, flac, ogg, mp3, m4a, mp4, mov, webm, mkv, avi, jpg, png"


def frame_indices(n_frames: int, k: int = N_CLIPS) -> list[int]:
    """Choose k of n_frames: floor(i·n/k), and with fewer than k frames the last one repeated.

    Choosing 8 out of `read_clip`'s 32 gives the same frames as choosing 8 out of the whole video.

    Raises:
        ValueError: there is no frame to choose.

    Nano-EmoX, `golden/sampling.json`; AffectGPT's uniform video loader.
    """
    if n_frames < 1:
        raise ValueError(f"cannot choose {k} of {n_frames} frames, expected at least one")
    return [min(i * n_frames // min(k, n_frames), n_frames - 1) for i in range(k)]


def clip_bounds(duration_s: float) -> list[tuple[int, int]]:
    """Sample bounds [start, end) of the eight two-second clips of speech that lasts `duration_s`.

    Clip i starts at i·(D-2)/8, so the last (D-2)/8 seconds are never heard. Shorter speech must be padded with
    zeros to two seconds, and then gives the same clip eight times.

    pytorchvideo 0.1.5, `ConstantClipsPerVideoSampler`, which divides by the number of clips.
    """
    length = CLIP_S * SAMPLE_RATE_HZ
    spare = max(round(duration_s * SAMPLE_RATE_HZ) - length, 0)  # integers: a float would lose a sample now and then
    return [(i * spare // N_CLIPS, i * spare // N_CLIPS + length) for i in range(N_CLIPS)]


def read_clip(
    path: Path,
    *,
    want_speech: bool = True,
    want_frames: bool = True,
    n_frames: int = N_FRAMES,
    max_duration_s: float = MAX_DURATION_S,
) -> Clip:
    """Read the sound and the pictures of a file; a still picture is a video of one frame.

    Args:
        path: a sound, video or picture file of any rate, channel count and rotation.
        want_speech: decode the sound; without it voice is absent as not given.
        want_frames: decode the pictures; without it face is absent as not given.
        n_frames: most frames to keep, uniformly spaced by `frame_indices`; all of them if the video has fewer.
        max_duration_s: refuse anything longer.

    Returns:
        Speech at 16 kHz, channels averaged, its first sample at the clip's start; frames upright, at most
        `MAX_SIDE_PX` wide and high. A missing track is None with the reason in `absent`.

    Raises:
        MediaError: see errors.py.
        ImportError: PyAV or soxr is not installed.
    """
    _check_file(path)
    is_still = _is_still(path)
    has_sound, has_video = (False, True) if is_still else _check_header(path, max_duration_s)
    speech, frames = None, None
    absent: dict[Modality, Absence] = {}
    if not want_speech:
        absent["voice"] = Absence.NOT_GIVEN
    elif not has_sound:
        absent["voice"] = Absence.NO_AUDIO_TRACK
    else:
        speech = _read_speech(path, max_duration_s)
    if not want_frames:
        absent["face"] = Absence.NOT_GIVEN
    elif not has_video:
        absent["face"] = Absence.NO_VIDEO_TRACK
    else:
        frames = _read_still(path) if is_still else _read_frames(path, n_frames, max_duration_s)
    return Clip(speech, frames, absent)


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise UnreadableMedia(f"{path} is a folder; give one file")
    if not path.is_file():
        raise UnreadableMedia(f"there is no file {path}")
    size = path.stat().st_size
    if size == 0:
        raise UnreadableMedia(f"{path.name} is empty")
    if size > MAX_BYTES:
        raise TooLarge(f"{path.name} has {size / 2**20:.0f} MiB, the limit is {MAX_BYTES // 2**20}; cut it shorter")


def _is_still(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(8).startswith(STILLS)


def _check_header(path: Path, max_duration_s: float) -> tuple[bool, bool]:
    """Refuse what the header already tells is too long or too big; return whether there is sound, and video."""
    with _opened(path) as container:
        sound, video = _track(container, "audio"), _track(container, "video")
        if sound is None and video is None:
            raise UnreadableMedia(f"{path.name} has no sound or picture that can be decoded; export it as mp4 or wav")
        _check_duration(path, (container.duration or 0) / 1_000_000, max_duration_s)
        if video is not None:
            _check_pixels(path, video.width, video.height)
        return sound is not None, video is not None


def _check_pixels(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise TooLarge(
            f"the picture in {path.name} is {width}x{height}, the limit is {MAX_PIXELS // 10**6} megapixels; "
            "scale it down"
        )


def _check_duration(path: Path, duration_s: float, max_duration_s: float) -> None:
    if duration_s > max_duration_s:
        raise TooLarge(
            f"{path.name} lasts {duration_s:.0f} s or more, the limit is {max_duration_s:.0f} s; cut it shorter"
        )


@contextmanager
def _opened(path: Path) -> Iterator[InputContainer]:
    """Open a file with FFmpeg; its complaints become one sentence."""
    try:
        import av
        import soxr  # noqa: F401, both are needed to read a clip, and come with the same extra
    except ImportError as error:
        raise ImportError(f"reading a clip needs {error.name}; install emox[embedded]") from error
    # An open file, not a name: FFmpeg takes names like "a%02d.png" or "concat:a|b" for more than one file.
    try:
        with path.open("rb") as file, av.open(file, "r", options={"format_whitelist": FORMATS}) as container:
            yield container
    except av.FFmpegError as error:
        raise UnreadableMedia(f"{path.name} cannot be read: it is damaged, cut short or not one of {KINDS}") from error
    except OSError as error:
        raise UnreadableMedia(f"{path.name} cannot be opened: {error.strerror}") from error


def _track(container: InputContainer, kind: Literal["audio", "video"]) -> Any:
    """Return the first track that can be decoded and is not the cover of an album, or None."""
    from av.stream import Disposition

    for track in container.streams:
        if track.type == kind and track.codec_context is not None and not track.disposition & Disposition.attached_pic:
            return track
    return None


def _read_speech(path: Path, max_duration_s: float) -> Speech:
    import av
    import soxr

    chunks: list[np.ndarray] = []
    rate, channels, seconds = 0, 0, 0.0
    with _opened(path) as container:
        to_float = av.AudioResampler(format="fltp")  # rate and channels stay: averaging and soxr do those
        start_s = (container.start_time or 0) / 1_000_000
        for frame in _decoded(container, _track(container, "audio")):
            if not chunks:
                rate, channels = frame.sample_rate, frame.layout.nb_channels
                lead_s = max((frame.time or 0.0) - start_s, 0.0)
                _check_duration(path, lead_s, max_duration_s)
                chunks.append(np.zeros(round(lead_s * rate), np.float32))
            if (frame.sample_rate, frame.layout.nb_channels) != (rate, channels):
                raise UnreadableMedia(f"the sound of {path.name} changes its rate or channels midway; export it again")
            chunks += [part.to_ndarray().mean(axis=0) for part in to_float.resample(frame)]
            seconds += frame.samples / rate
            _check_duration(path, seconds, max_duration_s)
    if seconds < MIN_SOUND_S:
        raise TooShort(f"{path.name} has {seconds:.2f} s of sound, at least {MIN_SOUND_S} s are needed")
    samples = soxr.resample(np.concatenate(chunks), rate, SAMPLE_RATE_HZ)
    return Speech(np.clip(np.nan_to_num(samples), -1.0, 1.0).astype(np.float32, copy=False))


def _read_frames(path: Path, n_frames: int, max_duration_s: float) -> Frames:
    images: list[np.ndarray] = []
    times_s: list[float] = []
    size: tuple[int, int] | None = None
    wanted = set(frame_indices(_count_frames(path, max_duration_s), n_frames))
    with _opened(path) as container:
        start_s = (container.start_time or 0) / 1_000_000
        stream = _track(container, "video")
        stream.thread_type = "AUTO"
        for index, frame in enumerate(_decoded(container, stream)):
            if index not in wanted:
                continue
            size = size or _scaled_down(frame.width, frame.height)  # of the first: a stream may change its size
            images.append(_upright_rgb(frame, size))
            times_s.append(max((frame.time or 0.0) - start_s, 0.0))
    if not images:
        raise UnreadableMedia(f"no picture in {path.name} can be decoded; record or export it again")
    return Frames(np.stack(images), np.array(times_s, np.float64))


def _read_still(path: Path) -> Frames:
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImportError("reading a picture needs Pillow; install emox[embedded]") from error
    try:
        with Image.open(path) as picture:
            _check_pixels(path, *picture.size)
            picture.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX))
            image = np.array(ImageOps.exif_transpose(picture).convert("RGB"))
    except (OSError, SyntaxError) as error:  # Pillow's complaint about a broken PNG is a SyntaxError
        raise UnreadableMedia(f"the picture {path.name} cannot be read: it is damaged or cut short") from error
    return Frames(image[None], np.zeros(1))


def _count_frames(path: Path, max_duration_s: float) -> int:
    """Count the frames by walking the packets, which decodes nothing and needs no header."""
    count = 0
    with _opened(path) as container:
        stream = _track(container, "video")
        for packet in container.demux(stream):
            count += _holds_data(packet)
            if packet.pts is not None:
                _check_duration(path, float((packet.pts - (stream.start_time or 0)) * stream.time_base), max_duration_s)
        if count < 0.9 * stream.frames:
            raise UnreadableMedia(
                f"{path.name} is cut short: {count} of {stream.frames} frames are there; record or export it again"
            )
    if not count:
        raise UnreadableMedia(f"the video track of {path.name} is empty; record or export it again")
    return count


def _decoded(container: InputContainer, stream: Any) -> Iterator[Any]:
    """Decode a track, passing over packets that are damaged; raise if none could be decoded."""
    import av

    n_frames, damage = 0, None
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.InvalidDataError as error:
            damage = error
            continue
        n_frames += len(frames)
        yield from frames
    if damage and not n_frames:
        raise damage


def _holds_data(packet: Packet) -> bool:
    return packet.size > 0  # the last packet of a stream is empty and only flushes the decoder


def _scaled_down(width: int, height: int) -> tuple[int, int]:
    scale = min(1.0, MAX_SIDE_PX / max(width, height))
    return max(round(width * scale), 1), max(round(height * scale), 1)


def _upright_rgb(frame: VideoFrame, size: tuple[int, int]) -> np.ndarray:
    """Return the frame as uint8 (H, W, 3) of this (width, height), turned as its display matrix says."""
    image = frame.reformat(width=size[0], height=size[1], format="rgb24", interpolation="AREA").to_ndarray()
    return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90)))  # degrees counterclockwise
