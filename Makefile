# mailform: build, demonstrate, test. Only Go, git and make are needed.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
GO      ?= go
LDFLAGS := -s -w -X main.version=$(VERSION)
BUILD   := CGO_ENABLED=0 $(GO) build -trimpath
AGENTS  := providers/host/agentbin
SERVER  := $(shell find cmd/mailformd server -name '*.go' ! -name '*_test.go') go.mod go.sum

.PHONY: build demo test bench lint fmt clean

build: bin/mailformd bin/mailform

# mailform carries mailformd for both server architectures.
bin/mailform: $(AGENTS)/mailformd-linux-amd64.gz $(AGENTS)/mailformd-linux-arm64.gz FORCE
	$(BUILD) -tags embed_agent -ldflags '$(LDFLAGS)' -o $@ ./cmd/mailform

bin/mailformd: FORCE
	$(BUILD) -ldflags '$(LDFLAGS)' -o $@ ./cmd/mailformd

$(AGENTS)/mailformd-linux-%.gz: $(SERVER)
	GOOS=linux GOARCH=$* $(BUILD) -ldflags '$(LDFLAGS)' -o $(basename $@) ./cmd/mailformd
	gzip -9nf $(basename $@)

demo: build
	bin/mailform rehearse examples/quickstart

test:
	$(GO) vet ./...
	$(GO) test $(TESTFLAGS) ./...

bench:
	$(GO) test -run '^$$' -bench . -benchmem ./specs ./plan ./apply ./server/... | grep -E '^(Benchmark|pkg:|ok)'

lint:
	test -z "$$(gofmt -l $$(git ls-files '*.go'))"
	$(GO) vet ./...
	$(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...
	if command -v golangci-lint >/dev/null; then golangci-lint run; fi

fmt:
	gofmt -w $$(git ls-files '*.go')

clean:
	rm -rf bin $(AGENTS)/*.gz

FORCE:
