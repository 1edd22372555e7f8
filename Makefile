# The tasks of this repository. `make` lists them, `make ci` runs what CI runs.

.PHONY: help
help: ## list the tasks
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

.PHONY: demo
demo: ## run the demo
	cargo run --release --bin weft -- demo

.PHONY: test
test: ## run every test; what misses a component is shown as ignored
	cargo test --workspace

.PHONY: instructions
instructions: ## count instructions and allocations of the proxy (needs valgrind)
	cargo bench -p weft-proxy --bench instructions

.PHONY: scenarios
scenarios: ## run the scenarios of the whole mesh only
	cargo build --workspace --bins && cargo test -p weft-tests

.PHONY: bench
bench: ## measure the data plane side by side with Envoy and HAProxy (docs/BENCHMARKS.md)
	cargo bench -p weft-tests --bench mesh

.PHONY: bench-control-plane
bench-control-plane: ## measure the control plane with 1,000 simulated proxies (docs/BENCHMARKS.md)
	cargo bench -p weft-tests --bench control-plane

.PHONY: lint
lint: ## format check and lints, warnings as errors
	cargo fmt --all --check && cargo clippy --workspace --all-targets -- -D warnings

.PHONY: deny
deny: ## licences, bans and sources of dependencies (needs cargo-deny)
	cargo deny check bans licenses sources

.PHONY: images
images: ## build the images, with docker or buildah; deploy/images says what can be set
	deploy/images

.PHONY: generate
generate: ## write generated files anew: protobuf code, golden files, references
	WEFT_UPDATE=1 cargo test -p weft-xds-proto --test generated
	WEFT_UPDATE=1 INSTA_UPDATE=always cargo test --workspace --lib
	WEFT_UPDATE=1 cargo test -p weft-tests --test scenarios chart

.PHONY: ci
ci: ## run what CI runs
	.ci/run
