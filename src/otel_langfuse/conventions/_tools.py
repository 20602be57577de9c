"""Tool definitions, which Langfuse moves from an observation's metadata into its input (mapping.md 9, Tools)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from otel_langfuse.conventions import _javascript as js

_INDEXED_PREFIX, _INDEXED_SUFFIX = "llm.tools.", ".tool.json_schema"
_FUNCTION_TOOLS = "function_tools"


class _Found(NamedTuple):
    """Definitions of one place, and what is left there: None where nothing is."""

    tools: list[Any]
    rest: Any = None


_NOTHING = _Found([])


def lift_tools(given: Any, metadata: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Input and metadata after the move; unchanged where there is no tool definition, or no place for it in the input."""
    shown = metadata.get("attributes")
    shown = shown if isinstance(shown, dict) else {}
    indexed = sorted(filter(_is_indexed, shown), key=_index)
    if not indexed and "tools" not in metadata and not any(name in shown for name in _READERS):
        return given, metadata
    top = _named_tools(_listed(metadata.get("tools")))
    places = {name: read(_listed(shown[name])) for name, read in _READERS.items() if name in shown}
    places |= {name: _definition(js.parse_or_none(shown[name])) for name in indexed}
    places = {name: found for name, found in places.items() if found.tools}
    tools = [*top.tools, *(tool for found in places.values() for tool in found.tools)]
    moved = _with_tools(given, _distinct(tools)) if tools else None
    if moved is None:
        return given, metadata
    return moved, _without(metadata, shown, places, drop_tools=bool(top.tools))


def may_hold_tools(name: str) -> bool:
    """Whether an attribute of this key may hold tool definitions."""
    return name in _READERS or _is_indexed(name)


def _without(
    metadata: Mapping[str, Any], shown: Mapping[str, Any], places: Mapping[str, _Found], *, drop_tools: bool
) -> dict[str, Any]:
    left = {name: value for name, value in shown.items() if name not in places}
    left |= {name: js.stringify(found.rest) for name, found in places.items() if found.rest}
    rest = {name: value for name, value in metadata.items() if not (drop_tools and name == "tools")}
    if left:
        return {**rest, "attributes": left}
    rest.pop("attributes", None)
    return rest


def _is_indexed(name: str) -> bool:
    return name.startswith(_INDEXED_PREFIX) and name.endswith(_INDEXED_SUFFIX) and _index(name) >= 0


def _index(name: str) -> int:
    digits = name[len(_INDEXED_PREFIX) : -len(_INDEXED_SUFFIX)]
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else -1


def _listed(value: Any) -> Any:
    """A value parsed, and the items of a list of texts parsed once more."""
    parsed = js.parse_or_none(value) if isinstance(value, str) else value
    if isinstance(parsed, list):
        return [js.parse_or_same(item) if isinstance(item, str) else item for item in parsed]
    return parsed


def _name(tool: Any) -> str | None:
    inner = tool.get("function") if isinstance(tool, dict) else None
    holder = inner if isinstance(inner, dict) else tool
    name = holder.get("name") if isinstance(holder, dict) else None
    return name if isinstance(name, str) and name else None


def _named_tools(value: Any) -> _Found:
    return _Found(value) if isinstance(value, list) and all(_name(tool) for tool in value) else _NOTHING


def _vercel_tools(value: Any) -> _Found:
    if isinstance(value, list) and all(isinstance(tool, dict) and (_name(tool) or tool.get("type")) for tool in value):
        return _Found(value)
    return _NOTHING


def _request_parameters(value: Any) -> _Found:
    if not isinstance(value, dict):
        return _NOTHING
    rest = {name: item for name, item in value.items() if name != _FUNCTION_TOOLS}
    return _Found(_named_tools(value.get(_FUNCTION_TOOLS)).tools, rest)


def _definition(value: Any) -> _Found:
    return _Found([value]) if _name(value) else _NOTHING


_READERS: dict[str, Callable[[Any], _Found]] = {
    "ai.prompt.tools": _vercel_tools,
    "gen_ai.tool.definitions": _named_tools,
    "model_request_parameters": _request_parameters,
}


def _distinct(tools: Iterable[Any]) -> list[Any]:
    by_name: dict[Any, Any] = {}
    for tool in tools:
        by_name.setdefault(_name(tool) or id(tool), tool)
    return list(by_name.values())


def _with_tools(given: Any, tools: list[Any]) -> Any:
    """The input with the tools; None where it is of a kind that cannot take them."""
    if isinstance(given, str):
        try:
            given = js.parse(given)
        except ValueError:
            return {"prompt": given, "tools": tools}
    if given is None:
        return {"tools": tools}
    if isinstance(given, str):
        return {"prompt": given, "tools": tools}
    if isinstance(given, list):
        return {"messages": given, "tools": tools}
    if not isinstance(given, dict):
        return None
    existing = given.get("tools")
    if existing is None:
        return {**given, "tools": tools}
    named = _named_tools(existing).tools
    return {**given, "tools": _distinct([*named, *tools])} if named else None
