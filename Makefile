# Everything that is done with this repository. It needs Go, git and make; what
# else a target needs is said by the target when it is missing.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X github.com/holdfast-gitops/holdfast/cmd/internal/cli.version=$(VERSION)
IMAGE ?= holdfast:$(VERSION)

# One sandbox serves the tests of all packages; the file that its address is in
# is handed over in HOLDFAST_TEST_KUBECONFIG.
WITH_SANDBOX := go run ./internal/testkit/kube/cmd/sandboxctl with-sandbox --
# The race detector needs a C compiler.
HAVE_CC := $(shell command -v $$(go env CC 2>/dev/null) 2>/dev/null)
TEST := $(if $(HAVE_CC),env CGO_ENABLED=1 go test -race,go test) -vet=off
GOFILES = $$(git ls-files --cached --others --exclude-standard '*.go')

# Without cgo everywhere but under the race detector: the program is static, and
# what one target compiled the next one finds in the cache.
export CGO_ENABLED = 0

.PHONY: help
help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  \1\t/' | expand -t 14

.PHONY: need
need:
	@command -v go >/dev/null || { echo "Go is missing: install Go 1.26 or newer from https://go.dev/dl" >&2; exit 1; }
	@command -v git >/dev/null || { echo "git is missing: install it, with its http-backend, from your system's packages" >&2; exit 1; }
	@test -x "$$(git --exec-path)/git-http-backend" || { echo "git's http-backend is missing: it serves the tests' and the demo's repositories; install the full git package" >&2; exit 1; }

# The dashboard is tested in one of these.
HAVE_BROWSER := for b in chromium chromium-browser google-chrome; do command -v $$b >/dev/null 2>&1 && exit 0; done; exit 1
NO_BROWSER := no Chromium: the tests of the dashboard in a browser are left out; install chromium from your system's packages

.PHONY: browser
browser:
	@($(HAVE_BROWSER)) && exit 0; \
	if [ "$$(id -u)" = 0 ] && [ -f /etc/debian_version ] && command -v apt-get >/dev/null 2>&1; then \
		echo "installing Chromium for the tests of the dashboard" >&2; \
		export DEBIAN_FRONTEND=noninteractive; \
		{ apt-get install -y --no-install-recommends chromium || \
		  { apt-get update && apt-get install -y --no-install-recommends chromium; }; } >/dev/null 2>&1; \
		($(HAVE_BROWSER)) && exit 0; \
	fi; \
	echo "$(NO_BROWSER)" >&2; [ "$$CI" != true ]

.PHONY: build
build: need ## build bin/holdfast
	go build -ldflags '$(LDFLAGS)' -o bin/holdfast ./cmd/holdfast

.PHONY: demo
demo: need ## show Holdfast at work on a sandbox cluster, until Ctrl-C
	go run ./internal/testkit/demo

.PHONY: demo-tour
demo-tour: need ## play the demo's story unattended; fails if a step does
	go run ./internal/testkit/demo --tour

.PHONY: test
test: need browser ## run the tests, on one sandbox cluster
	$(if $(HAVE_CC),,@echo "no C compiler: testing without the race detector; install gcc to have it" >&2)
	$(WITH_SANDBOX) $(TEST) -timeout 15m ./...
	@($(HAVE_BROWSER)) || echo "$(NO_BROWSER)" >&2

.PHONY: test-long
test-long: need browser ## run the exhaustive tests as well, and the sandbox's own
	$(WITH_SANDBOX) env HOLDFAST_LONG=1 $(TEST) -timeout 60m ./...
	cd examples/sandbox && go test -timeout 30m ./...

.PHONY: lint
lint: need ## check formatting, vet and staticcheck, in both modules
	@bad=$$(gofmt -l $(GOFILES)); test -z "$$bad" || { echo "gofmt would change:"; echo "$$bad"; exit 1; }
	go vet ./...
	go tool staticcheck ./...
	go test -vet=off ./internal/testkit/repotest
	cd examples/sandbox && go vet ./...

.PHONY: bench
bench: need ## measure Holdfast against the raw limits, and git, of the same run; writes bench.json
	go run ./internal/testkit/bench

.PHONY: image
image: ## build the container image
	@command -v docker >/dev/null || { echo "docker is missing: it builds the image" >&2; exit 1; }
	docker build --build-arg VERSION=$(VERSION) -t $(IMAGE) .

.PHONY: clean
clean: ## remove what was built and what the demo left
	rm -rf bin .demo bench.json
