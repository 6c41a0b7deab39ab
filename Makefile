# The front door. `make` alone says what there is.
#
#   make test      on a Debian machine that has the Rust toolchain; the rest is installed
#   .ci/run        what decides whether a change is good: make check test

target := $(abspath $(or $(CARGO_TARGET_DIR),target))
tools := $(target)/tools
venv := $(target)/venv
gateway := $(target)/debug/gateway
suite := scripts/suite.sh
# Without a cache, so that nothing is left beside the sources.
pytest := $(venv)/bin/pytest -p no:cacheprovider

export PATH := $(tools)/bin:$(PATH)
# What the suites test is what was built here, never an older release build that lies about.
export GATEWAY_BIN := $(gateway)
# The chart's tools are kept where everything else is that can be made again.
export GATEWAY_HELM_CACHE := $(target)/helm

NEXTEST_VERSION := 0.9.143
DENY_VERSION := 0.20.2

# The suites share two cores and count what they time, so they run one after another.
.NOTPARALLEL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 22

.PHONY: run build
run: ## build the release and serve, on 127.0.0.1
	cargo run --release --locked

build: ## build the gateway that the suites test
	cargo build --locked --package gateway

# --- check: what a tool can tell without running the gateway's tests; the quickest first.

.PHONY: check fmt clippy doc docs-fresh deny
check: fmt clippy doc docs-fresh deny ## formatting, lints, documentation, dependencies

fmt: ## formatting
	cargo fmt --all --check

clippy: ## lints, as errors
	cargo clippy --workspace --all-targets --locked -- --deny warnings

doc: ## the code's documentation, with warnings as errors
	RUSTDOCFLAGS="--deny warnings" cargo doc --workspace --no-deps --locked

docs-fresh: build ## docs/config.md is what the code says
	$(gateway) default-config --markdown | diff --unified docs/config.md - \
	  || { echo "docs/config.md is stale: $(gateway) default-config --markdown > docs/config.md" >&2; exit 1; }

# Advisories come over the network; a machine that has none still checks the rest.
deny: tool-deny ## licences, duplicates, sources and advisories of the dependencies
	cargo deny --offline --locked check bans licenses sources
	@if cargo deny --locked fetch db; then \
	  cargo deny --offline --locked check advisories; \
	else \
	  echo "the advisory database is out of reach: advisories were not checked"; \
	fi

# --- test: the quickest to fail first.

.PHONY: test test-rust test-e2e test-python test-page test-sdk test-example test-helm test-image test-balancers test-dashboards test-kube
test: machine build test-rust test-e2e test-python test-sdk test-example test-page test-helm test-image test-balancers test-dashboards ## everything that runs; stops at the first suite that fails
	@echo "all suites passed"

test-rust: machine tool-nextest adapter-redis/tests/node/node_modules/.package-lock.json adapter-redis/tests/python/.venv/bin/python ## the Rust tests, with real Redis servers
	@$(suite) rust nextest cargo nextest run --workspace --locked

.PHONY: test-redis-matrix
test-redis-matrix: machine tool-nextest adapter-redis/tests/node/node_modules/.package-lock.json adapter-redis/tests/python/.venv/bin/python ## the adapter with Redis 6.2, 7.0, 8.0 and Valkey 8, 9
	@scripts/redis-matrix.sh $(target)/servers

test-e2e: machine build e2e/node_modules/.package-lock.json ## official JavaScript clients against the gateway
	@$(suite) e2e node npm test --prefix e2e --silent

test-python: machine build $(venv)/installed ## python-socketio against the gateway
	@$(suite) python pytest $(pytest) e2e/python

test-sdk: machine build $(venv)/installed e2e/sdk/node_modules/.package-lock.json ## both SDKs
	@$(suite) sdk-javascript node npm test --prefix e2e/sdk --silent
	@$(suite) sdk-python pytest $(pytest) e2e/sdk

test-example: machine build $(venv)/installed ## the example backend, behind the gateway
	@$(suite) example pytest $(pytest) examples/python-backend

test-page: machine build e2e/page/node_modules/.package-lock.json ## the demo page in a browser
	@$(suite) page node npm test --prefix e2e/page --silent

test-helm: machine build ## the chart and the plain manifests
	@$(suite) helm script helm/test.sh

test-image: machine build test-helm ## the image of the Dockerfile, around what is built
	cargo build --locked --package loadtest --bin loadtest
	@$(suite) image script scripts/image-test.sh $(gateway) $(target)/debug/loadtest

test-balancers: machine build e2e/node_modules/.package-lock.json $(target)/balancers/installed ## load balancers before three pods
	@BALANCERS_BIN=$(target)/balancers/bin $(suite) balancers node node --test --test-reporter=spec e2e/balancers/balancers.test.mjs

test-dashboards: machine build e2e/node_modules/.package-lock.json ## every panel and alert, on a Prometheus that scrapes three pods
	@$(suite) dashboards node node --test --test-reporter=spec e2e/dashboards/dashboards.test.mjs

# Needs a cluster: KUBECONFIG and IMAGE, or KUBE_NODE; e2e/kube/run.sh says more.
test-kube: machine build test-helm e2e/node_modules/.package-lock.json ## the chart on a real cluster, under live clients
	cargo build --locked --package loadtest --bin loadtest
	@LOADTEST_BIN=$(target)/debug/loadtest $(suite) kube node e2e/kube/run.sh

.PHONY: test-loadtest
test-loadtest: machine tool-nextest ## the load generator, against a server that lies on purpose
	@$(suite) loadtest nextest cargo nextest run --package loadtest --locked

# --- what those need; made once, and again when what it is made of changes.

.PHONY: machine tool-nextest tool-deny
machine: ## install what the tests need of the machine, as root or by sudo
	@scripts/machine.sh $(tools)

# Tools are built in a folder of cargo's own, so nothing of them mixes with the workspace.
tool-nextest:
	@command -v cargo-nextest >/dev/null || env --unset=CARGO_TARGET_DIR \
	  cargo install --locked --root $(tools) --version $(NEXTEST_VERSION) cargo-nextest

tool-deny:
	@command -v cargo-deny >/dev/null || env --unset=CARGO_TARGET_DIR \
	  cargo install --locked --root $(tools) --version $(DENY_VERSION) cargo-deny

%/node_modules/.package-lock.json: %/package-lock.json %/package.json
	cd $* && npm ci --no-audit --no-fund
	@touch $@

# Its dependency is a copy of the SDK, made by `npm ci`.
e2e/sdk/node_modules/.package-lock.json: $(wildcard sdk/javascript/*)

requirements := e2e/python/requirements.txt e2e/sdk/requirements.txt adapter-redis/tests/python/requirements.txt \
	examples/python-backend/requirements.txt examples/python-backend/requirements-dev.txt

$(target)/balancers/installed: e2e/balancers/requirements.txt
	python3 -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

# All at once, so that two files which ask for different versions are found out.
$(venv)/installed: $(requirements) sdk/python/pyproject.toml $(wildcard sdk/python/ai_coding_assistant/*)
	python3 -m venv --clear $(venv)
	$(venv)/bin/python -m pip install --quiet --disable-pip-version-check $(addprefix --requirement ,$(requirements)) ./sdk/python
	@touch $@

# The adapter's tests look for Python here; it is the one that all suites share. An environment that is there already
# is somebody's own and stays.
adapter-redis/tests/python/.venv/bin/python: $(venv)/installed
	@[ -e $(@D)/../pyvenv.cfg ] || { mkdir -p $(@D) && printf '#!/bin/sh\nexec %s "$$@"\n' $(venv)/bin/python >$@ && chmod +x $@; }
