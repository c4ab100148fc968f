"""The agent for LangGraph's own tools, which langgraph.json tells of: `langgraph dev` opens it in LangGraph Studio.

For looking at the graph at work, on one's own machine. What is said there is kept by LangGraph, too, beside the memory.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
from functools import cache

from langgraph.graph.state import CompiledStateGraph

from .opening import open_agent
from .subgraph import Said, Turn

_one_at_a_time = threading.Lock()


async def make_graph() -> CompiledStateGraph[Turn, None, Said, Turn]:
    """The agent that the settings name, opened when it is first looked at until the process ends.

    Raises:
        SetupError, MemoryStoreError: as `open_agent`.
    """
    return await asyncio.to_thread(_opened)  # LangGraph's server stops what holds up its loop


def _opened() -> CompiledStateGraph[Turn, None, Said, Turn]:
    with _one_at_a_time:
        return _graph()


@cache
def _graph() -> CompiledStateGraph[Turn, None, Said, Turn]:
    agent = open_agent()
    atexit.register(agent.close)
    return agent.as_graph()
