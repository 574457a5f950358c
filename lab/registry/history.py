"""Who has been champion of a name, since when and how: tags of the registered model that are added to, never changed.

An event is written before the alias moves and confirmed after it. Of one that a crash left unconfirmed the alias, which
is the truth, says whether it came into effect; if not, it is marked as void when the next one is written.
"""

from __future__ import annotations

import getpass
import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from mlflow.exceptions import MlflowException

from lab.tracking.store import connect

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
    state: Literal["meant", "done", "void"] = "meant"
    """Written before the alias moves, after it, or never in effect."""

    @property
    def told(self) -> str:
        """In a line."""
        why = f": {self.reason}" if self.reason else ""
        return f"{self.when} version {self.version}, {self.how}, by {self.who}{why}"


def history(name: str) -> list[Event]:
    """All that happened, oldest first; of an event that was only meant the alias says what came of it."""
    found = recorded(name)
    if found and found[-1].state == "meant":
        state: Literal["done", "void"] = "done" if champion_of(name) == found[-1].version else "void"
        return [*found[:-1], replace(found[-1], state=state)]
    return found


def recorded(name: str) -> list[Event]:
    """The events as they were written."""
    tags = connect().get_registered_model(name).tags
    return [Event(**json.loads(tags[key])) for key in sorted(tags) if key.startswith(PREFIX)]


def replay(events: list[Event]) -> list[str]:
    """Versions from the first champion to the present one; a rollback takes the last away."""
    stack: list[str] = []
    for event in events:
        if event.state == "void":
            continue
        if event.how == "rollback":
            while stack and stack[-1] != event.version:
                stack.pop()
            stack = stack or [event.version]
        elif stack[-1:] != [event.version]:
            stack.append(event.version)
    return stack


def note(name: str, version: str, how: str, reason: str = "") -> Event:
    """Write down that a version is to become champion; then move the alias, then `confirm`."""
    events, current = history(name), champion_of(name)
    if events:
        write(name, events[-1])
    if current is not None and replay(events)[-1:] != [current]:
        events.append(replace(made(len(events) + 1, current, "by hand"), state="done"))
        write(name, events[-1])
    event = made(len(events) + 1, version, how, reason)
    write(name, event)
    return event


def confirm(name: str, event: Event) -> None:
    """Write down that it came into effect."""
    write(name, replace(event, state="done"))


def made(number: int, version: str, how: str, reason: str = "") -> Event:
    """An event of now."""
    return Event(number=number, version=version, how=how, when=now(), who=who(), reason=reason)


def write(name: str, event: Event) -> None:
    """Put an event on the registered model."""
    connect().set_registered_model_tag(name, f"{PREFIX}{event.number:04d}", json.dumps(asdict(event)))


def champion_of(name: str) -> str | None:
    """The version that is champion; None where none is."""
    found = connect().get_registered_model(name).aliases.get(CHAMPION)
    return None if found is None else str(found)


def before(name: str) -> str:
    """The version that a rollback gives champion back to: the last before the present one that is still there.

    Raises ValueError where there is none.
    """
    current = champion_of(name)
    if current is None:
        raise ValueError(f"{name!r} has no champion: there is nothing to roll back")
    events = history(name)
    stack = replay(events)
    if stack[-1:] != [current]:
        stack.append(current)  # by hand
    deleted = []
    for version in reversed(stack[:-1]):
        if version == current:
            continue
        try:
            connect().get_model_version(name, version)
        except MlflowException:
            deleted.append(version)
            continue
        return version
    gone = f" (deleted since: version {', '.join(deleted)})" if deleted else ""
    raise ValueError(f"{name!r} had no champion before version {current}{gone}: there is nothing to go back to")


def now() -> str:
    """The time, in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def who() -> str:
    """Who is doing this, as the system knows it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
