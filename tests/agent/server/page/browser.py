"""A browser that looks at a served page, and notices errors and whatever is fetched from elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import pytest

pytest.importorskip("playwright", reason="playwright is not installed")
from playwright.async_api import Browser, ConsoleMessage, Page, Request, async_playwright, expect

from tests.agent.server.house import House, served

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FAKE_DEVICES = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")

expect.set_options(timeout=8_000)


@contextlib.asynccontextmanager
async def chromium(arguments: Sequence[str] = ()) -> AsyncIterator[Browser]:
    """The browser, with fake devices that it uses without asking."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    async with async_playwright() as tools:
        browser = await tools.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", *FAKE_DEVICES, *arguments]
        )
        yield browser
        await browser.close()


@contextlib.asynccontextmanager
async def visit(
    at: House,
    browser: Browser,
    *,
    app: Any = None,
    refused: bool = False,
    **context: Any,
) -> AsyncIterator[Page]:
    """A page opened at the server's address, by somebody whose browser knows nothing of it yet.

    Args:
        app: instead of the house's own.
        refused: whether the browser may complain of requests that the server refused.
        context: options of the browser's context.
    """
    wrong: list[str] = []
    elsewhere: list[str] = []

    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error" and not (refused and "Failed to load resource" in message.text):
            wrong.append(message.text)

    async with served(at, app) as address:

        def on_request(request: Request) -> None:
            url = urlsplit(request.url)
            if url.scheme in ("http", "https", "ws", "wss") and url.netloc != urlsplit(address).netloc:
                elsewhere.append(request.url)

        room = await browser.new_context(**{"locale": "en-GB", "viewport": {"width": 1000, "height": 800}} | context)
        room.set_default_timeout(8_000)
        page = await room.new_page()
        page.on("console", on_console)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", on_request)
        try:
            await page.goto(address)
            yield page
        finally:
            await room.close()
    assert not wrong
    assert not elsewhere


async def say(page: Page, words: str) -> None:
    """Type a turn and wait until it is answered."""
    await expect(page.locator("#log")).to_have_attribute("aria-busy", "false")
    n = await page.locator(".turn .asides").count()
    await page.get_by_label("What you want to say").fill(words)
    await page.get_by_role("button", name="Send").click()
    await expect(page.locator(".turn .asides")).to_have_count(n + 1)


async def open_view(page: Page, name: str) -> None:
    """Go to one of the three views."""
    await page.get_by_role("link", name=name, exact=True).click()
    await expect(page.get_by_role("heading", name=name, level=1)).to_be_visible()


async def no_sideways_scroll(page: Page) -> bool:
    """Whether everything fits the width."""
    return await page.evaluate(
        """() => [document.documentElement, ...document.querySelectorAll("main, dialog, #log")].every(
            (one) => one.scrollWidth <= one.clientWidth)"""
    )


async def until(page: Page, condition: str) -> None:
    """Wait for a condition in JavaScript; Playwright's own way of it is refused by the page's security policy."""
    async with asyncio.timeout(10):
        while not await page.evaluate(condition):
            await asyncio.sleep(0.05)
