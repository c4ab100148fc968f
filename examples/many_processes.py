"""Everything in processes of its own, on one machine: PostgreSQL, Chroma, the model twice, and two agents' servers.

python examples/many_processes.py FOLDER        starts them, tells the addresses, and stops them all at Ctrl-C

Both agents share people, memory and conversations, so that whoever talked with one goes on with the other when it dies.
With Ray installed the two replicas of the model stand behind one address; without it each agent has one. Needs
PostgreSQL's programs (Debian: postgresql) and `pip install 'emox[embedded,serve,postgres]'`.
"""

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

PATIENCE_S = 120
EMOX = (sys.executable, "-m", "agent")


@dataclass
class House:
    """What runs, by name; `agents` are addresses, `environment` is theirs."""

    agents: list[str] = field(default_factory=list)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)


def free_port() -> int:
    """One that nobody uses now."""
    with socket.socket() as there:
        there.bind(("127.0.0.1", 0))
        return int(there.getsockname()[1])


def answers(url: str) -> bool:
    """Whether a server is ready at an address."""
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(url, timeout=5).is_success
    return False


def program(name: str) -> str:
    """One of PostgreSQL's programs, which Debian keeps out of the path."""
    places = [shutil.which(name), *map(str, sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True))]
    for place in places:
        if place is not None:
            return place
    raise SystemExit(f"PostgreSQL's {name} is not installed: install it (Debian: apt install postgresql)")


class Starter:
    """Starts processes whose words go into files of the folder, and waits until each is ready."""

    def __init__(self, folder: Path, house: House) -> None:
        self._folder, self._house = folder, house

    def start(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None, user: str | None = None
    ) -> None:
        """Start one in a session of its own: Ctrl-C is for this script, which stops them in order."""
        with open(self._folder / f"{name}.log", "ab") as log:
            self._house.processes[name] = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True, user=user,
                env={**os.environ, **(environment or {})},
            )  # fmt: skip

    def wait(self, name: str, is_ready: Callable[[], bool]) -> None:
        """Until it is ready; ends the script where it died or takes too long."""
        until = time.monotonic() + PATIENCE_S
        while not is_ready():
            if self._house.processes[name].poll() is not None or time.monotonic() > until:
                raise SystemExit(f"{name} did not start: see {self._folder / name}.log")
            time.sleep(0.2)


def postgres(starter: Starter, folder: Path) -> str:
    """Start a database that is reached through a socket in the folder only; returns its address."""
    files, user = folder / "postgres", "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
    files.mkdir(mode=0o700, exist_ok=True)
    if user:
        os.chown(files, pwd.getpwnam(user).pw_uid, -1)
        folder.chmod(0o711)
    data = str(files / "data")
    if not (files / "data").exists():
        made = [program("initdb"), "-D", data, "-U", "emox", "--auth=trust", "-E", "UTF8"]
        subprocess.run(made, check=True, stdout=subprocess.DEVNULL, cwd="/", user=user)
    options = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={files}"]
    starter.start("postgres", [program("postgres"), "-D", data, *options], user=user)
    ready = [program("pg_isready"), "-q", "-h", str(files)]
    starter.wait("postgres", lambda: subprocess.run(ready).returncode == 0)
    return f"postgresql://emox@/postgres?host={files}"


def chroma(starter: Starter, folder: Path) -> str:
    """Start the memory's server; returns its address."""
    port = str(free_port())
    command = [str(Path(sys.executable).with_name("chroma")), "run", "--path", str(folder / "memory"), "--port", port]
    starter.start("chroma", command)
    starter.wait("chroma", lambda: answers(f"http://127.0.0.1:{port}/api/v2/heartbeat"))
    return f"http://127.0.0.1:{port}"


def models(starter: Starter, checkpoint: str | None) -> list[str]:
    """Start the model twice; returns the address for each agent."""
    named = ["--model", f"default={checkpoint}"] if checkpoint else []
    ray = importlib.util.find_spec("ray") is not None
    ports = [free_port() for _ in range(1 if ray else 2)]
    for number, port in enumerate(ports, 1):
        more = ["--replicas", "2"] if ray else []
        starter.start(f"model-{number}", [*EMOX, "serve-model", "--port", str(port), *named, *more])
    urls = [f"http://127.0.0.1:{port}/models/default" for port in ports]
    for number, url in enumerate(urls, 1):
        starter.wait(f"model-{number}", lambda url=url: answers(f"{url}/health"))  # type: ignore[misc]
    return urls if len(urls) == 2 else urls * 2


@contextlib.contextmanager
def running(folder: Path, checkpoint: str | None = None) -> Iterator[House]:
    """All of it, until the block ends; what is kept lies in the folder and is there again next time."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    house = House()
    starter = Starter(folder, house)
    try:
        house.environment = {
            "EMOX_HOME": str(folder / "home"),
            "EMOX_THREADS_URL": postgres(starter, folder),
            "EMOX_MEMORY_URL": chroma(starter, folder),
        }
        for number, url in enumerate(models(starter, checkpoint), 1):
            port = free_port()
            starter.start(
                f"agent-{number}", [*EMOX, "serve", "--port", str(port)], {**house.environment, "EMOX_MODEL_URL": url}
            )
            house.agents.append(f"http://127.0.0.1:{port}")
        for number, url in enumerate(house.agents, 1):
            starter.wait(f"agent-{number}", lambda url=url: answers(f"{url}/ready"))  # type: ignore[misc]
        yield house
    finally:
        for process in reversed(house.processes.values()):  # the agents first, what they need last
            process.send_signal(signal.SIGINT)  # PostgreSQL's fast way to stop
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            if process.poll() is None:
                process.kill()


def main() -> None:
    """Command line."""
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    with running(Path(sys.argv[1])) as house:
        print(f"two agents, one memory: {' and '.join(house.agents)}; Ctrl-C stops everything", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
