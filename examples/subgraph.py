"""The agent inside another LangGraph graph, which looks at what was felt to decide what happens next."""

from typing import Any

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from agent.opening import open_agent
from agent.session import Agent
from agent.subgraph import Turn


class Call(Turn, total=False):
    """A call at a help desk: the agent's turn, and who takes it from there."""

    next: str


def colleague(state: Call) -> Call:
    return {"next": f"a colleague, who hears: {state['affect'].emotion}, {state['text']}"}


def done(state: Call) -> Call:
    return {"next": "nobody"}


def route(state: Call) -> str:
    affect = state["affect"]
    upset = affect.valence < -0.4 and affect.confidence > 0.5
    return "colleague" if upset or state["plan"].route == "crisis" else "done"


def help_desk(agent: Agent, checkpointer: Any = None) -> CompiledStateGraph:
    graph = StateGraph(Call)
    graph.add_node("emox", agent.as_graph())
    graph.add_node("colleague", colleague)
    graph.add_node("done", done)
    graph.add_edge(START, "emox")
    graph.add_conditional_edges("emox", route, ["colleague", "done"])
    graph.add_edge("colleague", END)
    graph.add_edge("done", END)
    return graph.compile(checkpointer=checkpointer)


if __name__ == "__main__":
    with open_agent() as agent:
        call = help_desk(agent).invoke({"user": "ann", "text": "My order is late again, and I am furious."})
        print(call["reply"], "|", call["next"])
