import pytest_asyncio

from tests.agent.server.page.browser import chromium


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser():
    """One for all tests of a file, which share its event loop; each visit has cookies and storage of its own."""
    async with chromium(["--autoplay-policy=no-user-gesture-required"]) as browser:
        yield browser
