"""A scripted model server on loopback: the part of OpenAI's API that the demo's application uses, with known answers.

Chat completions (with tools, whole or streamed as server-sent events with a chunk for the usage) and embeddings. Texts that share
words have similar embeddings. It waits a little before it answers, as a model does, so that there is something to see.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any

BUSY_MODEL = "gpt-4.1"
"""The model that is over its rate limit whenever somebody asks about a warranty."""

ANSWERS = (
    ("return", "You can send it back within 30 days, unused and in its box. Returning it is free: we mail you a label."),
    ("order", "Order 4711 left our warehouse yesterday with Blue Parcel and should be with you on Thursday."),
    ("warranty", "The Aurora has a warranty of five years on the lamp and two on its battery."),
)
EMBEDDING_SIZE = 64
_EMBEDDING_DELAY_S = 0.02
_TOKEN_DELAY_S = 0.008
_numbers = count(1)


@contextmanager
def model_server() -> Iterator[str]:
    """Serve on a free port of 127.0.0.1 until the block ends. Yields the base URL for an OpenAI client."""
    server = _Server(("127.0.0.1", 0), _Answering)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="demo-model-server", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a client may keep its connection open


class _Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("/embeddings"):
            time.sleep(_EMBEDDING_DELAY_S)
            self._answer(200, embeddings(request))
        elif self.path.endswith("/chat/completions"):
            self._chat(request)
        else:
            self._answer(404, {"error": {"message": f"no such path: {self.path}", "type": "invalid_request_error"}})

    def _chat(self, request: dict[str, Any]) -> None:
        if request["model"] == BUSY_MODEL and "warranty" in _question(request):
            time.sleep(_EMBEDDING_DELAY_S)
            self._answer(429, {"error": {"message": f"Rate limit reached for {BUSY_MODEL}", "type": "requests"}})
            return
        completion = chat_completion(request)
        if request.get("stream"):
            self._stream(chunks(completion))
        else:
            time.sleep(_TOKEN_DELAY_S * completion["usage"]["completion_tokens"])
            self._answer(200, completion)

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, parts: Iterator[dict[str, Any]]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for part in parts:
            self.wfile.write(f"data: {json.dumps(part)}\n\n".encode())
            self.wfile.flush()
            time.sleep(_TOKEN_DELAY_S)
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base class
        """Nothing: the demo's output is the application's."""


# -- what the model says -----------------------------------------------------------------------------------------------


def chat_completion(request: dict[str, Any]) -> dict[str, Any]:
    """The answer to a chat request: a call of the first tool where an order is asked for, else one of ``ANSWERS``."""
    question, messages = _question(request), request["messages"]
    order = re.search(r"order (\d+)", question)
    message: dict[str, Any] = {"role": "assistant", "content": None}
    if order and request.get("tools") and messages[-1]["role"] == "user":
        function = {"name": request["tools"][0]["function"]["name"], "arguments": json.dumps({"order_id": order[1]})}
        message["tool_calls"] = [{"id": f"call_{next(_numbers):06}", "type": "function", "function": function}]
    else:
        message["content"] = next((answer for word, answer in ANSWERS if word in question), "I do not know.")
    given, said = _count_tokens(messages), _count_tokens(message)
    return {
        "id": f"chatcmpl-demo{next(_numbers):06}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": f"{request['model']}-2025-04-14",
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls" if "tool_calls" in message else "stop"}],
        "usage": {"prompt_tokens": given, "completion_tokens": said, "total_tokens": given + said},
    }


def chunks(completion: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A completion word by word, then why it ended, then the usage."""
    about = {**{key: completion[key] for key in ("id", "created", "model")}, "object": "chat.completion.chunk"}
    (choice,) = completion["choices"]
    for word in re.findall(r"\S+\s*", choice["message"]["content"] or ""):
        yield {**about, "choices": [{"index": 0, "delta": {"role": "assistant", "content": word}, "finish_reason": None}]}
    yield {**about, "choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]}
    yield {**about, "choices": [], "usage": completion["usage"]}


def embeddings(request: dict[str, Any]) -> dict[str, Any]:
    """One vector for each text, as numbers or (openai's client asks for that) as base64 of 32-bit floats."""
    texts = [request["input"]] if isinstance(request["input"], str) else request["input"]
    vectors: list[Any] = [embedding(text) for text in texts]
    if request.get("encoding_format") == "base64":
        vectors = [base64.b64encode(struct.pack(f"<{EMBEDDING_SIZE}f", *vector)).decode() for vector in vectors]
    tokens = _count_tokens(texts)
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)],
        "model": request["model"],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def embedding(text: str) -> list[float]:
    """A unit vector that counts the text's longer words, hashed to places."""
    vector = [0.0] * EMBEDDING_SIZE
    for word in re.findall(r"[a-z]{4,}", text.lower()):
        vector[hashlib.sha256(word[:6].encode()).digest()[0] % EMBEDDING_SIZE] += 1.0
    length = math.sqrt(sum(value * value for value in vector)) or 1.0
    return [value / length for value in vector]


def _question(request: dict[str, Any]) -> str:
    asked = [message["content"] for message in request["messages"] if message["role"] == "user"]
    return str(asked[-1]).lower() if asked else ""


def _count_tokens(value: Any) -> int:
    return len(re.findall(r"\w+|[^\w\s]", json.dumps(value))) // 2 + 1
