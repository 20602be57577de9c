# Each target sets up what it needs by itself, in .venv here; a second time costs nothing.
#
#   make demo           a real, instrumented OpenAI application, and its trace in this terminal; no network, no keys
#   make check          what CI runs: format, lint, types, import contracts, tests
#   make check-oldest   the tests on the oldest OpenTelemetry that is supported
#   make processes      spans survive gunicorn, Celery, uvicorn and gevent (a minute)
#   make faults         what goes wrong between here and a server, beside the stock SDK; ONLY=... for some (six minutes)
#   make pyright        the second type checker reads what users would write (mypy does so in `make check`)
#   make bench          what it costs, beside what others cost (minutes); bench-quick: under a minute
#   make leaks          how many secrets leave, ours beside the official SDK and logfire, each told to mask them
#   make capture        records the spans of FAMILY=... anew and shows what changed; without FAMILY: which there are
#   make backends       the tests against a real Phoenix, which is half a gigabyte
#   make fix            format, mend what ruff can mend, write the README's table of settings anew
#   make clean          everything that these made
#
# The environment is made with uv where there is one, else with venv and pip; `make UV= ...` says pip even so.
# `make PYTHON=python3.12 ...` chooses the interpreter for a new one.

PYTHON        ?= python3
PYTHON_OLDEST ?= $(shell python3.10 -c 'print("python3.10")' 2>/dev/null || echo $(PYTHON))
UV            ?= $(shell command -v uv 2>/dev/null)
OLDEST        := opentelemetry-api==1.30.0 opentelemetry-sdk==1.30.0 opentelemetry-proto==1.30.0 \
                 opentelemetry-exporter-otlp==1.30.0 opentelemetry-semantic-conventions==0.51b0 \
                 opentelemetry-instrumentation-fastapi==0.51b0

# Files of tests side by side, more than there are processors, because half of the time they wait; each file's own tests one
# after the other, as they share servers. In the order of tests/conftest.py.
PARALLEL      := -n 4 --dist loadfile --no-loadscope-reorder

# Tests start hundreds of interpreters: each would compile all of it anew, where the machine says not to keep what is compiled.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := check
.PHONY: check check-oldest processes faults pyright demo bench bench-quick leaks capture backends fix clean

check: .venv/.has-dev
	.venv/bin/ruff format --check --quiet
	.venv/bin/ruff check --quiet
	.venv/bin/lint-imports --no-cache --no-logo >.venv/lint-imports.log || { cat .venv/lint-imports.log; exit 1; }
	@# Side by side: mypy without its cache is busy for a quarter of a minute. What it says stands below; either can fail.
	.venv/bin/mypy --no-error-summary >.venv/mypy.log 2>&1 & types=$$!; \
	.venv/bin/python -m pytest $(PARALLEL); tests=$$?; \
	wait $$types || { echo mypy:; cat .venv/mypy.log; exit 1; }; exit $$tests

check-oldest: .venv-oldest/.has-test
	.venv-oldest/bin/python -m pytest $(PARALLEL)

processes: .venv-processes/.has-processes
	.venv-processes/bin/python -m pytest tests/processes tests/test_processes.py

faults: .venv-processes/.has-processes .nginx/.tried
	@PYTHONPATH=tests:. .venv-processes/bin/python tests/delivery $(ONLY)

pyright: .venv/.has-dev .venv-pyright/.has-pyright
	.venv-pyright/bin/pyright --pythonpath .venv/bin/python --project tests/typing

demo: .venv/.has-demo
	@.venv/bin/otel-langfuse demo

bench: .venv/.has-dev
	@.venv/bin/python -m benchmarks

bench-quick: .venv/.has-dev
	@.venv/bin/python -m benchmarks --quick

leaks: .venv/.has-dev
	@.venv/bin/python -m benchmarks.leaks

capture: .venv/.has-dev
	@.venv/bin/python conformance/capture/capture.py $(or $(FAMILY),--list)

backends: .venv/.has-dev .venv-phoenix/.has-phoenix
	PHOENIX_PYTHON=$(CURDIR)/.venv-phoenix/bin/python .venv/bin/python -m pytest tests/backends

fix: .venv/.has-dev
	.venv/bin/python tests/test_readme.py
	.venv/bin/ruff format
	.venv/bin/ruff check --fix

clean:
	rm -rf .venv .venv-oldest .venv-capture .venv-pyright .venv-phoenix .venv-processes .venv-peers .nginx dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src tests examples benchmarks conformance -name __pycache__ -type d -prune -exec rm -rf {} +

# -- environments: .has-EXTRA says that the package, editable, and what that extra needs are there --------------------------

.venv/.has-%: pyproject.toml
	$(call environment,.venv,$(PYTHON),-e '.[$*]')
	@touch $@

# dev needs all that demo needs, so that `make demo` after `make check` installs nothing.
.venv/.has-dev: pyproject.toml
	$(call environment,.venv,$(PYTHON),-e '.[dev]')
	@touch $@ .venv/.has-demo

.venv-oldest/.has-test: pyproject.toml Makefile
	$(call environment,.venv-oldest,$(PYTHON_OLDEST),-e '.[test]' $(OLDEST))
	@touch $@

.venv-processes/.has-processes: pyproject.toml
	$(call environment,.venv-processes,$(PYTHON),-e '.[processes]')
	@touch $@

.venv-pyright/.has-pyright: Makefile
	$(call environment,.venv-pyright,$(PYTHON),'pyright[nodejs]>=1.1.400')
	@touch $@

.venv-phoenix/.has-phoenix: Makefile
	$(call environment,.venv-phoenix,$(PYTHON),arize-phoenix)
	@touch $@

# Debian's nginx, unpacked, where none is installed: nothing is started, and no root is needed. Without it, its rows say so.
.nginx/.tried:
	@mkdir -p .nginx
	@command -v nginx >/dev/null || { cd .nginx && apt-get download nginx >/dev/null 2>&1 && dpkg -x nginx_*.deb .; } || \
	    echo "no nginx, neither installed nor to be downloaded by apt-get: some rows cannot be run" >&2
	@touch $@

# environment(folder, interpreter, what to install). `-qq`: pip's warnings about the machine's own settings are not our story.
define environment
	@$(2) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	    echo "otel-langfuse needs Python 3.10 or newer, and '$(2)' is not: say which to use, for example: make PYTHON=python3.11" >&2; exit 1; }
	@echo "setting up $(1) (once; it downloads what pyproject.toml names) ..." >&2
	@$(if $(UV),test -x $(1)/bin/python || $(UV) venv --quiet --python $(2) $(1),test -x $(1)/bin/pip || $(2) -m venv $(1))
	@$(if $(UV),$(UV) pip install --quiet --python $(1)/bin/python $(3),$(1)/bin/python -m pip install -qq --disable-pip-version-check $(3))
endef
