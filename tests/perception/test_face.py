import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from perception.face import CROP_PX, MARGIN, Face, FaceFinder, people, upright_crop
from perception.media import read_clip
from perception.types import Frames
from tests.perception.clips import DATA, REPOSITORY, package_folder

PACKAGE = package_folder("facenet_pytorch")
needs_weights = pytest.mark.skipif(PACKAGE is None, reason="facenet-pytorch is not installed")
needs_clips = pytest.mark.skipif(not DATA.is_dir(), reason=f"the recordings are not in {DATA}")
PORTRAIT = DATA / "face_demo" / "obama_official_portrait.jpg"
FILMS = DATA / "av" / "ravdess_actor01" / "full_mp4"


def face_at(x: float, y: float, side: float = 100, angle: float = 0.0) -> Face:
    """A face whose eyes lie at a third and two thirds of its width, turned about its middle."""
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = side * np.array([[-0.17, -0.1], [0.17, -0.1], [0, 0.1], [-0.15, 0.3], [0.15, 0.3]])
    box = np.array([x - side / 2, y - side / 2, x + side / 2, y + side / 2], np.float32)
    return Face(box, 1.0, points @ turn.T + [x, y])


# ---- following people ------------------------------------------------------------------------------------------------


def test_two_people_who_move_stay_two_people():
    found = [[face_at(100 + 10 * i, 100), face_at(400 - 10 * i, 120)][:: 1 if i % 2 else -1] for i in range(10)]
    tracks = people(found)
    assert [len(track.frames) for track in tracks] == [10, 10]
    for track in tracks:
        assert np.abs(np.diff([face.centre[0] for face in track.faces])).max() == pytest.approx(10)


def test_the_nearer_of_two_faces_continues_the_person():
    tracks = people([[face_at(100, 100)], [face_at(160, 100), face_at(110, 100)]])
    assert tracks[0].faces[1].centre[0] == pytest.approx(110)
    assert len(tracks) == 2


def test_a_person_who_was_out_of_sight_continues_where_they_left():
    (track,) = people([[face_at(100, 100)], [], [], [face_at(120, 100)]])
    assert track.frames == [0, 3]


def test_a_face_of_quite_another_size_is_another_person():
    assert len(people([[face_at(100, 100, side=200)], [face_at(100, 100, side=80)]])) == 2


def test_a_face_in_one_of_many_frames_is_taken_for_a_mistake():
    found = [[face_at(100, 100)] + ([face_at(400, 100)] if i == 7 else []) for i in range(32)]
    assert len(people(found)) == 1


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 600), st.integers(0, 300), st.integers(20, 300)), max_size=4), max_size=8
    )
)
def test_every_face_belongs_to_one_person_who_is_in_a_frame_once(places):
    found = [[face_at(*place) for place in frame] for frame in places]
    tracks = people(found)
    assert sum(len(track.faces) for track in tracks) == sum(map(len, found))
    for track in tracks:
        assert track.frames == sorted(set(track.frames))


# ---- cropping --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("angle", [0.0, 0.4, -0.4])
@pytest.mark.parametrize("side", [40, 100, 350])
def test_a_crop_has_level_eyes_at_the_same_place_whatever_the_tilt_and_size(angle, side):
    image = np.zeros((640, 640, 3), np.uint8)
    face = face_at(330, 310, side, angle)
    rows, columns = np.mgrid[:640, :640]
    for eye, channel in zip(face.landmarks[:2], (0, 1), strict=True):
        image[..., channel] = 255 * (np.hypot(columns + 0.5 - eye[0], rows + 0.5 - eye[1]) < side / 16)
    crop = upright_crop(image, face)
    assert crop.shape == (CROP_PX, CROP_PX, 3)
    for channel, x in ((0, 0.5 - 0.17 / 1.4), (1, 0.5 + 0.17 / 1.4)):
        seen = np.argwhere(crop[..., channel] > 127).mean(axis=0) + 0.5
        assert seen / CROP_PX == pytest.approx([0.5 - 0.1 / 1.4, x], abs=0.015)


def test_a_crop_beyond_the_border_is_black_there():
    crop = upright_crop(np.full((200, 200, 3), 255, np.uint8), face_at(0, 100))
    assert not crop[:, :70].any()
    assert (crop[:, 90:] == 255).all()


def test_a_large_face_is_averaged_not_sampled_when_it_shrinks():
    grain = np.random.default_rng(0).integers(0, 2, (640, 640, 1)).repeat(3, axis=2).astype(np.uint8) * 255
    assert upright_crop(grain, face_at(320, 320, side=400)).std() < 60
    assert upright_crop(grain, face_at(320, 320, side=100)).std() > 80


# ---- finding ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finder():
    return FaceFinder(PACKAGE / "data")


@pytest.mark.weights
@needs_weights
@pytest.mark.clips
@needs_clips
@pytest.mark.parametrize(
    ("photograph", "n_people"),
    [
        ("astronaut_eileen_collins_nasa", 1),
        ("obama_official_portrait", 1),
        ("obama_speech_white_house_photo", 1),
        ("obama_biden_white_house_photo", 2),
    ],
)
def test_photographs_show_as_many_people_as_they_do(finder, photograph, n_people):
    frames = read_clip(DATA / "face_demo" / f"{photograph}.jpg").frames
    faces = finder.follow(frames)
    assert faces.n_people == n_people
    for face in finder.find(frames)[0]:
        left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks
        assert left_eye[0] < nose[0] < right_eye[0]
        assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])


@pytest.mark.weights
@needs_weights
@pytest.mark.clips
@needs_clips
def test_a_person_on_film_is_followed_through_every_frame(finder):
    frames = read_clip(next(FILMS.glob("*.mp4")), want_speech=False, n_frames=16).frames
    faces = finder.follow(frames)
    assert faces.n_people == 1
    assert faces.crops.shape == (16, CROP_PX, CROP_PX, 3)
    assert faces.crops.dtype == np.uint8
    assert np.array_equal(faces.times_s, frames.times_s)
    assert faces.boxes.dtype == np.float32
    assert faces.margin == MARGIN


@pytest.mark.weights
@needs_weights
@pytest.mark.clips
@needs_clips
def test_of_two_people_the_larger_is_followed(finder):
    portrait = Image.open(PORTRAIT)
    stage = Image.new("RGB", (640, 360), "grey")
    stage.paste(portrait.resize((288, 360)), (20, 0))
    stage.paste(portrait.resize((200, 250)), (400, 60))
    image = np.asarray(stage)
    faces = finder.follow(Frames(np.stack([image] * 3), np.arange(3.0)))
    assert faces.n_people == 2
    assert (faces.boxes[:, 2] < 320).all()


@pytest.mark.weights
@needs_weights
@pytest.mark.clips
@needs_clips
def test_searching_frames_together_finds_what_searching_each_alone_finds(finder):
    images = read_clip(next(FILMS.glob("*.mp4")), want_speech=False, n_frames=3).frames.images
    images = np.concatenate([images, np.zeros_like(images[:1])])
    together = finder.find(Frames(images, np.arange(4.0)))
    for i, image in enumerate(images):
        (alone,) = finder.find(Frames(image[None], np.zeros(1)))
        assert len(alone) == len(together[i])
        for one, other in zip(alone, together[i], strict=True):
            assert one.box == pytest.approx(other.box, abs=0.1)


@pytest.mark.weights
@needs_weights
@pytest.mark.parametrize("kind", ["noise", "grey", "gradient", "stripes", "smaller than any face"])
def test_a_picture_of_nobody_has_no_face(finder, kind):
    ramp = np.linspace(0, 255, 640).astype(np.uint8)
    image = {
        "noise": np.random.default_rng(0).integers(0, 256, (360, 640, 3), dtype=np.uint8),
        "grey": np.full((360, 640, 3), 128, np.uint8),
        "gradient": np.ascontiguousarray(np.broadcast_to(ramp[:, None], (360, 640, 3))),
        "stripes": np.ascontiguousarray(np.broadcast_to(((ramp // 16) % 2 * 255)[:, None], (360, 640, 3))),
        "smaller than any face": np.zeros((5, 7, 3), np.uint8),
    }[kind]
    assert finder.follow(Frames(image[None], np.zeros(1))) is None


def test_missing_weights_say_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="emox doctor"):
        FaceFinder(tmp_path)


def test_importing_the_face_finder_loads_no_torch():
    program = "import sys, perception.face; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
