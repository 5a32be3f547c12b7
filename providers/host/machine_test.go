package host

import (
	"slices"
	"strings"
	"testing"
	"time"

	"mailform/plan"
	"mailform/specs"
)

// TestRealMachine applies to a machine that systemd and OpenSSH really run.
func TestRealMachine(t *testing.T) {
	l := newRealLab(t)
	spec := l.spec()

	start := time.Now()
	r := l.converge(spec)
	t.Logf("from bare machine to verified mail ports: %s", time.Since(start).Round(time.Millisecond))
	if len(r.secrets) != 1 {
		t.Errorf("%d first passwords", len(r.secrets))
	}
	start = time.Now()
	l.mustSettle(spec)
	t.Logf("a plan without changes: %s", time.Since(start).Round(time.Millisecond))

	target, err := r.p.target("mx1")
	if err != nil {
		t.Fatal(err)
	}
	sh := func(words ...string) string {
		t.Helper()
		out, err := r.p.run(t.Context(), target, commandLine(words...), nil, nil)
		if err != nil || out.status != 0 {
			t.Fatalf("%q: %v %s", words, err, out.said())
		}
		return string(out.stdout)
	}
	if out := sh("systemd-analyze", "security", "--no-pager", "mailformd.service"); !strings.Contains(out, "OK") {
		t.Errorf("hardening: %s", out[strings.LastIndex(strings.TrimSpace(out), "\n")+1:])
	} else {
		t.Log(strings.TrimSpace(out[strings.LastIndex(strings.TrimSpace(out), "\n")+1:]))
	}

	// What a person breaks by hand is seen and mended.
	sh("systemctl", "disable", "--now", "mailformd.service", "mailformd-imaps.socket")
	sh("chmod", "0777", "/etc/mailform")
	broken, err := l.plan(l.provider(spec), spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := broken.pending(); !slices.Equal(got, []string{"~ server/mx1"}) {
		t.Errorf("after sabotage: %q", got)
	}
	l.converge(spec)
	l.mustSettle(spec)

	// A changed mailbox does not restart the service.
	pid := sh("systemctl", "show", "--property=MainPID", "mailformd.service")
	spec.Domains[0].Mailboxes = append(spec.Domains[0].Mailboxes, &specs.Mailbox{Local: "carol"})
	l.converge(spec)
	if now := sh("systemctl", "show", "--property=MainPID", "mailformd.service"); now != pid {
		t.Errorf("the service was restarted: %s, then %s", pid, now)
	}
	l.mustSettle(spec)

	gone, err := l.plan(l.provider(spec), spec, func(in *plan.Input) { in.Destroy = true })
	if err != nil {
		t.Fatal(err)
	}
	if err := gone.apply(); err != nil {
		t.Fatal(err)
	}
	out, err := r.p.run(t.Context(), target, "find / -xdev -name '*mailform*' -not -path '/proc/*' -not -path '/var/lib/mailform*' -not -path '/run/mailform-agent.lock'", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if left := strings.TrimSpace(string(out.stdout)); left != "" {
		t.Errorf("left on the machine:\n%s", left)
	}
	sh("rm", "-rf", "/var/lib/mailform")
}
