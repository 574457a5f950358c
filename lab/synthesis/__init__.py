"""Networks, losses and training methods for synthesizing a post-contrast T1 from T1, T2 and FLAIR (torch).

Networks and methods are registered by name. The module behind a name is imported on first use, since torch and MONAI
take seconds to import.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, Generic, TypeVar

from lab.config import Config

Spec = TypeVar("Spec")


class Registry(Mapping[str, Spec], Generic[Spec]):
    """Name -> spec, each given as "module:NAME". The name is a flag, an MLflow parameter and part of a package."""

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
        """The spec of a name. Raises ValueError, with the known names, for an unknown one."""
        if name not in self.places:
            raise ValueError(f"there is no {self.kind} {name!r}; choose from {', '.join(self)}")
        return self[name]


def group(name: str) -> str:
    """The name as it is written in dotted settings: `swin_unetr` for `swin-unetr`."""
    return name.replace("-", "_")


def settings_of(config: Config, name: str, kind: type | None) -> Any:
    """The settings of a network or method: the part of the config of that type, else its options, else its defaults."""
    if kind is None:
        return None
    own = [part for part in (config.model, config.train) if type(part) is kind]
    return own[0] if own else config.options.get(group(name), kind())
