"""The rest of the platform on the client: prompts and datasets. These ask the server, and raise ``ApiError``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from otel_langfuse.api import Api
from otel_langfuse.datasets import Datasets
from otel_langfuse.prompts import Prompt, Prompts

from ._datasets import Dataset, DatasetItem

if TYPE_CHECKING:
    from otel_langfuse.client import Client

    from ._client import Langfuse


class Platform:
    """Prompts and datasets of the client's project."""

    _client: Client
    _api: Api | None = None
    _prompts: Prompts | None = None

    def get_prompt(self, name: str, **options: Any) -> Prompt:
        """A prompt, by default the one that is labelled ``production``; see ``Prompts.get``.

        Args:
            name: of the prompt.
            **options: ``version``, ``label``, ``fallback``, ``cache_ttl_seconds``, ``max_retries``, ``fetch_timeout_seconds``.

        Raises:
            ApiError: it cannot be fetched, and there is no fallback.
        """
        options.pop("type", None)  # what it is, the server says
        return self._prompted().get(name, **options)

    def create_prompt(self, *, name: str, prompt: str | list[dict[str, Any]], **options: Any) -> Prompt:
        """Creates a prompt, or a new version of it; see ``Prompts.create``.

        Raises:
            ApiError: the server refuses, or cannot be reached.
        """
        return self._prompted().create(name=name, prompt=prompt, **options)

    def update_prompt(self, *, name: str, version: int, new_labels: Sequence[str] = ()) -> Prompt:
        """Gives a version of a prompt more labels, which other versions then lose; see ``Prompts.update``.

        Raises:
            ApiError: the server refuses, or cannot be reached.
        """
        return self._prompted().update(name=name, version=version, new_labels=new_labels)

    def clear_prompt_cache(self) -> None:
        """Forgets all prompts that were fetched: the next ``get_prompt`` asks the server."""
        if self._prompts is not None:
            self._prompts.clear()

    def create_dataset(self, *, name: str, **fields: Any) -> Dataset:
        """Creates a dataset, or changes the one of this name; without its items; see ``Datasets.create``.

        Raises:
            ApiError: the server refuses, or cannot be reached.
        """
        return Dataset(Datasets(self._calls()).create(name=name, **fields), [])

    def create_dataset_item(self, *, dataset_name: str, **fields: Any) -> DatasetItem:
        """Creates an item, or changes the one of this ``id``; see ``Datasets.create_item``.

        Raises:
            ApiError: the server refuses, or cannot be reached.
        """
        datasets = Datasets(self._calls())
        return DatasetItem(cast("Langfuse", self), datasets, datasets.create_item(dataset_name=dataset_name, **fields))

    def get_dataset(self, name: str, *, fetch_items_page_size: int | None = None, version: datetime | None = None) -> Dataset:
        """A dataset with its active items.

        Args:
            name: of the dataset.
            fetch_items_page_size: items in one answer of the server; 50 by default.
            version: the items as they were then; by default as they are.

        Raises:
            ApiError: there is none of this name, or the server cannot be reached.
        """
        datasets = Datasets(self._calls())
        fields, items = datasets.get(name, page_size=fetch_items_page_size, version=version)
        return Dataset(fields, [DatasetItem(cast("Langfuse", self), datasets, item) for item in items])

    def _prompted(self) -> Prompts:
        if self._prompts is None:  # two threads may make two: the later one stays
            self._prompts = Prompts(self._calls(), cache_ttl_s=self._client.config.prompt_cache_ttl_s)
        return self._prompts

    def _calls(self) -> Api:
        if self._api is None:
            self._api = Api(self._client.config)
        return self._api
