"""Whether everybody can use the page: axe-core looks for barriers in every view, by day and by night."""

import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import platformdirs
import pytest

from tests.agent.server.house import EVERYTHING, house
from tests.agent.server.page.browser import expect, open_view, visit
from tests.agent.server.page.invented import InventedModel, live

pytestmark = pytest.mark.asyncio(loop_scope="module")

AXE = "axe-core@4.10.3"


@pytest.fixture(scope="session")
def axe():
    """The source of axe-core, fetched once into a cache folder of this machine."""
    kept = Path(platformdirs.user_cache_dir("emox-tests")) / f"{AXE}.js"
    if not kept.exists():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("npm is not installed, which fetches axe-core")
        with tempfile.TemporaryDirectory() as folder:
            command = [npm, "pack", AXE, "--silent", "--pack-destination", folder]
            try:
                subprocess.run(command, check=True, capture_output=True, timeout=60, cwd=folder)
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
                pytest.skip(f"npm could not fetch {AXE}")
            (packed,) = Path(folder).glob("*.tgz")
            with tarfile.open(packed) as archive:
                source = archive.extractfile("package/axe.min.js").read()
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(f".{os.getpid()}")
        part.write_bytes(source)
        part.replace(kept)
    return kept.read_text("utf-8")


async def barriers(page, axe):
    """Serious and critical violations of what is seen now, by day, and those of contrast by night, a line each."""
    await page.evaluate(axe)
    found = []
    for theme, what in (("light", "{}"), ("dark", "{ runOnly: ['color-contrast'] }")):
        await page.emulate_media(color_scheme=theme)
        result = await page.evaluate(f"() => axe.run(document, {what})")
        found += [
            f"{theme} {one['id']}: {node['html'][:150]} {node['failureSummary'][:200]}"
            for one in result["violations"]
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]
    return found


async def test_no_view_has_a_barrier(tmp_path, axe, browser):
    with house(tmp_path, model=InventedModel()) as at:
        async with visit(at, browser, reduced_motion="reduce") as page:
            await expect(page.get_by_role("button", name="Start talking")).to_be_visible()
            assert await barriers(page, axe) == []
            at.people.agree("me", EVERYTHING)
            live(at.store, "me")
            await page.reload()
            await expect(page.locator(".turn")).to_have_count(2)
            await page.locator("details.thought summary").first.click()
            assert await barriers(page, axe) == []
            await page.get_by_role("button", name="I feel something else").last.click()
            await expect(page.get_by_role("radio")).to_have_count(7)
            assert await barriers(page, axe) == []
            await page.get_by_role("button", name="Why did you say that?").last.click()
            await expect(page.get_by_role("heading", name="Why I said that")).to_be_visible()
            assert await barriers(page, axe) == []
            await page.keyboard.press("Escape")
            await open_view(page, "Memory")
            await expect(page.locator("#chart .point").first).to_be_visible()
            assert await barriers(page, axe) == []
            await page.get_by_role("button", name="Forget everything").first.click()
            await expect(page.get_by_role("button", name="Keep it")).to_be_visible()
            assert await barriers(page, axe) == []
            await page.keyboard.press("Escape")
            await open_view(page, "Settings")
            assert await barriers(page, axe) == []
