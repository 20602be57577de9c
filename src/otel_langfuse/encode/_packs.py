"""Encoded spans, split into as few requests as keep their order and the limit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from otel_langfuse.model import Resource, Scope, Span


class Form(NamedTuple):
    """What a request is made of.

    Args:
        request: from spans, and from what each is encoded as, to the body.
        resource_bytes: at most what a resource adds to a body.
        scope_bytes: the same for a scope.
        between: bytes between two spans.
        around: bytes around everything.
    """

    request: Callable[[Sequence[Span], Sequence[bytes]], bytes]
    resource_bytes: Callable[[Resource], int]
    scope_bytes: Callable[[Scope], int]
    between: int = 0
    around: int = 0


def packs(spans: Sequence[Span], bodies: Sequence[bytes], max_bytes: int, form: Form) -> Iterator[tuple[Sequence[Span], bytes]]:
    """Bodies of requests within the limit, with their spans; a span that alone is larger stands alone.

    Args:
        spans: to be sent.
        bodies: what each is encoded as.
        max_bytes: of a request.
        form: of it.
    """
    if spans and sum(map(len, bodies)) <= max_bytes:  # mostly all of them fit, and nothing is to be added up
        whole = form.request(spans, bodies)
        if len(whole) <= max_bytes:
            yield spans, whole
            return
    sizes: dict[Any, int] = {}
    start = 0
    inside: set[Any] = set()
    total = form.around
    for place, (span, body) in enumerate(zip(spans, bodies, strict=True)):
        resource, scope = id(span.resource), (id(span.resource), id(span.scope))
        if scope not in sizes:
            sizes[resource] = form.resource_bytes(span.resource)
            sizes[scope] = form.scope_bytes(span.scope)
        if scope not in inside:
            total += sizes[scope] + (0 if resource in inside else sizes[resource])
        total += len(body) + form.between
        if place > start and total > max_bytes:
            yield spans[start:place], form.request(spans[start:place], bodies[start:place])
            start, inside = place, set()
            total = form.around + sizes[resource] + sizes[scope] + len(body) + form.between
        inside.update((resource, scope))
    if spans:
        yield spans[start:], form.request(spans[start:], bodies[start:])
