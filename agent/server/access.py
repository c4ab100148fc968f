"""Who asks: found by their token, or by sitting at this machine; and how much they may ask.

Without any token the server answers this machine only. As soon as there is one, everybody needs one: a proxy's requests
come from this machine, too.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from agent.people import People

MAX_KNOWN = 10_000
"""Askers whose rate is kept; the one who asked longest ago is forgotten first."""

STRANGERS_A_MINUTE = 30
"""Refused requests of one address in a minute; more are not even looked at."""


class Refused(Exception):
    """A request that is not answered: `status` is that of HTTP, the text says why and what to do."""

    def __init__(self, status: int, why: str, retry_after_s: int | None = None) -> None:
        super().__init__(why)
        self.status = status
        self.retry_after_s = retry_after_s


class Rate:
    """So many requests a minute, evenly, after as many at once (a token bucket for each asker)."""

    def __init__(self, a_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._a_minute = a_minute
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # asker -> requests left, and when

    def wait_s(self, asker: str) -> float:
        """Count a request: 0 if it may be answered, else in how many seconds it may."""
        left = self.left(asker)
        self._left[asker] = (max(left - 1, 0.0) if left >= 1 else left, self._clock())
        self._left.move_to_end(asker)
        if len(self._left) > MAX_KNOWN:
            self._left.popitem(last=False)
        return 0.0 if left >= 1 else (1 - left) * 60 / self._a_minute

    def left(self, asker: str) -> float:
        """How many requests may come at once now."""
        left, at = self._left.get(asker, (float(self._a_minute), self._clock()))
        return min(self._a_minute, left + (self._clock() - at) * self._a_minute / 60)


class Access:
    """Decides about each request.

    Args:
        people: whose tokens count.
        alone: who sits at this machine, while there are no tokens.
        hosts: names by which browsers may reach the server, beside localhost and numeric addresses.
        origins: other web sites whose pages may use it.
        a_minute: requests of one person.
    """

    def __init__(
        self,
        people: People,
        *,
        alone: str = "me",
        hosts: Sequence[str] = (),
        origins: Sequence[str] = (),
        a_minute: int = 60,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._people = people
        self._alone = alone
        self._names = {"localhost", *hosts}
        self.origins = origins
        self._rate = Rate(a_minute, clock)
        self._strangers = Rate(STRANGERS_A_MINUTE, clock)

    def check_page(self, connection: HTTPConnection) -> None:
        """Turn away what another web site's page sends through somebody's browser.

        Raises:
            Refused: 403.
        """
        if why := why_foreign(connection, self._names, self.origins):
            raise Refused(403, why)

    def user_of(self, connection: HTTPConnection) -> str:
        """Who asks.

        Raises:
            Refused: 401 for nobody that is known, 429 for somebody who asks too often.
        """
        address = connection.client.host if connection.client else ""
        if self._strangers.left(address) < 1:
            raise Refused(429, "too many requests without a valid token: try again later", 60)
        user = self._known(connection, address)
        if user is None:
            self._strangers.wait_s(address)
            raise Refused(401, "this needs a token, as in `Authorization: Bearer emox-...`; `emox token new` makes one")
        if wait_s := self._rate.wait_s(user):
            raise Refused(429, "these are more requests than one person may send: wait a little", max(1, round(wait_s)))
        return user

    def _known(self, connection: HTTPConnection, address: str) -> str | None:
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        if self._people.has_tokens():
            return self._people.user_of(token.strip()) if scheme.lower() == "bearer" else None
        proxied = "forwarded" in connection.headers or "x-forwarded-for" in connection.headers
        return self._alone if is_here(address) and not proxied else None


def why_foreign(connection: HTTPConnection, names: Collection[str], origins: Sequence[str]) -> str | None:
    """Why a request is not of this server's own page, nor of one of `origins`; None if it may be."""
    host = connection.headers.get("host", "")
    name = urlsplit(f"//{host}").hostname or ""
    if name not in names and not _is_address(name):
        return "this server is reached by localhost, by its address in numbers, or by a name in hosts"
    origin = connection.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != host and origin not in origins:
        return f"only this server's own page may use it; to let {origin} do so, add it to the setting origins"
    return None


def is_here(address: str) -> bool:
    """Whether an address is this machine's own loopback."""
    return address == "localhost" or (_is_address(address) and ip_address(address).is_loopback)


def _is_address(name: str) -> bool:
    """Numeric addresses cannot be made to lead elsewhere, as names can."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
