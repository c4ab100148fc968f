"""A chat platform of your own: a folder in which people lay letters, and find the answers beside them.

echo "My cat ran away." > letters/ann-1.txt     is answered in     letters/ann-1.answer.txt
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from agent.care import Consent
from agent.connectors.connector import Attachment, Incoming, Take, Undeliverable
from agent.connectors.desk import Desk
from agent.connectors.inbox import Inbox
from agent.host import Host
from agent.opening import open_agent
from agent.people import People
from agent.settings import load_settings
from agent.speech import Audio, write_wav


class Letters:
    """A `Connector`: what is said comes in `run`, what is answered goes out through `say`."""

    name, max_chars, most = "letters", 2_000, Consent()  # words only

    def __init__(self, folder: Path, look_s: float = 1.0) -> None:
        self._folder, self._look_s = folder, look_s

    async def run(self, take: Take) -> None:
        while True:
            for path in sorted(self._folder.glob("*-*.txt"), key=lambda path: path.stat().st_mtime):
                if "." not in path.stem:  # no answer
                    user, _, _ = path.stem.partition("-")
                    await take(Incoming(path.stem, path.stem, user, path.stat().st_mtime, path.read_text()))
            await asyncio.sleep(self._look_s)

    async def fetch(self, attachment: Attachment) -> bytes:
        raise Undeliverable("letters have no attachments")

    async def say(self, chat: str, text: str, key: str) -> None:
        with (self._folder / f"{chat}.answer.txt").open("a") as answer:
            answer.write(f"{text}\n")

    async def said(self, chat: str, key: str) -> bool:
        return False

    async def play(self, chat: str, sound: Audio) -> None:
        write_wav(self._folder / f"{chat}.answer.wav", [sound])

    async def hand(self, chat: str, name: str, content: bytes) -> None:
        (self._folder / f"{chat}.{name}").write_bytes(content)

    @contextlib.asynccontextmanager
    async def typing(self, chat: str) -> AsyncIterator[None]:
        yield


async def main(folder: Path) -> None:
    settings = load_settings()
    with open_agent(settings) as agent, contextlib.closing(People(settings.home / "people.sqlite")) as people:
        folder.mkdir(exist_ok=True)
        await Desk(Host(agent, people, settings.home), Letters(folder), Inbox(settings.home / "inbox.sqlite")).run()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(Path("letters")))
