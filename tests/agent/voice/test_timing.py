import json
import stat
import time

import pytest

from agent.voice import timing
from agent.voice.timing import MARKS, TurnTiming, store


@pytest.fixture
def turn():
    """A turn whose marks lie 0.1 s apart, in their usual order."""
    return TurnTiming({name: 100 + i / 10 for i, name in enumerate(MARKS)})


def test_only_the_first_mark_counts():
    timing = TurnTiming()
    timing.mark("pause", 1.0)
    timing.mark("pause", 2.0)
    assert timing.marks == {"pause": 1.0}


def test_a_mark_is_made_now():
    timing = TurnTiming()
    before = time.monotonic()
    timing.mark("pause")
    assert before <= timing.marks["pause"] <= time.monotonic()


def test_stages_lie_between_their_marks(turn):
    assert turn.stages_ms() == {
        "endpointing": 100.0,
        "recogniser": 100.0,
        "perceive": 100.0,
        "understand": 100.0,
        "word": 100.0,
        "speak": 100.0,
        "wait": 700.0,
        "latency": 800.0,
    }


def test_a_stage_without_both_marks_is_not_told():
    assert TurnTiming({"turn_end": 1.0, "played": 2.0}).stages_ms() == {}
    assert TurnTiming({"speech_end": 1.0, "pause": 1.5}).stages_ms() == {"endpointing": 500.0}


@pytest.fixture
def spans(monkeypatch):
    """What is told to OpenTelemetry."""
    pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk is not installed")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(timing.trace, "get_tracer", provider.get_tracer)
    return exporter.get_finished_spans


def test_a_turn_is_traced_with_its_stages_inside(turn, spans):
    turn.trace("turn-1")
    (root,) = [span for span in spans() if span.parent is None]
    inside = [span for span in spans() if span.parent is not None]
    assert root.name == "turn"
    assert dict(root.attributes) == {"turn_id": "turn-1"}
    assert root.end_time - root.start_time == pytest.approx(0.8e9, rel=1e-3)
    assert {span.name for span in inside} == set(turn.stages_ms()) - {"latency"}
    assert {span.parent.span_id for span in inside} == {root.context.span_id}
    assert all(root.start_time <= span.start_time < span.end_time <= root.end_time for span in inside)
    offset = time.time() - time.monotonic()
    assert root.start_time / 1e9 == pytest.approx(turn.marks["speech_end"] + offset, abs=1)


def test_a_turn_that_was_not_played_is_not_traced(turn, spans):
    del turn.marks["played"]
    turn.trace("turn-1")
    assert spans() == ()


def test_a_typed_turn_is_not_traced(turn, spans):
    del turn.marks["speech_end"]
    turn.trace("turn-1")
    assert spans() == ()


def test_the_file_of_figures_grows_by_a_line_and_is_private(tmp_path, turn):
    path = tmp_path / "figures" / "turns.jsonl"
    store(path, "turn-1", turn, route="empathize")
    store(path, "turn-2", TurnTiming())
    first, second = map(json.loads, path.read_text().splitlines())
    assert first.pop("at") == pytest.approx(time.time(), abs=60)
    assert first == {"turn_id": "turn-1", "stages_ms": turn.stages_ms(), "route": "empathize"}
    assert second["stages_ms"] == {}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
