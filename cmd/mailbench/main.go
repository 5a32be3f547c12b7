// Command mailbench measures mailformd beside Postfix and Dovecot, as Debian has
// them, and beside mox, on one machine and in the same minutes: `make bench-peers`;
// with a mailbox of a million messages: `make bench-large`; what an import takes: `make bench-import`; searches: `make bench-search`; and the memory
// of a server that holds a million messages and is at rest: `make bench-memory`.
//
// Each peer gets a scratch directory, ports of its own on loopback and the
// configuration written here; all are ended by their process id afterwards. Rounds
// are interleaved, figures are medians, and what counts on a busy machine are the
// ratios and the CPU time, which is that of all of a peer's processes.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"
)

type options struct {
	bin      string // mailformd
	mox      string
	imports  int // messages; 0 measures the peers
	searches int // messages; 0 measures the peers
	hold     int // messages; 0 measures the peers
	rounds   int
	delivers int  // messages per round of the SMTP cases
	big      int  // messages in the large mailbox
	large    int  // messages; 0 measures everything
	alone    bool // no peers
	encrypt  bool // ours
	mixed    time.Duration
	idle     int // idle connections
	cases    *regexp.Regexp
}

func main() {
	var o options
	flag.StringVar(&o.bin, "bin", "bin/mailformd", "the server to measure")
	flag.StringVar(&o.mox, "mox", "bin/mox", "the mox to measure, if it is there")
	flag.IntVar(&o.imports, "import", 0, "measure nothing but the import of so many messages from a Maildir")
	flag.IntVar(&o.searches, "search", 0, "measure nothing but searches through IMAP in a mailbox of so many messages")
	flag.IntVar(&o.hold, "hold", 0, "measure nothing but the memory of a server that holds so many messages")
	flag.IntVar(&o.rounds, "rounds", 3, "interleaved rounds; figures are their medians")
	flag.IntVar(&o.delivers, "deliver", 1000, "messages for each round of the SMTP cases")
	flag.IntVar(&o.big, "messages", 100_000, "messages in the large mailbox")
	flag.IntVar(&o.large, "large", 0, "measure nothing but a mailbox of so many messages")
	flag.DurationVar(&o.mixed, "mixed", 30*time.Second, "how long the mixed IMAP load runs")
	flag.IntVar(&o.idle, "idle", 80, "idle connections")
	flag.BoolVar(&o.alone, "alone", false, "measure no peers")
	flag.BoolVar(&o.encrypt, "encrypt", false, "have mailformd encrypt the mail, which the peers do not")
	cases := flag.String("case", "", "measure only the cases whose name this regular expression matches")
	flag.Parse()
	var err error
	if o.cases, err = regexp.Compile(*cases); err == nil {
		err = run(o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "mailbench:", err)
		os.Exit(1)
	}
}

func run(o options) (err error) {
	dir, err := os.MkdirTemp("", "mailbench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	// Dovecot's and Postfix's users have to pass.
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	bin, err := filepath.Abs(o.bin)
	if err != nil {
		return err
	}
	id, err := newIdentity(filepath.Join(dir, "tls"))
	if err != nil {
		return err
	}
	names, stopNames, err := startNames()
	if err != nil {
		return err
	}
	defer stopNames()
	ours, err := startMailformd(filepath.Join(dir, "mailformd"), bin, names, id, o.encrypt)
	if err != nil {
		return err
	}
	defer ours.stop()
	if o.hold > 0 {
		return holding(o.hold, ours, dir)
	}
	if o.imports > 0 {
		return importing(o.imports, ours, dir)
	}
	if o.searches > 0 {
		return searching(o.searches, ours, dir)
	}
	peers := []*peer{ours}
	if !o.alone {
		theirs, err := startDovecot(filepath.Join(dir, "peer"), id)
		if err != nil {
			return err
		}
		defer theirs.stop()
		peers = append(peers, theirs)
		mox, err := startMox(filepath.Join(dir, "mox"), o.mox, names, id)
		switch {
		case errors.Is(err, errMissing):
			fmt.Printf("%v; it is left out\n", err)
		case err != nil:
			return err
		default:
			defer mox.stop()
			peers = append(peers, mox)
		}
	}
	var versions []string
	for _, p := range peers {
		versions = append(versions, p.version)
	}
	fmt.Printf("%s/%s, %d CPUs, %s; %s; medians of %d interleaved rounds\n\n", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), time.Now().UTC().Format("2006-01-02 15:04 UTC"), strings.Join(versions, ", "), o.rounds)
	t := newTable(peers)
	parts := []func(options, []*peer, *table, string) error{idleMemory, mixedLoad, collecting, deliveries, largeMailbox}
	if o.large > 0 {
		o.big, parts = o.large, parts[len(parts)-1:]
	}
	for _, part := range parts {
		if err := part(o, peers, t, dir); err != nil {
			return err
		}
	}
	return nil
}
