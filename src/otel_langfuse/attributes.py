"""Every ``langfuse.*`` attribute key, with the type of its value and what it means. Writers set these, readers read them.

Source: what Langfuse's server reads (its OTel ingestion, August 2026; ``docs`` at
https://langfuse.com/integrations/native/opentelemetry).
"""

from __future__ import annotations

from typing import Final

# -- of an observation ------------------------------------------------------------------------------------------------------
OBSERVATION_TYPE: Final = "langfuse.observation.type"  # str: one of model.OBSERVATION_TYPES
OBSERVATION_INPUT: Final = "langfuse.observation.input"  # str: JSON text, or plain text
OBSERVATION_OUTPUT: Final = "langfuse.observation.output"  # str: JSON text, or plain text
OBSERVATION_METADATA: Final = "langfuse.observation.metadata"  # str: a JSON object; or this + ".key" with any value
OBSERVATION_LEVEL: Final = "langfuse.observation.level"  # str: DEBUG, DEFAULT, WARNING or ERROR
OBSERVATION_STATUS_MESSAGE: Final = "langfuse.observation.status_message"  # str
OBSERVATION_MODEL: Final = "langfuse.observation.model.name"  # str
OBSERVATION_MODEL_PARAMETERS: Final = "langfuse.observation.model.parameters"  # str: a JSON object
OBSERVATION_USAGE_DETAILS: Final = "langfuse.observation.usage_details"  # str: a JSON object of integers
OBSERVATION_COST_DETAILS: Final = "langfuse.observation.cost_details"  # str: a JSON object of numbers, in USD
OBSERVATION_COMPLETION_START_TIME: Final = "langfuse.observation.completion_start_time"  # str: ISO 8601 with offset
OBSERVATION_PROMPT_NAME: Final = "langfuse.observation.prompt.name"  # str
OBSERVATION_PROMPT_VERSION: Final = "langfuse.observation.prompt.version"  # int

# -- of a trace; on any span of it ------------------------------------------------------------------------------------------
TRACE_NAME: Final = "langfuse.trace.name"  # str
TRACE_INPUT: Final = "langfuse.trace.input"  # str: JSON text, or plain text
TRACE_OUTPUT: Final = "langfuse.trace.output"  # str: JSON text, or plain text
TRACE_METADATA: Final = "langfuse.trace.metadata"  # str: a JSON object; or this + ".key" with any value
TRACE_TAGS: Final = "langfuse.trace.tags"  # list of str
TRACE_PUBLIC: Final = "langfuse.trace.public"  # bool
USER_ID: Final = "user.id"  # str, at most 200 characters
SESSION_ID: Final = "session.id"  # str, at most 200 characters

# -- of either --------------------------------------------------------------------------------------------------------------
ENVIRONMENT: Final = "langfuse.environment"  # str: [a-z0-9-_]{1,40}, not starting with "langfuse"
RELEASE: Final = "langfuse.release"  # str
VERSION: Final = "langfuse.version"  # str

# -- of an experiment, on every span of it (api.md 7.3) ------------------------------------------------------------------------
EXPERIMENT_ID: Final = "langfuse.experiment.id"  # str
EXPERIMENT_NAME: Final = "langfuse.experiment.name"  # str: of the run
EXPERIMENT_DATASET_ID: Final = "langfuse.experiment.dataset.id"  # str
EXPERIMENT_ITEM_ID: Final = "langfuse.experiment.item.id"  # str
EXPERIMENT_ITEM_ROOT: Final = "langfuse.experiment.item.root_observation_id"  # str
EXPERIMENT_EXPECTED_OUTPUT: Final = "langfuse.experiment.item.expected_output"  # str: JSON; on the root only

# -- between the rooms ------------------------------------------------------------------------------------------------------
AS_ROOT: Final = "langfuse.internal.as_root"  # bool: treat this span as its trace's root although it has a parent
IS_APP_ROOT: Final = "langfuse.internal.is_app_root"  # bool: the first span of its trace that this application exports
