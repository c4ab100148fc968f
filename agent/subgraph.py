"""A turn as a graph that others run: a node in a graph of yours, or a graph in LangGraph's own tools.

The graph of graph.py works on live turns, which hold what is not written down. Whoever invokes a graph from outside has
words only, so a node around it makes the live turn, and drops it when the turn is over.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any, cast

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from typing_extensions import TypedDict  # pydantic, which describes these for LangGraph's tools, takes no other one

from memory.types import Recalled
from model.types import Affect, Thought, Understanding, Utterance

from .care import Consent, Screening
from .state import LiveTurn, Plan, TurnBuffer, TurnState, new_turn


class Said(TypedDict, total=False):
    """What a turn begins with: `text`, of whom (by default "me"), in which conversation (by default "main").

    `dialogue` and `distressed` are those of the conversation's last turn; where the graph, or the one around it, has a
    checkpointer, they are carried over without being given.
    """

    text: str
    user: str
    thread_id: str
    dialogue: list[Utterance]
    distressed: int


class Turn(Said, total=False):
    """What it comes to."""

    reply: str
    affect: Affect
    screening: Screening
    understanding: Understanding | None
    plan: Plan
    thought: Thought | None
    recalled: tuple[Recalled, ...]


def as_subgraph(
    turn: CompiledStateGraph[TurnState, None, TurnState, TurnState],
    turns: TurnBuffer,
    consent: Consent,
    after: Callable[[str, str, str], None],
) -> CompiledStateGraph[Turn, None, Said, Turn]:
    """Put the node around it.

    Args:
        turn: the graph of a turn, without a checkpointer of its own.
        turns: where it looks for its live turns.
        consent: what may be read of people.
        after: called with user, thread and id of a turn that is over.
    """

    def emox(state: Turn) -> Turn:
        user, thread_id = state.get("user", "me"), state.get("thread_id", "main")
        begun = new_turn(uuid.uuid4().hex[:16], user, thread_id, "")
        begun |= {"dialogue": state.get("dialogue", []), "distressed": state.get("distressed", 0)}
        turns.put(begun["turn_id"], LiveTurn(state.get("text", ""), None, consent))
        try:
            came_to: dict[str, Any] = turn.invoke(begun)
        finally:
            turns.drop(begun["turn_id"])
        after(user, thread_id, begun["turn_id"])
        return cast(Turn, {key: came_to[key] for key in Turn.__annotations__ if key in came_to})

    graph = StateGraph(Turn, input_schema=Said)
    graph.add_node("emox", emox)
    graph.add_edge(START, "emox")
    graph.add_edge("emox", END)
    return graph.compile()
