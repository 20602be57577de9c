"""Starts Phoenix on loopback only: it listens with HTTP where it is told, but with gRPC on every address of the machine.

Run by the interpreter of an environment that has arize-phoenix. Its ports come from PHOENIX_PORT and PHOENIX_GRPC_PORT.
"""

from __future__ import annotations

import runpy
import sys

import grpc.aio

_server = grpc.aio.server


def _server_on_loopback(*args: object, **settings: object) -> object:
    made = _server(*args, **settings)
    listen = made.add_insecure_port
    made.add_insecure_port = lambda address: listen(address.replace("[::]", "127.0.0.1"))
    return made


grpc.aio.server = _server_on_loopback
sys.argv = ["phoenix", "serve"]
runpy.run_module("phoenix.server.main", run_name="__main__")
