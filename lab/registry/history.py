"""History of a model name's champions: when and how each was set, as tags that are appended and never changed.

The alias is authoritative; an event is written after it has moved. A move without an event (by hand, or because the
process was killed in between) is recorded as "by hand" before the next event.
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
    """"void" or "meant" for an event of an earlier program version that never came into effect."""

    def describe(self) -> str:
        """The event in one line."""
        why = f": {self.reason}" if self.reason else ""
        return f"{self.when} version {self.version}, {self.how}, by {self.who}{why}"


def history(name: str) -> list[Event]:
    """All events, oldest first."""
    tags = name_tags(name)
    events = [Event(**json.loads(tags[key])) for key in sorted(tags) if key.startswith(PREFIX)]
    return [event for event in events if event.state == "done"]


def champions(events: list[Event]) -> list[str]:
    """Versions from the first champion to the present one; a rollback removes the last."""
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
    """Move the alias, and record the event."""
    current, events = version_of(name, CHAMPION), history(name)
    number = sum(key.startswith(PREFIX) for key in name_tags(name)) + 1
    set_alias(name, CHAMPION, version)
    steps = [(version, how, reason)]
    if current is not None and champions(events)[-1:] != [current]:
        steps.insert(0, (current, "by hand", ""))
    for place, (which, way, why) in enumerate(steps, start=number):
        event = Event(number=place, version=which, how=way, reason=why, when=now(), who=who())
        set_name_tag(name, f"{PREFIX}{place:04d}", json.dumps(asdict(event)))


def champion_before(name: str) -> str:
    """Version that a rollback restores: the last champion before the present one that still exists.

    Raises ValueError where there is none.
    """
    current = version_of(name, CHAMPION)
    if current is None:
        raise ValueError(f"{name!r} has no champion: there is nothing to roll back")
    stack = champions(history(name))
    earlier = [version for version in reversed(stack) if version != current]
    for version in earlier:
        if find_version(name, version) is not None:
            return version
    gone = f" (deleted since: version {', '.join(earlier)})" if earlier else ""
    raise ValueError(f"{name!r} had no champion before version {current}{gone}: there is nothing to go back to")


def now() -> str:
    """Present time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def who() -> str:
    """The user's name, from the system."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
