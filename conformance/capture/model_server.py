"""A scripted server on loopback: the models that recorded programs talk to, and the collector that takes their spans.

It knows OpenAI's chat completions, responses and embeddings, and Anthropic's messages, whole or streamed. What it answers depends
on the request alone, so that two recordings are equal: ``fail with 429`` (or another status) in the last user message fails;
offered tools are called once, each with arguments made from its schema; anything else gets ``ANSWER``. Ids are counted from 1
for each scenario.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ANSWER = "It is 21 degrees and sunny in Paris."
THOUGHT = "The user asks about the weather."
VECTOR = (0.5, -0.5, 0.5, 0.5)
CREATED = 1767225600
"""When every answer was made: 2026-01-01T00:00:00Z."""

DATED = {"gpt-4.1": "gpt-4.1-2025-04-14", "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14", "o4-mini": "o4-mini-2025-04-16"}
"""Models that answer under another name than they are asked by."""


class ModelServer(ThreadingHTTPServer):
    """Serves the models, and keeps the trace requests that arrive until ``take`` is called."""

    daemon_threads = True
    block_on_close = False  # a client may keep its connection open

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self._lock = threading.Lock()
        self._arrived: list[bytes] = []
        self._number = 0
        self.scenarios: dict[str, list[bytes]] = {}

    @property
    def url(self) -> str:
        """Where it listens, without a path."""
        return f"http://127.0.0.1:{self.server_port}"

    def keep(self, payload: bytes) -> None:
        """Keep one OTLP request."""
        with self._lock:
            self._arrived.append(payload)

    def end_scenario(self, name: str) -> None:
        """What arrived since the last call was of this scenario. Ids are counted from 1 again."""
        with self._lock:
            self.scenarios[name], self._arrived, self._number = self._arrived, [], 0

    def next_id(self, prefix: str) -> str:
        """``chatcmpl-000001`` and so on."""
        with self._lock:
            self._number += 1
            return f"{prefix}{self._number:06}"


@contextmanager
def model_server() -> Iterator[ModelServer]:
    """Serve on a free port of 127.0.0.1 until the block ends."""
    server = ModelServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="capture-model-server", daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet
    server: ModelServer

    def version_string(self) -> str:
        return "scripted"

    def date_time_string(self, timestamp: float | None = None) -> str:  # noqa: ARG002 - always the same
        return "Thu, 01 Jan 2026 00:00:00 GMT"

    def do_POST(self) -> None:
        body, path = self._body(), self.path.partition("?")[0]
        if path.startswith("/captured/"):
            self.server.end_scenario(path.removeprefix("/captured/"))
            self._answer(200, {})
        elif path.endswith("/v1/traces"):
            self.server.keep(body)
            self._answer(200, {})
        elif path.endswith(("/v1/metrics", "/v1/logs")):
            self._answer(200, {})
        elif reply := next((reply for end, reply in _REPLIES.items() if path.endswith(end)), None):
            self._reply(json.loads(body), *reply)
        else:
            self._answer(404, {"error": {"message": f"no such path: {path}", "type": "invalid_request_error"}})

    def do_GET(self) -> None:
        self._answer(404, {"error": {"message": f"no such path: {self.path}", "type": "invalid_request_error"}})

    def _reply(self, request: dict[str, Any], make: Any, stream: Any, provider: str) -> None:
        failing = re.search(r"fail with (\d{3})", _last_user_text(request))
        if failing:
            self._answer(int(failing[1]), _error(provider, int(failing[1])))
        elif request.get("stream"):
            self._stream(stream(request, make(request, self.server.next_id)), named=stream is not _chat_stream)
        else:
            self._answer(200, make(request, self.server.next_id))

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, parts: Iterator[dict[str, Any]], *, named: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for part in parts:
            name = f"event: {part['type']}\n" if named else ""
            self.wfile.write(f"{name}data: {json.dumps(part)}\n\n".encode())
        if not named:
            self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base class
        """Nothing: what is shown is what changed."""


def _error(provider: str, status: int) -> dict[str, Any]:
    kind = {429: "rate_limit_error", 500: "api_error"}.get(status, "invalid_request_error")
    message = f"The scripted server was asked to fail with {status}."
    if provider == "anthropic":
        return {"type": "error", "error": {"type": kind, "message": message}}
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


# -- what is asked -----------------------------------------------------------------------------------------------------


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        return _text(content.get("text") or content.get("content") or "")
    return " ".join(map(_text, content)) if isinstance(content, list) else ""


def _messages(request: dict[str, Any]) -> list[Any]:
    asked = request.get("messages", request.get("input", ""))
    return asked if isinstance(asked, list) else [{"role": "user", "content": asked}]


def _last_user_text(request: dict[str, Any]) -> str:
    said = [_text(message) for message in _messages(request) if isinstance(message, dict) and message.get("role") == "user"]
    return said[-1] if said else ""


def _tools_answered(request: dict[str, Any]) -> bool:
    last = _messages(request)[-1]
    parts = last["content"] if isinstance(last.get("content"), list) else []
    return (
        last.get("role") == "tool"
        or last.get("type") == "function_call_output"
        or any(part.get("type") == "tool_result" for part in parts if isinstance(part, dict))
    )


def _calls(request: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Name and arguments of each tool to call: all that are offered; of a final answer's tool only once there are answers."""
    offered = []
    for tool in request.get("tools") or []:
        function = tool.get("function", tool)
        schema = function.get("parameters") or function.get("input_schema") or {}
        if "name" in function:
            offered.append((function["name"], _example(schema, schema)))
    answered = _tools_answered(request)
    final = [call for call in offered if call[0].startswith("final_")]
    return (final if answered else [call for call in offered if call not in final] or final) if offered else []


def _example(schema: dict[str, Any], root: dict[str, Any]) -> Any:
    """A value that the schema allows."""
    if "$ref" in schema:
        schema = root.get("$defs", {}).get(schema["$ref"].rsplit("/", 1)[-1], {})
    kind = schema.get("type", "string")
    if kind == "object":
        return {name: _example(inner, root) for name, inner in schema.get("properties", {}).items()}
    return {"integer": 21, "number": 21.5, "boolean": True, "array": []}.get(kind, "Paris")


def _count(value: Any) -> int:
    return len(json.dumps(value)) // 4


# -- OpenAI ------------------------------------------------------------------------------------------------------------


def _chat(request: dict[str, Any], next_id: Any) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
    calls = _calls(request)
    if calls:
        message["tool_calls"] = [
            {"id": next_id("call_"), "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
            for name, arguments in calls
        ]
    else:
        message["content"] = _structured(request.get("response_format", {}).get("json_schema")) or ANSWER
    given, made = _count(request["messages"]) + 8, _count(message) + 2
    return {
        "id": next_id("chatcmpl-"),
        "object": "chat.completion",
        "created": CREATED,
        "model": DATED.get(request["model"], request["model"]),
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop", "logprobs": None}],
        "usage": {
            "prompt_tokens": given,
            "completion_tokens": made,
            "total_tokens": given + made,
            "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 2, "audio_tokens": 0},
        },
        "service_tier": "default",
        "system_fingerprint": "fp_scripted",
    }


def _structured(schema: dict[str, Any] | None) -> str | None:
    return json.dumps(_example(schema["schema"], schema["schema"])) if schema else None


def _chat_stream(request: dict[str, Any], completion: dict[str, Any]) -> Iterator[dict[str, Any]]:
    keys = ("id", "created", "model", "service_tier", "system_fingerprint")
    about = {**{key: completion[key] for key in keys}, "object": "chat.completion.chunk"}
    (choice,) = completion["choices"]

    def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        return {**about, "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}]}

    yield chunk({"role": "assistant", "content": ""})
    for word in re.findall(r"\S+\s*", choice["message"]["content"] or ""):
        yield chunk({"content": word})
    for index, call in enumerate(choice["message"].get("tool_calls", ())):
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        yield chunk({"tool_calls": [{**call, "index": index, "function": {"name": name, "arguments": ""}}]})
        for piece in re.findall(r".{1,8}", arguments):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield chunk({}, choice["finish_reason"])
    if (request.get("stream_options") or {}).get("include_usage"):
        yield {**about, "choices": [], "usage": completion["usage"]}


def _responses(request: dict[str, Any], next_id: Any) -> dict[str, Any]:
    output: list[dict[str, Any]] = []
    if request.get("reasoning"):
        summary = [{"type": "summary_text", "text": THOUGHT}]
        output.append({"id": next_id("rs_"), "type": "reasoning", "summary": summary, "status": "completed"})
    calls = _calls(request)
    for name, arguments in calls:
        about = {"type": "function_call", "status": "completed", "name": name, "arguments": json.dumps(arguments)}
        output.append({**about, "id": next_id("fc_"), "call_id": next_id("call_")})
    if not calls:
        text = _structured((request.get("text") or {}).get("format")) or ANSWER
        content = [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]
        about = {"type": "message", "status": "completed", "role": "assistant"}
        output.append({**about, "id": next_id("msg_"), "content": content})
    given, made = _count(_messages(request)) + 8, _count(output) + 2
    return {
        "id": next_id("resp_"),
        "object": "response",
        "created_at": CREATED,
        "completed_at": CREATED,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": request.get("instructions"),
        "max_output_tokens": request.get("max_output_tokens"),
        "metadata": request.get("metadata") or {},
        "model": DATED.get(request["model"], request["model"]),
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": (request.get("reasoning") or {}).get("effort"), "summary": None},
        "service_tier": "default",
        "store": True,
        "temperature": request.get("temperature", 1.0),
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": request.get("tools") or [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": {
            "input_tokens": given,
            "input_tokens_details": {"cached_tokens": 4},
            "output_tokens": made,
            "output_tokens_details": {"reasoning_tokens": 2 if request.get("reasoning") else 0},
            "total_tokens": given + made,
        },
        "user": request.get("user"),
    }


def _responses_stream(request: dict[str, Any], response: dict[str, Any]) -> Iterator[dict[str, Any]]:
    del request
    number = iter(range(1_000))

    def event(kind: str, **more: Any) -> dict[str, Any]:
        return {"type": f"response.{kind}", "sequence_number": next(number), **more}

    begun = {**response, "status": "in_progress", "output": [], "usage": None}
    yield event("created", response=begun)
    yield event("in_progress", response=begun)
    for index, item in enumerate(response["output"]):
        empty = {**item, "status": "in_progress", **({"content": []} if item["type"] == "message" else {"arguments": ""})}
        yield event("output_item.added", output_index=index, item=empty)
        place = {"item_id": item["id"], "output_index": index}
        if item["type"] == "function_call":
            yield event("function_call_arguments.delta", **place, delta=item["arguments"])
            yield event("function_call_arguments.done", **place, arguments=item["arguments"], name=item["name"])
        for part in item.get("content", ()):
            at = {**place, "content_index": 0}
            yield event("content_part.added", **at, part={**part, "text": ""})
            for word in re.findall(r"\S+\s*", part["text"]):
                yield event("output_text.delta", **at, delta=word, logprobs=[])
            yield event("output_text.done", **at, text=part["text"], logprobs=[])
            yield event("content_part.done", **at, part=part)
        yield event("output_item.done", output_index=index, item=item)
    yield event("completed", response=response)


def _embeddings(request: dict[str, Any], next_id: Any) -> dict[str, Any]:
    del next_id
    texts = request["input"] if isinstance(request["input"], list) else [request["input"]]
    vector: Any = list(VECTOR)
    if request.get("encoding_format") == "base64":
        vector = base64.b64encode(struct.pack(f"<{len(VECTOR)}f", *VECTOR)).decode()
    tokens = _count(texts)
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": vector} for index in range(len(texts))],
        "model": request["model"],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


# -- Anthropic ---------------------------------------------------------------------------------------------------------


def _claude(request: dict[str, Any], next_id: Any) -> dict[str, Any]:
    content: list[dict[str, Any]] = []
    if (request.get("thinking") or {}).get("type") == "enabled":
        content.append({"type": "thinking", "thinking": THOUGHT, "signature": "c2lnbmVk"})
    calls = [] if _tools_answered(request) else _calls(request)
    for name, arguments in calls:
        content.append({"type": "tool_use", "id": next_id("toolu_"), "name": name, "input": arguments})
    if not calls:
        content.append({"type": "text", "text": ANSWER, "citations": None})
    return {
        "id": next_id("msg_"),
        "type": "message",
        "role": "assistant",
        "model": request["model"],
        "content": content,
        "stop_reason": "tool_use" if calls else "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": _count(request["messages"]) + 8,
            "cache_creation_input_tokens": 16,
            "cache_read_input_tokens": 32,
            "output_tokens": _count(content) + 2,
            "service_tier": "standard",
        },
    }


def _claude_stream(request: dict[str, Any], message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    del request
    begun = {**message, "content": [], "stop_reason": None, "usage": {**message["usage"], "output_tokens": 1}}
    yield {"type": "message_start", "message": begun}
    for index, block in enumerate(message["content"]):
        empty, deltas = _BLOCKS[block["type"]](block)
        yield {"type": "content_block_start", "index": index, "content_block": {**block, **empty}}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    ended = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield {"type": "message_delta", "delta": ended, "usage": {"output_tokens": message["usage"]["output_tokens"]}}
    yield {"type": "message_stop"}


_BLOCKS: dict[str, Any] = {
    "text": lambda block: (
        {"text": ""},
        [{"type": "text_delta", "text": word} for word in re.findall(r"\S+\s*", block["text"])],
    ),
    "thinking": lambda block: (
        {"thinking": "", "signature": ""},
        [
            {"type": "thinking_delta", "thinking": block["thinking"]},
            {"type": "signature_delta", "signature": block["signature"]},
        ],
    ),
    "tool_use": lambda block: (
        {"input": {}},
        [{"type": "input_json_delta", "partial_json": piece} for piece in re.findall(r".{1,10}", json.dumps(block["input"]))],
    ),
}


def _no_stream(request: dict[str, Any], answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    del request
    yield {"type": "error", **answer}


_REPLIES = {
    "/chat/completions": (_chat, _chat_stream, "openai"),
    "/responses": (_responses, _responses_stream, "openai"),
    "/embeddings": (_embeddings, _no_stream, "openai"),
    "/messages": (_claude, _claude_stream, "anthropic"),
}
"""End of a path -> what makes the answer, what streams it, and whose errors it has."""
