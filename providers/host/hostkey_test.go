package host

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"mailform/plan"
	"mailform/providers/host/agentbin"
	"mailform/providers/host/hostsim"
	"mailform/providers/host/sshconn"
	"mailform/specs"
)

// cloud is what remembers by which key a machine is known: the instance's tag.
type cloud struct {
	l    *lab
	tag  string
	fail error

	agents agentbin.Source // compressed once
}

// keyLab is a machine with a key from its user data, which it is known by.
func keyLab(t *testing.T, key ssh.Signer) (*cloud, *specs.Spec) {
	l := newLab(t, hostsim.Config{HostKeys: []ssh.Signer{key}})
	spec := l.spec()
	h := spec.Hosts[0]
	h.Instance, h.SSH.HostKey = &specs.Instance{}, ""
	return &cloud{l: l, tag: ssh.FingerprintSHA256(key.PublicKey()), agents: quick}, spec
}

// run is a new run of mailform: what it plans, in order. The cloud tells what it knows now.
func (c *cloud) run(spec *specs.Spec, adjust func(*plan.Input)) *run {
	c.l.t.Helper()
	p := c.l.provider(spec)
	p.Agents = c.agents
	p.NoteHostKey = func(_ context.Context, instance, fingerprint string) error {
		if c.fail != nil {
			return c.fail
		}
		if instance != "i-1" {
			c.l.t.Errorf("the tag of %q", instance)
		}
		c.tag = fingerprint
		return nil
	}
	c.l.known = map[plan.Ref]plan.Value{
		{Address: "host/mx1/address-link", Attr: "ip"}:   plan.String(c.l.address),
		{Address: "host/mx1/instance", Attr: "host_key"}: plan.String(c.tag),
		{Address: "host/mx1/instance", Attr: "id"}:       plan.String("i-1"),
	}
	r, err := c.l.plan(p, spec, func(in *plan.Input) {
		for _, part := range []string{"instance", "address-link", "firewall"} {
			a := plan.Addr("host", "mx1", part)
			outputs := plan.Attrs{"id": plan.String("i-1"), "ip": plan.String(c.l.address), "host_key": plan.String(c.tag)}
			in.Desired = append(in.Desired, plan.Resource{Address: a, Provider: "elsewhere", Kind: "thing", Outputs: outputs.Names()})
			in.Observed = append(in.Observed, plan.Object{Address: a, Provider: "elsewhere", Kind: "thing", Owner: plan.Ours, Outputs: outputs})
		}
		if adjust != nil {
			adjust(in)
		}
	})
	if err != nil {
		c.l.t.Fatal(err)
	}
	return r
}

// shown are the fingerprints of what the machine shows.
func (c *cloud) shown() []string {
	var out []string
	if c.l.machine != nil {
		return c.shownByOpenSSH()
	}
	for _, k := range c.l.host.HostKeys() {
		out = append(out, ssh.FingerprintSHA256(k))
	}
	return out
}

func (r *run) hostKeySteps() []string {
	var out []string
	for _, op := range r.ordered() {
		if strings.Contains(op.Kind, "HostKey") {
			out = append(out, op.Kind)
		}
	}
	return out
}

// firstContact are the operations up to the last step of the change.
func (r *run) firstContact() []plan.Op {
	return slices.DeleteFunc(r.ordered(), func(op plan.Op) bool {
		return op.Kind != opConnect && op.Kind != opInstall && !strings.Contains(op.Kind, "HostKey")
	})
}

// On first contact the machine gets a key of its own, and the one from its user
// data is worth nothing, whichever kind it was.
func TestHostKeyIsRotatedOnFirstContact(t *testing.T) {
	for name, first := range map[string]ssh.Signer{"ECDSA": ecdsaSigner(t), "Ed25519": newSigner(t)} {
		t.Run(name, func(t *testing.T) {
			c, spec := keyLab(t, first)
			old := c.tag
			r := c.run(spec, nil)
			if want := []string{opMakeHostKey, opNoteHostKey, opDropHostKey}; !slices.Equal(r.hostKeySteps(), want) {
				t.Fatalf("%q", r.hostKeySteps())
			}
			for _, op := range r.firstContact() {
				if err := r.do(op); err != nil {
					t.Fatalf("%s: %v", op.ID, err)
				}
			}
			if shown := c.shown(); c.tag == old || !slices.Equal(shown, []string{c.tag}) {
				t.Fatalf("the tag is %s, the machine shows %q, it began with %s", c.tag, shown, old)
			}
			if kind := c.l.host.HostKeys()[0].Type(); kind == first.PublicKey().Type() {
				t.Errorf("the new key is %s as well", kind)
			}
			if again := c.run(spec, nil); len(again.firstContact()) != 0 {
				t.Errorf("a second plan has %q", again.hostKeySteps())
			}
			// Whoever has the key of the user data cannot pass for the machine.
			p := c.l.provider(spec)
			env := &sshconn.Env{Keys: p.SSH.Keys, Dial: p.Dial}
			s, _ := env.Settings(sshconn.Target{Label: "host mx1", Address: hostAddress, HostKey: old})
			trust, _ := env.Trust(s)
			var refused *sshconn.Error
			if _, err := env.Connect(context.Background(), s, trust); !errors.As(err, &refused) || refused.Kind != sshconn.HostKey {
				t.Errorf("by the old key: %v", err)
			}
			// At will, once more: the kinds take turns.
			before := c.tag
			r = c.run(spec, func(in *plan.Input) { in.Replace = []string{"host/mx1/host-key"} })
			for _, op := range r.firstContact() {
				if err := r.do(op); err != nil {
					t.Fatalf("%s: %v", op.ID, err)
				}
			}
			if shown := c.shown(); c.tag == before || !slices.Equal(shown, []string{c.tag}) {
				t.Errorf("after --replace the tag is %s, was %s, the machine shows %q", c.tag, before, shown)
			}
		})
	}
}

// At every step of the change, done or not, a new run gets in by what the tag says
// and comes to the end.
func TestHostKeyRotationInterrupted(t *testing.T) {
	for step := range 3 {
		for _, done := range []bool{false, true} {
			c, spec := keyLab(t, ecdsaSigner(t))
			c.interruptedAt(spec, step, done)
		}
	}
}

// interruptedAt ends a run at one step of the change, done or not, and lets another one go on.
func (c *cloud) interruptedAt(spec *specs.Spec, step int, done bool) {
	t := c.l.t
	t.Helper()
	r := c.run(spec, nil)
	at := 0
	for _, op := range r.firstContact() {
		rotates := strings.Contains(op.Kind, "HostKey")
		if rotates && at == step && !done {
			break
		}
		if err := r.do(op); err != nil {
			t.Fatalf("%s: %v", op.ID, err)
		}
		if rotates {
			if at == step {
				break
			}
			at++
		}
	}
	if !slices.Contains(c.shown(), c.tag) {
		t.Fatalf("step %d, done %v: the machine shows %q, the tag says %s", step, done, c.shown(), c.tag)
	}
	r.p.Close()
	again := c.run(spec, nil)
	for _, op := range again.firstContact() {
		// As after a crash: what was begun is asked about first.
		if verdict, _, err := again.p.Resolve(context.Background(), r.resolved(op), "x"); err != nil || verdict == plan.Done && strings.Contains(op.Kind, "HostKey") {
			t.Fatalf("step %d, done %v: resolve %s: %s %v", step, done, op.ID, verdict, err)
		}
		if err := again.do(op); err != nil {
			t.Fatalf("step %d, done %v: %s: %v", step, done, op.ID, err)
		}
	}
	again.p.Close()
	if shown := c.shown(); !slices.Equal(shown, []string{c.tag}) {
		t.Errorf("step %d, done %v: the machine shows %q, the tag says %s", step, done, shown, c.tag)
	}
	if last := c.run(spec, nil); len(last.firstContact()) != 0 {
		t.Errorf("step %d, done %v: then %q", step, done, last.hostKeySteps())
	}
}

// resolved is an operation as an earlier run's journal has it: with the key that
// the tag named then.
func (r *run) resolved(op plan.Op) plan.Op {
	op.Inputs = op.Inputs.Resolve(func(ref plan.Ref) (plan.Value, bool) { v, ok := r.outputs[ref.Address][ref.Attr]; return v, ok })
	return op
}

// A cloud that does not take the tag leaves the machine with both keys.
func TestHostKeyThatCannotBeNoted(t *testing.T) {
	c, spec := keyLab(t, ecdsaSigner(t))
	old := c.tag
	c.fail = &plan.Error{Class: plan.ErrCredentials, Step: "note", Got: "403 Forbidden.RAM"}
	r := c.run(spec, nil)
	for _, op := range r.firstContact() {
		if err := r.do(op); err != nil {
			if op.Kind != opNoteHostKey || plan.ClassOf(err) != plan.ErrCredentials {
				t.Fatalf("%s: %v", op.ID, err)
			}
			break
		}
	}
	if len(c.shown()) != 2 || !slices.Contains(c.shown(), old) || c.tag != old {
		t.Errorf("the machine shows %q, the tag says %s", c.shown(), c.tag)
	}
}

// A key that the spec pins, and a machine that was there before, are left alone.
func TestHostKeyOfOthersStays(t *testing.T) {
	c, spec := keyLab(t, ecdsaSigner(t))
	spec.Hosts[0].SSH.HostKey = c.tag
	if r := c.run(spec, nil); len(r.hostKeySteps()) != 0 {
		t.Errorf("%q", r.hostKeySteps())
	}
	spec.Hosts[0].Instance = nil
	if r := c.run(spec, nil); len(r.hostKeySteps()) != 0 {
		t.Errorf("%q", r.hostKeySteps())
	}
}
