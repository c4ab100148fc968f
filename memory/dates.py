"""The day of an event, from the words that place it: "tomorrow", "on Friday", "in two weeks", "12 May".

Other than `when`, which looks for the past that a question asks about, this reads what is to come as well.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Iterable
from datetime import date, timedelta


def _any_of(words: Iterable[str]) -> str:
    return f"(?:{'|'.join(words)})"


MONTHS = ("January", "February", "March", "April", "May", "June",
          "July", "August", "September", "October", "November", "December")  # fmt: skip
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_NUMBERS = {"a": 1, "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
            "nine": 9, "ten": 10}  # fmt: skip
_MONTH, _WEEKDAY, _COUNT = _any_of(MONTHS), _any_of(_WEEKDAYS), rf"(?:\d{{1,2}}|{_any_of(list(_NUMBERS))})"
WHEN = (
    r"(?P<when>(?:the )?day after tomorrow|tomorrow|today|tonight|yesterday|last night"
    rf"|this (?:morning|afternoon|evening)|(?:(?:this coming|this past|coming|this|next|last) )?{_WEEKDAY}"
    r"|(?:this|next|last) (?:week|weekend|month|year)"
    rf"|in {_COUNT} (?:days?|weeks?|months?)|{_COUNT} (?:days?|weeks?|months?) ago|in {_MONTH}"
    rf"|the \d{{1,2}}(?:st|nd|rd|th)|(?:the )?\d{{1,2}}(?:st|nd|rd|th)?(?: of)? {_MONTH}(?:,? \d{{4}})?"
    rf"|{_MONTH} (?:the )?\d{{1,2}}(?:st|nd|rd|th)?(?:,? \d{{4}})?)(?![\w'-])"
)
"""A pattern of words that `resolve` reads, as the group `when`."""

Span = tuple[str, str, date, date]
"""A day, week, month or year: as ISO 8601, in plain words with "on" or "in", its first and its last day."""


def resolve(when: str, today: date, past: bool) -> Span | None:
    """The time that lower-case words name on the day they are said.

    A weekday or date is the next one after today, or the last one before it for what is past; None where there is no
    such day.
    """
    words = when.removeprefix("the ").split()
    count = next((int(w) if w.isdigit() else _NUMBERS[w] for w in words if w.isdigit() or w in _NUMBERS), 1)
    sign = -1 if words[-1] == "ago" or words[0] == "last" else 1 if words[0] in ("in", "next") else 0
    days = {"today": 0, "tonight": 0, "tomorrow": 1, "yesterday": -1, "last night": -1, "day after tomorrow": 2}
    days |= {"this morning": 0, "this afternoon": 0, "this evening": 0}
    if " ".join(words) in days:
        return _on(today + timedelta(days[" ".join(words)]))
    monday, weekdays = today - timedelta(today.weekday()), [day.lower() for day in _WEEKDAYS]
    if words[-1] in weekdays:
        ahead = weekdays.index(words[-1]) - today.weekday()
        if words[0] == "next":
            return _on(today + timedelta(ahead + 7))
        before = past or words[0] == "last" or words[:2] == ["this", "past"]
        return _on(today - timedelta(-ahead % 7 or 7) if before else today + timedelta(ahead % 7 or 7))
    unit = next((w.rstrip("s") for w in words if w.rstrip("s") in ("day", "week", "weekend", "month", "year")), "")
    if unit == "day":
        return _on(today + timedelta(sign * count))
    if unit == "week":
        monday += timedelta(7 * sign * count)
        return f"{monday:%G-W%V}", f"in the week of {_day(monday)}", monday, monday + timedelta(6)
    if unit == "weekend":
        saturday = monday + timedelta(5 + 7 * sign)
        return saturday.isoformat(), f"on the weekend of {_day(saturday)}", saturday, saturday + timedelta(1)
    if unit == "month":
        return _in(today.year, today.month + sign * count)
    if unit == "year":
        year = today.year + sign
        return f"{year}", f"in {year}", date(year, 1, 1), date(year, 12, 31)
    return _by_calendar(when, today, past)


def _by_calendar(when: str, today: date, past: bool) -> Span | None:
    """For `resolve`: "12 may", "may 12th, 2027", "in june" or "the 12th"."""
    month = next((n for n, name in enumerate(MONTHS, 1) if name.lower() in when), None)
    numbers = [int(n) for n in re.findall(r"\d+", when)]
    if not numbers and month:
        return _in(today.year + (-1 if past and month > today.month else not past and month < today.month), month)
    dates = [
        day
        for year in numbers[1:] or range(today.year - 1, today.year + 3)
        for m in ([month] if month else range(1, 13))
        if (day := _date(year, m, numbers[0]))
    ]
    if numbers[1:]:
        chosen = dates
    else:
        chosen = [d for d in dates if d <= today][-1:] if past else [d for d in dates if d >= today][:1]
    return _on(chosen[0]) if chosen else None


def _date(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day)
    except ValueError:
        return None


def _day(day: date) -> str:
    return f"{day.day} {MONTHS[day.month - 1]} {day.year}"


def _on(day: date) -> Span:
    return day.isoformat(), f"on {_WEEKDAYS[day.weekday()]} {_day(day)}", day, day


def _in(year: int, month: int) -> Span:
    """A month; 13 is the January that follows, 0 the December before."""
    first = date(year + (month - 1) // 12, (month - 1) % 12 + 1, 1)
    last = first + timedelta(monthrange(first.year, first.month)[1] - 1)
    return f"{first:%Y-%m}", f"in {MONTHS[first.month - 1]} {first.year}", first, last
