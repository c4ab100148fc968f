"""The model's server many times over: Ray Serve hosts server.py in replicas, one for each GPU or several on a CPU.

A name is an application under /models/NAME. What belongs to one turn goes to the same replica by the hash of the
client's session; where that one is gone or full another one answers, and is sent the turn again. Another checkpoint is
loaded by each replica beside the one that still answers, replica after replica.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.routing import Mount

from perception.types import UserTurn

from .server import AT_MOST_S, AT_ONCE, make_app
from .types import AffectModel, Busy

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

DRAIN_S = 120.0
"""A replica that is to stop finishes what it answers, within this."""
HEALTH_S = 30.0
"""So often a replica is asked a question; one that twice gives no answer is replaced."""
ON_CPU, ON_GPU = 4, 32
"""Requests under way for each replica, from which on there should be more replicas."""


@dataclass(frozen=True)
class Hosted:
    """What a replica answers with: a checkpoint (None for the packaged one) and where its parts' weights come from,
    the hashes of the tokens that it is used by, and its CPU threads (0: all).
    """

    checkpoint: str | None = None
    weights: dict[str, str] = field(default_factory=dict)
    hashes: tuple[str, ...] = ()
    threads: int = 0

    def open(self) -> AffectModel:
        """Load the model, on a GPU if there is one.

        Raises:
            CheckpointError, MissingWeights: as `model.build.load`.
        """
        import torch

        from .build import checkpoints_language_model, load

        if self.threads:
            torch.set_num_threads(self.threads)
        checkpoint = Path(self.checkpoint) if self.checkpoint else None
        lm = checkpoints_language_model(checkpoint, self.weights)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return load(lm, checkpoint, device=device, sources=self.weights)


class Replica:
    """One model; Ray Serve makes it, configures it, and asks whether it is well."""

    def __init__(self) -> None:
        self._hosted: Hosted | None = None
        self._model: AffectModel | None = None
        self._app: Starlette | None = None

    def __serve_build_asgi_app__(self) -> ASGIApp:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            assert self._app is not None, "a replica is configured before it is asked"
            await self._app(scope, receive, send)

        return Starlette(routes=[Mount("/", app)])  # which also answers when it is told of its start and end

    async def reconfigure(self, config: dict[str, Any]) -> None:
        """Answer with another model from now on; what is being answered goes on with the one before."""
        hosted = Hosted(**config | {"hashes": tuple(config["hashes"])})
        if self._hosted is None or (hosted.checkpoint, hosted.weights) != (
            self._hosted.checkpoint,
            self._hosted.weights,
        ):
            self._model = await asyncio.to_thread(hosted.open)
        assert self._model is not None
        retired, self._app = self._app, make_app(self._model, hosted.hashes)
        if retired is not None:
            retired.state.answers.forget()  # what it has read nobody can ask about any more
        self._hosted = hosted

    async def check_health(self) -> None:
        """Ask a question, which a device with a fault does not answer."""
        if self._model is not None:
            await asyncio.to_thread(_ask, self._model)


def _ask(model: AffectModel) -> None:
    with suppress(Busy):
        model.perceive(model.attend(UserTurn("Hello.")))


@dataclass(frozen=True)
class Size:
    """How many replicas of each model there are: always `least`, and up to `most` as requests queue up."""

    least: int = 1
    most: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise ValueError(f"there cannot be {self.least} to {self.most} replicas")


def start(host: str, port: int) -> bool:
    """Connect to the Ray cluster that this machine belongs to, or start one on this machine alone, and serve there.

    Returns:
        Whether a cluster was started.

    Raises:
        ImportError: Ray is not installed.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read when Ray is imported; it would tell its makers
    import ray
    from ray import serve
    from ray.serve.config import HTTPOptions, ProxyLocation

    started = not connect()
    if started:
        ray.init(include_dashboard=False, log_to_driver=False)
    options = HTTPOptions(host=host, port=port, request_timeout_s=AT_MOST_S + 5)
    serve.start(proxy_location=ProxyLocation.HeadOnly, http_options=options)
    return started


def connect() -> bool:
    """Connect to the Ray cluster that this machine belongs to; returns whether there is one."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    try:
        ray.init(address="auto", log_to_driver=False)
    except ConnectionError:
        return False
    return True


def deploy(models: Mapping[str, Hosted], size: Size) -> None:
    """Host these models by name; those that are hosted already are changed without a pause.

    Returns when every replica has its model.

    Raises:
        RuntimeError: a replica could not start.
    """
    import ray
    from ray import serve
    from ray.serve.config import RequestRouterConfig

    has_gpu = ray.cluster_resources().get("GPU", 0) > 0
    router = RequestRouterConfig(
        request_router_class="ray.serve.experimental.consistent_hash_router.ConsistentHashRouter"
    )
    for name, hosted in models.items():
        replica = serve.deployment(
            name="replica",
            ray_actor_options={"num_cpus": 0, "num_gpus": 1 if has_gpu else 0},  # processors are shared
            max_ongoing_requests=AT_ONCE,
            autoscaling_config={
                "min_replicas": size.least,
                "max_replicas": size.most,
                "target_ongoing_requests": ON_GPU if has_gpu else ON_CPU,
            },
            health_check_period_s=HEALTH_S,
            health_check_timeout_s=2 * HEALTH_S,
            graceful_shutdown_timeout_s=DRAIN_S,
            request_router_config=router,
            user_config=asdict(hosted),
        )(serve.ingress()(Replica))
        # By its own version Serve would replace the replicas, which on as many GPUs as there are leaves one out.
        replica = replica.options(version="1", _internal=True)
        serve.run(replica.bind(), name=name, route_prefix=f"/models/{name}")


def stop(names: Mapping[str, Hosted], started: bool) -> None:
    """Host these models no more; a cluster that was started for them ends."""
    import ray
    from ray import serve

    if started:
        serve.shutdown()
    else:
        for name in names:
            serve.delete(name)
    ray.shutdown()
