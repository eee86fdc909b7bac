# Two commands: `make run` shows the market at work, `make test` checks everything.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
NEEDED := pyproject.toml constraints.txt

.PHONY: run demo-network test test-slow check bench peers docs clean help
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## / - /'

run: $(VENV)/.run-ready  ## set up, run the default market, say where its page is
	$(BIN)/ipfl run

demo-network: $(VENV)/.network-ready  ## an operator and four participants over TLS on this machine; one dies and returns
	$(BIN)/python scripts/demo_network.py

test: $(VENV)/.test-ready  ## set up, run every check and test (under 15 minutes on two cores)
	PATH="$(abspath $(BIN)):$$PATH" scripts/check
	PATH="$(abspath $(BIN)):$$PATH" scripts/test

test-slow: $(VENV)/.test-ready  ## the checks that take longer: kills at random moments, long searches
	PATH="$(abspath $(BIN)):$$PATH" scripts/test-slow

check: $(VENV)/.test-ready  ## lint, types and layers only
	PATH="$(abspath $(BIN)):$$PATH" scripts/check

bench: $(VENV)/.test-ready peers  ## measure every figure that README.md and docs/ give
	PATH="$(abspath $(BIN)):$$PATH" scripts/bench

peers: .venv-peers/.ready  ## set up the peers that stand on frameworks of their own, in .venv-peers

docs: $(VENV)/.docs-ready  ## build the documentation as a site, in site/
	$(BIN)/mkdocs build --strict --quiet
	@echo "the documentation: site/index.html"

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "ipfl needs Python 3.11 or newer; this is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "Could not make a virtual environment. On Debian and Ubuntu install it with: apt-get install python3-venv"; exit 1; }

$(VENV)/.run-ready: $(VENV)/bin/python $(NEEDED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.network-ready: $(VENV)/bin/python $(NEEDED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[flower]'
	@touch $@ $(VENV)/.run-ready

$(VENV)/.test-ready: $(VENV)/bin/python $(NEEDED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@ $(VENV)/.run-ready $(VENV)/.network-ready

.venv-peers/.ready: benchmarks/peers/requirements.txt
	@$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

$(VENV)/.docs-ready: $(VENV)/bin/python $(NEEDED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@ $(VENV)/.run-ready

clean:  ## remove what was built (not the runs)
	rm -rf $(VENV) .venv-peers build dist site src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage*
