import json
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from perception import media
from perception.errors import MediaError, PerceptionError, TooLarge, TooShort, UnreadableMedia
from perception.media import clip_bounds, frame_indices, read_clip
from perception.types import Absence
from tests.perception.clips import DATA, FPS, HEIGHT, SAMPLING, TONE_HZ, WIDTH, make_clip, make_sparse_wav, picture

MP4 = {"video": "libx264", "audio": "aac"}


def loudest_hz(samples: np.ndarray) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(samples))) * 16_000 / len(samples))


def is_red(pixel: np.ndarray) -> bool:
    return pixel[0] > 200 and pixel[1] < 60 and pixel[2] < 60


# ---- which frames and which seconds the model gets -------------------------------------------------------------------


def test_eight_frames_are_chosen_by_the_floor_rule():
    assert frame_indices(30) == [0, 3, 7, 11, 15, 18, 22, 26]
    assert frame_indices(3) == [0, 1, 2, 2, 2, 2, 2, 2]
    with pytest.raises(ValueError, match="expected at least one"):
        frame_indices(0)


def test_eight_clips_of_two_seconds_never_reach_the_end():
    assert clip_bounds(10.0)[0] == (0, 32_000)
    assert clip_bounds(10.0)[-1] == (112_000, 144_000)
    assert clip_bounds(0.5) == [(0, 32_000)] * 8


def test_sampling_equals_the_golden_values():
    if not SAMPLING.is_file():
        pytest.skip(f"the golden values are not at {SAMPLING}")
    golden = json.loads(SAMPLING.read_text())
    for n_frames, indices in golden["frames"]["cases"].items():
        assert frame_indices(int(n_frames)) == indices
    for duration_s, case in golden["audio"]["cases"].items():
        assert clip_bounds(float(duration_s)) == [tuple(bounds) for bounds in case["sample_bounds_16k"]]


@given(st.integers(1, 100_000))
def test_eight_of_the_frames_that_were_kept_are_eight_of_all_frames(n_frames):
    kept = sorted(set(frame_indices(n_frames, 32)))
    assert [kept[i] for i in frame_indices(len(kept), 8)] == frame_indices(n_frames, 8)


@given(st.integers(32_000, 2_000_000))
def test_clip_bounds_lie_inside_the_speech(n_samples):
    bounds = clip_bounds(n_samples / 16_000)
    assert all(start >= 0 and end - start == 32_000 and end <= n_samples for start, end in bounds)
    assert bounds == sorted(bounds)


# ---- every common kind of file ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "codec", "rate_hz", "layout"),
    [
        ("stereo.wav", "pcm_s16le", 44_100, "stereo"),
        ("telephone.wav", "pcm_s16le", 8_000, "mono"),
        ("studio24bit.wav", "pcm_s24le", 48_000, "stereo"),
        ("float.wav", "pcm_f32le", 96_000, "mono"),
        ("surround.flac", "flac", 48_000, "5.1"),
        ("a.ogg", "libopus", 48_000, "stereo"),
        ("a.mp3", "libmp3lame", 44_100, "stereo"),
        ("a.m4a", "aac", 44_100, "stereo"),
    ],
)
def test_sound_of_any_kind_becomes_16_khz_mono(tmp_path, name, codec, rate_hz, layout):
    clip = read_clip(make_clip(tmp_path / name, audio=codec, rate_hz=rate_hz, layout=layout))
    assert clip.speech is not None
    assert clip.speech.samples.dtype == np.float32
    assert clip.speech.samples.ndim == 1
    assert clip.speech.duration_s == pytest.approx(2.0, abs=0.06)
    assert loudest_hz(clip.speech.samples) == pytest.approx(TONE_HZ, abs=2)
    assert np.abs(clip.speech.samples).max() == pytest.approx(0.5, abs=0.06)
    assert clip.frames is None
    assert clip.absent == {"face": Absence.NO_VIDEO_TRACK}


@pytest.mark.parametrize(
    ("name", "video", "audio"),
    [
        ("a.mp4", "libx264", "aac"),
        ("a.mov", "mpeg4", "aac"),
        ("a.webm", "libvpx", "libopus"),
        ("a.mkv", "libx264", "flac"),
        ("a.avi", "mpeg4", "libmp3lame"),
    ],
)
def test_video_of_any_kind_becomes_speech_and_timed_frames(tmp_path, name, video, audio):
    clip = read_clip(make_clip(tmp_path / name, video=video, audio=audio))
    assert clip.absent == {}
    assert clip.speech is not None
    assert clip.speech.duration_s == pytest.approx(2.0, abs=0.1)
    assert clip.frames is not None
    assert clip.frames.images.shape == (20, HEIGHT, WIDTH, 3)
    assert clip.frames.times_s == pytest.approx(np.arange(20) / FPS, abs=0.11)
    assert np.all(np.diff(clip.frames.times_s) > 0)
    assert is_red(clip.frames.images[0, 8, 8])
    assert not is_red(clip.frames.images[0, 8, -8])


def test_channels_are_averaged(tmp_path):
    path = tmp_path / "left.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16_000, layout="stereo")
        left_only = np.zeros((1, 32_000), np.int16)
        left_only[0, ::2] = 16_384
        frame = av.AudioFrame.from_ndarray(left_only, "s16", "stereo")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    speech = read_clip(path).speech
    assert speech is not None
    assert speech.samples == pytest.approx(np.full(16_000, 0.25), abs=1e-3)


def test_sound_that_starts_later_than_the_pictures_stays_in_step(tmp_path):
    path = make_clip(tmp_path / "late.mkv", video="libx264", audio="flac", sound_at_s=0.5)
    speech = read_clip(path).speech
    assert speech is not None
    assert speech.duration_s == pytest.approx(2.5, abs=0.05)
    assert np.abs(speech.samples[: int(0.45 * 16_000)]).max() < 0.01


@pytest.mark.parametrize(("rotation", "row", "column"), [(-90, 8, -8), (90, -8, 8), (180, -8, -8)])
def test_a_video_recorded_sideways_is_turned_upright(tmp_path, rotation, row, column):
    clip = read_clip(make_clip(tmp_path / "turned.mp4", **MP4, rotation=rotation))
    assert clip.frames is not None
    assert clip.frames.images.shape[1:3] == ((HEIGHT, WIDTH) if rotation == 180 else (WIDTH, HEIGHT))
    assert is_red(clip.frames.images[0, row, column])


def test_a_photograph_is_one_upright_frame(tmp_path):
    orientation = Image.Exif()
    orientation[0x0112] = 6  # the camera was turned left: show it turned right
    Image.fromarray(picture()).save(tmp_path / "a%02d.jpg", exif=orientation, quality=95)
    Image.fromarray(picture()).convert("RGBA").save(tmp_path / "a.png")
    turned, plain = read_clip(tmp_path / "a%02d.jpg"), read_clip(tmp_path / "a.png")
    assert turned.frames is not None
    assert turned.frames.images.shape == (1, WIDTH, HEIGHT, 3)
    assert is_red(turned.frames.images[0, 8, -8])
    assert plain.frames is not None
    assert np.array_equal(plain.frames.images[0], picture())
    assert plain.absent == {"voice": Absence.NO_AUDIO_TRACK}


def test_a_silent_film_has_no_voice_and_that_is_no_error(tmp_path):
    clip = read_clip(make_clip(tmp_path / "silent.mp4", video="libx264"))
    assert clip.speech is None
    assert clip.absent == {"voice": Absence.NO_AUDIO_TRACK}


def test_the_cover_of_an_album_is_no_face(tmp_path):
    plain, album = make_clip(tmp_path / "plain.mp3", audio="libmp3lame"), tmp_path / "album.mp3"
    with av.open(str(plain)) as source, av.open(str(album), "w") as target:
        sound = target.add_stream_from_template(source.streams.audio[0])
        cover = target.add_stream("png", rate=1, width=WIDTH, height=HEIGHT)
        cover.pix_fmt = "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        target.mux(cover.encode(av.VideoFrame.from_ndarray(picture(), "rgb24")))
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = sound
                target.mux(packet)
    assert read_clip(album).absent == {"face": Absence.NO_VIDEO_TRACK}


# ---- what is kept, and what is not even decoded ----------------------------------------------------------------------


def test_a_long_video_keeps_few_small_frames_spread_evenly(tmp_path):
    path = make_clip(tmp_path / "long.mp4", **MP4, seconds=20)
    frames = read_clip(path, n_frames=8).frames
    assert frames is not None
    assert frames.times_s == pytest.approx(np.array(frame_indices(200)) / FPS, abs=1e-6)


def test_large_pictures_are_scaled_down(tmp_path):
    Image.new("RGB", (3000, 1500)).save(tmp_path / "large.png")
    frames = read_clip(tmp_path / "large.png").frames
    assert frames is not None
    assert frames.images.shape == (1, 320, 640, 3)


def test_what_is_not_wanted_is_not_decoded(tmp_path, monkeypatch):
    path = make_clip(tmp_path / "a.mp4", **MP4)
    monkeypatch.setattr(media, "_read_frames", None)
    sound = read_clip(path, want_frames=False)
    assert sound.frames is None
    assert sound.absent == {"face": Absence.NOT_GIVEN}
    monkeypatch.setattr(media, "_read_speech", None)
    assert read_clip(path, want_frames=False, want_speech=False).absent == {
        "voice": Absence.NOT_GIVEN,
        "face": Absence.NOT_GIVEN,
    }


# ---- files that cannot be used ---------------------------------------------------------------------------------------


def test_a_missing_file_a_folder_and_an_empty_file_say_so(tmp_path):
    (tmp_path / "empty.mp4").touch()
    for path, words in (
        (tmp_path / "no.mp4", "there is no file"),
        (tmp_path, "folder"),
        (tmp_path / "empty.mp4", "empty"),
    ):
        with pytest.raises(UnreadableMedia, match=words):
            read_clip(path)


@pytest.mark.parametrize("name", ["text.wav", "text.txt", "text.jpg", "text"])
def test_text_is_not_taken_for_media_whatever_its_name(tmp_path, name):
    (tmp_path / name).write_text("I had a long day.\n" * 100)
    with pytest.raises(UnreadableMedia, match="not one of wav, flac"):
        read_clip(tmp_path / name)


def test_a_playlist_cannot_make_other_files_be_opened(tmp_path):
    make_clip(tmp_path / "secret.aac", audio="aac")
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nsecret.aac\n#EXT-X-ENDLIST\n")
    with pytest.raises(UnreadableMedia):
        read_clip(tmp_path / "list.m3u8")


def test_a_clip_cut_short_is_refused(tmp_path):
    whole = make_clip(tmp_path / "whole.mp4", **MP4).read_bytes()
    (tmp_path / "half.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnreadableMedia, match="cut short"):
        read_clip(tmp_path / "half.mp4")


def test_a_clip_cut_short_after_its_header_is_refused(tmp_path):
    whole, front = make_clip(tmp_path / "whole.mp4", **MP4), tmp_path / "front.mp4"
    with av.open(str(whole)) as source, av.open(str(front), "w", options={"movflags": "faststart"}) as target:
        streams = {stream: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream]
                target.mux(packet)
    front.write_bytes(front.read_bytes()[: front.stat().st_size // 3])
    with pytest.raises(UnreadableMedia, match=r"cut short: \d+ of 20 frames"):
        read_clip(front)


def test_a_picture_cut_short_is_refused(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (99, 99, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    for name in ("a.png", "a.jpg"):
        Image.open(tmp_path / "a.png").save(tmp_path / name)
        whole = (tmp_path / name).read_bytes()
        (tmp_path / f"half_{name}").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(UnreadableMedia, match="damaged or cut short"):
            read_clip(tmp_path / f"half_{name}")


def test_sound_that_changes_its_rate_midway_is_refused(tmp_path):
    parts = [make_clip(tmp_path / f"{rate}.aac", audio="aac", rate_hz=rate) for rate in (44_100, 16_000)]
    (tmp_path / "chained.aac").write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.raises(UnreadableMedia, match="midway"):
        read_clip(tmp_path / "chained.aac")


def test_a_few_damaged_packets_are_passed_over(tmp_path):
    path = make_clip(tmp_path / "a.mp3", audio="libmp3lame")
    damaged = bytearray(path.read_bytes())
    damaged[5000:9000] = np.random.default_rng(0).bytes(4000)
    path.write_bytes(damaged)
    speech = read_clip(path).speech
    assert speech is not None
    assert 1 < speech.duration_s < 2.1


@pytest.mark.parametrize(
    ("rate_hz", "bytes_per_sample", "words"),
    [(8_000, 1, "lasts 36000 s or more, the limit is 120 s"), (16_000, 2, "has 1099 MiB, the limit is 512")],
)
def test_ten_hours_are_refused_without_decoding(tmp_path, monkeypatch, rate_hz, bytes_per_sample, words):
    path = make_sparse_wav(tmp_path / "day.wav", rate_hz=rate_hz, seconds=36_000, bytes_per_sample=bytes_per_sample)
    monkeypatch.setattr(media, "_decoded", None)
    with pytest.raises(TooLarge, match=words):
        read_clip(path)


@pytest.mark.parametrize(("name", "kinds"), [("a.mkv", {"video": "libx264"}), ("a.ogg", {"audio": "libopus"})])
def test_a_clip_whose_header_has_no_duration_is_cut_off_on_the_way(tmp_path, monkeypatch, name, kinds):
    path = make_clip(tmp_path / name, **kinds, seconds=5)
    monkeypatch.setattr(media, "_check_header", lambda path, _: ("audio" in kinds, "video" in kinds))
    with pytest.raises(TooLarge, match="the limit is 2 s"):
        read_clip(path, max_duration_s=2)


def test_a_picture_too_large_to_decode_is_refused(tmp_path, monkeypatch):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    make_clip(tmp_path / "a.mp4", video="libx264")
    monkeypatch.setattr(media, "MAX_PIXELS", 1000)
    for name in ("a.png", "a.mp4"):
        with pytest.raises(TooLarge, match="64x48"):
            read_clip(tmp_path / name)


@pytest.mark.parametrize("seconds", [0.0, 0.05])
def test_too_little_sound_is_refused(tmp_path, seconds):
    with pytest.raises(TooShort, match=rf"{seconds:.2f} s of sound, at least 0.1 s"):
        read_clip(make_sparse_wav(tmp_path / "click.wav", rate_hz=16_000, seconds=seconds))


def test_every_complaint_is_one_line_with_a_common_root(tmp_path):
    assert issubclass(MediaError, PerceptionError)
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(9999))
    with pytest.raises(PerceptionError) as caught:
        read_clip(tmp_path / "noise.mp4")
    assert "\n" not in str(caught.value)
    assert "Errno" not in str(caught.value)


@pytest.mark.clips
@pytest.mark.skipif(not (DATA / "av").is_dir(), reason=f"the recordings are not in {DATA}")
def test_a_real_recording_under_a_wrong_name_is_read(tmp_path):
    path = next((DATA / "av" / "ravdess_actor01" / "full_mp4").glob("*.mp4"))
    clip = read_clip(Path(shutil.copy(path, tmp_path / "recording.wav")))
    assert clip.speech is not None
    assert clip.frames is not None
    assert clip.frames.images.shape == (32, 360, 640, 3)
    assert clip.frames.times_s[-1] < clip.speech.duration_s
