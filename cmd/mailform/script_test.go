package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"mailform/apply"
	"mailform/providers/alicloud/alicloudsim"
	"mailform/providers/cloudflare/cloudflaresim"
	"mailform/providers/host/hostsim"
	"mailform/providers/world"
	"mailform/server/manifest"
)

// binaries is the folder with mailform and mailformd as "make build" makes
// them, but for the embedding: mailform finds mailformd beside itself.
var binaries string

func TestMain(m *testing.M) {
	if hostsim.IsShim(os.Args) {
		os.Exit(hostsim.ShimMain())
	}
	if config := os.Getenv(childVariable); config != "" {
		os.Exit(childMain(config))
	}
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "mailform-bin-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	for _, what := range [][]string{ // as the Makefile does
		{"mailform/cmd/mailform", "mailform/providers/host/hostsim/shim/hostshim"},
		{"-tags", "nethttpomithttp2", "mailform/cmd/mailformd"},
	} {
		build := exec.Command("go", append([]string{"build", "-ldflags", "-s -w", "-o", dir}, what...)...)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			fmt.Fprintln(os.Stderr, "build the commands:", err)
			return 1
		}
	}
	binaries = dir
	return m.Run()
}

// hostshim is the program that stands in for the system programs of simulated hosts.
func hostshim() string { return filepath.Join(binaries, "hostshim") }

// The scripts in testdata read as documentation: each is a session at a shell.
//
//	exits CODE COMMAND…   runs a command that must end with that exit code
//	world [NAME…]         starts a simulated world and turns the environment to it;
//	                      its CA refuses certificates for those names
//	fault cloud ACTION JSON, fault dns METHOD JSON, fault off
//	                      makes a vendor answer so from now on (alicloudsim.Fault,
//	                      cloudflaresim.Fault)
//	outside closed|open   the cloud lets no mail out and the addresses have no names,
//	                      as they are at first, or both as they should be
//	broken HOST, mended HOST
//	                      a folder stands on the host where a file of ours should, or is gone
//	banned HOST 'ADDRESS SECONDS'…
//	                      the host's firewall drops these clients
//	inventory N           that many things exist in the vendors' accounts
//	sub FILE OLD NEW      replaces text in a file; \n is a new line
//	hold FOLDER, release  somebody else takes the stack's lock, and gives it back
//	bucket                starts an S3 service; BUCKET_URL is where
//	carol takes|expires bucket|host
//	                      a colleague takes the team's lock or the lease on the
//	                      host, or lets it run out
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", binaries+string(os.PathListSeparator)+env.Getenv("PATH"))
			env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
			env.Setenv("USER", "tester")
			return os.Mkdir(filepath.Join(env.WorkDir, "home"), 0o700)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":     scriptExits,
			"world":     scriptWorld,
			"fault":     scriptFault,
			"inventory": scriptInventory,
			"outside":   scriptOutside,
			"zone":      scriptZone,
			"broken":    scriptBroken,
			"mended":    scriptMended,
			"banned":    scriptBanned,
			"sub":       scriptSub,
			"hold":      scriptHold,
			"release":   scriptRelease,
			"bucket":    scriptBucket,
			"carol":     scriptCarol,
		},
	})
}

func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARG…]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("%v ended with exit code %d, expected %d", args[1:], got, want)
	}
}

func scriptWorld(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: world [NAME…]")
	}
	f := &faults{cloud: map[string]alicloudsim.Fault{}, dns: map[string]cloudflaresim.Fault{}}
	w, err := world.Start(context.Background(), world.Config{
		Dir: ts.MkAbs("world"), Zones: []string{"example.com"}, Refuse: args, CloudFault: f.ofCloud, DNSFault: f.ofDNS,
		Shim: hostshim(),
	})
	ts.Check(err)
	ts.Defer(w.Close)
	worlds.Store(ts, scripted{w, f})
	ts.Defer(func() { worlds.Delete(ts) })
	for name, value := range w.Environment() {
		ts.Setenv(name, value)
	}
}

// faults are what the vendors of a script's world do wrong.
type faults struct {
	mu    sync.Mutex
	cloud map[string]alicloudsim.Fault   // by action
	dns   map[string]cloudflaresim.Fault // by method
}

func (f *faults) ofCloud(c alicloudsim.Call) alicloudsim.Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cloud[c.Action]
}

func (f *faults) ofDNS(r *http.Request) cloudflaresim.Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dns[r.Method]
}

// scripted is the world of one script.
type scripted struct {
	*world.World
	faults *faults
}

// worlds are those of the running scripts.
var worlds sync.Map

func worldOf(ts *testscript.TestScript) scripted {
	w, ok := worlds.Load(ts)
	if !ok {
		ts.Fatalf("no world was started")
	}
	return w.(scripted)
}

func scriptFault(ts *testscript.TestScript, neg bool, args []string) {
	f := worldOf(ts).faults
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case neg:
	case len(args) == 3 && args[0] == "cloud":
		var fault alicloudsim.Fault
		ts.Check(json.Unmarshal([]byte(args[2]), &fault))
		f.cloud[args[1]] = fault
		return
	case len(args) == 3 && args[0] == "dns":
		var fault cloudflaresim.Fault
		ts.Check(json.Unmarshal([]byte(args[2]), &fault))
		f.dns[args[1]] = fault
		return
	case len(args) == 1 && args[0] == "off":
		clear(f.cloud)
		clear(f.dns)
		return
	}
	ts.Fatalf("usage: fault cloud ACTION JSON | fault dns METHOD JSON | fault off")
}

func scriptOutside(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 || args[0] != "open" && args[0] != "closed" && args[0] != "lists-next" {
		ts.Fatalf("usage: outside open|closed|lists-next")
	}
	w := worldOf(ts)
	if args[0] == "lists-next" {
		ts.Check(w.ListNext("bl.spamcop.net"))
		return
	}
	w.SetPort25(args[0] == "open")
	w.SetReverse(args[0] == "open")
}

// scriptZone changes what the DNS vendor says of the zone example.com.
func scriptZone(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: zone dnssec STATUS | zone quota RECORDS")
	}
	switch dns := worldOf(ts).DNS(); args[0] {
	case "dnssec":
		dns.SetDNSSEC("example.com", args[1])
	case "quota":
		n, err := strconv.Atoi(args[1])
		ts.Check(err)
		dns.SetRecordQuota(n)
	default:
		ts.Fatalf("a zone has no %s", args[0])
	}
}

func scriptBroken(ts *testscript.TestScript, neg bool, args []string) {
	file := sysusersOf(ts, neg, args)
	ts.Check(os.Rename(file, file+".aside"))
	ts.Check(os.MkdirAll(filepath.Join(file, "not-ours"), 0o755))
}

func scriptMended(ts *testscript.TestScript, neg bool, args []string) {
	file := sysusersOf(ts, neg, args)
	ts.Check(os.RemoveAll(file))
	ts.Check(os.Rename(file+".aside", file))
}

// sysusersOf is the file that declares the service's user on a host.
func sysusersOf(ts *testscript.TestScript, neg bool, args []string) string {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: broken HOST | mended HOST")
	}
	for _, root := range worldOf(ts).HostRoots() {
		l := manifest.Layout{Root: root}
		var owner manifest.Owner
		if b, err := os.ReadFile(l.OwnerFile()); err == nil && json.Unmarshal(b, &owner) == nil && owner.Host == args[0] {
			return l.SysusersFile()
		}
	}
	ts.Fatalf("no host %s", args[0])
	return ""
}

func scriptBanned(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: banned HOST ADDRESS SECONDS…")
	}
	file := filepath.Join(filepath.Dir(filepath.Dir(filepath.Dir(sysusersOf(ts, neg, args[:1])))), "run/nft-inet-mailform_bans")
	if _, err := os.Stat(file); err != nil {
		ts.Fatalf("the host has no table of bans: %v", err)
	}
	ts.Check(os.WriteFile(file, []byte(strings.Join(args[1:], "\n")+"\n"), 0o600))
}

func scriptInventory(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: inventory N")
	}
	if have := worldOf(ts).Inventory(); strconv.Itoa(len(have)) != args[0] {
		ts.Fatalf("%d things exist, expected %s: %q", len(have), args[0], have)
	}
}

func scriptSub(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: sub FILE OLD NEW")
	}
	path := ts.MkAbs(args[0])
	data, err := os.ReadFile(path)
	ts.Check(err)
	if n := strings.Count(string(data), args[1]); n != 1 {
		ts.Fatalf("%s holds %q %d times, expected once", args[0], args[1], n)
	}
	ts.Check(os.WriteFile(path, []byte(strings.Replace(string(data), args[1], strings.ReplaceAll(args[2], `\n`, "\n"), 1)), 0o644))
}

func scriptHold(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: hold FOLDER")
	}
	lock, err := apply.NewDir(apply.OS{}, ts.MkAbs(args[0])).Lock(apply.Holder{
		Who: "holder", Host: "elsewhere", PID: os.Getpid(), Command: "mailform apply", Since: time.Now(),
	})
	ts.Check(err)
	locks.Store(ts, lock)
	ts.Defer(func() { scriptRelease(ts, false, nil) })
}

func scriptRelease(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: release")
	}
	if lock, held := locks.LoadAndDelete(ts); held {
		ts.Check(lock.(*apply.Lock).Release())
	}
}

// locks are those that scripts hold, by script.
var locks sync.Map
