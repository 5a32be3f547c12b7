package main

import (
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

	"mailform/server/manifest"
)

// logins tells how many sessions sshd has opened and how long each took, from the
// machine's own journal.
func (r *real) logins(t *testing.T) (opened int, seconds []float64) {
	t.Helper()
	log := r.m.Sh(`while journalctl --sync; loginctl list-sessions --no-legend | grep -q .; do sleep 0.1; done; ` +
		`journalctl --no-pager -o short-unix _COMM=sshd | grep -E 'Accepted publickey|session closed for user root'`)
	began := map[string]float64{}
	for line := range strings.Lines(log) {
		f := strings.Fields(line) // time, machine, sshd[PID]:
		stamp, err := strconv.ParseFloat(f[0], 64)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(line, "Accepted") {
			opened++
			began[f[2]] = stamp
		} else {
			seconds = append(seconds, stamp-began[f[2]])
		}
	}
	return opened, seconds
}

// idle does something that should change nothing on the machine: it may log in once,
// may make the machine work for less than a second, and has to leave every file as it
// was, those of the system's and their content, too. The wall clock of a busy machine
// says nothing and is only told.
func (r *real) idle(t *testing.T, what string, logins int, do func()) {
	t.Helper()
	files := r.listing(t)
	before, _ := r.logins(t)
	start, worked := time.Now(), r.m.CPU()
	do()
	wall, work := time.Since(start), r.m.CPU()-worked
	after, seconds := r.logins(t)
	if after-before != logins {
		t.Errorf("%s logged in %d times", what, after-before)
	}
	if work >= time.Second {
		t.Errorf("%s makes the machine work for %s", what, work)
	}
	diff := changed(files, r.listing(t))
	// An apply writes down that it is the one at work, and that it is no longer.
	diff = slices.DeleteFunc(diff, func(s string) bool {
		path := strings.Fields(s)[1]
		return path == "/etc/mailform/lease.json" || path == "/var/lib/mailform/owner.json"
	})
	if len(diff) > 0 {
		t.Errorf("%s changed:\n%s", what, strings.Join(diff, "\n"))
	}
	with := 0.0
	if logins > 0 {
		with = seconds[len(seconds)-1]
	}
	t.Logf("%s: %s, of which %.2f s with the machine, which worked for %s; %d logins, %d files as they were", what, wall.Round(time.Millisecond), with, work.Round(time.Millisecond), after-before, len(files))
}

// secondConverge plans, applies and converges what is there already.
func (r *real) secondConverge(t *testing.T) {
	t.Helper()
	r.idle(t, "a plan without changes", 1, func() {
		if stdout, _ := r.must(t, 0, "plan", "--detailed-exitcode"); !strings.Contains(stdout, "No changes") {
			t.Errorf("the second plan: %s", stdout)
		}
	})
	r.idle(t, "an apply without changes", 1, func() { r.must(t, 0, "apply", "--auto-approve") })

	// The agent's own: all that an apply would send, once more.
	var owner manifest.Owner
	if err := json.Unmarshal([]byte(r.m.Sh("cat /var/lib/mailform/owner.json")), &owner); err != nil {
		t.Fatal(err)
	}
	m, err := manifest.ReadManifest([]byte(r.m.Sh("cat /etc/mailform/manifest.json") + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(manifest.ConvergeRequest{Claim: manifest.Claim{Stack: owner.Stack, Host: owner.Host, Epoch: owner.Epoch}, Manifest: *m})
	if err != nil {
		t.Fatal(err)
	}
	r.m.Sh("cat >/run/request <<'END'\n" + string(text) + "\nEND\n")
	var out string
	r.idle(t, "a second converge", 0, func() { out = r.m.Sh("mailformd converge </run/request") })
	var last manifest.AgentEvent
	for line := range strings.Lines(out) {
		last = manifest.AgentEvent{}
		if err := json.Unmarshal([]byte(line), &last); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		if last.Result == nil && last.Status != "unchanged" {
			t.Errorf("a second converge: %s", line)
		}
	}
	if last.Result == nil || last.Result.Changed || last.Result.Trial != "" {
		t.Errorf("a second converge: %+v", last.Result)
	}
}

// byHand is what a person on the machine sees of a converge that is to come.
func (r *real) byHand(t *testing.T) {
	t.Helper()
	r.idle(t, "a dry run", 0, func() {
		if out := r.m.Sh("mailformd converge --dry-run"); !strings.HasPrefix(out, "Nothing would change: ") {
			t.Errorf("dry run: %s", out)
		}
	})
	// Somebody's work on the machine, and the manifest of another day.
	r.m.Sh("chmod 0777 /etc/mailform && echo '# mine' >>/etc/systemd/system/mailformd-imap.socket && " +
		`sed -e 's/"hostname": "mail.example.com"/"hostname": "mx.example.com"/' -e 's/"local": "bob"/"local": "carol"/' /etc/mailform/manifest.json >/run/other.json`)
	files := r.listing(t)
	out, err := r.m.Exec(t.Context(), "mailformd converge --dry-run /run/other.json")
	if err == nil || !strings.Contains(err.Error(), "exit status 2") {
		t.Errorf("dry run: %v", err)
	}
	for _, want := range []string{
		`~ folder /etc/mailform  +mode is 0777, not 0750`, `~ file /etc/systemd/system/mailformd-imap.socket +its content differs`,
		`~ manifest +hostname "mail.example.com" → "mx.example.com"`, `~ manifest +domains\[example.com\].mailboxes\[carol\].local \+ "carol"`,
		`~ manifest +domains\[example.com\].mailboxes\[bob\].local - "bob"`, `password_hash \+ \(secret\)`,
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("a dry run does not say %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "argon2id") {
		t.Errorf("a dry run shows a hash: %s", out)
	}
	if diff := changed(files, r.listing(t)); len(diff) > 0 {
		t.Errorf("a dry run changed:\n%s", strings.Join(diff, "\n"))
	}
	r.must(t, 0, "apply", "--auto-approve")
}

// bans is a client that guesses passwords: dropped by the kernel, let in again by a
// person, dropped again, and let in by time.
func (r *real) bans(t *testing.T) {
	spec, err := os.ReadFile(filepath.Join(r.dir, "mail.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	// Who may log in is never banned: that is not where the guesses come from.
	text := strings.Replace(string(spec), "  ssh {\n", "  firewall {\n    host = true\n  }\n  ssh {\n    from     = [\"198.51.100.1/32\"]\n", 1)
	if err := os.WriteFile(filepath.Join(r.dir, "mail.hcl"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	r.must(t, 0, "apply", "--auto-approve")
	guess := func(n int, from ...string) {
		t.Helper()
		script := ""
		for _, f := range from { // all at once: each answer takes its time
			script += fmt.Sprintf("for i in $(seq %d); do curl --silent --insecure --max-time 10 --interface %s --user bob@example.com:wrong imaps://%s:993/INBOX & done; ", n, f, r.m.Address)
		}
		r.client(t, "sh", "-c", script+"wait; true")
	}
	reach := func(from, port string) bool {
		t.Helper()
		host := r.m.Address.String()
		if strings.Contains(from, ":") {
			host = "[" + r.m.Address6.String() + "]"
		}
		out := r.client(t, "sh", "-c", "curl --silent --globoff --connect-timeout 2 --max-time 3 --write-out '%{time_connect}' --interface "+from+" telnet://"+host+":"+port+" </dev/null | tail -c 8; true")
		return !strings.HasSuffix(strings.TrimSpace(out), "0.000000")
	}
	const outsider, admin = "198.51.100.99", "198.51.100.1"
	if !reach(outsider, "25") || !reach(admin, "25") {
		t.Fatal("the mail port is closed before anybody guessed")
	}
	guess(42, outsider, admin)
	r.m.Sh("for i in $(seq 100); do mailformd bans | grep -q 198.51.100.99 && break; sleep 0.1; done")
	out, _ := r.must(t, 0, "bans")
	if !strings.Contains(out, "mx1 bans 198.51.100.99 for another ") || strings.Contains(out, "198.51.100.1 ") {
		t.Fatalf("bans: %s\n%s", out, r.m.Sh("journalctl --no-pager -u mailformd-bans -u mailformd -n 30; nft list table inet mailform_bans"))
	}
	if reach(outsider, "25") || reach(outsider, "993") {
		t.Error("a banned client reaches the mail ports")
	}
	if !reach(admin, "25") {
		t.Error("who may log in is shut out")
	}
	if out, _ := r.must(t, 0, "status", "--no-drift"); !strings.Contains(out, "1 client: mailform bans") {
		t.Errorf("status: %s", out)
	}
	if dropped := r.m.Sh("nft list table inet mailform_bans | grep -c 'packets [1-9]' || true"); dropped != "1" {
		t.Errorf("dropped: %s", r.m.Sh("nft list table inet mailform_bans"))
	}
	// A change of the firewall, and one that is taken back, keep it.
	r.m.Sh("nft -f /etc/mailform/firewall.nft")
	r.must(t, 0, "plan", "--detailed-exitcode")
	if reach(outsider, "25") {
		t.Error("a firewall that is loaded anew forgets who is banned")
	}
	if out, _ := r.must(t, 0, "bans", "lift", outsider); !strings.Contains(out, "198.51.100.99 is no longer banned on mx1") || !reach(outsider, "25") {
		t.Errorf("lifted: %s", out)
	}
	// It is listened to again, so that one guess is no ban; and time lifts one, too.
	guess(1, outsider)
	if out, _ := r.must(t, 0, "bans"); !strings.Contains(out, "bans nobody") {
		t.Errorf("after one guess: %s", out)
	}
	r.m.Sh("nft add element inet mailform_bans banned4 '{ 198.51.100.99 timeout 2s }'")
	if reach(outsider, "25") {
		t.Error("not dropped")
	}
	r.m.Sh("for i in $(seq 100); do mailformd bans | grep -q 198.51.100.99 || break; sleep 0.1; done")
	if !reach(outsider, "25") {
		t.Error("a ban does not end")
	}
	// IPv6 by its network of 64 bits.
	r.m.Sh("nft add element inet mailform_bans banned6 '{ 2001:db8:5ec:: timeout 600s }'")
	if reach("2001:db8:5ec::1", "25") {
		t.Error("a banned network reaches the mail ports by IPv6")
	}
	if out, _ := r.must(t, 0, "bans", "lift", "2001:db8:5ec::1"); !strings.Contains(out, "2001:db8:5ec::/64") {
		t.Errorf("lifted: %s", out)
	}
	rating := lastLine(r.m.Sh("systemd-analyze security --no-pager mailformd-bans.service"))
	t.Log(rating)
	if score, err := strconv.ParseFloat(strings.Fields(rating[strings.Index(rating, ":")+1:])[0], 64); err != nil || score > 2 {
		t.Errorf("hardening: %s", rating)
	}
	// Off with the firewall, without a trace.
	if err := os.WriteFile(filepath.Join(r.dir, "mail.hcl"), spec, 0o644); err != nil {
		t.Fatal(err)
	}
	r.must(t, 0, "apply", "--auto-approve")
	if left := r.m.Sh("nft list tables; ls /etc/systemd/system | grep -E 'bans|firewall'; systemctl list-units --all --no-legend 'mailformd-bans*'; true"); left != "" {
		t.Errorf("left: %s", left)
	}
}
