import asyncio

from examples.embed import talk
from tests.agent.test_graph import agent_of


def test_the_embedding_example_prints_the_feeling_and_the_reply(capsys):
    asyncio.run(talk(agent_of(), "I am sad about my cat, she ran away.", user="ann"))
    assert capsys.readouterr().out == "[sad 90%] I hear you. Tell me more?\n"
