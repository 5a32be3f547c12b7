package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestRealOperator is an operator's day with a machine that serves: he logs in, reads the journal,
// looks how it is, and takes a mailbox back.
func TestRealOperator(t *testing.T) {
	t.Parallel()
	r := newReal(t)
	r.must(t, 0, "apply", "--auto-approve")
	t.Run("terminal", r.onRealTerminal)
	t.Run("commands", r.commands)
	t.Run("journal", r.journal)
	t.Run("status", r.status)
	t.Run("mailbox", r.mailbox)
	t.Run("encryption", r.encryption)
	t.Run("bans", r.bans)
}

// logs are the entries that a query finds.
func (r *real) logs(t *testing.T, args ...string) []logged {
	t.Helper()
	stdout, _ := r.must(t, 0, append([]string{"logs", "--json"}, args...)...)
	var out []logged
	for line := range strings.Lines(stdout) {
		var e logged
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		out = append(out, e)
	}
	return out
}

func said(entries []logged) []string {
	var out []string
	for _, e := range entries {
		out = append(out, e.Message)
	}
	return out
}

// journal is systemd's own, and what mailform makes of it.
func (r *real) journal(t *testing.T) {
	// The server, without any right, writes in the journal's own protocol; and what it writes is text.
	var served map[string]any
	line := r.m.Sh("journalctl --sync; journalctl --unit=mailformd --output=json --no-pager --grep=serving --lines=1 --quiet")
	if err := json.Unmarshal([]byte(line), &served); err != nil {
		t.Fatalf("%v in %q", err, line)
	}
	if served["_TRANSPORT"] != "journal" || served["MAILFORM_EVENT"] == nil || served["_UID"] == "0" || served["_CAP_EFFECTIVE"] != "0" || served["PRIORITY"] != "6" {
		t.Errorf("an entry of the server: %v", served)
	}
	if text := r.m.Sh("journalctl --unit=mailformd --no-pager --quiet --output=short"); !regexp.MustCompile(`mailformd\[\d+\]: serving .*\w+=\S`).MatchString(text) || strings.Contains(text, "blob data") {
		t.Errorf("to people it says:\n%s", text)
	}
	serving := r.logs(t, "--grep", "^serving", "-n", "1")
	if len(serving) != 1 || serving[0].Host != "mx1" || serving[0].Unit != "mailformd.service" || serving[0].Level != "info" || len(serving[0].Fields) == 0 || serving[0].Source != "" ||
		time.Since(serving[0].Time) > 10*time.Minute {
		t.Errorf("as JSON: %+v", serving)
	}

	// Entries of all kinds, by another unit.
	writer := func(command string) {
		t.Helper()
		r.m.Sh("systemd-run --quiet --wait --collect --unit=lab-writer " + command + " && journalctl --sync")
	}
	native := func(field string) { // as a program with its own way to the journal
		t.Helper()
		writer(`perl -MSocket -e ` + shellQuote(`socket(S, PF_UNIX, SOCK_DGRAM, 0) or die; connect(S, sockaddr_un("/run/systemd/journal/socket")) or die; $m = `+field+
			`; send(S, "MESSAGE\n" . pack("Q<", length $m) . $m . "\nPRIORITY=6\n", 0) or die $!; system("journalctl --sync")`))
	}
	all := []string{"--unit", "lab-writer"}
	for i, priority := range []string{"7", "6", "5", "4", "3", "2"} {
		writer(fmt.Sprintf(`--property=SyslogIdentifier=lab echo '<%s>entry %d'`, priority, i))
	}
	for level, want := range map[string][]string{
		"debug": {"entry 0", "entry 1", "entry 2", "entry 3", "entry 4", "entry 5"}, "info": {"entry 1", "entry 2", "entry 3", "entry 4", "entry 5"},
		"warn": {"entry 3", "entry 4", "entry 5"}, "error": {"entry 4", "entry 5"},
	} {
		if got := said(r.logs(t, append(all, "--level", level, "--grep", "^entry")...)); !slices.Equal(got, want) {
			t.Errorf("--level %s shows %q", level, got)
		}
	}
	if got := said(r.logs(t, append(all, "--grep", "^entry [0-4]", "-n", "2")...)); !slices.Equal(got, []string{"entry 3", "entry 4"}) {
		t.Errorf("the newest two: %q", got)
	}
	at := r.logs(t, append(all, "--grep", "^entry 5")...)
	if len(at) != 1 || at[0].Source != "lab" {
		t.Fatalf("%+v", at)
	}
	r.m.Sh("sleep 1.1") // journalctl counts whole seconds
	writer("echo later")
	if got := said(r.logs(t, append(all, "--grep", "^entry|^later", "--since", at[0].Time.Add(time.Second).Format(time.RFC3339))...)); !slices.Equal(got, []string{"later"}) {
		t.Errorf("--since a time shows %q", got)
	}
	if got := said(r.logs(t, append(all, "--grep", "^entry|^later", "--since", "1h")...)); len(got) != 7 {
		t.Errorf("--since an hour shows %q", got)
	}
	if got := r.logs(t, append(all, "-n", "0")...); len(got) != 0 {
		t.Errorf("no entries are %+v", got)
	}

	// What is very long neither hides what is around it nor ends the reading.
	native(`"x" x 150_000`)
	native(`"\1\377" . "\377" x 210_000`) // a megabyte as journalctl writes bytes that are no text
	native(`"two\nlines"`)
	got := r.logs(t, append(all, "-n", "50")...)
	for _, want := range []string{"later", strings.Repeat("x", 150_000), "two\nlines"} {
		if !slices.Contains(said(got), want) {
			t.Errorf("%.20q… is missing", want)
		}
	}
	if text, _ := r.must(t, 0, append([]string{"logs"}, all...)...); strings.Contains(text, "\x01") || !strings.Contains(text, "two\ufffdlines") {
		t.Errorf("to people: %.2000q", text[max(0, len(text)-2000):])
	}

	// Following outlives rotated files and a restarted journal; so does the server's own connection to it.
	follow := r.command("logs", "--follow", "--json", "-n", "0", "--grep", "^reloaded [a-z_]+=")
	out, err := follow.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	defer follow.Process.Kill()
	lines := bufio.NewScanner(out)
	r.m.Sh("until tr '\\0' ' ' </proc/$(pgrep -x journalctl)/cmdline 2>/dev/null | grep -q -e --follow; do sleep 0.05; done")
	for _, event := range []string{"true", "journalctl --rotate", "systemctl restart systemd-journald"} {
		r.m.Sh(event + " && systemctl reload mailformd && journalctl --sync")
		var e logged
		if !lines.Scan() || json.Unmarshal(lines.Bytes(), &e) != nil || !strings.Contains(e.Message, "reloaded") || len(e.Fields) == 0 {
			t.Fatalf("following, after %s: %q %v", event, lines.Text(), lines.Err())
		}
	}
	if err := follow.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := follow.Wait(); err != nil {
		t.Errorf("following ends with %v", err)
	}
	r.m.Sh("for i in $(seq 100); do pgrep -x journalctl >/dev/null || exit 0; sleep 0.1; done; exit 1") // nothing is left there
}

// number is one that the machine's own tools print.
func (r *real) number(t *testing.T, command string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(r.m.Sh(command), 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	return n
}

// status says what the machine's own tools say.
func (r *real) status(t *testing.T) {
	stdout, _ := r.must(t, 0, "status", "--json")
	var doc statusDocument
	if err := json.Unmarshal([]byte(stdout), &doc); err != nil || len(doc.Hosts) != 1 || doc.Drift == nil || doc.Drift.Differences == nil {
		t.Fatalf("%v in %s", err, stdout)
	}
	h := doc.Hosts[0]
	near := func(what string, got, want, off int64) {
		t.Helper()
		if got < want-off || got > want+off {
			t.Errorf("%s is %d, the machine says %d", what, got, want)
		}
	}
	if len(h.Disks) != 1 || h.Memory == nil || h.Since == nil || h.Queue == nil {
		t.Fatalf("%+v", h)
	}
	near("the disk", h.Disks[0].Bytes, r.number(t, "df --block-size=1 --output=size / | tail -n 1"), 0)
	near("what is free on it", h.Disks[0].FreeBytes, r.number(t, "df --block-size=1 --output=avail / | tail -n 1"), 1<<30) // others write, too
	near("the memory", h.Memory.Bytes, r.number(t, "awk '/MemTotal/ {printf \"%.0f\", $2*1024}' /proc/meminfo"), 0)
	near("what is available of it", h.Memory.AvailableBytes, r.number(t, "awk '/MemAvailable/ {printf \"%.0f\", $2*1024}' /proc/meminfo"), 4<<30)
	near("the uptime", h.UpSeconds, r.number(t, "cut -d. -f1 /proc/uptime"), 60)
	near("the server's start", h.Since.Unix(), r.number(t, "date -d \"$(systemctl show --property=ExecMainStartTimestamp --value mailformd)\" +%s"), 2)
	near("the queue", int64(*h.Queue), 0, 0)
	near("the mailboxes", int64(h.Mailboxes), 2, 0)
	near("drift", int64(*doc.Drift.Differences), 0, 0)
	if version := r.m.Sh("mailformd --version"); !strings.Contains(version, h.Version) || h.Version == "" {
		t.Errorf("the version is %q, the machine says %q", h.Version, version)
	}
	var ports []int
	for port := range strings.FieldsSeq(r.m.Sh("ss -Hltn | awk '{print $4}' | grep -o '[0-9]*$' | sort -nu | grep -vx 22")) {
		n, err := strconv.Atoi(port)
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, n)
	}
	if listens := slices.Sorted(slices.Values(h.Ports)); !slices.Equal(listens, ports) {
		t.Errorf("the ports are %v, the machine listens on %v", listens, ports)
	}
	if h.Service != r.m.Sh("systemctl is-active mailformd") || !h.Serving || !strings.HasPrefix(h.System, "debian 12 ") {
		t.Errorf("%+v", h)
	}

	// A server that does not run is no serving host, and the exit code says so.
	r.m.Sh("systemctl stop mailformd.service 'mailformd-*.socket'")
	stdout, _ = r.must(t, 1, "status", "--json")
	if err := json.Unmarshal([]byte(stdout), &doc); err != nil || doc.Hosts[0].Serving || doc.Hosts[0].Service != "inactive" || doc.Hosts[0].Since != nil && doc.Hosts[0].Queue != nil {
		t.Errorf("stopped: %v %s", err, stdout)
	}
	r.must(t, 0, "apply", "--auto-approve")
}

// mailbox takes one away and back, with its mail.
func (r *real) mailbox(t *testing.T) {
	r.mail(t)
	file := filepath.Join(r.dir, "mail.hcl")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	spec := string(b)
	bob := regexp.MustCompile(`(?s)  mailbox "bob" \{.*?\n  \}\n`).FindString(spec)
	save := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	save(strings.Replace(spec, `mailbox "bob"`, `mailbox "carol"`, 1))
	r.must(t, 0, "apply", "--auto-approve", "--allow", "mailbox/bob@example.com")
	if out, _ := r.must(t, 0, "mailbox", "list"); !regexp.MustCompile(`bob@example.com +on mx1 +removed \S+ +30 days left`).MatchString(out) {
		t.Errorf("list: %s", out)
	}
	r.must(t, 0, "mailbox", "restore", "bob@example.com")
	save(strings.Replace(spec, bob, strings.Replace(bob, "bob", "carol", 1)+bob, 1))
	r.must(t, 0, "apply", "--auto-approve")
	if got := r.inbox(t, "bob@example.com"); !strings.Contains(got, "SEARCH 1 2") {
		t.Errorf("after coming back bob has %q", got)
	}
	if out, _ := r.must(t, 0, "mailbox", "list"); !strings.Contains(out, "No removed mailbox") {
		t.Errorf("list: %s", out)
	}
}
