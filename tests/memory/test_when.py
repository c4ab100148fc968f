"""What a person says about time, and the window that it means."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory.when import window_of

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 6, 18, 15, 30, tzinfo=BERLIN)
"""A Thursday."""


def at(written: str | None) -> datetime | None:
    """A local time written as "2026-06-18" or "2026-06-18 17"."""
    if written is None:
        return None
    day, _, hour = written.partition(" ")
    return datetime.fromisoformat(day).replace(hour=int(hour or 0), tzinfo=BERLIN)


def expect(text: str, since: str | None, until: str | None, words: str, now: datetime = NOW):
    window = window_of(text, now)
    assert window is not None, text
    assert (window.since, window.until, window.words) == (at(since), at(until), words)


@pytest.mark.parametrize(
    ("text", "since", "until", "words"),
    [
        ("What did I say today?", "2026-06-18", "2026-06-19", "today"),
        ("yesterday was hard", "2026-06-17", "2026-06-18", "yesterday"),
        ("I slept badly after yesterday's fight", "2026-06-17", None, "after yesterday"),
        ("YESTERDAY  Morning it rained", "2026-06-17 04", "2026-06-17 12", "YESTERDAY  Morning"),
        ("yesterday afternoon", "2026-06-17 12", "2026-06-17 18", "yesterday afternoon"),
        ("yesterday evening", "2026-06-17 17", "2026-06-18", "yesterday evening"),
        ("the day before yesterday", "2026-06-16", "2026-06-17", "the day before yesterday"),
        ("I cried last night", "2026-06-17 18", "2026-06-18 06", "last night"),
        ("this morning I woke up early", "2026-06-18 04", "2026-06-18 12", "this morning"),
        ("the other day you said", "2026-06-11", "2026-06-18", "the other day"),
    ],
)
def test_a_day_or_a_part_of_it(text: str, since: str, until: str | None, words: str):
    expect(text, since, until, words)


@pytest.mark.parametrize(
    ("text", "since", "until", "words"),
    [
        ("How was I this week?", "2026-06-15", "2026-06-22", "this week"),
        ("How was I last week?", "2026-06-08", "2026-06-15", "last week"),
        ("the week before last", "2026-06-01", "2026-06-08", "the week before last"),
        ("this month", "2026-06-01", "2026-07-01", "this month"),
        ("last month", "2026-05-01", "2026-06-01", "last month"),
        ("this year", "2026-01-01", "2027-01-01", "this year"),
        ("last year's holidays", "2025-01-01", "2026-01-01", "last year"),
        ("the year before last", "2024-01-01", "2025-01-01", "the year before last"),
        ("last weekend", "2026-06-13", "2026-06-15", "last weekend"),
        ("over the weekend", "2026-06-13", "2026-06-15", "over the weekend"),
        ("this past weekend", "2026-06-13", "2026-06-15", "this past weekend"),
    ],
)
def test_a_period_of_the_calendar(text: str, since: str, until: str | None, words: str):
    expect(text, since, until, words)


@pytest.mark.parametrize(
    ("day", "text", "saturday"),
    [
        (20, "this weekend", "2026-06-20"),
        (21, "last weekend", "2026-06-13"),
        (22, "this weekend", "2026-06-20"),
        (22, "last weekend", "2026-06-20"),
        (21, "at the weekend", "2026-06-20"),
    ],
)
def test_a_weekend_depends_on_the_day_it_is_said(day: int, text: str, saturday: str):
    window = window_of(text, NOW.replace(day=day))
    assert window is not None
    assert window.since == at(saturday)


@pytest.mark.parametrize(
    ("text", "since", "until", "words"),
    [
        ("3 days ago", "2026-06-15", "2026-06-16", "3 days ago"),
        ("it was two nights ago", "2026-06-16 18", "2026-06-17 06", "two nights ago"),
        ("a couple of days ago", "2026-06-15", "2026-06-17", "a couple of days ago"),
        ("a few days ago", "2026-06-13", "2026-06-17", "a few days ago"),
        ("twelve days ago", "2026-06-06", "2026-06-07", "twelve days ago"),
        ("two weeks ago", "2026-06-01", "2026-06-08", "two weeks ago"),
        ("a month ago", "2026-05-03", "2026-06-03", "a month ago"),
        ("one year ago", "2024-12-17", "2025-12-18", "one year ago"),
        ("half a year ago", "2025-09-17", "2026-03-19", "half a year ago"),
        ("an hour ago", "2026-06-18 14", "2026-06-18 15", "an hour ago"),
    ],
)
def test_so_long_ago(text: str, since: str, until: str | None, words: str):
    expect(text, since, until, words, NOW.replace(minute=30) if "hour" in text else NOW)


@pytest.mark.parametrize(
    ("text", "since", "words"),
    [
        ("How have I been in the last 3 days?", "2026-06-15", "in the last 3 days"),
        ("over the past two weeks", "2026-06-04", "over the past two weeks"),
        ("the last few days", "2026-06-13", "the last few days"),
        ("during the past days", "2026-06-13", "during the past days"),
        ("in the last month", "2026-05-19", "in the last month"),
        ("the past year", "2025-06-18", "the past year"),
        ("I felt low lately", "2026-06-04", "lately"),
        ("Recently, I cannot sleep", "2026-06-04", "Recently"),
        ("since March", "2026-03-01", "since March"),
        ("ever since last week", "2026-06-08", "since last week"),
        ("since Monday", "2026-06-15", "since Monday"),
        ("since yesterday", "2026-06-17", "since yesterday"),
        ("since 2024", "2024-01-01", "since 2024"),
        ("since mid-2024", "2024-01-01", "since mid-2024"),
        ("since Christmas", "2025-12-24", "since Christmas"),
        ("since the beginning of May", "2026-05-01", "since the beginning of May"),
        ("since the summer", "2026-06-01", "since the summer"),
        ("since the 3rd of March", "2026-03-03", "since the 3rd of March"),
        ("from March on", "2026-03-01", "from March"),
        ("after Christmas", "2025-12-24", "after Christmas"),
    ],
)
def test_up_to_now(text: str, since: str, words: str):
    expect(text, since, None, words)


@pytest.mark.parametrize(
    ("text", "until", "words"),
    [
        ("before Christmas", "2025-12-24", "before Christmas"),
        ("What was I like before last week?", "2026-06-08", "before last week"),
        ("until yesterday I was fine", "2026-06-17", "until yesterday"),
        ("until March", "2026-03-01", "until March"),
        ("until the end of March", "2026-04-01", "until the end of March"),
        ("before the weekend", "2026-06-13", "before the weekend"),
        ("by May I was tired", "2026-06-01", "by May"),
    ],
)
def test_before_something(text: str, until: str, words: str):
    expect(text, None, until, words)


@pytest.mark.parametrize(
    ("text", "since", "until", "words"),
    [
        ("in March", "2026-03-01", "2026-04-01", "in March"),
        ("back in october", "2025-10-01", "2025-11-01", "in october"),
        ("in June", "2026-06-01", "2026-07-01", "in June"),
        ("last June", "2025-06-01", "2025-07-01", "last June"),
        ("in March 2025", "2025-03-01", "2025-04-01", "in March 2025"),
        ("February was dark", "2026-02-01", "2026-03-01", "February"),
        ("it happened in May", "2026-05-01", "2026-06-01", "in May"),
        ("last may", "2026-05-01", "2026-06-01", "last may"),
        ("May 2024 was hard", "2024-05-01", "2024-06-01", "May 2024"),
        ("the last week of March", "2026-03-01", "2026-04-01", "March"),
        ("in late March", "2026-03-01", "2026-04-01", "in late March"),
        ("in 2025", "2025-01-01", "2026-01-01", "in 2025"),
        ("last spring", "2026-03-01", "2026-06-01", "last spring"),
        ("last summer", "2025-06-01", "2025-09-01", "last summer"),
        ("this summer", "2026-06-01", "2026-09-01", "this summer"),
        ("last autumn", "2025-09-01", "2025-12-01", "last autumn"),
        ("last fall", "2025-09-01", "2025-12-01", "last fall"),
        ("in the fall", "2025-09-01", "2025-12-01", "in the fall"),
        ("last winter", "2025-12-01", "2026-03-01", "last winter"),
        ("in the summer of 2024", "2024-06-01", "2024-09-01", "in the summer of 2024"),
        ("around Christmas", "2025-12-24", "2025-12-27", "around Christmas"),
        ("at the end of last year", "2025-01-01", "2026-01-01", "last year"),
        ("in May 3 people left", "2026-05-01", "2026-06-01", "in May"),
        ("at Christmas", "2025-12-24", "2025-12-27", "at Christmas"),
        ("last Christmas Eve", "2025-12-24", "2025-12-25", "last Christmas Eve"),
        ("on New Year's Eve", "2025-12-31", "2026-01-01", "on New Year's Eve"),
        ("over New Year", "2025-12-31", "2026-01-02", "over New Year"),
        ("Christmas 2024", "2024-12-24", "2024-12-27", "Christmas 2024"),
    ],
)
def test_a_month_a_season_a_feast_or_a_year(text: str, since: str, until: str | None, words: str):
    expect(text, since, until, words)


@pytest.mark.parametrize(
    ("text", "since", "until", "words"),
    [
        ("on Monday", "2026-06-15", "2026-06-16", "on Monday"),
        ("Friday was awful", "2026-06-12", "2026-06-13", "Friday"),
        ("on Thursday", "2026-06-11", "2026-06-12", "on Thursday"),
        ("last Monday", "2026-06-15", "2026-06-16", "last Monday"),
        ("this Monday", "2026-06-15", "2026-06-16", "this Monday"),
        ("on Monday night", "2026-06-15 18", "2026-06-16 06", "on Monday night"),
        ("on Monday of last week", "2026-06-08", "2026-06-09", "on Monday of last week"),
        ("last week on Friday", "2026-06-12", "2026-06-13", "last week on Friday"),
        ("on 3 March", "2026-03-03", "2026-03-04", "on 3 March"),
        ("Monday the 3rd of March was bad", "2026-03-03", "2026-03-04", "Monday the 3rd of March"),
        ("15 January", "2026-01-15", "2026-01-16", "15 January"),
        ("March 3rd", "2026-03-03", "2026-03-04", "March 3rd"),
        ("on March 3", "2026-03-03", "2026-03-04", "on March 3"),
        ("on March 3, 2024", "2024-03-03", "2024-03-04", "on March 3, 2024"),
        ("on the 5th of May", "2026-05-05", "2026-05-06", "on the 5th of May"),
        ("on 2026-03-03", "2026-03-03", "2026-03-04", "on 2026-03-03"),
        ("on 29 February", "2024-02-29", "2024-03-01", "on 29 February"),
        ("on 20 June", "2025-06-20", "2025-06-21", "on 20 June"),
    ],
)
def test_a_weekday_or_a_date_is_the_latest_one(text: str, since: str, until: str | None, words: str):
    expect(text, since, until, words)


@pytest.mark.parametrize(
    ("text", "since", "until", "words"),
    [
        ("between March and May", "2026-03-01", "2026-06-01", "between March and May"),
        ("from march to may", "2026-03-01", "2026-06-01", "from march to may"),
        ("between November and February", "2025-11-01", "2026-03-01", "between November and February"),
        ("between March and May 2024", "2024-03-01", "2024-06-01", "between March and May 2024"),
        ("from Monday to Wednesday", "2026-06-15", "2026-06-18", "from Monday to Wednesday"),
        ("between 2023 and 2024", "2023-01-01", "2025-01-01", "between 2023 and 2024"),
        ("between Christmas and New Year", "2025-12-24", "2026-01-02", "between Christmas and New Year"),
        ("from last week until now", "2026-06-08", None, "from last week until now"),
        ("from 3 March until yesterday", "2026-03-03", "2026-06-18", "from 3 March until yesterday"),
    ],
)
def test_from_one_time_to_another(text: str, since: str, until: str | None, words: str):
    expect(text, since, until, words)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I feel sad.",
        "It may be true, and may I say that you may not march here?",
        "We march for peace; the march was long.",
        "Call me and may I ask why",
        "in a minute, one second please",
        "The second time I sat in the sun",
        "My friend April met June and August",
        "I fall asleep, my fall was bad, spring water",
        "At first I won, at last I lost the last one",
        "I had a hard time in the past",
        "happy new year and a Christmas tree",
        "every Monday and each summer I hate Mondays",
        "my years of school, in my last year of school",
        "I walked 2000 steps and 3 march by",
        "two and a half years ago",
        "2.5 years ago",
        "between you and me",
        "ever since then, before we moved",
        "half past two, a week",
    ],
)
def test_what_is_no_time_is_left_alone(text: str):
    assert window_of(text, NOW) is None


@pytest.mark.parametrize(
    "text",
    [
        "next week",
        "I am afraid of tomorrow morning",
        "the day after tomorrow",
        "until next Monday",
        "in the next two weeks",
        "in two weeks",
        "this Friday",
        "this weekend",
        "this Christmas",
        "this winter we go away",
        "in 2030",
        "on 2026-12-24",
        "I'll see her on Monday",
        "we are going to meet in March",
        "it must be ready by Monday",
        "Monday next week",
        "tonight",
    ],
)
def test_what_lies_ahead_is_left_alone(text: str):
    assert window_of(text, NOW) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Tomorrow I am off, because yesterday was too much", "yesterday"),
        ("Will you tell me what I said on Monday?", "on Monday"),
        ("I may have said in May that we march in March", "in May"),
        ("every day last week", "last week"),
        ("we hurt each other last night", "last night"),
    ],
)
def test_the_first_time_is_found_among_traps(text: str, words: str):
    window = window_of(text, NOW)
    assert window is not None
    assert window.words == words


def test_a_month_said_before_it_comes_is_last_years():
    expect("in March", "2025-03-01", "2025-04-01", "in March", NOW.replace(month=2))
    expect("last December", "2025-12-01", "2026-01-01", "last December", NOW.replace(month=1))
    expect("this winter", "2025-12-01", "2026-03-01", "this winter", NOW.replace(month=1))


def test_after_midnight_tonight_has_begun():
    expect("tonight", "2026-06-17 18", "2026-06-18 06", "tonight", NOW.replace(hour=1))
    expect("tonight", "2026-06-18 18", "2026-06-19 06", "tonight", NOW.replace(hour=21))


def test_days_begin_at_the_midnight_of_the_speaker():
    now = datetime(2026, 6, 18, 1, tzinfo=ZoneInfo("Asia/Tokyo"))  # still the 17th in UTC
    window = window_of("today", now)
    assert window is not None
    assert window.since is not None
    assert window.since.astimezone(UTC) == datetime(2026, 6, 17, 15, tzinfo=UTC)
    clocks_went_forward = datetime(2026, 3, 29, 12, tzinfo=BERLIN)
    window = window_of("today", clocks_went_forward)
    assert window is not None
    assert window.since == at("2026-03-29")
    assert window.until == at("2026-03-30")


def test_a_time_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="without a zone"):
        window_of("today", datetime(2026, 6, 18))


PIECES = ["since", "last", "march", "may", "3", "rd", "2025", "between", "and", "monday", "the", "week", "ago", "two"]
PIECES += ["few", "before", "in", "of", "year", "new", "eve", "on", "31", "999", "feb", "from", "until", "now", "this"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=8), st.integers(0, 800))
def test_whatever_is_said_a_window_is_ordered_and_begins_before_now(words: list[str], days: int):
    now = NOW - timedelta(days=days)
    text = " ".join(words)
    window = window_of(text, now)
    if window is not None:
        assert window.words in text
        assert window.since is not None or window.until is not None
        assert window.since is None or window.since <= now
        assert window.since is None or window.until is None or window.since < window.until
