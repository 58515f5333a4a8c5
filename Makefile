# What a person types. `make` alone lists it.

.DEFAULT_GOAL := help
.PHONY: help demo test test-rabbitmq test-otlp bench chaos soak seeded-bugs check deny sbom

CARGO ?= cargo
# Where cargo puts its programs; `CARGO_TARGET_DIR` moves it.
TARGET := $(or $(CARGO_TARGET_DIR),target)

# What the demo runs, and the operator's command to look at it with.
DEMO := kingpost-demo kingpost-sandbox kingpost-extractor kingpost-transformer kingpost-loader kingpost

# The RabbitMQ beside the system's that `test-rabbitmq` uses, where scripts/rabbitmq.sh puts them, and what needs one.
ROOT ?= $(wildcard $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/kingpost/rabbitmq-*)
BROKER_TESTS := broker lab dead dead_letters shards pipeline faults alerts

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## the whole pipeline on this machine, with its account at the end; KEEP=1 leaves it running until Ctrl-C
	@scripts/setup.sh
	@echo '· building (the first time takes some minutes)'
	@$(CARGO) build --release --quiet $(addprefix --bin ,$(DEMO))
	@$(TARGET)/release/kingpost-demo $(if $(KEEP),--keep)

test: ## every test, with real RabbitMQ nodes and real processes
	@scripts/setup.sh
	@scripts/tools.sh
	@$(CARGO) build --quiet --workspace --bins
	@$(CARGO) test --quiet --workspace --doc
	@if $(CARGO) nextest --version >/dev/null 2>&1; \
	then $(CARGO) nextest run --workspace; \
	else $(CARGO) test --workspace --lib --bins --tests --no-fail-fast; \
	fi

test-rabbitmq: ## the tests that need RabbitMQ, with others than the installed one; ROOT="DIR ..." (docs/rabbitmq.md)
	@[ -n '$(ROOT)' ] || { echo 'test-rabbitmq: no RabbitMQ but the installed one; get another with: sudo scripts/rabbitmq.sh 4.0' >&2; exit 64; }
	@unshare --mount true 2>/dev/null || unshare --user --map-root-user --mount true 2>/dev/null || \
		{ echo 'test-rabbitmq: a RabbitMQ in a directory of its own needs root here: run it with sudo' >&2; exit 77; }
	@scripts/setup.sh
	@$(CARGO) build --quiet --workspace --bins
	@if $(CARGO) nextest --version >/dev/null 2>&1; then run='nextest run'; else run='test --no-fail-fast'; fi; \
	failed=; for root in $(ROOT); do \
		echo "· $$root"; \
		KINGPOST_LAB_RABBITMQ=$$root $(CARGO) $$run -p e2e $(addprefix --test ,$(BROKER_TESTS)) || failed="$$failed $$root"; \
	done; \
	[ -z "$$failed" ] || { echo "test-rabbitmq: failed with$$failed" >&2; exit 1; }

test-otlp: ## the export of spans: programs that are built for it, against a collector in the test
	@scripts/setup.sh
	@$(CARGO) test --quiet --workspace --features kingpost-telemetry/otlp --test otlp
	@$(CARGO) build --quiet --workspace --bins --features otlp
	@$(CARGO) test --quiet -p e2e --test pipeline -- --ignored --exact traces::spans_of_all_stages_reach_a_collector; status=$$?; \
	$(CARGO) build --quiet --workspace --bins; exit $$status

bench: ## the transformer beside a bare relay, in six minutes; QUICK=1 only shows that it runs
	@scripts/setup.sh
	@$(CARGO) build --release --quiet --workspace --bins
	@$(TARGET)/release/kingpost-bench $(if $(QUICK),--quick)
	@$(if $(QUICK),,$(CARGO) bench --quiet -p kingpost-mapping --bench mapping)

chaos: ## random faults from a seed, then every order is accounted for; DURATION=600 SEED=7
	@scripts/setup.sh
	@$(CARGO) build --quiet --workspace --bins
	@$(TARGET)/debug/kingpost-chaos --duration $(or $(DURATION),60) $(if $(SEED),--seed $(SEED))

soak: ## messages while the broker is killed, dead letters while the replay is, a living history while workers are; MESSAGES= LETTERS= DOCUMENTS= WINDOWS=
	@scripts/setup.sh
	@$(CARGO) build --release --quiet --workspace --bins
	@$(TARGET)/release/kingpost-soak hop --messages $(or $(MESSAGES),1000000)
	@$(TARGET)/release/kingpost-soak replay --letters $(or $(LETTERS),100000) --kills 3
	@$(TARGET)/release/kingpost-soak living --documents $(or $(DOCUMENTS),20000) --windows $(or $(WINDOWS),200)

seeded-bugs: ## tests the tests: deliberate bugs, one at a time, and the test that must notice each; BUG=name
	@scripts/seeded-bugs.sh $(BUG)

check: ## formatting and lints
	@$(CARGO) fmt --all --check
	@$(CARGO) clippy --quiet --workspace --all-targets -- -D warnings

# Its version, so that the same list comes out.
CYCLONEDX_VERSION := 0.5.9

sbom: ## what each program is built of, as CycloneDX in target/sbom; by cargo-cyclonedx, which is installed if it is missing
	@$(CARGO) cyclonedx --version >/dev/null 2>&1 || $(CARGO) install --locked --quiet cargo-cyclonedx@$(CYCLONEDX_VERSION)
	@scripts/sbom.sh

# Its version, so that the same file is read in the same way.
DENY_VERSION := 0.20.2

deny: ## licences, bans, sources and advisories of everything that is linked, by cargo-deny, which is installed if it is missing
	@$(CARGO) deny --version >/dev/null 2>&1 || $(CARGO) install --locked --quiet cargo-deny@$(DENY_VERSION)
	@$(CARGO) deny check bans licenses sources
	@if $(CARGO) deny fetch db >/dev/null 2>&1; then $(CARGO) deny check --disable-fetch advisories; \
	else echo 'deny: the database of advisories is out of reach; advisories were NOT checked' >&2; fi
