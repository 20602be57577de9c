"""Encoded spans, split into as few requests as keep their order and the limit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from otel_langfuse.model import Resource, Scope, Span


class Form(NamedTuple):
    """What a request is made of.

    Args:
        request: from spans and what each is encoded as, to the body.
        resource_bytes: at most what a resource adds to a body.
        scope_bytes: the same for a scope.
        between: bytes between two spans.
        around: bytes around everything.
    """

    request: Callable[[Iterable[tuple[Span, bytes]]], bytes]
    resource_bytes: Callable[[Resource], int]
    scope_bytes: Callable[[Scope], int]
    between: int = 0
    around: int = 0


def packs(made: Sequence[tuple[Span, bytes]], max_bytes: int, form: Form) -> Iterator[tuple[list[Span], bytes]]:
    """Bodies within the limit, with their spans; a span that alone is larger stands alone."""
    if made and sum(len(body) for _, body in made) <= max_bytes:  # mostly all of them fit, and nothing is to be added up
        whole = form.request(made)
        if len(whole) <= max_bytes:
            yield [span for span, _ in made], whole
            return
    sizes: dict[Any, int] = {}
    pack: list[tuple[Span, bytes]] = []
    inside: set[Any] = set()
    total = form.around
    for span, body in made:
        resource, scope = id(span.resource), (id(span.resource), id(span.scope))
        if scope not in sizes:
            sizes[resource] = form.resource_bytes(span.resource)
            sizes[scope] = form.scope_bytes(span.scope)
        if scope not in inside:
            total += sizes[scope] + (0 if resource in inside else sizes[resource])
        total += len(body) + form.between
        if pack and total > max_bytes:
            yield [one for one, _ in pack], form.request(pack)
            pack, inside = [], set()
            total = form.around + sizes[resource] + sizes[scope] + len(body) + form.between
        pack.append((span, body))
        inside.update((resource, scope))
    if pack:
        yield [one for one, _ in pack], form.request(pack)
