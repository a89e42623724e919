# `make demo` and `make test` need Python 3.10+ with pip, and nothing else: they set up .venv by themselves.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
DEFINITION := pyproject.toml constraints.txt Makefile

.PHONY: demo demo-live demo-agent test check soak clean

demo: $(VENV)/.core
	@$(PY) examples/demo.py

demo-live: $(VENV)/.core
	@$(PY) examples/demo_live.py

# Needs Chromium as well; POLICY=oracle lets a script that knows the way shop instead of the model in the box.
POLICY ?= nano
demo-agent: $(VENV)/.agent
	@$(PY) examples/agent_demo.py --policy $(POLICY)

test: check
	$(PY) -m pytest

check: $(VENV)/.test
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy

# MINUTES of mixed work on nano with flat memory, after a long random schedule on a tiny model.
MINUTES ?= 60
soak: $(VENV)/.test
	CLEARSIGHT_SCHEDULE_STEPS=$$(( 1000 * $(MINUTES) )) $(PY) -m pytest tests/test_schedule_law.py
	$(PY) benchmarks/soak.py --minutes $(MINUTES)

clean:
	rm -rf $(VENV)

# A stamp is newer than what defines the environment, so a second call does nothing and a change installs again.
$(VENV)/.core: $(DEFINITION)
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PY) -m ensurepip >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(PY) -m pip install --quiet -c constraints.txt setuptools
	$(PY) -m pip install --quiet -c constraints.txt --no-build-isolation -e .
	@touch $@

$(VENV)/.agent: $(VENV)/.core
	$(PY) -m pip install --quiet -c constraints.txt --no-build-isolation -e '.[agent]'
	@touch $@

$(VENV)/.train: $(VENV)/.core
	$(PY) -m pip install --quiet -c constraints.txt --no-build-isolation -e '.[train]'
	@touch $@

$(VENV)/.test: $(VENV)/.core
	$(PY) -m pip install --quiet -c constraints.txt --no-build-isolation -e '.[test,train]'
	@touch $@
