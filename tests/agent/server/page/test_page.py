"""The page in a real browser, over an agent of fakes."""

import json

import httpx
import pytest

from agent.care import Consent
from tests.agent.server.house import EVERYTHING, SAID, client_of, house
from tests.agent.server.page.browser import expect, no_sideways_scroll, open_view, say, until, visit
from tests.agent.server.page.invented import LIFE, InventedModel, live
from tests.fakes import FakeModel

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOSTILE = '<img src=x onerror="document.title=\'owned\'"><script>document.title="owned"</script><b id="bold">loud</b>'
PHONE = {"width": 360, "height": 640}
VAN = "000000000000000a"
"""The turn in which the movers cancelled."""


@pytest.fixture
def at(tmp_path):
    with house(tmp_path, model=InventedModel()) as at:
        at.people.agree("me", EVERYTHING)
        yield at


@pytest.fixture
def new(tmp_path):
    """Nobody was here before."""
    with house(tmp_path, model=InventedModel()) as at:
        yield at


async def test_the_first_visit_tells_what_this_is_and_asks_what_may_be_read(new, browser):
    async with visit(new, browser) as page:
        asked = page.get_by_role("dialog", name="What I am, and what I read")
        await expect(asked).to_contain_text("I am a program, not a human and not a therapist")
        await page.keyboard.press("Escape")
        await expect(asked).to_be_visible()
        assert new.people.consent_of("me") is None
        await expect(asked.get_by_role("switch", name="Your words")).to_be_checked()
        await expect(asked.get_by_role("switch", name="Your face")).not_to_be_checked()
        await asked.get_by_role("switch", name="Your voice").check()
        await asked.get_by_role("button", name="Start talking").click()
        await expect(page.get_by_label("What you want to say")).to_be_focused()
        assert new.people.consent_of("me") == Consent(text=True, voice=True, face=False)
        await page.reload()
        await expect(page.get_by_label("What you want to say")).to_be_focused()
        await expect(page.get_by_role("dialog")).to_have_count(0)


async def test_only_what_this_model_reads_is_offered(tmp_path, browser):
    with house(tmp_path, model=FakeModel(modalities=("text", "voice"))) as at:
        async with visit(at, browser) as page:
            await expect(page.get_by_role("switch")).to_have_count(2)
            await expect(page.get_by_role("switch", name="Your face")).to_have_count(0)


async def test_a_typed_turn_shows_what_was_read_and_thought_and_the_reply(at, browser):
    async with visit(at, browser) as page:
        await say(page, SAID)
        turn = page.locator(".turn").last
        await expect(turn.locator(".said")).to_have_text(SAID)
        await expect(turn.locator(".chip")).to_have_text("sad")
        await expect(turn.get_by_role("img", name="words: sad 72 %")).to_be_visible()
        await expect(turn.locator(".reply")).to_have_text("I hear you. Tell me more?")
        await expect(turn.locator(".latency")).to_contain_text("first word after")
        thought = turn.locator("details.thought")
        await expect(thought.get_by_text("What I want to do")).to_be_hidden()
        await thought.locator("summary").click()
        await expect(thought.get_by_text("What I want to do")).to_be_visible()
        await expect(page.locator("#announcer")).to_have_text("I read sad. I hear you. Tell me more?")
        await page.reload()
        await expect(page.locator(".turn .said")).to_have_text(SAID)
    assert at.store.count("me") == 1


async def test_hostile_words_stay_words(at, browser):
    at.model.reply = HOSTILE
    async with visit(at, browser) as page:
        await say(page, HOSTILE)
        await open_view(page, "Memory")
        await page.locator(".row").first.click()
        await page.get_by_role("dialog").get_by_role("button", name="Why did you say that?").click()
        await expect(page.get_by_role("heading", name="Why I said that")).to_be_visible()
        await expect(page.locator("blockquote.said")).to_have_text(HOSTILE)
        assert await page.locator("#bold, main script, main img, dialog img").count() == 0
        assert "owned" not in await page.title()


async def test_a_message_that_is_sent_again_is_answered_once(at, browser):
    async with visit(at, browser, refused=True) as page:
        broken = []

        async def break_off(route):
            if broken:
                await route.continue_()
            else:
                broken.append(await route.fetch())
                await route.abort()

        await page.route("**/api/turns", break_off)
        await page.get_by_label("What you want to say").fill(SAID)
        await page.keyboard.press("Enter")
        await page.get_by_role("button", name="Try again").click()
        await expect(page.locator(".turn .reply")).to_have_text("I hear you. Tell me more?")
        await expect(page.locator(".turn .asides")).to_have_count(1)
    assert at.store.count("me") == 1


async def test_replies_are_read_aloud_if_asked(at, browser):
    async with visit(at, browser) as page:
        await say(page, "Hello, I am sad.")
        assert not at.speaker.said
        await open_view(page, "Settings")
        await page.get_by_role("switch", name="Read replies aloud").check()
        await page.get_by_role("link", name="Talk").click()
        await page.evaluate(
            """() => { const play = HTMLMediaElement.prototype.play; window.played = 0;
                HTMLMediaElement.prototype.play = function () { window.played++; return play.call(this); }; }"""
        )
        await say(page, "I am sad about my cat.")
        await until(page, "window.played === 2")
    assert [text for text, _ in at.speaker.said] == ["I hear you.", "Tell me more?"]


async def test_a_point_leads_to_its_turn_and_to_why_it_was_answered_so(at, browser):
    live(at.store, "me")
    async with visit(at, browser) as page:
        await open_view(page, "Memory")
        points = page.locator("#chart .point[role=button]")
        await expect(points).to_have_count(len(LIFE))
        await expect(page.locator("#summary")).to_contain_text(f"{len(LIFE)} turns since")
        await page.locator(f"#chart .point[role=button][data-id='{VAN}']").click()
        turn = page.get_by_role("dialog")
        await expect(turn.locator("blockquote.said")).to_contain_text("The movers cancelled.")
        await turn.get_by_role("button", name="Why did you say that?").click()
        await expect(page.get_by_role("heading", name="Why I said that")).to_be_focused()
        why = turn.locator(".why")
        for words in ("the movers cancelled", "brighter times", "text +0.42", "offer one small step"):
            await expect(why).to_contain_text(words)
        await page.keyboard.press("Escape")
        await expect(turn).to_have_count(0)


async def test_the_timeline_zooms_by_wheel_button_and_key(at, browser):
    live(at.store, "me")
    async with visit(at, browser) as page:
        await open_view(page, "Memory")
        points = page.locator("#chart .point[role=button]")
        await expect(points).to_have_count(len(LIFE))
        await page.locator("#chart svg").hover(position={"x": 30, "y": 80})
        for _ in range(6):
            await page.mouse.wheel(0, -100)
        zoomed = await points.count()
        assert 0 < zoomed < len(LIFE)
        await page.get_by_role("button", name="All", exact=True).click()
        await expect(points).to_have_count(len(LIFE))
        await page.get_by_role("button", name="Show less time").click()
        assert await points.count() < len(LIFE)
        await page.get_by_role("button", name="All", exact=True).click()
        await page.locator("#chart .point[tabindex='0']").focus()
        await page.keyboard.press("Home")
        await expect(page.locator("#readout")).to_contain_text("fear")
        await page.keyboard.press("ArrowRight")
        await expect(page.locator("#readout")).to_contain_text("sad")
        await page.keyboard.press("+")
        assert await points.count() < len(LIFE)
        await page.keyboard.press("0")
        await expect(points).to_have_count(len(LIFE))
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("dialog").locator("blockquote.said")).to_contain_text("Leaving my sister Anna")


async def test_the_memory_is_filtered_and_searched(at, browser):
    live(at.store, "me")
    async with visit(at, browser) as page:
        await open_view(page, "Memory")
        rows, points = page.locator(".row"), page.locator("#chart .point[role=button]")
        await expect(rows).to_have_count(len(LIFE))
        await page.locator("#emotion").select_option("angry")
        await expect(rows).to_have_count(2)
        await expect(points).to_have_count(2)
        await page.locator("#emotion").select_option("")
        await page.locator("#in-thread").select_option("leeds")
        await expect(rows).to_have_count(2)
        await page.locator("#in-thread").select_option("")
        await page.get_by_label("Search what was said").fill("A neighbour left a plant")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="Found for")).to_be_visible()
        await expect(rows.first).to_contain_text("A neighbour left a plant")
        await page.get_by_role("button", name="Clear").click()
        await expect(rows).to_have_count(len(LIFE))
        await expect(page.locator("#facts")).to_contain_text("Their sister is called Anna.")


async def test_a_feeling_is_corrected(at, browser):
    async with visit(at, browser) as page:
        await say(page, SAID)
        await page.get_by_role("button", name="I feel something else").click()
        turn = page.get_by_role("dialog")
        await turn.get_by_role("radio", name="angry").check()
        await turn.get_by_role("button", name="Save").click()
        await expect(turn).to_contain_text("You corrected this; I had read sad.")
        await page.keyboard.press("Escape")
        await expect(page.locator(".turn .chip")).to_have_text("angry")
    (episode,) = at.store.list("me")
    assert (episode.affect.emotion, episode.affect.confidence) == ("angry", 1.0)


async def test_forgetting_says_how_much_and_proves_that_it_is_gone(at, browser):
    live(at.store, "me")
    async with visit(at, browser) as page:
        await open_view(page, "Memory")
        await page.get_by_label("Naming").fill("Miso")
        await page.get_by_role("button", name="Forget these").click()
        n = sum("Miso" in one["words"] + one["reply"] for one in LIFE)
        sure = page.get_by_role("dialog", name=f"Forget {n} turns?")
        await sure.get_by_role("button", name="Keep it").click()
        assert at.store.count("me") == len(LIFE)
        await page.get_by_role("button", name="Forget these").click()
        await sure.get_by_role("button", name=f"Forget {n} turns").click()
        proof = page.get_by_role("dialog", name="Forgotten")
        await expect(proof).to_contain_text(f"{n} turns forgotten. No file holds any of it.")
        await expect(proof).to_contain_text("Searched")
        await proof.get_by_role("button", name="Close").click()
        await expect(page.locator(".row")).to_have_count(len(LIFE) - n)
        await page.locator(".row").first.click()
        await page.get_by_role("dialog").get_by_role("button", name="Forget this turn").click()
        await page.get_by_role("button", name="Forget 1 turn", exact=True).click()
        await page.get_by_role("dialog", name="Forgotten").get_by_role("button", name="Close").click()
        await expect(page.locator(".row")).to_have_count(len(LIFE) - n - 1)
        await page.get_by_role("button", name="Forget everything").click()
        await page.get_by_role("button", name=f"Forget {len(LIFE) - n - 1} turns").click()
        await page.get_by_role("dialog", name="Forgotten").get_by_role("button", name="Close").click()
        await expect(page.locator("#readout")).to_contain_text("Nothing is remembered yet")
    assert at.store.count("me") == 0


async def test_what_is_about_to_be_forgotten_is_counted_and_kept(at):
    live(at.store, "me")
    async with client_of(at) as client:
        everything = (await client.post("/api/memory/forget/preview", json={"all": True})).json()
        one = (await client.post("/api/memory/forget/preview", json={"ids": [VAN]})).json()
        nothing = await client.post("/api/memory/forget/preview", json={})
    assert (everything["n"], one["n"], nothing.status_code) == (len(LIFE), 1, 422)
    assert at.store.count("me") == len(LIFE)


async def test_the_memory_is_taken_along_and_brought_back(at, tmp_path, browser):
    live(at.store, "me")
    async with visit(at, browser) as page:
        await open_view(page, "Memory")
        async with page.expect_download() as begun:
            await page.get_by_role("button", name="Export").click()
        kept = tmp_path / "kept.jsonl"
        await (await begun.value).save_as(kept)
        lines = [json.loads(line) for line in kept.read_text("utf-8").splitlines()]
        assert lines[0]["format"] == "emox-memory"
        assert sum(line.get("type") == "episode" for line in lines) == len(LIFE)
        at.store.forget("me")
        await page.get_by_label("Import").set_input_files(kept)
        await expect(page.locator("#notice")).to_contain_text(f"{len(LIFE)} turns in the file, {len(LIFE)} of them new")
        await expect(page.locator(".row")).to_have_count(20 if len(LIFE) > 20 else len(LIFE))


async def test_the_page_is_dark_where_the_system_is_and_where_it_is_chosen(at, browser):
    ground = "getComputedStyle(document.body).backgroundColor"
    async with visit(at, browser, color_scheme="dark") as page:
        await expect(page.get_by_role("button", name="Dark mode")).to_have_attribute("aria-pressed", "true")
        dark = await page.evaluate(ground)
        await page.get_by_role("button", name="Dark mode").click()
        light = await page.evaluate(ground)
        await page.reload()
        assert (dark, light, await page.evaluate(ground)) == ("rgb(24, 26, 27)", "rgb(250, 247, 242)", light)
        await open_view(page, "Settings")
        await page.get_by_label("as the system").check()
        assert await page.evaluate(ground) == dark


async def test_everything_fits_a_small_phone(at, browser):
    live(at.store, "me")
    at.model.reply = "Rindfleischetikettierungsüberwachungsaufgabenübertragungsgesetz" * 2
    async with visit(at, browser, has_touch=True, is_mobile=True, viewport=PHONE) as page:
        await say(page, "x" * 200)
        assert await no_sideways_scroll(page)
        await page.get_by_role("button", name="Why did you say that?").last.click()
        await expect(page.get_by_role("heading", name="Why I said that")).to_be_visible()
        assert await no_sideways_scroll(page)
        await page.get_by_role("button", name="Close").click()
        for view in ("Memory", "Settings"):
            await open_view(page, view)
            assert await no_sideways_scroll(page)


async def test_a_first_visit_and_a_turn_need_no_mouse(new, browser):
    async with visit(new, browser) as page:
        await expect(page.get_by_role("heading", name="What I am, and what I read")).to_be_focused()
        await page.keyboard.press("Tab")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Space")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await expect(page.get_by_label("What you want to say")).to_be_focused()
        await page.keyboard.type(SAID)
        await page.keyboard.press("Enter")
        await expect(page.locator(".turn .asides")).to_have_count(1)
        await page.keyboard.press("Shift+Tab")
        await expect(page.get_by_role("button", name="I feel something else")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("dialog")).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("button", name="I feel something else")).to_be_focused()
    assert new.people.consent_of("me") == Consent(text=True, voice=True)


async def test_consent_is_taken_back_in_the_settings(at, browser):
    async with visit(at, browser) as page:
        await open_view(page, "Settings")
        await page.get_by_role("switch", name="Your words").uncheck()
        await expect(page.locator("#notice")).to_contain_text("Saved.")
        assert at.people.consent_of("me") == Consent(text=False, voice=True, face=True)
        await page.get_by_role("link", name="Talk").click()
        await expect(page.get_by_label("What you want to say")).to_be_disabled()


async def test_a_token_is_asked_for_and_kept_as_wished(at, browser):
    token = at.people.new_token("ann")
    at.people.agree("ann", EVERYTHING)
    addresses = []
    async with visit(at, browser, refused=True) as page:
        page.on("request", lambda request: addresses.append(request.url))
        asked = page.get_by_role("dialog", name="Who are you?")
        await asked.get_by_label("Token", exact=True).fill("emox-wrong")
        await page.keyboard.press("Enter")
        await expect(asked).to_contain_text("not valid here")
        await asked.get_by_label("Token", exact=True).fill(token)
        await page.keyboard.press("Enter")
        await say(page, SAID)
        assert await page.evaluate("localStorage.getItem('emox-token')") is None
        await open_view(page, "Settings")
        await page.get_by_role("button", name="Forget it on this device").click()
        await asked.get_by_label("Token", exact=True).fill(token)
        await asked.get_by_label("Remember it on this device").check()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="Settings", level=1)).to_be_visible()
        assert await page.evaluate("localStorage.getItem('emox-token')") == token
    assert at.store.count("ann") == 1
    assert not any(token in address for address in addresses)


async def test_the_page_says_where_live_voice_is_not_installed(at, browser):
    async with visit(at, browser, refused=True) as page:
        await page.get_by_role("button", name="Talk aloud").click()
        await expect(page.locator("#notice")).to_contain_text("Talking aloud is not installed on this server")
        await expect(page.get_by_role("button", name="Talk aloud")).to_be_visible()


async def test_what_somebody_said_is_kept_in_no_cache(at):
    async with client_of(at) as client:
        page = await client.get("/")
        listed = await client.get("/api/memory/list")
        again = await client.get("/", headers={"If-None-Match": page.headers["etag"]})
    assert page.headers["cache-control"] == "no-cache"
    assert listed.headers["cache-control"] == "no-store"
    assert again.status_code == httpx.codes.NOT_MODIFIED
