"""The server does what its OpenAPI document says, whatever is sent to it."""

import asyncio
import queue
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable

from tests.agent.server.house import EVERYTHING, SAID, client_of, house, served

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
checks = pytest.importorskip("schemathesis.checks")
conformance = pytest.importorskip("schemathesis.specs.openapi.checks")

schemathesis.serializer.alias("application/jsonl", "text/plain")

CONFIG = schemathesis.Config.from_dict({"generation": {"with-security-parameters": False}})
"""Tokens are sent by the tests: one that was left out on purpose would be put back, and the request be no wrong one."""

CHECKS = [
    conformance.negative_data_rejection,
    checks.not_a_server_error,
    conformance.status_code_conformance,
    conformance.content_type_conformance,
    conformance.response_headers_conformance,
    conformance.response_schema_conformance,
]
SETTINGS = {
    "derandomize": True,
    "deadline": None,
    "database": None,
    "suppress_health_check": list(HealthCheck),
}


@pytest.fixture(scope="module")
def at(tmp_path_factory):
    with house(tmp_path_factory.mktemp("home")) as at:
        at.people.agree("ann", EVERYTHING)
        for n in range(3):
            at.host.agent.ask(SAID, user="ann", turn_id=f"{n}")
        yield at


@pytest.fixture(scope="module")
def sent(at):
    """Headers of somebody who is known."""
    return {"Authorization": f"Bearer {at.people.new_token('ann')}"}


@pytest.fixture(scope="module")
def operations(at):
    """Of a server in a thread of its own, as the requests are sent from here."""
    address, over = queue.SimpleQueue(), threading.Event()

    async def serve():
        async with served(at) as found:
            address.put(found)
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    document = schemathesis.openapi.from_url(f"{address.get(timeout=30)}/openapi.json", config=CONFIG)
    yield [found.ok() for found in document.get_all_operations()]
    over.set()
    thread.join()


def problems_of(operations, headers, n_examples, mode):
    """What is answered against the document."""
    found = []
    for operation in operations:

        @settings(max_examples=n_examples, **SETTINGS)
        @given(operation.as_strategy(generation_mode=mode))
        def send(case):
            case.call_and_validate(headers=headers, checks=CHECKS)

        try:
            send()
        except Unsatisfiable:
            assert mode == schemathesis.GenerationMode.NEGATIVE, operation.label  # it takes nothing that can be wrong
        except BaseExceptionGroup as error:
            found += [f"{operation.label}: {one}" for one in error.exceptions]
    return "\n\n".join(found)


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_every_answer_is_documented(operations, sent, mode):
    assert problems_of(operations, sent, 25, mode) == ""


def test_strangers_are_answered_as_documented(operations):
    strangers = {"Authorization": "Bearer nobody"}
    assert problems_of(operations, strangers, 1, schemathesis.GenerationMode.POSITIVE) == ""


def test_errors_are_documented_in_the_shape_in_which_they_come(operations):
    for operation in operations:
        responses = operation.definition.raw["responses"]
        errors = {status for status in responses if status >= "400"}
        kinds = [responses[status]["content"]["application/json"]["schema"] for status in errors]
        shapes = {kind["$ref"].rsplit("/")[-1] for kind in kinds}
        if operation.path.startswith("/v1/"):
            assert shapes == {"ErrorResponse"}, operation.label
            assert {"400", "401", "403", "404", "413", "429", "503"} <= errors
            assert "422" not in errors
        else:
            assert shapes == {"Problem"}, operation.label


async def test_a_request_that_is_too_long_is_told_so(at):
    async with client_of(at, at.people.new_token("ann")) as client:
        response = await client.post("/api/memory/import", content=b" " * (35 * 2**20))
    assert response.status_code == 413
    assert "34 MiB" in response.json()["detail"]
    assert response.headers["x-content-type-options"] == "nosniff"
