# Every target sets up what it needs by itself: `make smoke` and `make test` work in a fresh clone on a plain Debian with
# python3, root or not. Stamps in .venv make a repeat instant.

.DEFAULT_GOAL := help
.PHONY: help smoke test lint bench soak chain system peers golang node clean

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q

help:  ## This list.
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

smoke: $(VENV)/.run  ## The embedded platform, a room start, a verdict; files in out/smoke.
	$(BIN)/probe smoke --out out/smoke

test:  ## Linters, every test, coverage of the pure folders.
	@$(MAKE) --no-print-directory -j4 $(VENV)/.dev system peers
	$(BIN)/python -m tests.suite

lint: $(VENV)/.dev  ## Linters, types and layers only.
	$(BIN)/python -m tests.suite --lint

bench: $(VENV)/.dev system  ## Costs and latencies, as ratios of one machine.
	$(BIN)/python -m tests.bench

soak: $(VENV)/.dev system  ## Repetition: many healthy runs, and runs on a starved machine.
	$(BIN)/python -m tests.soak

chain: $(VENV)/.run  ## An agent with sandbox, collector, Prometheus, Alertmanager and a pager, on loopback, until Ctrl-C.
	@deploy/install-system-packages prometheus prometheus-alertmanager
	deploy/chain

system:  ## Debian packages that tests use (as root; says what is missing otherwise).
	@deploy/install-system-packages

peers: golang node  ## The foreign WebRTC peer and Toxiproxy, and the foreign servers that npm has.

golang: | $(VENV)/.made
	@$(BIN)/python -m tests.peers.golang

node: | $(VENV)/.made
	@$(BIN)/python -m tests.peers.nodejs

clean:  ## Everything the targets above made.
	rm -rf $(VENV) out build dist htmlcov .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache tests/peers/pion/pion-peer tests/peers/toxiproxy/toxiproxy-server tests/peers/node/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made:
	@deploy/make-venv $(VENV)
	@touch $@

$(VENV)/.run: pyproject.toml | $(VENV)/.made
	$(PIP) install -e .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.made
	$(PIP) install -e '.[dev]'
	@touch $@ $(VENV)/.run
