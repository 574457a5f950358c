"""Who has been champion of a name, since when and how: tags of the registered model that are added to, never changed.

The alias is the truth, and an event is written once it has moved. A move that left none, by hand or because the process
was killed just then, is recorded as "by hand" before the next event.
"""

from __future__ import annotations

import getpass
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from lab.tracking.models.registered import find_version, name_tags, set_alias, set_name_tag, version_of

PREFIX = "champion."
CHAMPION = "champion"


@dataclass(frozen=True, kw_only=True)
class Event:
    """A version became champion."""

    number: int
    version: str
    how: str
    """"gate", "forced", "rollback", "by hand" (not by this program), "without gate" (from Python)."""
    when: str
    who: str
    reason: str = ""
    state: str = "done"
    """"void" or "meant" of an event that an earlier version of this program wrote and that never came into effect."""

    def describe(self) -> str:
        """In a line."""
        why = f": {self.reason}" if self.reason else ""
        return f"{self.when} version {self.version}, {self.how}, by {self.who}{why}"


def history(name: str) -> list[Event]:
    """All that happened, oldest first."""
    tags = name_tags(name)
    events = [Event(**json.loads(tags[key])) for key in sorted(tags) if key.startswith(PREFIX)]
    return [event for event in events if event.state == "done"]


def champions(events: list[Event]) -> list[str]:
    """Versions from the first champion to the present one; a rollback takes the last away."""
    stack: list[str] = []
    for event in events:
        if event.how == "rollback":
            while stack and stack[-1] != event.version:
                stack.pop()
            stack = stack or [event.version]
        elif stack[-1:] != [event.version]:
            stack.append(event.version)
    return stack


def set_champion(name: str, version: str, how: str, reason: str = "") -> None:
    """Move the alias, and write down what it was and why."""
    current, events = version_of(name, CHAMPION), history(name)
    number = sum(key.startswith(PREFIX) for key in name_tags(name))
    made = {"when": now(), "who": who()}
    set_alias(name, CHAMPION, version)
    new = [Event(number=number + 1, version=version, how=how, reason=reason, **made)]
    if current is not None and champions(events)[-1:] != [current]:
        new = [
            Event(number=number + 1, version=current, how="by hand", **made),
            Event(number=number + 2, version=version, how=how, reason=reason, **made),
        ]
    for event in new:
        set_name_tag(name, f"{PREFIX}{event.number:04d}", json.dumps(asdict(event)))


def champion_before(name: str) -> str:
    """The version that a rollback gives champion back to: the last before the present one that is still there.

    Raises ValueError where there is none.
    """
    current = version_of(name, CHAMPION)
    if current is None:
        raise ValueError(f"{name!r} has no champion: there is nothing to roll back")
    stack = champions(history(name))
    if stack[-1:] != [current]:
        stack.append(current)  # by hand
    earlier = [version for version in reversed(stack[:-1]) if version != current]
    there = next((version for version in earlier if find_version(name, version) is not None), None)
    if there is None:
        gone = f" (deleted since: version {', '.join(earlier)})" if earlier else ""
        raise ValueError(f"{name!r} had no champion before version {current}{gone}: there is nothing to go back to")
    return there


def now() -> str:
    """The time, in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def who() -> str:
    """Who is doing this, as the system knows it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
