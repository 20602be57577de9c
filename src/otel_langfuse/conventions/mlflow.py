"""MLflow tracing.

https://mlflow.org/docs/latest/genai/tracing/
"""

from __future__ import annotations

from otel_langfuse.conventions._rule import Convention, Rule, truthy
from otel_langfuse.conventions._sources import attr

CONVENTION = Convention(
    name="mlflow",
    rules=(
        Rule(
            "mlflow/io/span",
            sets={"input": attr("mlflow.spanInputs"), "output": attr("mlflow.spanOutputs")},
            claims=truthy,
            spec="mapping.md 9.12",
        ),
    ),
)
