# make help lists the targets.

IMAGE ?= zero-pod-autoscaler:latest
# Where `make static` and `make image-prebuilt` build for.
TARGET ?= $(shell uname -m)-unknown-linux-musl

STATIC := target/$(TARGET)/release/zpa
# How many seeds `make sim` plays.
SEEDS ?= 10000
SOAK_MINUTES ?= 60
# How long `make idle` watches connections doing nothing.
MINUTES ?= 60
# `test` has assertions and checks of overflow that the quick build has not.
SOAK_PROFILE ?= explore
FUZZ_SECONDS ?= 60
# The image as a file, for `make image-test`.
ARCHIVE := target/image/image.tar
# The first container engine that answers; expanded only where it is needed.
ENGINE = $(shell sh tests/container-engine.sh)

.DEFAULT_GOAL := help
.PHONY: help run tools test page screenshots model sim net protocols monitoring vm idle soak fuzz bench bench-vm static static-test image image-prebuilt image-test chart

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Show an app being woken, on kind or in a sandbox of one process: PORT=8080
	@# In a process group of its own (-m), so that Ctrl-C ends the demo and not make.
	@if [ -t 0 ]; then sh -mc 'sh tests/run.sh; exit $$?'; else sh tests/run.sh; fi

tools: ## Install what tests of the manifests run (helm, kubernetes-validate) into target/tools
	@sh tests/tools.sh

test: ## Run all tests that take no cluster and no patience
	@cargo run --locked --quiet --example replay
	@sh tests/run-tests.sh test

page: ## Test the page in Chromium, with pictures in target/page
	ZPA_SCREENSHOTS=$(CURDIR)/target/page cargo test --locked --test page

screenshots: page ## Make the picture of the page that README shows
	cp target/page/apps-light.png tests/page/page.png

model: ## Explore the protocol between two proxies within its large bound: RUN="a watch" for runs by name
	ZPA_MODEL=full ZPA_MODEL_RUN="$(RUN)" cargo test --locked --profile explore --lib policy::model -- \
	    --nocapture --test-threads 1

sim: ## Play SEEDS=n runs of faults over simulated time
	ZPA_SIM_SEEDS=$(SEEDS) cargo test --locked --profile explore --test simulation -- --nocapture

net: ## Test on networks on which packets vanish, for minutes; takes root
	@ZPA_SLOW=1 sh tests/run-tests.sh net --test net -- --test-threads=6

protocols: ## Test with the real servers and clients that are installed
	@sh tests/run-tests.sh protocols --test protocols -- --include-ignored

monitoring: ## Provoke each alert in a real Prometheus, and play it at its true speed
	@ZPA_SLOW=1 sh tests/run-tests.sh monitoring --test monitoring

vm: ## Run the network tests in an emulated machine: KERNEL=package, TESTS=words
	@sh tests/vm/run.sh

idle: ## Hold 100,000 idle connections for MINUTES=n in an emulated machine
	@TESTS='idle --nocapture' ZPA_SLOW=1 ZPA_IDLE_MINUTES=$(MINUTES) sh tests/vm/run.sh

soak: ## Mix all traffic and faults for SOAK_MINUTES=n
	@SOAK_MINUTES=$(SOAK_MINUTES) sh tests/run-tests.sh soak \
	    --profile $(SOAK_PROFILE) --test soak -- --nocapture

fuzz: ## Fuzz each target for FUZZ_SECONDS=n; takes nightly and cargo-fuzz
	@for target in relay watch settings apps durations admin kubeconfig proxy_protocol client_hello first_bytes; do \
	    mkdir -p target/fuzz/corpus/$$target; \
	    seeds=tests/fuzz/seeds/$$target; [ -d $$seeds ] || seeds=; \
	    cargo +nightly fuzz run --fuzz-dir tests/fuzz --target-dir target/fuzz $$target \
	        target/fuzz/corpus/$$target $$seeds -- \
	        -max_total_time=$(FUZZ_SECONDS) -artifact_prefix=target/fuzz/$$target- || exit 1; \
	done

bench: ## Measure beside other proxies: QUICK=1, WRITE=1 to write it down, ONLY="bulk-1 nginx"
	cargo bench --locked --bench bench -- $(ONLY)

bench-vm: ## Measure the rows far away in an emulated machine, which has netem: WRITE=1
	@WRITE=$(WRITE) sh tests/vm/bench.sh

static: ## Build the static binary: TARGET=x86_64-unknown-linux-musl or aarch64-...
	@sh tests/build-static.sh $(TARGET)

static-test: static ## Test what the C library of the static binary does by itself: names
	ZPA_BINARY=$(CURDIR)/$(STATIC) cargo test --locked --test net resolver

image: ## Build the container image with docker, podman or buildah
	$(ENGINE) build --file Containerfile --tag $(IMAGE) .

image-prebuilt: static ## Build the image around the static binary; needs no registry
	rm -rf target/image/context
	install -D $(STATIC) target/image/context/zpa
	install -d target/image/context/bin
	ln -s /zpa target/image/context/bin/zero-pod-autoscaler
	$(ENGINE) build --file Containerfile --build-arg BINARY_FROM=prebuilt --tag $(IMAGE) target/image/context

image-test: ## Test the image that was built last; running the program in it takes root
	@sh tests/save-image.sh $(ENGINE) $(IMAGE) $(ARCHIVE)
	ZPA_IMAGE=$(ARCHIVE) cargo test --locked --test image

chart: export PATH := $(CURDIR)/target/tools/bin:$(PATH)
chart: tools ## Package the Helm chart into target/chart, for helm install or helm push
	@helm lint --quiet --strict manifests/chart --set settings.deployment=my-app
	@helm package manifests/chart --destination target/chart
