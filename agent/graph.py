"""One turn as a LangGraph graph: the whole diagram on one screen.

typed words ────┐
clip ── listen ─┴─ perceive ── screen ─┬─ crisis ────── support ──────────────────────────────┐
                                       ├─ small talk ──────┐                                  │
                                       └─ understand ──────┴─ plan ─ recall ─ empathize ─ reflect ─ remember

What is recalled is for the plan to say, so it comes after it: times felt alike to meet a feeling, brighter ones to
support, or what was said about a subject.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from memory.store import MemoryStore
from model.types import AffectModel

from . import nodes
from .nodes import Ears
from .reply import ReplyModel
from .state import TurnBuffer, TurnState


def build_graph(
    *,
    turns: TurnBuffer,
    ears: Ears,
    model: AffectModel,
    store: MemoryStore,
    reply_model: ReplyModel,
    locale: str = "en",
    checkpointer: BaseCheckpointSaver[Any] | None = None,
) -> CompiledStateGraph[TurnState, None, TurnState, TurnState]:
    """Wire the nodes; routing on low confidence and on modalities that disagree happens inside `plan`."""
    graph = StateGraph(TurnState)

    def add(name: str, step: Callable[..., TurnState]) -> None:
        def node(state: TurnState) -> TurnState:
            update = step(state)
            playback = turns[state["turn_id"]].playback
            if playback is not None:
                playback.check()  # a step of a turn given up meanwhile must not be kept: later ones may have been
            return update

        graph.add_node(name, node)

    add("listen", partial(nodes.listen, turns=turns, ears=ears))
    add("perceive", partial(nodes.perceive, turns=turns, model=model))
    add("screen", partial(nodes.screen, store=store))
    add("support", partial(nodes.support, locale=locale))
    add("recall", partial(nodes.recall, turns=turns, store=store))
    add("understand", partial(nodes.understand, turns=turns, model=model))
    add("plan", nodes.plan)
    add("empathize", partial(nodes.empathize, turns=turns, reply_model=reply_model))
    add("reflect", partial(nodes.reflect, turns=turns, model=model))
    add("remember", partial(nodes.remember, turns=turns, store=store, model=model))

    def first(state: TurnState) -> str:
        return "perceive" if turns[state["turn_id"]].turn is not None else "listen"

    graph.add_conditional_edges(START, first, ["listen", "perceive"])
    graph.add_edge("listen", "perceive")
    graph.add_edge("perceive", "screen")
    graph.add_conditional_edges("screen", nodes.after_screen, ["support", "plan", "understand"])
    graph.add_edge("understand", "plan")
    graph.add_edge("plan", "recall")
    graph.add_edge("recall", "empathize")
    graph.add_edge("empathize", "reflect")
    graph.add_edge("reflect", "remember")
    graph.add_edge("support", "remember")
    graph.add_edge("remember", END)
    return graph.compile(checkpointer=checkpointer)
