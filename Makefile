# Two commands do everything on a fresh machine: `make up` and `make test`. CARGO_TARGET_DIR is honoured.

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)

.DEFAULT_GOAL := help
.PHONY: help up test crash bench check tools

help: ## This list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/make \1|\2/' | awk -F'|' '{ printf "%-12s %s\n", $$1, $$2 }'

up: tools ## Fetch what is missing, build, and start the whole local stack with sample services under live traffic
	$(CARGO) build --release --locked --workspace --bin keelson
	exec "$(TARGET)/release/keelson" up --demo

test: ## Everything, against real servers
	@compose/tools/setup tests
	$(CARGO) build --release --locked --workspace
	$(CARGO) test --release --locked --workspace --no-fail-fast

crash: ## The long crash test: hundreds of seeded rounds of kill -9
	@compose/tools/setup tests
	$(CARGO) test --release --locked --package keelson-tests --test crash -- --ignored --nocapture --test-threads 1

bench: ## The figures, as ratios measured in one run
	@compose/tools/setup tests
	$(CARGO) run --release --locked --package keelson-tests --bin bench
	$(CARGO) bench --locked --package keelson-metrics --bench fold
	$(CARGO) bench --locked --package keelson-services --bench breaker
	$(CARGO) test --release --locked --package keelson-kit --test throughput -- --ignored --nocapture

check: ## Format, lints and documentation, warnings denied; licences and advisories where cargo-deny is installed
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- --deny warnings
	RUSTDOCFLAGS="--deny warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny check; \
	else echo "check: cargo-deny is not installed, so licences and advisories were not checked (cargo install cargo-deny)"; fi

tools: ## Fetch the tools that are missing into .tools/, verified by hash
	@compose/tools/setup
