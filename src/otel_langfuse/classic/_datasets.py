"""Items of a dataset, run by run: each run of an item is a trace, linked to it. Sources: api.md 7.2, 7.3."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from otel_langfuse import attributes as names
from otel_langfuse import picture
from otel_langfuse.datasets import Datasets, ItemFields
from otel_langfuse.errors import ApiError
from otel_langfuse.model import ScoreFields
from otel_langfuse.propagation import set_attributes

from ._handles import Handle, TraceHandle

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._client import Langfuse

_LOGGER: Final = logging.getLogger("otel_langfuse")


class Dataset:
    """A dataset as it was when it was read, with its ``items``."""

    def __init__(self, fields: Mapping[str, Any], items: list[DatasetItem]) -> None:
        self.id = str(fields.get("id") or "")
        self.name = str(fields.get("name") or "")
        self.description = fields.get("description")
        self.metadata = fields.get("metadata")
        self.items = items


class DatasetItem:
    """One item: ``id``, ``input``, ``expected_output``, ``metadata``, ``dataset_name`` and so on."""

    def __init__(self, langfuse: Langfuse, datasets: Datasets, fields: ItemFields) -> None:
        self._langfuse = langfuse
        self._datasets = datasets
        self._observed: Handle | None = None
        self.id = fields.id
        self.dataset_id = fields.dataset_id
        self.dataset_name = fields.dataset_name
        self.input = fields.input
        self.expected_output = fields.expected_output
        self.metadata = fields.metadata
        self.status = fields.status
        self.source_trace_id = fields.source_trace_id
        self.source_observation_id = fields.source_observation_id

    @contextmanager
    def observe(
        self,
        *,
        run_name: str,
        run_description: str | None = None,
        run_metadata: Any = None,
        trace_id: str | None = None,
        trace_name: str | None = None,
    ) -> Iterator[TraceHandle]:
        """Runs the item: what happens in the ``with`` is one trace, which is linked to the item in the run of this name.

        Spans of other libraries and observed functions become its children. That the link cannot be made is logged; the program
        goes on.

        Args:
            run_name: of the run.
            run_description: of the run.
            run_metadata: of the run.
            trace_id: any text, as for ``Langfuse.trace``.
            trace_name: by default ``dataset-item-run``.
        """
        trace = self._langfuse.trace(
            id=trace_id, name=trace_name or "dataset-item-run", input=self.input, metadata={"dataset_item_id": self.id}
        )
        self.link(trace, run_name, run_description=run_description, run_metadata=run_metadata)
        self._observed = trace
        with trace:
            yield trace

    run = observe

    def link(self, observed: Handle, run_name: str, *, run_description: str | None = None, run_metadata: Any = None) -> None:
        """Links the item to a trace, or to an observation, in the run of this name. That it cannot be done is logged."""
        node = observed._node  # noqa: SLF001 - our own
        try:
            run_id = self._datasets.link(
                self.id,
                run_name=run_name,
                trace_id=node.trace_id,
                observation_id=None if node.is_trace else node.id,
                run_description=run_description,
                run_metadata=run_metadata,
            )
        except ApiError as error:
            _LOGGER.warning("otel-langfuse: an item of a dataset is not linked to its run: %s", error)
            return
        shared = {
            names.EXPERIMENT_ID: run_id,
            names.EXPERIMENT_NAME: run_name,
            names.EXPERIMENT_DATASET_ID: self.dataset_id,
            names.EXPERIMENT_ITEM_ID: self.id,
            names.EXPERIMENT_ITEM_ROOT: node.id,
        }
        node.shared.update(shared)
        own = {} if self.expected_output is None else {names.EXPERIMENT_EXPECTED_OUTPUT: picture.json_text(self.expected_output)}
        if node.span.is_recording():
            set_attributes(node.span, {**shared, **own})

    def score(self, *, name: str, value: float | str, **fields: Unpack[ScoreFields]) -> str | None:
        """Scores the trace that the latest ``observe`` of this item has made; see ``Langfuse.score``."""
        if self._observed is None:
            _LOGGER.warning("otel-langfuse: item.score: expected inside of item.observe(...), or after it")
            return None
        return self._observed.score(name=name, value=value, **fields)
