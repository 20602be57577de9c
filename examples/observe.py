"""Functions, a stream and a model call as observations; into observe.db, for `otel-langfuse show --db observe.db`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import otel_langfuse
from otel_langfuse import observe, propagate_attributes, start_as_current_observation, update_current_span

langfuse = otel_langfuse.configure(base_url="sqlite:///observe.db")


@dataclass
class Page:
    title: str
    score: float


@observe(as_type="retriever")
def search(question: str, limit: int = 2) -> list[Page]:
    known = [Page("Words", 0.9), Page("Sentences", 0.7), Page("Commas", 0.1)]
    return [page for page in known if page.title.lower() in question or page.score > 0.5][:limit]


@observe(name="stream of words")
def speak(text: str) -> Iterator[str]:
    for word in text.split():
        yield word + " "


@observe(as_type="chain")
def answer(question: str) -> str:
    pages = search(question)
    with start_as_current_observation(
        name="toy-1",
        as_type="generation",
        model="toy-1",
        model_parameters={"temperature": 0.2},
        input=[{"role": "user", "content": question}],
    ) as generation:
        text = f"{pages[0].title} are counted one by one."
        generation.update(output=text, usage_details={"input": len(question) // 4, "output": len(text) // 4})
    update_current_span(metadata={"pages": len(pages)}, level="debug")
    return "".join(speak(text))


with propagate_attributes(user_id="ada", session_id="first-steps"):
    print(answer("How are words counted?"))

langfuse.flush()
print(langfuse.stats())
