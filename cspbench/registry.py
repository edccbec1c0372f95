"""Named plug-ins: built-ins through a decorator, third parties through an entry-point group."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from cspbench.errors import ConfigError, did_you_mean

T = TypeVar("T")


class Registry(Generic[T]):
    """Maps names to objects of one kind.

    Args:
        kind: what is registered, for messages, e.g. ``"pruning method"``.
        group: entry-point group third-party packages publish under. A package that fails to import
            raises: a plug-in that silently vanishes is worse than one that stops the program.
    """

    def __init__(self, kind: str, group: str) -> None:
        self.kind = kind
        self.group = group
        self._items: dict[str, T] = {}
        self._discovered = False

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that registers its argument as `name`; a name can be taken only once."""

        def add(item: T) -> T:
            if name in self._items and self._items[name] is not item:
                raise ConfigError(f"{self.kind} '{name}' is registered twice: {self._items[name]!r} and {item!r}")
            self._items[name] = item
            return item

        return add

    def get(self, name: str) -> T:
        """Return what is registered as `name`; raises ConfigError with the known names otherwise."""
        self._discover()
        if name not in self._items:
            known = self.names()
            raise ConfigError(f"unknown {self.kind} '{name}'{did_you_mean(name, known)} (known: {', '.join(known)})")
        return self._items[name]

    def names(self) -> list[str]:
        """Registered names, sorted."""
        self._discover()
        return sorted(self._items)

    def _discover(self) -> None:
        if self._discovered:
            return
        self._discovered = True
        for point in entry_points(group=self.group):
            self.register(point.name)(point.load())
