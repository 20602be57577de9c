from __future__ import annotations

from otel_langfuse.pipeline.filter import keep
from servers import sdk_spans


def test_the_predicate_decides_and_gets_the_sdks_span() -> None:
    llm, http = sdk_spans(["llm", "http"])
    assert keep(llm, lambda span: span.name == "llm") == (True, "")
    assert keep(http, lambda span: span.name == "llm") == (False, "")


def test_any_answer_counts_by_its_truth() -> None:
    assert keep(None, lambda _: "yes")[0] is True  # type: ignore[arg-type, return-value]
    assert keep(None, lambda _: None)[0] is False  # type: ignore[arg-type, return-value]


def test_a_predicate_that_raises_drops_the_span_and_the_detail_shows_no_content() -> None:
    def broken(_: object) -> bool:
        raise KeyError("SECRET")

    assert keep(None, broken) == (False, "should_export_span raised KeyError")
