import numpy as np
import pytest

from perception.media import read_clip
from perception.mtcnn import Detections, Mtcnn, suppress_overlaps
from tests.perception.clips import DATA, package_folder

PACKAGE = package_folder("facenet_pytorch")


def boxes_of(boxes: list[list[float]], scores: list[float], image: list[int]) -> Detections:
    n = len(boxes)
    return Detections(
        np.array(boxes, np.float32), np.array(scores), np.array(image), np.zeros((n, 4)), np.zeros((n, 5, 2))
    )


def test_of_boxes_that_overlap_the_most_certain_stays():
    found = boxes_of([[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10]], [0.8, 0.9, 0.7], [0, 0, 0])
    assert suppress_overlaps(found, 0.5).tolist() == [1, 2]
    assert suppress_overlaps(found, 0.9).tolist() == [1, 0, 2]


def test_boxes_of_different_images_do_not_suppress_each_other():
    found = boxes_of([[0, 0, 10, 10], [0, 0, 10, 10]], [0.8, 0.9], [0, 1])
    assert suppress_overlaps(found, 0.5).tolist() == [0, 1]


def test_a_suppressed_box_suppresses_nothing():
    found = boxes_of([[0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]], [0.9, 0.8, 0.7], [0, 0, 0])
    assert suppress_overlaps(found, 0.4).tolist() == [0, 2]


def test_a_box_inside_another_overlaps_it_wholly_when_measured_by_the_smaller():
    found = boxes_of([[0, 0, 100, 100], [40, 40, 50, 50]], [0.9, 0.8], [0, 0])
    assert suppress_overlaps(found, 0.7).tolist() == [0, 1]
    assert suppress_overlaps(found, 0.7, of_smaller=True).tolist() == [0]


@pytest.mark.weights
@pytest.mark.skipif(PACKAGE is None, reason="facenet-pytorch is not installed")
@pytest.mark.clips
@pytest.mark.skipif(not DATA.is_dir(), reason=f"the recordings are not in {DATA}")
def test_boxes_equal_those_of_the_reference():
    """Made by facenet-pytorch 2.6.0's `detect_face` with minsize 40 on the same pixels."""
    frames = read_clip(DATA / "face_demo" / "obama_biden_white_house_photo.jpg").frames
    found = Mtcnn(PACKAGE / "data", min_face_px=40)(frames.images)
    assert found.boxes == pytest.approx(
        np.array([[450.04, 25.32, 536.36, 144.10], [133.25, 11.16, 219.91, 127.04]]), abs=0.5
    )
    assert found.landmarks[0] == pytest.approx(
        np.array([[481.7, 70.8], [518.5, 78.8], [500.2, 97.3], [476.6, 113.9], [509.2, 119.2]]), abs=0.5
    )
