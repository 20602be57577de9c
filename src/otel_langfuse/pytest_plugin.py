"""The pytest plugin: pytest finds it by its entry point, and nothing else of the package is loaded before a test asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .testing import Captured


@pytest.fixture
def langfuse_observations() -> Iterator[Captured]:
    """The observations that the test's code makes; see ``otel_langfuse.testing.Captured``."""
    from .testing import capture  # noqa: PLC0415 - loads the SDK

    with capture() as captured:
        yield captured
