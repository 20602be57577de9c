"""Libraries, each told to mask as it can be told, with the same spans; run in the virtual environment of each.

``python -m benchmarks.leaks.setups SETUP URL`` records, sends to the sink at the URL, and prints the secrets by place, as JSON.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from benchmarks.leaks.places import Places
from opentelemetry.sdk.trace import TracerProvider

KEYS = {"public_key": "pk-lf-leaks", "secret_key": "sk-lf-leaks"}
SECRET = re.compile(r"sk-lf-[0-9a-f]{32}")
OWN = ("input", "output", "metadata", "name", "model_parameters", "status_message", "version", "exception")


def form(number: int) -> str:
    return f"sk-lf-{number:032x}"


def hide(data: Any, **_: Any) -> Any:
    """A user's mask: takes the secrets out of whatever it is given."""
    if isinstance(data, str):
        return SECRET.sub("***", data)
    if isinstance(data, dict):
        return {hide(key): hide(item) for key, item in data.items()}
    return [hide(item) for item in data] if isinstance(data, (list, tuple)) else data


def broken(data: Any, **_: Any) -> Any:
    """A user's mask that does not know what it is given."""
    raise TypeError(type(data))


def _own(start: Callable[..., Any], places: Places) -> None:
    """An observation by the library's own API, which ours and the official SDK have in common."""
    at = {name: places.at(f"own API: {name}") for name in OWN}
    with (
        suppress(ValueError),
        start(
            name=f"chat {at['name']}",
            as_type="generation",
            input=[{"content": at["input"]}],
            metadata={"note": at["metadata"]},
            model_parameters={"stop": at["model_parameters"]},
            version=at["version"],
            status_message=at["status_message"],
        ) as observation,
    ):
        observation.update(output={"content": at["output"]})
        raise ValueError(at["exception"])


def langfuse(url: str, places: Places, **settings: Any) -> Callable[[], object]:
    from langfuse import Langfuse  # type: ignore[import-not-found]

    provider = TracerProvider(resource=places.resource(), shutdown_on_exit=False)
    client = Langfuse(base_url=url, tracer_provider=provider, should_export_span=lambda _: True, **KEYS, **settings)
    places.record(provider)
    _own(client.start_as_current_observation, places)
    return client.flush  # type: ignore[no-any-return]


def langfuse_patches(url: str, places: Places, function: Callable[[Any], Any] = hide) -> Callable[[], object]:
    from langfuse.types import MaskOtelSpansResult, OtelSpanPatch  # type: ignore[import-not-found]

    def mask(*, params: Any) -> Any:
        changed = {name: {key: function(value) for key, value in span.attributes.items()} for name, span in params.spans.items()}
        return MaskOtelSpansResult({name: OtelSpanPatch(set_attributes=new) for name, new in changed.items()})

    return langfuse(url, places, mask_otel_spans=mask)


def logfire(url: str, places: Places, **settings: Any) -> Callable[[], object]:
    import logfire as library  # type: ignore[import-not-found]

    library.configure(
        token="leaks",
        send_to_logfire=True,
        console=False,
        metrics=False,
        inspect_arguments=False,
        resource_attributes=dict(places.resource().attributes),
        scrubbing=library.ScrubbingOptions(**settings),
        advanced=library.AdvancedOptions(base_url=url),
    )
    from opentelemetry import trace

    places.record(trace.get_tracer_provider())
    at = {name: places.at(f"own API: {name}") for name in OWN if name not in ("model_parameters", "version", "status_message")}
    with (
        suppress(ValueError),
        library.span(f"chat {at['name']}", input=[{"content": at["input"]}], metadata={"note": at["metadata"]}) as span,
    ):
        span.set_attribute("output", {"content": at["output"]})
        raise ValueError(at["exception"])
    return lambda: library.force_flush(30_000)


def ours(url: str, places: Places, **settings: Any) -> Callable[[], object]:
    import otel_langfuse

    provider = TracerProvider(resource=places.resource(), shutdown_on_exit=False)
    every: dict[str, Any] = {"should_export_span": lambda _: True}
    client = otel_langfuse.configure(base_url=url, tracer_provider=provider, **every, **KEYS, **settings)
    places.record(provider)
    _own(otel_langfuse.start_as_current_observation, places)
    return client.flush


SETUPS: dict[str, Callable[[str, Places], Callable[[], object]]] = {
    "langfuse 5.0.4, `mask=`": lambda url, places: langfuse(url, places, mask=hide),
    "langfuse 5.0.4, `mask=` raises": lambda url, places: langfuse(url, places, mask=broken),
    "langfuse 5.0.4, `mask_otel_spans=`": langfuse_patches,
    "langfuse 5.0.4, `mask_otel_spans=` raises": lambda url, places: langfuse_patches(url, places, broken),
    "logfire 5.2.0, as it comes": logfire,
    "logfire 5.2.0, `extra_patterns=`": lambda url, places: logfire(url, places, extra_patterns=["sk-lf-"]),
    "ours, as it comes": ours,
    "ours, `mask=`": lambda url, places: ours(url, places, mask=hide, mask_secrets=False),
    "ours, `mask=` raises": lambda url, places: ours(url, places, mask=broken, mask_secrets=False),
    "ours, `content`": lambda url, places: ours(url, places, mask="content"),
}


if __name__ == "__main__":
    logging.disable()
    given = Places(form)
    SETUPS[sys.argv[1]](sys.argv[2], given)()
    print(json.dumps(given.secrets))
