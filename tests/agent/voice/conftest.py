import pytest

from agent.voice import turns
from tests.agent.voice.conversation import SeeingModel, agent_of


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    """A turn that sounds complete is over soon; how long real waits are is tested with `wait_s`."""
    monkeypatch.setattr(turns, "wait_s", lambda complete, text, affect: 0.2 if complete > 0.5 else 2.0)


@pytest.fixture
def model():
    return SeeingModel()


@pytest.fixture
def agent(model):
    with agent_of(model) as agent:
        yield agent
