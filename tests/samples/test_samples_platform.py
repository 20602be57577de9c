"""Prompts and datasets, as the platform's tutorials use them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from langfuse_server import LangfuseServer
from otel_langfuse import ApiError, Langfuse, get_client, observe


def asked(server: LangfuseServer, path: str) -> int:
    return sum(method == "GET" and route.startswith(path) for method, route in server.requests)


# -- prompts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["system-prompt-v2", "folder/system-prompt-v2"])
def test_a_prompt_is_created_fetched_compiled_and_linked(name: str, server: LangfuseServer) -> None:
    langfuse = get_client()
    langfuse.create_prompt(name=name, prompt="Hello {{user_name}}, {{ unknown }}!", labels=["production"])
    prompt = langfuse.get_prompt(name, label="production")
    assert prompt.compile(user_name="Alice") == "Hello Alice, {{ unknown }}!"
    langfuse.trace(name="t").generation(name="g", prompt=prompt).end()
    langfuse.flush()
    assert (server.one("g").prompt_name, server.one("g").prompt_version) == (name, 1)


def test_what_is_put_in_is_not_looked_at_again_and_nothing_is_escaped(server: LangfuseServer) -> None:
    langfuse = get_client()
    langfuse.create_prompt(name="p", prompt="{{a}}|{{b}}|{{c}}|{{broken", labels=["production"])
    assert langfuse.get_prompt("p").compile(a="{{b}}", b="<b>", c=None) == "{{b}}|<b>||{{broken"


def test_a_chat_prompt_with_a_placeholder(server: LangfuseServer) -> None:
    langfuse = get_client()
    langfuse.create_prompt(
        name="chat",
        prompt=[
            {"role": "system", "content": "You know {{topic}}."},
            {"type": "placeholder", "name": "history"},
            {"role": "user", "content": "{{question}}"},
        ],
        labels=["production"],
    )
    prompt = langfuse.get_prompt("chat")
    history = [{"role": "user", "content": "about {{topic}}"}]
    assert prompt.compile(topic="tea", question="why?", history=history) == [
        {"role": "system", "content": "You know tea."},
        {"role": "user", "content": "about tea"},
        {"role": "user", "content": "why?"},
    ]
    assert {"type": "placeholder", "name": "history"} in prompt.compile(topic="tea")


def test_a_prompt_as_langchains_templates_have_it(server: LangfuseServer) -> None:
    prompts = pytest.importorskip("langchain_core.prompts")
    langfuse = get_client()
    langfuse.create_prompt(name="text", prompt='Say {"to": "{{ name }}"} of {{topic}}.', labels=["production"])
    langfuse.create_prompt(
        name="chat",
        prompt=[
            {"role": "system", "content": "Know {{topic}}, as {json}."},
            {"type": "placeholder", "name": "history"},
            {"role": "user", "content": "{{question}}"},
        ],
        labels=["production"],
    )
    text, chat = langfuse.get_prompt("text"), langfuse.get_prompt("chat")
    assert (text.variables, chat.variables) == (["name", "topic"], ["topic", "question"])
    made = prompts.PromptTemplate.from_template(text.get_langchain_prompt(topic="tea {hot}"))
    assert made.format(name="Ada") == 'Say {"to": "Ada"} of tea {hot}.'
    template = prompts.ChatPromptTemplate.from_messages(chat.get_langchain_prompt(topic="tea"))
    said = template.format_messages(question="{why}?", history=[("user", "before")])
    assert [message.content for message in said] == ["Know tea, as {json}.", "before", "{why}?"]
    filled = chat.get_langchain_prompt(history=[{"role": "user", "content": "of {{topic}}"}])
    assert filled[1] == ("user", "of {topic}")


def test_a_version_is_given_a_label_and_what_was_fetched_is_forgotten(server: LangfuseServer) -> None:
    langfuse = get_client()
    for text in ("one", "two"):
        made = langfuse.create_prompt(name="a/b", prompt=text, labels=["production"], commit_message=f"as {text}")
    assert (langfuse.get_prompt("a/b").prompt, made.commit_message) == ("two", "as two")
    changed = langfuse.update_prompt(name="a/b", version=1, new_labels=["production"])
    assert (changed.version, "production" in changed.labels) == (1, True)
    assert langfuse.get_prompt("a/b").prompt == "one"
    server.prompts["a/b"][0]["prompt"] = "changed by somebody"
    assert langfuse.get_prompt("a/b").prompt == "one"
    langfuse.clear_prompt_cache()
    assert langfuse.get_prompt("a/b").prompt == "changed by somebody"
    with pytest.raises(ApiError, match="version 9"):
        langfuse.update_prompt(name="a/b", version=9)


def test_a_prompt_is_kept_for_a_while_and_then_fetched_in_the_background(server: LangfuseServer) -> None:
    langfuse = get_client()
    langfuse.create_prompt(name="p", prompt="one", labels=["production"])
    assert [langfuse.get_prompt("p").prompt for _ in range(3)] == ["one"] * 3
    assert asked(server, "/v2/prompts") == 1
    server.prompts["p"][0]["prompt"] = "two"
    assert langfuse.get_prompt("p", cache_ttl_seconds=0.000_001).prompt == "one", "at once, and what is known"
    server.wait_for(lambda: langfuse.get_prompt("p").prompt == "two")
    assert asked(server, "/v2/prompts") == 2
    server.prompts["p"][0]["prompt"] = "three"
    assert langfuse.get_prompt("p", cache_ttl_seconds=0).prompt == "three"
    langfuse.create_prompt(name="p", prompt="four", labels=["production"])
    assert langfuse.get_prompt("p").prompt == "four"
    assert langfuse.get_prompt("p", version=1).prompt == "three"


@pytest.mark.parametrize(("told", "asked_for"), [("0", 3), ("600", 1)])
def test_for_how_long_a_prompt_is_kept_the_environment_may_say(
    told: str, asked_for: int, server: LangfuseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANGFUSE_PROMPT_CACHE_DEFAULT_TTL_SECONDS", told)
    langfuse = Langfuse()
    langfuse.create_prompt(name="p", prompt="one", labels=["production"])
    assert [langfuse.get_prompt("p").prompt for _ in range(3)] == ["one"] * 3
    assert asked(server, "/v2/prompts") == asked_for


def test_without_a_server_what_is_known_is_used_then_a_fallback_then_it_raises(
    server: LangfuseServer, caplog: pytest.LogCaptureFixture
) -> None:
    langfuse = Langfuse(timeout=1)
    langfuse.create_prompt(name="p", prompt="known", labels=["production"])
    langfuse.get_prompt("p")
    server.down = True
    assert langfuse.get_prompt("p", cache_ttl_seconds=0.000_001).prompt == "known"
    found = langfuse.get_prompt("q", fallback="instead, {{x}}", max_retries=0)
    assert (found.compile(x=1), found.is_fallback) == ("instead, 1", True)
    with pytest.raises(ApiError, match="HTTP 503"):
        langfuse.get_prompt("q", max_retries=0)
    server.down = False
    with pytest.raises(ApiError, match="Prompt not found: 'q'") as missing:
        langfuse.get_prompt("q")
    assert missing.value.status == 404
    langfuse.trace(name="t").generation(name="g", prompt=found).end()
    langfuse.flush()
    assert server.one("g").prompt_name is None, "a fallback is no version of anything"


def test_a_call_is_tried_again_after_trouble_that_passes_and_not_after_a_refusal(server: LangfuseServer) -> None:
    langfuse = Langfuse()
    server.down = True
    with pytest.raises(ApiError):
        langfuse.get_prompt("p", max_retries=1)
    assert asked(server, "/v2/prompts") == 2
    server.down = False
    with pytest.raises(ApiError):
        langfuse.get_prompt("p", max_retries=3)
    assert asked(server, "/v2/prompts") == 3


def test_a_local_store_has_no_prompts(monkeypatch: pytest.MonkeyPatch, server: LangfuseServer, tmp_path: Any) -> None:
    langfuse = Langfuse(host=f"sqlite:///{tmp_path}/x.db")
    with pytest.raises(ApiError, match="local store"):
        langfuse.get_prompt("p")
    assert langfuse.get_prompt("p", fallback="f").prompt == "f"


# -- datasets ----------------------------------------------------------------------------------------------------------


def my_pipeline(question: str) -> str:
    @observe()
    def inside(question: str) -> str:
        return question.upper()

    return inside(question)


def test_a_dataset_is_made_read_run_and_scored(server: LangfuseServer) -> None:
    langfuse = get_client()
    langfuse.create_dataset(name="qa-eval")
    for word in ("a", "b"):
        langfuse.create_dataset_item(dataset_name="qa-eval", input=word, expected_output="A")
    server.items.append({**server.items[0], "id": "archived", "status": "ARCHIVED"})
    seen = []
    for item in langfuse.get_dataset("qa-eval").items:
        with item.observe(run_name="experiment-v2") as trace:
            output = my_pipeline(item.input)
            trace.update(output=output)
            item.score(name="exact_match", value=1 if output == item.expected_output else 0)
        seen.append(trace.id)
    langfuse.flush()
    assert len(seen) == 2
    assert [run["traceId"] for run in server.runs] == seen
    assert {run["runName"] for run in server.runs} == {"experiment-v2"}
    assert [run["datasetItemId"] for run in server.runs] == [item["id"] for item in server.items[:2]]
    assert [(score["traceId"], score["value"]) for score in server.scores] == [(seen[0], 1.0), (seen[1], 0.0)]
    roots = [one for one in server.observations if one.name == "dataset-item-run"]
    assert [(one.input, one.output, one.trace_id) for one in roots] == [("a", "A", seen[0]), ("b", "B", seen[1])]
    inside = [one for one in server.observations if one.name == "inside"]
    assert [one.parent_id for one in inside] == [one.id for one in roots]
    said = inside[0].metadata["attributes"]
    assert said["langfuse.experiment.name"] == "experiment-v2", "on every span, by which Langfuse 4 knows the run"
    assert said["langfuse.experiment.id"] == "run-experiment-v2"
    assert said["langfuse.experiment.item.root_observation_id"] == roots[0].id
    assert roots[0].metadata["attributes"]["langfuse.experiment.item.expected_output"] == '"A"'


def test_a_dataset_of_many_pages(server: LangfuseServer) -> None:
    langfuse = get_client()
    langfuse.create_dataset(name="large")
    made = langfuse.create_dataset_item(dataset_name="large", input=0)
    server.items += [{**server.items[0], "id": f"more-{i}", "input": i} for i in range(1, 120)]
    items = langfuse.get_dataset("large").items
    assert [item.input for item in items] == list(range(120))
    assert items[0].id == made.id


def test_a_dataset_with_schemas_is_read_in_pages_of_a_size_and_as_it_was(server: LangfuseServer) -> None:
    langfuse = get_client()
    schema = {"type": "string"}
    langfuse.create_dataset(
        name="checked", description="d", metadata={"k": 1}, input_schema=schema, expected_output_schema=schema
    )
    assert (server.datasets["checked"]["inputSchema"], server.datasets["checked"]["expectedOutputSchema"]) == (schema, schema)
    for number in range(5):
        langfuse.create_dataset_item(dataset_name="checked", input=str(number))
    moment = datetime(2026, 1, 2, 3, tzinfo=timezone(timedelta(hours=2)))
    assert len(langfuse.get_dataset("checked", fetch_items_page_size=2, version=moment).items) == 5
    asked_for = [query for query in server.queries if "datasetName" in query]
    assert len(asked_for) == 3
    assert all("limit=2" in query and "version=2026-01-02T01%3A00%3A00Z" in query for query in asked_for)


def test_a_run_goes_on_where_its_item_cannot_be_linked(server: LangfuseServer, caplog: pytest.LogCaptureFixture) -> None:
    langfuse = Langfuse(timeout=1, max_retries=0, flush_interval=0.1)
    langfuse.create_dataset(name="d")
    item = langfuse.create_dataset_item(dataset_name="d", input="a")
    assert item.score(name="too early", value=1) is None
    server.down = True
    with pytest.raises(ValueError, match="of the program"), item.observe(run_name="r"):
        raise ValueError("of the program")
    server.down = False
    server.wait_for(lambda: bool(server.observations))
    assert server.one("dataset-item-run").level == "ERROR"
    assert "not linked to its run" in caplog.text
    assert "expected inside of item.observe" in caplog.text


def test_what_is_not_there_raises(server: LangfuseServer) -> None:
    with pytest.raises(ApiError, match="Dataset not found"):
        get_client().get_dataset("missing")
