"""The shape of a row, and of a table of rows.

A family of instrumentations is one ``Convention``: a table of ``Rule`` rows. A rule reads a span through ``Source`` words
(``_sources.py``) and sets the fields of one group together. Which rule wins is decided in ``precedence.py`` and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from otel_langfuse.conventions._view import View

Read: TypeAlias = "Callable[[View], Any]"


@dataclass(frozen=True, slots=True)
class Source:
    """A reader of a span, and what it looks at. ``read`` gives None where the span says nothing.

    ``keys`` are of span attributes, ``prefixes`` groups of prefixes of such (each group is looked up together, in the
    span's order), ``resource_keys`` of resource attributes, ``events`` are names of span events. A source that looks at
    none of them (a constant, the status) is always worth asking.
    """

    read: Read
    keys: frozenset[str] = frozenset()
    prefixes: frozenset[tuple[str, ...]] = frozenset()
    resource_keys: frozenset[str] = frozenset()
    events: frozenset[str] = frozenset()

    @property
    def looks(self) -> bool:
        """Whether it can only say something when the span carries something that it names."""
        return bool(self.keys or self.prefixes or self.resource_keys or self.events)


_CONTAINERS = (list, dict)  # which JavaScript calls true, empty ones too

Claims: TypeAlias = "Callable[[tuple[Any, ...]], bool]"


def present(values: tuple[Any, ...]) -> bool:
    """Claim the group when any field got a value that is not null."""
    for value in values:  # noqa: SIM110 - any() of a generator takes three times as long
        if value is not None:
            return True
    return False


def truthy(values: tuple[Any, ...]) -> bool:
    """Claim the group when any field got a value that JavaScript calls true (mapping.md 9: "fires")."""
    for value in values:  # noqa: SIM110 - as above
        if value or type(value) in _CONTAINERS:
            return True
    return False


def always(values: tuple[Any, ...]) -> bool:  # noqa: ARG001 - the signature is Claims
    """Claim the group whatever was read: the family does not let others speak."""
    return True


@dataclass(frozen=True, slots=True)
class Rule:
    """One row: fields of one group, each with the source that reads it.

    ``id`` is ``family/group/slug``. ``scope``: only for spans of exactly this instrumentation scope, or of those that begin so
    where it ends in ``*``; ``but_scope``: not for those of this one. ``when``: a further condition, which may look at the span
    only through a source. ``spec``: where the rule is written down. ``reason``: for
    corrections, why we knowingly differ from Langfuse's server.
    """

    id: str
    sets: Mapping[str, Source]
    spec: str
    scope: str | None = None
    but_scope: str | None = None
    when: Source | None = None
    claims: Claims = present
    reason: str = ""

    def is_for(self, scope: str) -> bool:
        """Whether it is for spans of this instrumentation scope."""
        if self.scope is None:
            return scope != self.but_scope
        return scope == self.scope or (self.scope.endswith("*") and scope.startswith(self.scope[:-1]))

    @property
    def group(self) -> str:
        """The group of fields that it competes for."""
        return self.id.split("/")[1]


@dataclass(frozen=True, slots=True)
class Convention:
    """Everything known about one family.

    ``scopes``: names of its instrumentation scopes (a trailing ``.*`` stands for any further segments). ``metadata``:
    prefixes of keys that hold one entry of user metadata each, with the key of the whole object that they belong to ("" for
    both observation's and trace's); ``not_metadata``: keys under them that are something else. ``content``: further keys or
    prefixes (ending in ``*``) that hold prompts or completions although no rule reads them. ``not_content``: keys that
    input and output rules read although Langfuse also shows them as ordinary attributes. ``is_general``: its scopes make spans
    of all kinds, not only those of LLM applications.
    """

    name: str
    rules: tuple[Rule, ...]
    scopes: tuple[str, ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()
    not_metadata: tuple[str, ...] = ()
    content: tuple[str, ...] = ()
    not_content: tuple[str, ...] = ()
    is_general: bool = False
