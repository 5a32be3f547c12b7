package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"mailform/plan"
	"mailform/providers/host/hostsim"
	"mailform/server/manifest"
	"mailform/specs"
)

func TestFromBareMachineToMail(t *testing.T) {
	l := newLab(t, hostsim.Config{})
	spec := l.spec()
	r := l.converge(spec)
	want := []string{opConnect, opInstall, "Issue", opKeys, opConverge, opVerify}
	got := r.kinds()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("operations: %q", got)
	}
	if n := l.dialed(22); n != 1 {
		t.Errorf("%d SSH connections in one run", n)
	}
	if s := r.secrets["mailbox/bob@acme.example"]; len(s) < 20 || len(r.secrets) != 1 {
		t.Errorf("first passwords of: %d", len(r.secrets))
	}
	for _, sel := range []string{"mf1-rsa", "mf1-ed25519"} {
		if txt := r.outputs[dkimAddr("acme.example", sel)]["txt"].Str(); !strings.HasPrefix(txt, "v=DKIM1; k=") {
			t.Errorf("%s: %q", sel, txt)
		}
	}
	if !r.outputs["server/mx1"]["ready"].True() {
		t.Error("the server is not ready")
	}
	text, err := json.Marshal(r.plan)
	if err != nil {
		t.Fatal(err)
	}
	noCanary(t, "the plan", text)
	noCanary(t, "progress", fmt.Append(nil, l.messages))
	l.mustSettle(spec)
}

func TestChangesAreExact(t *testing.T) {
	l := newLab(t, hostsim.Config{})
	spec := l.spec()
	l.converge(spec)
	for _, step := range []struct {
		name  string
		do    func()
		allow string
		want  []string
		kinds []string
	}{
		{"add a mailbox", func() {
			spec.Domains[0].Mailboxes = append(spec.Domains[0].Mailboxes, &specs.Mailbox{Local: "carol"})
		}, "", []string{"+ mailbox/carol@acme.example"}, []string{opConverge}},
		{"change a quota", func() { spec.Domains[0].Mailboxes[1].QuotaBytes = 1 << 30 }, "", []string{"~ mailbox/bob@acme.example"}, []string{opConverge}},
		{"change an alias", func() { spec.Domains[0].Aliases[0].To = []string{"bob@acme.example"} }, "", []string{"~ alias/postmaster@acme.example"}, []string{opConverge}},
		{"drop the catch-all", func() { spec.Domains[0].CatchAll = "" }, "", []string{"- catch-all/acme.example"}, []string{opConverge}},
		{"drop the relay", func() { spec.Server.Relay = nil }, "", []string{"~ server/mx1"}, []string{opConverge, opVerify}},
		{"a second domain", func() {
			spec.Domains = append(spec.Domains, &specs.Domain{Name: "b.example", Host: "mx1", DKIM: &specs.DKIM{Selector: "s", Algorithms: []string{"ed25519"}}})
		}, "", []string{"+ dkim/b.example/s-ed25519", "~ server/mx1"}, []string{opKeys, opConverge, opVerify}},
		{"retire a key", func() { spec.Domains[0].DKIM.Algorithms = []string{"ed25519"} }, "dkim/*/*",
			[]string{"- dkim/acme.example/mf1-rsa", "~ server/mx1"}, []string{opConverge, opVerify, opRetireKeys}},
		{"remove a mailbox", func() { spec.Domains[0].Mailboxes = spec.Domains[0].Mailboxes[:2] }, "mailbox/*", []string{"- mailbox/carol@acme.example"}, []string{opConverge}},
	} {
		t.Run(step.name, func(t *testing.T) {
			step.do()
			r, err := l.plan(l.provider(spec), spec, func(in *plan.Input) {
				if step.allow != "" {
					in.Allow = []string{step.allow}
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			if got := r.pending(); !slices.Equal(got, step.want) {
				t.Errorf("changes: %q, want %q", got, step.want)
			}
			if got := r.kinds(); !slices.Equal(got, step.kinds) {
				t.Errorf("operations: %q, want %q", got, step.kinds)
			}
			if err := r.apply(); err != nil {
				t.Fatal(err)
			}
			l.mustSettle(spec)
		})
	}
}

// What is blocked stays as it is, down to a password whose text nobody has any more.
func TestBlockedStaysAsItIs(t *testing.T) {
	l := newLab(t, hostsim.Config{})
	spec := l.spec()
	l.converge(spec)
	spec.Domains[0].Mailboxes = spec.Domains[0].Mailboxes[1:] // without alice, unallowed
	spec.Domains[0].CatchAll = ""
	spec.Domains[0].Mailboxes[0].QuotaBytes = 7 << 30
	p := l.provider(spec)
	p.Secret = func(print string) (string, bool) { return canaryRelay, print == specs.Fingerprint(canaryRelay) }
	r, err := l.plan(p, spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.apply(); err != nil {
		t.Fatal(err)
	}
	r, err = l.plan(l.provider(spec), spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.pending(); !slices.Equal(got, []string{"- mailbox/alice@acme.example"}) {
		t.Errorf("left: %q", got)
	}
	f := r.p.facts["mx1"]
	if f.Passwords["alice@acme.example"] != specs.Fingerprint(canaryHash) {
		t.Errorf("alice's password: %v", f.Passwords)
	}
}

// A run that ends after any of its steps is finished by the next one.
func TestCrashAfterEachStep(t *testing.T) {
	l := newLab(t, hostsim.Config{})
	full, err := l.plan(l.provider(l.spec()), l.spec(), nil)
	if err != nil {
		t.Fatal(err)
	}
	n := len(full.plan.Ops)
	for k := range n {
		l := newLab(t, hostsim.Config{})
		spec := l.spec()
		r, err := l.plan(l.provider(spec), spec, nil)
		if err != nil {
			t.Fatal(err)
		}
		secrets := 0
		for _, op := range r.ordered()[:k] {
			if err := r.do(op); err != nil {
				t.Fatal(err)
			}
		}
		secrets += len(r.secrets)
		next := l.converge(spec)
		secrets += len(next.secrets)
		if secrets != 1 {
			t.Errorf("after %d of %d steps: %d first passwords were told", k, n, secrets)
		}
		l.mustSettle(spec)
	}
}

func TestResolve(t *testing.T) {
	l := newLab(t, hostsim.Config{})
	spec := l.spec()
	r, err := l.plan(l.provider(spec), spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range r.ordered() {
		if op.Provider == Name && !op.ReadOnly {
			if v, _, err := l.provider(spec).Resolve(context.Background(), op, ""); err != nil || v != plan.NotDone {
				t.Errorf("%s before: %s %v", op.ID, v, err)
			}
		}
		if err := r.do(op); err != nil {
			t.Fatal(err)
		}
		if op.Provider != Name || op.ReadOnly {
			continue
		}
		v, res, err := l.provider(spec).Resolve(context.Background(), op, "")
		if err != nil || v != plan.Done {
			t.Errorf("%s after: %s %v", op.ID, v, err)
		}
		for _, a := range op.Addresses {
			if want := r.outputs[a]; len(want) > 0 && fmt.Sprint(res.Outputs[a]) != fmt.Sprint(want) {
				t.Errorf("%s: outputs of %s are %v, want %v", op.ID, a, res.Outputs[a], want)
			}
		}
	}
}

func TestForeignUnitIsAConflict(t *testing.T) {
	l := newLab(t, hostsim.Config{})
	file := filepath.Join(l.host.Root(), "etc/systemd/system/mailformd.service")
	if err := os.WriteFile(file, []byte("[Service]\nExecStart=/bin/true\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	spec := l.spec()
	r, err := l.plan(l.provider(spec), spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = r.apply()
	if plan.ClassOf(err) != plan.ErrBlocked || !strings.Contains(err.Error(), "/etc/systemd/system/mailformd.service") {
		t.Fatalf("got %v", err)
	}
	noCanary(t, "the error", []byte(err.Error()))
	if b, _ := os.ReadFile(file); !strings.Contains(string(b), "/bin/true") {
		t.Error("it was overwritten")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	l.converge(spec)
	l.mustSettle(spec)
}

func TestAnotherStacksHost(t *testing.T) {
	l := newLab(t, hostsim.Config{})
	spec := l.spec()
	l.converge(spec)
	p := l.provider(spec)
	p.Stack = "rival"
	r, err := l.plan(p, spec, func(in *plan.Input) { in.Stack = "rival" })
	if err != nil {
		t.Fatal(err)
	}
	if len(r.plan.Ops) != 0 {
		t.Errorf("operations on a host of another stack: %q", r.kinds())
	}
	for _, c := range r.plan.Changes {
		if c.Address == "host/mx1/agent" && (c.Blocked == nil || !strings.Contains(c.Blocked.Why, "acme-mail")) {
			t.Errorf("agent: %+v", c)
		}
	}
	// Even when it is tried, the host refuses.
	_, err = p.agent(context.Background(), p.targets["mx1"], "try", paths.Binary(), "keys", manifest.KeysRequest{Claim: p.claim("mx1")}, nil)
	if plan.ClassOf(err) != plan.ErrBlocked || !strings.Contains(err.Error(), "acme-mail") {
		t.Errorf("got %v", err)
	}
}

func TestDestroyOfAnExistingMachine(t *testing.T) {
	l := newLab(t, hostsim.Config{})
	spec := l.spec()
	l.converge(spec)
	destroy := func(in *plan.Input) { in.Destroy = true }
	r, err := l.plan(l.provider(spec), spec, destroy)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.kinds(); !slices.Equal(got, []string{opRemove}) {
		t.Fatalf("operations: %q", got)
	}
	if err := r.apply(); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"usr/local/sbin/mailformd", "etc/mailform", "etc/systemd/system/mailformd.service"} {
		if _, err := os.Stat(filepath.Join(l.host.Root(), p)); err == nil {
			t.Errorf("%s is left", p)
		}
	}
	if _, ok := l.host.Addr(25); ok {
		t.Error("port 25 still listens")
	}
	if v, _, err := r.p.Resolve(context.Background(), r.plan.Ops[0], ""); err != nil || v != plan.Done {
		t.Errorf("resolve: %s %v", v, err)
	}
	r, err = l.plan(l.provider(spec), spec, destroy)
	if err != nil || len(r.pending()) != 0 {
		t.Errorf("after destroy: %q %v", r.pending(), err)
	}
}

func TestRebootAndBrokenConnection(t *testing.T) {
	l := newLab(t, hostsim.Config{})
	spec := l.spec()
	r := l.converge(spec)
	l.host.Stop()
	if err := l.host.Start(); err != nil {
		t.Fatal(err)
	}
	// The provider's connection is dead; it makes a new one.
	again, err := l.plan(r.p, spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := again.pending(); len(got) != 0 {
		t.Errorf("after a reboot: %q\n%s", got, l.host.Log("mailformd.service"))
	}
}

func TestVerifyNamesThePort(t *testing.T) {
	l := newLab(t, hostsim.Config{})
	spec := l.spec()
	l.converge(spec)
	p := l.provider(spec)
	l.down[587] = true
	tgt, _ := p.readTarget(targetInput("mx1", targetOf(spec.Hosts[0])))
	err := p.verify(context.Background(), tgt, mailOf("mail.acme.example"), nil)
	if err == nil || !strings.Contains(err.Error(), "port 587") || !strings.Contains(err.Error(), "refused") {
		t.Errorf("a closed port: %v", err)
	}
	delete(l.down, 587)
	err = p.verify(context.Background(), tgt, mailOf("other.example"), nil)
	if err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("another name: %v", err)
	}
	p.Roots = newAuthority(t).pool()
	if err = p.verify(context.Background(), tgt, mailOf("mail.acme.example"), nil); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("another CA: %v", err)
	}
}

func TestNewVersionIsInstalled(t *testing.T) {
	l := newLab(t, hostsim.Config{})
	spec := l.spec()
	l.converge(spec)
	// Another program, as far as its digest goes.
	b, err := os.ReadFile(mailformd)
	if err != nil {
		t.Fatal(err)
	}
	next := filepath.Join(t.TempDir(), "mailformd")
	if err := os.WriteFile(next, append(b, "next"...), 0o755); err != nil {
		t.Fatal(err)
	}
	p := l.provider(spec)
	p.Version, p.Agents = "1.1", agentFile(next)
	r, err := l.plan(p, spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.pending(); !slices.Equal(got, []string{"~ host/mx1/agent", "~ server/mx1"}) {
		t.Errorf("changes: %q", got)
	}
	if err := r.apply(); err != nil {
		t.Fatal(err)
	}
	if r, err = l.plan(p, spec, nil); err != nil || len(r.pending()) != 0 {
		t.Errorf("after the upgrade: %q %v", r.pending(), err)
	}
}

func TestNewPassword(t *testing.T) {
	l := newLab(t, hostsim.Config{})
	spec := l.spec()
	r := l.converge(spec)
	text, err := r.p.NewPassword(context.Background(), "mx1", "bob@acme.example")
	if err != nil || text == r.secrets["mailbox/bob@acme.example"] || len(text) < 20 {
		t.Errorf("%v", err)
	}
	if _, err := r.p.NewPassword(context.Background(), "mx1", "alice@acme.example"); err == nil || !strings.Contains(err.Error(), "password_hash") {
		t.Errorf("a password of the spec's: %v", err)
	}
}

func TestAccountKeyStays(t *testing.T) {
	l := newLab(t, hostsim.Config{})
	r := l.converge(l.spec())
	a, err := r.p.AccountKey(context.Background(), "mx1", "https://ca.example/dir")
	if err != nil {
		t.Fatal(err)
	}
	b, err := r.p.AccountKey(context.Background(), "mx1", "https://ca.example/dir")
	if err != nil || string(a) != string(b) {
		t.Errorf("the key changed: %v", err)
	}
}

func TestFingerprintsAgree(t *testing.T) {
	for _, s := range []string{"", "x", canaryHash} {
		if specs.Fingerprint(s) != manifest.Fingerprint(s) {
			t.Errorf("specs and manifest give different fingerprints")
		}
	}
}

func TestSudo(t *testing.T) {
	for asks, want := range map[bool]string{false: "", true: "NOPASSWD"} {
		key := newSigner(t)
		l := newLab(t, hostsim.Config{SudoAsks: asks, UserData: `#cloud-config
{"users":[{"name":"admin","ssh_authorized_keys":[]}]}`, HostKeys: []ssh.Signer{key}})
		spec := l.spec()
		spec.Hosts[0].SSH.User = "admin"
		r, err := l.plan(l.provider(spec), spec, nil)
		if want == "" {
			if err != nil {
				t.Fatal(err)
			}
			if err := r.apply(); err != nil {
				t.Fatal(err)
			}
			l.mustSettle(spec)
			continue
		}
		var e *plan.Error
		if !errors.As(err, &e) || e.Class != plan.ErrCredentials || !strings.Contains(e.Fix, want) {
			t.Errorf("sudo that asks: %v", err)
		}
	}
}

// Two hosts are read and converged side by side; a mailbox that moves between
// them is not moved without being named, and stays served where it is.
func TestTwoHosts(t *testing.T) {
	const second = "203.0.113.8"
	l := newLab(t, hostsim.Config{})
	h, err := hostsim.Start(hostsim.Config{Shim: hostshim, AuthorizedKeys: []string{string(ssh.MarshalAuthorizedKey(l.key.PublicKey()))}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Destroy() })
	l.others = map[string]*hostsim.Host{second: h}
	spec := l.spec()
	spec.Hosts = append(spec.Hosts, &specs.Host{
		Name: "mx2", Hostname: "mail2.acme.example", Address: netip.MustParseAddr(second),
		SSH: specs.SSH{User: "root", Port: 22, HostKey: ssh.FingerprintSHA256(h.HostKey())},
	})
	spec.Domains = append(spec.Domains, &specs.Domain{Name: "b.example", Host: "mx2", Mailboxes: []*specs.Mailbox{{Local: "dora"}}})
	r := l.converge(spec)
	if n := l.dialed(22); n != 2 {
		t.Errorf("%d SSH connections to two hosts", n)
	}
	if len(r.secrets) != 2 {
		t.Errorf("%d first passwords", len(r.secrets))
	}
	l.mustSettle(spec)

	spec.Domains[1].Host = "mx1"
	r, err = l.plan(l.provider(spec), spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.apply(); err != nil {
		t.Fatal(err)
	}
	if r, err = l.plan(l.provider(spec), spec, nil); err != nil {
		t.Fatal(err)
	}
	if f := r.p.facts["mx2"]; f.Passwords["dora@b.example"] != "host" {
		t.Errorf("mx2 has stopped serving dora: %v", f.Passwords)
	}
	for _, c := range r.plan.Changes {
		if c.Address == "mailbox/dora@b.example" && (c.Action != plan.Replace || c.Blocked == nil) {
			t.Errorf("dora: %s %v", c.Action, c.Blocked)
		}
	}
	// Named, it moves.
	if r, err = l.plan(l.provider(spec), spec, func(in *plan.Input) { in.Allow = []string{"mailbox/dora@b.example"} }); err != nil {
		t.Fatal(err)
	}
	if err := r.apply(); err != nil {
		t.Fatal(err)
	}
	l.mustSettle(spec)
}

// mailOf is what a host without a web service is to show.
func mailOf(hostname string) expected {
	return expected{hostname: hostname, services: manifest.Services()}
}
