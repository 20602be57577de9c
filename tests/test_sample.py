from __future__ import annotations

import random

import pytest
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

from otel_langfuse.pipeline.sample import bound, keep

_DICE = random.Random(3)
TRACE_IDS = [_DICE.getrandbits(128) for _ in range(2000)]


@pytest.mark.parametrize("rate", [0.0, 0.001, 0.25, 0.5, 0.999, 1.0])
def test_the_same_traces_are_kept_as_by_opentelemetrys_ratio_sampler(rate: float) -> None:
    sampler = TraceIdRatioBased(rate)
    for trace_id in TRACE_IDS:
        decision = sampler.should_sample(None, trace_id, "x").decision
        assert keep(trace_id, bound(rate)) == (decision is Decision.RECORD_AND_SAMPLE)


def test_none_is_none_and_all_is_all() -> None:
    edges = [0, 1, (1 << 64) - 1, (1 << 128) - 1]
    assert not any(keep(trace_id, bound(0.0)) for trace_id in edges + TRACE_IDS)
    assert all(keep(trace_id, bound(1.0)) for trace_id in edges + TRACE_IDS)


def test_a_service_with_a_lower_rate_keeps_a_part_of_what_another_keeps() -> None:
    few = {trace_id for trace_id in TRACE_IDS if keep(trace_id, bound(0.1))}
    many = {trace_id for trace_id in TRACE_IDS if keep(trace_id, bound(0.5))}
    assert few < many
    assert 120 < len(few) < 280
