"""How long to wait before trying again what keeps failing."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Backoff:
    """Each wait is twice the one before, from `first_s` to `longest_s` seconds, until `over` says that all is well."""

    first_s: float = 1.0
    longest_s: float = 60.0
    _next_s: float = field(default=0.0, init=False)

    def wait_s(self) -> float:
        """For this long now."""
        wait_s = min(self._next_s or self.first_s, self.longest_s)
        self._next_s = 2 * wait_s
        return wait_s

    def over(self) -> None:
        """The next wait is the first again."""
        self._next_s = 0.0
