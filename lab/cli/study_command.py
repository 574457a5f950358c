"""The command line of a study. Nothing slow is imported, so that `--help` answers at once."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

import tyro

from lab.config import DEMO, PAPER, Config, ModelConfig, network_key, override
from lab.io.files import describe_os_error
from lab.io.interruption import interruptible
from lab.synthesis import group, settings_of
from lab.synthesis.methods import METHODS
from lab.synthesis.networks import NETWORKS

S = TypeVar("S", bound=Config)


def settings_for(
    study: type[S],
    arguments: Sequence[str],
    *,
    varied: Mapping[str, str],
    changes: Mapping[str, Any] | None = None,
    demo: Mapping[str, Any] | None = None,
    registry: bool = False,
) -> S:
    """The settings of a study from its command line.

    With `--data` the defaults are the paper's, without it the demo's; `changes` are the study's own defaults by dotted
    name, `demo` those of its demo. `varied` maps a setting that the study varies itself to the flag that controls it:
    such a setting on the command line is an error, since it has no effect. With `registry` the study offers networks
    or methods by default: to name some of them does not make another study, as long as their settings stay.
    """
    names = [word.partition("=")[0].replace("_", "-") for word in arguments]
    for setting, flag in varied.items():
        if f"--{setting}".replace("_", "-") in names:
            refuse(f"this study varies {setting} itself; choose with {flag}")
    real = "--data" in names or "--data.path" in names
    if real and any(name.startswith("--phantom.") for name in names):
        refuse("--phantom settings do nothing with --data; leave one of the two out")
    preset: Config = override(PAPER if real else DEMO, {**(changes or {}), **({} if real else demo or {})})
    options = settings_of_named(arguments)
    usual = {name: preset.options.get(name, kind()) for name, kind in options.items()}
    kinds = [(name, kind, dataclasses.field(default=usual[name])) for name, kind in options.items()]
    extended: Any = dataclasses.make_dataclass(study.__name__, kinds, bases=(study,), frozen=True, kw_only=True)
    default = extended(**{item.name: getattr(preset, item.name) for item in dataclasses.fields(Config)})
    text = f"Defaults below are those of {'the paper' if real else 'the phantom demo; with --data PATH, the paper'}."
    found = tyro.cli(extended, default=default, args=list(arguments), description=f"{study.__doc__}\n\n{text}")
    parts = {item.name: getattr(found, item.name) for item in dataclasses.fields(study)}
    chosen = {**preset.options, **{name: getattr(found, name) for name in options}}
    if registry:
        chosen = {name: own for name, own in chosen.items() if own != type(own)()}
    return study(**parts | {"options": chosen})


def settings_of_named(arguments: Sequence[str]) -> dict[str, type]:
    """Settings classes, by group, of the networks and methods that are named or have a flag on the command line."""
    values = {part for word in arguments for part in word.split("=")}
    groups = {word[2:].partition(".")[0].replace("_", "-") for word in arguments if word.startswith("--")}
    found: dict[str, type] = {}
    for registry in (NETWORKS, METHODS):
        for name in registry:
            if name in values | groups and (kind := registry[name].settings) not in (None, ModelConfig):
                found[group(name)] = kind
    return found


def refuse(mistake: str) -> NoReturn:
    """Print a mistake and exit with code 2, as the parser does."""
    print(f"error: {mistake}", file=sys.stderr)
    raise SystemExit(2)


def equal_widths(settings: Config, networks: Sequence[str], arguments: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Widths that give networks other than the paper's about as many parameters as the first; prints all numbers.

    A width from the command line stays.
    """
    from lab.synthesis.networks import match_parameters, parameters_of  # late: torch takes seconds

    channels, target, found = len(settings.data.inputs), 0, {}
    for name in map(network_key, networks):
        spec = NETWORKS.find(name)
        own, flag = settings_of(settings, name, spec.settings), f"--{name}.{spec.width.replace('_', '-')}"
        given = any(word.partition("=")[0].replace("_", "-") == flag for word in arguments)
        if spec.settings is ModelConfig or given or not target:
            count = parameters_of(name, own, channels)
        else:
            own, count = match_parameters(name, own, channels, target)
            found[name] = {f"{group(name)}.{spec.width}": getattr(own, spec.width)}
        target = target or count
        print(f"{name}: {spec.width} {getattr(own, spec.width)}, {count:,} parameters", flush=True)
    return found


def run_study(settings: Config, *, name: str, question: str, grid: Callable[[], dict[str, Any]], **more: Any) -> int:
    """Run or continue a study with the settings of `settings_for`; returns the exit code, see `exit_code_of`.

    The other arguments are the fields of `lab.experiments.plan.Study`; errors of `grid` are the user's, too.
    """

    def work() -> None:
        from lab.experiments.synthesis.study import Study, run_synthesis_study  # late: torch and mlflow take seconds

        run_synthesis_study(Study(name=name, question=question, grid=grid(), **more), base_config(settings))

    return exit_code_of(work)


def base_config(settings: Config) -> Config:
    """The settings without those that a study adds."""
    return Config(**{item.name: getattr(settings, item.name) for item in dataclasses.fields(Config)})


def exit_code_of(work: Callable[[], object], *, unit: str | None = "epoch") -> int:
    """Run `work`; a mistake of the user or of the machine is one clear line and exit code 2, not a traceback.

    An interruption loses at most one `unit` of work; None is for work that restarts from the beginning.
    """
    try:
        with interruptible():
            work()
    except (ValueError, OSError, KeyboardInterrupt) as error:
        if interrupted(error):
            goes_on = f"; the same command goes on from the last finished {unit}" if unit else ""
            print(f"\ninterrupted{goes_on}", file=sys.stderr)
            return 130
        told = describe_os_error(error) if isinstance(error, OSError) else str(error)
        print(f"error: {' '.join(told.split())}", file=sys.stderr)
        return 2
    return 0


def interrupted(error: BaseException | None) -> bool:
    """Whether an error is an interruption, or was raised during the clean-up after one."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None
