# rolesmith: what a person types. `make help` lists it.
#
# Only booting nodes needs root; those commands go through sudo where the caller is not root. cargo never does.
# Kept to what GNU make 3.81 (macOS) reads, for `make tour`.

# Passes on what the lab and its tests read from the environment; a relative path, since cargo splits its runner at blanks.
AS_ROOT := builder/as-root

ROLESMITH := target/debug/rolesmith
AGENT := target/debian
SUITE ?= trixie
DEMO ?= demo
DRILL ?= --all
RUNS ?= 1

help:
	@echo "make tour       the builder without root: a fleet, its packages and its repository (cargo alone)"
	@echo "make demo       the whole thing: three Debian machines boot and install themselves (Debian 12 or 13)"
	@echo "make demo-down  end the demo's machines"
	@echo "make drill      break the demo's machines in every way, and measure (DRILL=NAME for one, RUNS=N)"
	@echo "make test       every test that CI runs;  make test-all  all there are"
	@echo "make image-test bake an image and boot it under qemu, with a BIOS and with UEFI;  make qemu-drill three machines of it"
	@echo "make idle       what an idle fleet uses, over ten minutes"
	@echo "make lint       formatting, clippy, shellcheck, documentation"
	@echo "make bench      benchmarks against dpkg-deb, apt-ftparchive, reprepro, aptly and zgrep"
	@echo "make deb        Debian packages of rolesmith and rolesmith-agent in target/debian"

build:
	cargo build --locked --package rolesmith

# The agent's package, signed by each fleet with its own key when it publishes.
agent-deb:
	PATH="$$PWD/target/tools/bin:$$PATH" debian/agent/build-deb $(AGENT)

deb: agent-deb
	PATH="$$PWD/target/tools/bin:$$PATH" debian/rolesmith/build-deb $(AGENT)

tour: build
	builder/tour $(ROLESMITH)

demo:
	@if [ -e "$(DEMO)" ] && [ ! -e "$(DEMO)/.rolesmith-demo" ]; then \
		echo "$(DEMO) was not made by \`make demo\`, which would delete it: move it away, or choose another place with DEMO=DIR" >&2; \
		exit 1; \
	fi
	builder/setup demo
	$(MAKE) build agent-deb
	@if [ -e "$(DEMO)/fleet.toml" ]; then $(AS_ROOT) $(ROLESMITH) -C "$(DEMO)" lab down; fi
	rm -rf "$(DEMO)"
	@mkdir -p "$(DEMO)" && touch "$(DEMO)/.rolesmith-demo"
	$(ROLESMITH) init "$(DEMO)" --example --suite $(SUITE)
	$(ROLESMITH) -C "$(DEMO)" check
	$(ROLESMITH) -C "$(DEMO)" mirror
	$(ROLESMITH) -C "$(DEMO)" publish
	$(AS_ROOT) $(ROLESMITH) -C "$(DEMO)" lab up
	$(AS_ROOT) $(ROLESMITH) -C "$(DEMO)" lab status
	@echo
	@echo "The shop and what it sells, asked through load balancer, edge, service, pgbouncer and PostgreSQL:"
	@$(AS_ROOT) $(ROLESMITH) -C "$(DEMO)" lab exec outside -- curl --silent --show-error --fail --insecure --connect-to ::10.77.0.2: \
		--write-out '\n%{url}: %{http_code}, HTTP/%{http_version}, %{time_total} s\n' \
		https://shop.example.internal/ https://shop.example.internal/api/products
	@echo
	@echo "Look around:"
	@echo "  $(AS_ROOT) $(ROLESMITH) -C $(DEMO) lab exec app-1 -- rolesmith-agent status"
	@echo "  the line above that begins with \"in a browser\": the shop, through the load balancer"
	@echo "  $(AS_ROOT) $(ROLESMITH) -C $(DEMO) lab exec app-1 -- bash"
	@echo "End it with: make demo-down"

demo-down:
	$(AS_ROOT) $(ROLESMITH) -C "$(DEMO)" lab down

# What an idle fleet uses, over ten minutes, for figures to be quoted; the machine has to be idle too.
idle: build agent-deb
	ROLESMITH_IDLE_MINUTES=10 $(MAKE) root-test NAME=capture

# On the machines of `make demo`.
drill:
	$(AS_ROOT) $(ROLESMITH) -C "$(DEMO)" lab drill $(DRILL) --runs $(RUNS)

# Fast tests first, without root; then what needs real tools; then real machines.
test:
	builder/setup test
	$(MAKE) test-fast
	$(MAKE) test-publish test-seeds test-services test-redis test-example test-edge test-nodes

test-fast:
	cargo test --locked --workspace

test-publish:
	cargo test --locked --package rolesmith-host --test publish -- --ignored --skip child_

# Seeds, executed by the cloud-init of both suites, in trees of Debian that stay in target/ (600 MB).
test-seeds:
	cargo test --locked --package rolesmith-bake --test execute -- --ignored --test-threads=1

# The real npm and yarn of both suites, in trees of Debian that stay in target/ (1.5 GB); they need the npm registry.
test-services:
	cargo test --locked --package rolesmith-host --test services -- --ignored --skip child_

# Real Redis and Sentinel on loopback addresses; a test has a dozen processes, so not all at once.
test-redis:
	cargo test --locked --package rolesmith-agent --test redis -- --ignored --test-threads=2

# The example's service, with real PostgreSQL, pgbouncer and Redis. On a copy: the templates are embedded as they stand.
test-example:
	rm -rf target/example
	mkdir -p target
	cp -R builder/cli/templates/example target/example
	cd target/example/services/shop && npm ci --ignore-scripts && TEST_ROOT="$(CURDIR)/target/tools/root" npm test

# What `check` says of the edge, with a real nginx.
test-edge:
	cargo test --locked --package rolesmith --test cli edge:: -- --ignored

# Thousands of simulated fleets (docs/simulator.md): the agent optimised, each test with two threads of its own.
test-simulator:
	cargo test --locked --package rolesmith-agent --test simulator \
		--config profile.dev.package.rolesmith-agent.opt-level=2 \
		-- --ignored --nocapture --test-threads=1 --skip replay_one

# Each boots real machines, so they run as root and one after the other.
test-nodes: build agent-deb
	$(MAKE) root-test NAME=repository FILTER="--skip installed"
	$(MAKE) root-test NAME=seed
	$(MAKE) root-test NAME=fleet FILTER=trixie
	$(MAKE) root-test NAME=logs
	$(MAKE) root-test NAME=redis FILTER=trixie
	$(MAKE) root-test NAME=lab_faults
	$(MAKE) root-test NAME=load_balancer
	$(MAKE) root-test NAME=packages
	$(MAKE) root-test NAME=enroll

# Some of them run the agent's program on this machine.
root-test:
	cargo build --locked --workspace --bins
	CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="$(AS_ROOT)" \
	cargo test --locked --package rolesmith-tests --test $(NAME) -- $(FILTER) --ignored --test-threads=1 --nocapture

# The builder's own package takes an optimised build of everything.
test-all: test deb
	$(MAKE) lint
	$(MAKE) test-simulator
	$(MAKE) root-test NAME=repository FILTER=installed
	$(MAKE) root-test NAME=fleet FILTER=bookworm
	$(MAKE) root-test NAME=cluster
	$(MAKE) root-test NAME=topologies
	$(MAKE) root-test NAME=firewall
	$(MAKE) root-test NAME=bans
	$(MAKE) root-test NAME=certificates
	$(MAKE) root-test NAME=capture
	$(MAKE) root-test NAME=redis FILTER=bookworm
	$(MAKE) root-test NAME=mail
	$(MAKE) root-test NAME=lab_baked
	$(MAKE) test-web

# The example's shop in a real browser (Debian's chromium, 500 MB with its libraries), and what TLS, the nodes' units and their memory
# are like, on both suites: ten minutes.
test-web: build agent-deb
	builder/setup browser
	$(MAKE) root-test NAME=web

# An image of the example's first node, baked and booted under qemu with a BIOS and with UEFI, and booted again after its kernel and
# boot loader were installed anew. Nothing of it runs as root. Minutes with KVM, half an hour without.
image-test: build agent-deb
	builder/setup image
	cargo test --locked --package rolesmith-bake --test boot -- --ignored --skip child_
	cargo test --locked --package rolesmith-tests --test image -- --ignored --test-threads=1 --nocapture

# Three machines with kernels of their own form the example's fleet; their plugs are pulled, and no acknowledged commit may be lost.
# By hand: without KVM it takes hours, 4 GB of memory and both patience and an idle machine.
qemu-drill: build agent-deb
	builder/setup image
	cargo test --locked --package rolesmith-tests --test qemu -- --ignored --test-threads=1 --nocapture

lint:
	builder/setup lint
	cargo fmt --all -- --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --quiet
	shellcheck -x builder/as-root builder/setup builder/tour debian/version debian/build-env.sh debian/agent/build-deb debian/rolesmith/build-deb debian/agent/check-glibc debian/agent/postinst debian/agent/prerm debian/agent/postrm .ci/run

bench:
	builder/setup bench
	cargo bench --locked --package rolesmith-host --bench peers
	cargo bench --locked --package rolesmith-agent --bench search

clean:
	cargo clean

.PHONY: help build agent-deb deb tour demo demo-down drill idle test test-fast test-simulator test-publish test-seeds test-services test-redis test-example test-edge test-nodes test-web image-test qemu-drill root-test test-all lint bench clean
