"""One turn as a LangGraph graph: the whole diagram on one screen.

typed words ────┐
clip ── listen ─┴─ perceive ── screen ─┬─ crisis ────── support ──────────────────────────────┐
                                       ├─ small talk ──────┐                                  │
                                       └─ understand ──────┴─ plan ─ recall ─ empathize ─ reflect ─ remember

What is recalled is for the plan to say, so it comes after it: times felt alike to meet a feeling, brighter ones to
support, or what was said about a subject.
"""

from __future__ import annotations

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
    graph.add_node("listen", partial(nodes.listen, turns=turns, ears=ears))
    graph.add_node("perceive", partial(nodes.perceive, turns=turns, model=model))
    graph.add_node("screen", partial(nodes.screen, store=store))
    graph.add_node("support", partial(nodes.support, locale=locale))
    graph.add_node("recall", partial(nodes.recall, turns=turns, store=store))
    graph.add_node("understand", partial(nodes.understand, turns=turns, model=model))
    graph.add_node("plan", nodes.plan)
    graph.add_node("empathize", partial(nodes.empathize, turns=turns, reply_model=reply_model))
    graph.add_node("reflect", partial(nodes.reflect, turns=turns, model=model))
    graph.add_node("remember", partial(nodes.remember, turns=turns, store=store, version=model.card.version))

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
