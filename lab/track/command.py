"""The command line of a study. Nothing slow is imported, so that `--help` answers at once."""

from __future__ import annotations

import dataclasses
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

import tyro

from lab.config import DEMO, PAPER, Config, override

S = TypeVar("S", bound=Config)


def settings_for(
    study: type[S],
    arguments: Sequence[str],
    *,
    varied: Mapping[str, str],
    changes: Mapping[str, Any] | None = None,
    demo: Mapping[str, Any] | None = None,
) -> S:
    """The settings of a study from its command line.

    With `--data` every default is the paper's, without it the demo's; `changes` are the study's own defaults, by dotted
    name, and `demo` those of its demo. `varied` maps a setting that the study varies itself to the flag that says how:
    naming such a setting is refused, for it would do nothing.
    """
    names = [word.partition("=")[0].replace("_", "-") for word in arguments]
    for setting, flag in varied.items():
        if f"--{setting}".replace("_", "-") in names:
            refuse(f"this study varies {setting} itself; choose with {flag}")
    real = "--data" in names or "--data.path" in names
    if real and any(name.startswith("--phantom.") for name in names):
        refuse("--phantom settings do nothing with --data; leave one of the two out")
    preset = override(PAPER if real else DEMO, {**(changes or {}), **({} if real else demo or {})})
    default = study(**{item.name: getattr(preset, item.name) for item in dataclasses.fields(Config)})
    text = f"Defaults below are those of {'the paper' if real else 'the phantom demo; with --data PATH, the paper'}."
    return tyro.cli(study, default=default, args=list(arguments), description=f"{study.__doc__}\n\n{text}")


def refuse(mistake: str) -> NoReturn:
    """Say what is wrong and end, as the parser does."""
    print(f"error: {mistake}", file=sys.stderr)
    raise SystemExit(2)


def plain(settings: Config) -> Config:
    """The settings without what one study adds to them."""
    return Config(**{item.name: getattr(settings, item.name) for item in dataclasses.fields(Config)})


def explain(work: Callable[[], object], *, unit: str = "epoch") -> int:
    """Run `work`; a mistake of the user or of the machine is one clear line and exit code 2, not a traceback.

    `unit` is what at most one of is lost when it is interrupted.
    """
    # What a scheduler sends is an interruption too. Not the handler of SIGINT, which a shell's `&` sets to be ignored.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        work()
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\ninterrupted; the same command goes on from the last finished {unit}", file=sys.stderr)
        return 130
    return 0
