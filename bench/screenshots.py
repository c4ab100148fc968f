"""Pictures of the page for the documentation: `python -m bench.screenshots` writes docs/img/*.png.

An agent of fakes is served with a memory of invented turns, and Chromium looks at it. Needs `pip install 'emox[dev]'`
and Chromium (`chromium` or `google-chrome`).
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

from playwright.async_api import Browser, Page, async_playwright

from tests.agent.server.house import EVERYTHING, House, house, served
from tests.agent.server.page.invented import InventedModel, live

OUT = Path(__file__).parent.parent / "docs" / "img"
DESK = {"width": 1080, "height": 830}
PHONE = {"width": 390, "height": 780}


async def main() -> None:
    """Take all of them."""
    OUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home, house(Path(home), model=InventedModel()) as at:
        async with served(at) as address, async_playwright() as tools:
            path = shutil.which("chromium") or shutil.which("google-chrome")
            browser = await tools.chromium.launch(executable_path=path, args=["--no-sandbox"])
            await first_visit(browser, address)
            at.people.agree("me", EVERYTHING)
            await look(browser, address, at)
            await browser.close()


async def first_visit(browser: Browser, address: str) -> None:
    """What a new person is told and asked."""
    page = await browser.new_page(viewport=DESK, locale="en-GB")
    await page.goto(address)
    await page.get_by_role("heading", name="What I am, and what I read").wait_for()
    await page.get_by_role("switch", name="Your voice").check()
    await save(page, "first-visit")
    await page.close()


async def look(browser: Browser, address: str, at: House) -> None:
    """A conversation, by day and by night; the memory; why; a phone."""
    live(at.store, "me")
    page = await browser.new_page(viewport=DESK, locale="en-GB")
    await page.goto(address)
    await say(page, "I unpacked the photos today, and now I miss my sister.")
    await save(page, "talk-light")
    await page.get_by_role("button", name="Dark mode").click()
    await save(page, "talk-dark")
    await page.get_by_role("button", name="Dark mode").click()
    await page.set_viewport_size({"width": 1080, "height": 980})
    await page.get_by_role("link", name="Memory").click()
    await page.locator("#chart .point").first.wait_for()
    await save(page, "memory")
    await page.locator(".row[data-turn='000000000000000a']").click()
    await page.get_by_role("dialog").get_by_role("button", name="Why did you say that?").click()
    await page.get_by_role("heading", name="Why I said that").wait_for()
    await save(page, "why")
    await page.close()
    page = await browser.new_page(viewport=PHONE, locale="en-GB", device_scale_factor=1.5)
    await page.goto(address)
    await page.locator(".turn .asides").last.wait_for()
    await save(page, "phone")
    await page.close()


async def say(page: Page, words: str) -> None:
    """Type a turn and wait for its answer."""
    n = await page.locator(".turn .asides").count()
    await page.get_by_label("What you want to say").fill(words)
    await page.get_by_role("button", name="Send").click()
    await page.locator(".turn .asides").nth(n).wait_for()


async def save(page: Page, name: str) -> None:
    """Keep what is seen now."""
    await page.mouse.move(0, 0)
    await page.wait_for_timeout(400)
    await page.screenshot(path=OUT / f"{name}.png", animations="disabled")


if __name__ == "__main__":
    asyncio.run(main())
