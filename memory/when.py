"""When something was, as a person says it ("last night", "since March"), as a window of time.

A table of phrases, each with the reader of its meaning. What is asked of a memory lies in the past, so a month, a
weekday or a feast is the latest one that has begun. Seasons are those of the northern half of the earth; weeks begin on
Monday.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import zip_longest

Span = tuple[datetime, datetime | None]
Reader = Callable[[re.Match[str], datetime], Span | None]


@dataclass(frozen=True)
class Window:
    """since <= t < until, None where it is open; `words` is the part of the text that says so."""

    since: datetime | None
    until: datetime | None
    words: str


@dataclass(frozen=True)
class _Found:
    """A phrase at text[start:end]; not `firm` where it is a time only beside a second one ("from May to July")."""

    start: int
    end: int
    span: Span
    firm: bool


RECENT_DAYS = 14
"""How far back "recently" reaches."""

PARTS = {"morning": (4, 12), "afternoon": (12, 18), "evening": (17, 24), "night": (18, 30)}
"""Hours after the midnight that a day begins with; a night ends on the next day."""

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
AMOUNTS: dict[str, tuple[float, float]] = {word: (n, n) for n, word in enumerate(NUMBERS, 1)}
AMOUNTS |= {"a": (1, 1), "an": (1, 1), "couple": (2, 3), "few": (2, 5), "several": (3, 7)}
"""The least and the most that a number word means."""

UNIT_DAYS = {"hour": 1 / 24, "day": 1.0, "night": 1.0, "week": 7.0, "month": 30.44, "year": 365.25}

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

YEARLY: dict[str, tuple[int, int, int, int]] = {name: (month, 1, 1, 0) for month, name in enumerate(MONTHS, 1)}
YEARLY |= {"spring": (3, 1, 3, 0), "summer": (6, 1, 3, 0), "autumn": (9, 1, 3, 0), "fall": (9, 1, 3, 0)}
YEARLY |= {"winter": (12, 1, 3, 0), "christmas": (12, 24, 0, 3), "xmas": (12, 24, 0, 3), "new year": (1, 0, 0, 2)}
YEARLY |= {"christmas eve": (12, 24, 0, 1), "christmas day": (12, 25, 0, 1)}
YEARLY |= {"new year eve": (12, 31, 0, 1), "new year day": (1, 1, 0, 1)}
"""What comes every year: its month and day, and how many months or days it lasts; day 0 is the day before the first."""


def window_of(text: str, now: datetime) -> Window | None:
    """The first time that an English text speaks of; None where there is none, or where it lies ahead.

    What may be another word ("may", "march", "fall") is a time only after a preposition or beside a day or a year.
    "after" counts as "since": after a fight on Monday, how one felt on Monday belongs to it.

    Args:
        text: what a person said.
        now: timezone-aware, in the person's own zone: days begin and end there.

    Raises:
        ValueError: `now` has no zone.
    """
    if now.tzinfo is None:
        raise ValueError(f"now is {now.isoformat()}, without a zone: give it in the zone of the person who speaks")
    found = list(_phrases(text, now))
    for first, second in zip_longest(found, found[1:]):
        start, lead = _lead(text, first.start)
        lead = lead.removesuffix(" the")
        if second and lead in {"between", "from"} and _BRIDGE.fullmatch(text, first.end, second.start):
            since = _not_after(second.span[0], first, text)
            if since <= second.span[0]:
                return Window(since, second.span[1], text[start : second.end])
        (since, until), words = first.span, text[start : first.end]
        if lead == "from" and _ONWARDS.match(text, first.end):
            return Window(since, None, words)
        if first.firm:
            match lead:
                case "since" | "after":
                    return Window(since, None, words)
                case "before" | "until" | "till":
                    return Window(None, since, words)
                case "by":
                    return Window(None, until, words)
                case "of" | "and" | "to":
                    words = text[first.start : first.end]
            return Window(since, until, words)
    return None


def _phrases(text: str, now: datetime, start: int = 0) -> Iterator[_Found]:
    """The phrases of the table in the order of the text; where several begin at one place, the first of the table."""
    text = _AHEAD.sub(lambda match: "\0" * len(match[0]), text)
    hits = [
        (match.start(), order, match)
        for order, (rule, _, _) in enumerate(_RULES)
        for match in rule.finditer(text, start)
    ]
    end = start
    for at, order, match in sorted(hits, key=lambda hit: hit[:2]):
        if at < end:
            continue
        _, leads, read = _RULES[order]
        try:
            span = read(match, now)
        except (ValueError, OverflowError):  # the 31st of February, the year 0
            continue
        _, lead = _lead(text, at)
        firm = leads is None or lead in leads
        if span and span[0] <= now and (firm or lead in _RANGE_LEADS):
            end = match.end()
            yield _Found(at, end, span, firm)


def _lead(text: str, start: int) -> tuple[int, str]:
    """Where the preposition before a phrase begins, and which it is; "in the" is another one than "in"."""
    match = _LEAD.search(text, max(0, start - 32), start)
    if not match:
        return start, ""
    lead, edge = match["lead"].lower(), (match["edge"] or "").lower()
    if edge and lead not in {"since", "before", "until", "till", "after", "by"}:
        return start, "of"  # "at the beginning of May" is in May
    if edge == "end" and lead in {"before", "until", "till"}:
        lead = "by"
    return match.start(), lead + (" the" if match["the"] else "")


def _not_after(limit: datetime, found: _Found, text: str) -> datetime:
    """When a phrase begins, read as of `limit` if it were later: "between November and February"."""
    if found.span[0] > limit:
        found = next(_phrases(text[: found.end], limit, found.start), found)
    return found.span[0]


# ---- what a phrase means ---------------------------------------------------------------------------------------------


def _day(now: datetime, back: float) -> datetime:
    """The midnight that began the day so many days back."""
    return (now - timedelta(days=back)).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)


def _part(day: datetime, part: str | None) -> tuple[datetime, datetime]:
    since, until = PARTS[part.lower()] if part else (0, 24)
    return day + timedelta(hours=since), day + timedelta(hours=until)


def _month(now: datetime, months: int) -> datetime:
    """The midnight that began a month, counted from the year 0."""
    return _day(now, 0).replace(year=months // 12, month=months % 12 + 1, day=1)


def _amount(words: str | None) -> tuple[float, float]:
    """The least and the most of a number in words or digits; one where nothing was said."""
    if words is None or words.isdigit():
        return int(words or 1), int(words or 1)
    known = words.lower().split()
    return (0.5, 0.5) if known[0] == "half" else AMOUNTS[next(word for word in known[::-1] if word in AMOUNTS)]


def _days_back(back: int, part: str | None = None) -> Reader:
    return lambda match, now: _part(_day(now, back), part or match.groupdict().get("part"))


def _tonight(match: re.Match[str], now: datetime) -> Span:
    return _part(_day(now, 1 if now.hour < PARTS["night"][1] - 24 else 0), "night")


def _since_days(days: int, until: int | None = None) -> Reader:
    return lambda match, now: (_day(now, days), None if until is None else _day(now, until))


def _ago(match: re.Match[str], now: datetime) -> Span:
    """Days are counted exactly; of a larger unit, all that rounds to so many of it."""
    unit = match["unit"].lower()
    least, most = _amount(match["n"])
    if unit in {"day", "night"}:
        part = "night" if unit == "night" else None
        return _part(_day(now, most), part)[0], _part(_day(now, least), part)[1]
    slack = min(1.0, least) / 2
    since, until = ((most + slack) * UNIT_DAYS[unit], (least - slack) * UNIT_DAYS[unit])
    if unit == "hour":
        return now - timedelta(days=since), now - timedelta(days=until)
    return _day(now, since), _day(now, until)


def _last_few(match: re.Match[str], now: datetime) -> Span:
    unit = match["unit"].lower()
    days = _amount(match["n"] or ("few" if match["many"] else None))[1] * UNIT_DAYS[unit]
    return (now - timedelta(days=days) if unit == "hour" else _day(now, round(days))), None


def _period(match: re.Match[str], now: datetime) -> Span:
    """A night, or a week, month or year of the calendar."""
    unit, back = match["unit"].lower(), {"this": 0, "last": 1, "before": 2}[match["which"].lower()]
    if unit == "night":
        return _part(_day(now, back), unit)
    if unit == "week":
        monday = _day(now, now.weekday() + 7 * back)
        return monday, monday + timedelta(days=7)
    first, length = (now.year * 12 + now.month - 1, 1) if unit == "month" else (now.year * 12, 12)
    return _month(now, first - back * length), _month(now, first - (back - 1) * length)


def _weekend(match: re.Match[str], now: datetime) -> Span:
    """From Wednesday on, "this weekend" lies ahead; "last weekend" is over when it is said."""
    which = (match.groupdict().get("which") or "").lower()
    weeks = {"last": 1, "before": 2}.get(which, int(now.weekday() < (2 if which == "this" else 5)))
    saturday = _day(now, now.weekday() - 5 + 7 * weeks)
    return saturday, saturday + timedelta(days=2)


def _weekday(match: re.Match[str], now: datetime) -> Span | None:
    said = match.groupdict()
    target, which = WEEKDAYS.index(said["day"].lower()), (said.get("which") or "").lower()
    back = now.weekday() - target  # in this week
    if said.get("week"):
        back += 7
    elif which != "this":
        back = (back - 1) % 7 + 1
    return _part(_day(now, back), said["part"])


def _yearly(match: re.Match[str], now: datetime) -> Span | None:
    """A month, a season or a feast of the year that was said, or the latest."""
    said = match.groupdict()
    which = (said.get("which") or "").lower()
    name = " ".join(re.sub("['’]", "", said["name"].lower()).split()).replace("years", "year")
    month, day, months, days = YEARLY[name if name in YEARLY else name[:3]]
    for year in [int(said["year"])] if said.get("year") else range(now.year + 1, now.year - 3, -1):
        since = _month(now, year * 12 + month - 1) + timedelta(days=day - 1)
        until = _month(now, year * 12 + month - 1 + months) if months else since + timedelta(days=days)
        if since <= now and not (which == "last" and until > now):
            ahead = which == "this" and since.year < now.year and now - since > timedelta(days=120)
            return None if ahead else (since, until)
    return None


def _dated(match: re.Match[str], now: datetime) -> Span | None:
    """A day of a month, of the year that was said, or the latest."""
    said = match.groupdict()
    month = int(said["month"]) if said["month"].isdigit() else MONTHS.index(said["month"][:3].lower()) + 1
    for year in [int(said["year"])] if said.get("year") else range(now.year, now.year - 9, -1):
        since = _month(now, year * 12 + month - 1) + timedelta(days=int(said["number"]) - 1)
        if since.month == month and since <= now:  # there is not always a 29th of February
            return since, since + timedelta(days=1)
    return None


def _year(match: re.Match[str], now: datetime) -> Span:
    return _month(now, int(match["year"]) * 12), _month(now, int(match["year"]) * 12 + 12)


# ---- the table -------------------------------------------------------------------------------------------------------


def _compile(words: str) -> re.Pattern[str]:
    """Whole words in any case; a blank is any white space."""
    return re.compile(r"\b(?:" + words.replace(" ", r"\s+") + r")(?!\w)", re.IGNORECASE)


_N = r"(?P<n>(?<!\d[.,])\d{1,3}|half an?|(?:a )?couple(?: of)?|a few|" + "|".join(AMOUNTS) + ")"
_PART = "(?P<part>" + "|".join(PARTS) + ")"
_YEAR = r"(?P<year>(?:19|20)\d\d)(?![\d:%]|[.,]\d)"
_NTH = r"(?P<number>\d{1,2})"
_ON = rf"(?:(?:{'|'.join(WEEKDAYS)}),? (?:the )?)?"
_DAY = "(?P<day>" + "|".join(WEEKDAYS) + ")"
_UNIT = "(?P<unit>hour|day|week|month|year)"
_PLAIN_MONTH = "january|february|july|september|october|november|december"
_MONTH = _PLAIN_MONTH + r"|march|april|may(?! (?:be|have|not|also|well|never|as)\b)|june|august|sept"
_MONTH += "".join(f"|{month}" for month in MONTHS if month not in {"mar", "may"})
_SEASON = "spring|summer|autumn|winter"
_FEAST = "christmas(?: eve| day)?|xmas|new year(?:['’]?s)?(?: eve| day)?"
_NAME = "|".join((*WEEKDAYS, _PLAIN_MONTH, "march|april|may|june|august", _SEASON, _FEAST))

_AHEAD = _compile(
    rf"(?:day after )?tomorrow(?: (?:{'|'.join(PARTS)}))?|(?:{_NAME}) (?:of )?next week|by (?:{'|'.join(WEEKDAYS)})"
    rf"|(?:next|coming|following|upcoming|every|each)(?: (?:other|single|few|\d+|{'|'.join(AMOUNTS)}))?"
    rf" (?:(?:hour|day|week|weekend|month|year|{'|'.join(PARTS)})s?|(?:{_NAME}|fall)(?: (?:{'|'.join(PARTS)}))?)"
    r"|(?:(?:i|we|you|he|she|they|it|that|there)(?:['’]ll| will| shall)|going to|gonna)\b[^.!?;,]{0,60}?"
    rf" (?:on|in|at|over|by|this) (?:the )?(?:{_NAME})"
)
"""What lies ahead, and what comes again and again: none of it is looked at."""

_LEAD = re.compile(
    r"\b(?P<lead>in|on|at|of|over|during|throughout|through|around|all|early|late|mid|since|before|until|till|after|by"
    r"|between|from|and|to)(?:[\s-]+(?:early|late|mid))?"
    r"(?:\s+the\s+(?P<edge>beginning|start|middle|end)\s+of|[\s-]+(?P<the>the))?[\s-]+\Z",
    re.IGNORECASE,
)
_BRIDGE = re.compile(r"\s*(?:and|to|until|till|through|-|–)\s*(?:the\s+)?", re.IGNORECASE)
_ONWARDS = re.compile(r"\s+on(?:wards?)?\b", re.IGNORECASE)
_RANGE_LEADS = {"between", "from", "and", "to", "until", "till", "through"}
_DATE_LEADS = {"on", "since", "before", "until", "till", "after", "by"}
_YEAR_LEADS = _DATE_LEADS - {"on"} | {"in", "of", "during", "throughout", "early", "late", "mid"}
_MONTH_LEADS = _YEAR_LEADS | {"through", "around"}
_SEASON_LEADS = {lead + the for lead in (*_MONTH_LEADS, "over", "all") for the in ("", " the")}
_FEAST_LEADS = {lead + the for lead in (*_DATE_LEADS, "at", "over", "during", "around") for the in ("", " the")}
_WEEKEND_LEADS = {f"{lead} the" for lead in (*_DATE_LEADS, "at", "over", "during")}

_RULES: tuple[tuple[re.Pattern[str], set[str] | None, Reader], ...] = tuple(
    (_compile(words), leads, read)
    for words, leads, read in (
        (rf"(?:the )?day before yesterday(?: {_PART})?", None, _days_back(2)),
        (rf"yesterday(?: {_PART})?", None, _days_back(1)),
        ("last (?P<part>evening|night)", None, _days_back(1)),
        (rf"this {_PART}", None, _days_back(0)),
        ("today", None, _days_back(0)),
        ("now", set(), lambda match, now: (now, None)),
        ("tonight", None, _tonight),
        ("recently|lately|these days|in recent (?:days|weeks)", None, _since_days(RECENT_DAYS)),
        ("the other (?:day|night|evening|morning)", None, _since_days(7, 0)),
        (rf"{_N} (?P<unit>hour|day|night|week|month|year)s? ago", None, _ago),
        (rf"(?:the|these|this) (?:last|past)(?: {_N})? {_UNIT}(?P<many>s)?(?! of\b)", None, _last_few),
        (rf"(?:last|past) {_N} {_UNIT}(?P<many>s)?(?! of\b)", None, _last_few),
        (rf"{_ON}{_NTH}(?:st|nd|rd|th)? (?:of )?(?P<month>{_MONTH}),? {_YEAR}", None, _dated),
        (rf"{_ON}{_NTH}(?:(?:st|nd|rd|th)(?: of)?| of|(?! ma[ry])) (?P<month>{_MONTH})", None, _dated),
        (rf"{_NTH} (?P<month>march|may)", _DATE_LEADS, _dated),
        (rf"{_ON}(?P<month>{_MONTH}) (?:the )?{_NTH}(?:st|nd|rd|th)?,? {_YEAR}", None, _dated),
        (rf"{_ON}(?P<month>{_MONTH}) (?:the )?{_NTH}(?:st|nd|rd|th)", None, _dated),
        (rf"{_ON}(?P<month>{_MONTH}) {_NTH}(?![\d:%]|[.,]\d)", _DATE_LEADS, _dated),
        (r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<number>\d\d)(?!-)", None, _dated),
        ("(?P<week>last week)(?: on)? " + _DAY + f"(?: {_PART})?", None, _weekday),
        (rf"(?:(?P<which>last|this) )?{_DAY}(?: (?:of )?(?P<week>last week))?(?: {_PART})?", None, _weekday),
        (r"(?P<which>last|this) (?P<unit>week|month|year)(?! of\b)", None, _period),
        ("(?:the )?(?P<unit>night|week|month|year) (?P<which>before) last", None, _period),
        ("(?:the )?weekend (?P<which>before) last", None, _weekend),
        ("(?:(?P<which>last|this)|this past|this last) weekend", None, _weekend),
        ("weekend", _WEEKEND_LEADS, _weekend),
        (rf"(?P<name>{_MONTH}|{_SEASON}|fall|{_FEAST}),? (?:of )?{_YEAR}", None, _yearly),
        (rf"(?P<which>last|this(?! (?:may|march)\b)) (?P<name>{_MONTH}|{_SEASON}|fall|{_FEAST})", None, _yearly),
        (f"(?P<name>{_PLAIN_MONTH})", None, _yearly),
        (f"(?P<name>{_MONTH})", _MONTH_LEADS, _yearly),
        (f"(?P<name>{_SEASON})", _SEASON_LEADS, _yearly),
        ("(?P<name>fall)", {"in", "in the", "early", "late"}, _yearly),
        (f"(?P<name>{_FEAST})", _FEAST_LEADS, _yearly),
        ("the year " + _YEAR, None, _year),
        (_YEAR, _YEAR_LEADS, _year),
    )
)
"""A phrase, the prepositions it needs (None: it is a time without any), and its reader."""
