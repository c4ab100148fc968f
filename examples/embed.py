"""The agent inside a Python program: one turn, its events, and what is remembered afterwards."""

import asyncio

from agent.events import Perceived, ReplyText
from agent.opening import open_agent
from agent.session import Agent


async def talk(agent: Agent, line: str, user: str) -> None:
    async for event in agent.turn(line, user=user):
        match event:
            case Perceived(affect=affect):
                print(f"[{affect.emotion} {affect.confidence:.0%}] ", end="")
            case ReplyText(text=piece):
                print(piece, end="", flush=True)
    print()


if __name__ == "__main__":
    with open_agent() as agent:
        asyncio.run(talk(agent, "My cat ran away yesterday, and I miss her.", user="ann"))
        print([episode.text for episode in agent.store.list("ann")])
