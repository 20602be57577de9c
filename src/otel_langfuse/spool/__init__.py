"""What could not be sent, kept on disk until it can: requests as they were encoded, in a SQLite file, and whose they are.

A row is one request: where it goes, its body and the headers that describe the body; so it is masked as it was when it was to
be sent, and it holds no credentials: those, and the headers that say who sends, are added by who sends it.

Each row belongs to one process, its owner: the one that wrote it, and when that is gone, the first that takes it over, in one
transaction. An owner is alive as long as it holds a lock of the operating system on a byte of the file ``<path>-lock``, the
byte of its number. The kernel takes the lock away when the process ends, however it ends, so nothing has to be waited for and
nothing is taken from a process that is only stopped, or frozen. The file and its lock are to be on a local disk.

Written in WAL mode, without waiting for the disk: what is written outlives the process, but not always the loss of power.
"""

from __future__ import annotations

from ._file import BUSY_TIMEOUT_S
from ._schema import SCHEMA_VERSION
from ._spool import Spool, spool_at
from ._values import ROW_BYTES, Destination, Holding, Kept, Limits, Lost, Part, SpoolError, project_of

__all__ = [
    "BUSY_TIMEOUT_S",
    "ROW_BYTES",
    "SCHEMA_VERSION",
    "Destination",
    "Holding",
    "Kept",
    "Limits",
    "Lost",
    "Part",
    "Spool",
    "SpoolError",
    "project_of",
    "spool_at",
]
