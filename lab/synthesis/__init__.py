"""Training a network that turns T1, T2 and FLAIR into a post-contrast T1 (torch).

Networks and methods go by names. The module behind a name is imported when it is
asked for, since torch and MONAI take seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, Generic, TypeVar

from lab.config import Config

Spec = TypeVar("Spec")


class Registry(Mapping[str, Spec], Generic[Spec]):
    """Name -> spec, each given as "module:NAME"; the name is flag, MLflow parameter and what packages store."""

    def __init__(self, kind: str, places: Mapping[str, str]) -> None:
        self.kind, self.places = kind, dict(places)

    def __getitem__(self, name: str) -> Spec:
        module, _, variable = self.places[name].partition(":")
        spec: Spec = getattr(import_module(module), variable)
        return spec

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)

    def find(self, name: str) -> Spec:
        """The spec. Raises ValueError, with the known names, where there is none."""
        if name not in self.places:
            raise ValueError(f"there is no {self.kind} {name!r}; choose from {', '.join(self)}")
        return self[name]


def group(name: str) -> str:
    """The name as it stands in dotted settings: `swin_unetr` for `swin-unetr`."""
    return name.replace("-", "_")


def settings_of(config: Config, name: str, kind: type | None) -> Any:
    """The settings of a network or a method: a part of the config of that type, else its options, else its defaults."""
    if kind is None:
        return None
    own = [part for part in (config.model, config.train) if type(part) is kind]
    return own[0] if own else config.options.get(group(name), kind())
