# Everything a contributor or the CI machine runs. GNU make 3.81 or newer and a POSIX shell are enough.
.DEFAULT_GOAL := help
SHELL := /bin/sh

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-stamp
# Twice quiet: errors only.
PIP := $(BIN)/python -m pip install --quiet --quiet --no-compile

# Interpreters to try, best first; "make setup PYTHON=/some/python" names one.
PYTHON ?=
CANDIDATES := $(if $(PYTHON),$(PYTHON),python3.13 python3.12 python3.11 python3)

# The folders that hold our code; only those that exist are byte-compiled.
CODE := schemas bus store workspace forge conductor agents autopilot chatops console cli benchmarks examples

# Cold imports take seconds without byte code; a foreign path or home could shadow our literal package names.
unexport PYTHONDONTWRITEBYTECODE PYTHONPATH PYTHONHOME
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# $(call step,NAME,COMMAND): says what runs, and on failure what failed, and keeps its exit status.
define step
	@printf '\n==> %s\n' '$(1)'
	@$(2) || { status=$$?; printf '\nFAILED: %s (exit status %s)\n' '$(1)' "$$status" >&2; exit "$$status"; }
endef

.PHONY: help setup demo test check chaos bench eval clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## create .venv with the locked packages (every other target does it when needed)

demo: $(STAMP) ## take the example backlog through the whole train, on this machine
	@$(BIN)/python examples/demo.py

test: check ## the static checks, then every test with branch coverage
	$(call step,Debian packages for tests,scripts/test_packages)
	$(call step,pytest,$(BIN)/python -m pytest -n auto --dist loadgroup --no-loadscope-reorder --durations=15 \
	    --cov=schemas --cov=store --cov=bus --cov=conductor --cov-branch --cov-report=term --cov-fail-under=95)

check: $(STAMP) ## only the static checks: ruff, mypy, import contracts
	$(call step,ruff check,$(BIN)/ruff check --output-format concise .)
	$(call step,ruff format,$(BIN)/ruff format --check --output-format concise .)
	$(call step,mypy,$(BIN)/mypy)
	$(call step,import contracts,$(BIN)/lint-imports)

# CHAOS passes options on: make chaos CHAOS="--backend postgres --kills 50"
chaos: $(STAMP) ## the long proof by crashes: 200 kills while 50 sessions run, on each backend
	@$(BIN)/python -m tests.chaos $(CHAOS)

bench: $(STAMP) ## measure
	@$(BIN)/python -m benchmarks

# EVAL passes options on: make eval EVAL="--runs 5 csv-last-row"
eval: $(STAMP) ## measure the configured language model on small code tickets
	@$(BIN)/python -m benchmarks.tickets $(EVAL)

clean: ## remove .venv, caches, build products and the demo's folder
	rm -rf $(VENV) .demo build dist htmlcov coverage.xml .coverage .coverage.* \
	    .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis *.egg-info
	find . -name .git -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +

# A failure leaves no stamp, so the next call tries again; an existing .venv that works is installed over.
$(STAMP): pyproject.toml constraints.txt
	@python=; \
	for candidate in $(CANDIDATES); do \
	    if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	        python=$$candidate; break; \
	    fi; \
	done; \
	if [ -z "$$python" ]; then \
	    echo "make: needs Python 3.11 or newer and found none among: $(CANDIDATES)" >&2; \
	    echo "make: install one, or name it: make setup PYTHON=/path/to/python" >&2; exit 1; \
	fi; \
	if ! $(BIN)/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	    if ! "$$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then \
	        echo "make: $$python cannot create virtual environments: its venv or ensurepip module is missing" >&2; \
	        echo "make: install it (a system package often called python3-venv), or use another PYTHON" >&2; exit 1; \
	    fi; \
	    echo "==> creating $(VENV) with $$("$$python" -V)"; \
	    "$$python" -m venv --clear $(VENV) || exit 1; \
	fi
	@echo '==> installing the locked packages (a minute or two the first time)'
	@# The installer first: with it come the speed of a new pip and, for the one source package, a checked builder.
	@sed -n -E '/^(pip|setuptools)==/,/# via/p' constraints.txt >$(VENV)/installer.txt
	@$(PIP) --no-deps --require-hashes -r $(VENV)/installer.txt
	@# The lock is complete, so nothing is left to resolve: --no-deps only saves time. Byte code comes last, in parallel.
	@$(PIP) --no-deps --no-build-isolation --require-hashes -r constraints.txt
	@$(PIP) --no-deps --no-build-isolation --no-index --editable .
	@$(BIN)/python -m pip check
	@echo '==> byte-compiling'
	@# A file that is no valid Python must not end the set-up: libraries ship some, and for ours there are the checks.
	@$(BIN)/python -m compileall -qq -j 0 -x '/tests?/' $(VENV)/lib $(wildcard $(CODE)) >/dev/null 2>&1 || :
	@touch $@
