# mailform: build, demonstrate, test. Only Go, git and make are needed.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
GO      ?= go
LDFLAGS := -s -w -X main.version=$(VERSION)
BUILD   := CGO_ENABLED=0 $(GO) build -trimpath
# The server's few pages and requests need no HTTP/2.
DAEMON  := -tags nethttpomithttp2
AGENTS  := providers/host/agentbin
SERVER  := $(shell find cmd/mailformd server -name '*.go' ! -name '*_test.go') go.mod go.sum

.PHONY: build demo test torture bench bench-engines bench-peers bench-large bench-import bench-search bench-memory lint fmt clean

build: bin/mailformd bin/mailform

# mailform carries mailformd for both server architectures.
bin/mailform: $(AGENTS)/mailformd-linux-amd64.gz $(AGENTS)/mailformd-linux-arm64.gz FORCE
	$(BUILD) -tags embed_agent -ldflags '$(LDFLAGS)' -o $@ ./cmd/mailform

# Changes when the version does: the server inside tells it, too.
bin/.version: FORCE
	@mkdir -p bin && { [ "$$(cat $@ 2>/dev/null)" = "$(VERSION)" ] || echo "$(VERSION)" > $@; }

bin/mailformd: FORCE
	$(BUILD) $(DAEMON) -ldflags '$(LDFLAGS)' -o $@ ./cmd/mailformd

$(AGENTS)/mailformd-linux-%.gz: $(SERVER) bin/.version
	GOOS=linux GOARCH=$* $(BUILD) $(DAEMON) -ldflags '$(LDFLAGS)' -o $(basename $@) ./cmd/mailformd
	gzip -9nf $(basename $@)

demo: build
	bin/mailform rehearse examples/quickstart

test:
	$(GO) vet ./...
	$(GO) test $(TESTFLAGS) ./...

# The store's tests with 10,000 killed processes, power cuts and flipped bits, or
# as many as come to an end in TORTURE_TIME for each test. It says how far it is.
TORTURE_TIME ?= 1h
torture:
	MAILFORM_TORTURE=10000 MAILFORM_TORTURE_TIME=$(TORTURE_TIME) $(GO) test -count=1 -timeout 24h -v -run 'Kill|PowerCuts|DiskFaults|BitFlips|Ledger' ./server/store

bench:
	@$(GO) test -run '^$$' -bench . -benchmem ./specs ./plan ./apply ./server/... | awk ' \
	  /^pkg:/ { sub("mailform/", "", $$2); pkg = $$2 } \
	  /^Benchmark/ { sub("^Benchmark", "", $$1); sub("-[0-9]+$$", "", $$1); printf "%-14s %-44s", pkg, $$1; \
	    for (i = 3; i < NF; i += 2) printf " %12s %-10s", $$i, $$(i+1); print "" } \
	  /^(FAIL|---)/ { print; bad = 1 } END { exit bad }'
	@echo "beside Postfix, Dovecot and mox: make bench-peers (as root; it installs them)"

# The embedded engines that the store's index could be kept in.
bench-engines:
	cd server/store/enginebench && $(GO) run .
	@cd server/store/enginebench && for e in none bbolt sqlite pebble; do \
	  $(BUILD) -ldflags '-s -w' -o $${TMPDIR:-/tmp}/enginebench-size ./size/$$e && \
	  echo "a program with $$e: $$(stat -c %s $${TMPDIR:-/tmp}/enginebench-size) octets"; done; rm -f $${TMPDIR:-/tmp}/enginebench-size

# BENCH.md explains the table. As root, because the peers' users differ.
bench-peers: bin/mailformd bin/mox
	@command -v postfix >/dev/null && [ -x /usr/lib/dovecot/lmtp ] && [ -x /usr/lib/dovecot/imap ] && [ -x /usr/lib/dovecot/pop3 ] || \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends postfix dovecot-imapd dovecot-lmtpd dovecot-pop3d
	@$(GO) run ./cmd/mailbench $(BENCHFLAGS)

# A mailbox of a million messages beside Dovecot: 15 GB of disk, and half an hour on a
# busy machine. With fewer than 300,000 messages (LARGE=100000) all commands are measured.
# mox takes many messages only slowly: MOX=bin/mox has it beside, better with LARGE=50000.
LARGE ?= 1000000
MOX   ?=
bench-large: bin/mailformd
	@$(GO) run ./cmd/mailbench -large $(LARGE) -rounds 1 -mox '$(MOX)' $(BENCHFLAGS)

# What an import of 200,000 messages takes, in its process and in the server.
bench-import: bin/mailformd
	@$(GO) run ./cmd/mailbench -import 200000 $(BENCHFLAGS)

# Searches of all kinds through IMAP in a mailbox of 100,000 messages.
bench-search: bin/mailformd
	@$(GO) run ./cmd/mailbench -search 100000 $(BENCHFLAGS)

# The memory of the server while it holds a million messages and has nothing to do.
bench-memory: bin/mailformd
	@$(GO) run ./cmd/mailbench -hold 1000000 $(BENCHFLAGS)

# A peer to measure beside, in a module of its own: nothing of it gets into ours.
# Where it cannot be had the table has no column for it.
bin/mox:
	@mkdir -p bin/.mox && printf 'module bench\n\ngo 1.26\n\nrequire github.com/mjl-/mox v0.0.15\n' > bin/.mox/go.mod && \
	  printf '//go:build tools\n\npackage bench\n\nimport _ "github.com/mjl-/mox/store"\n' > bin/.mox/tools.go && cd bin/.mox && \
	  GOFLAGS=-mod=mod CGO_ENABLED=0 $(GO) build -o ../mox github.com/mjl-/mox || echo "$@ could not be built: it is left out"

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
