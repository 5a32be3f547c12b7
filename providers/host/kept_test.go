package host

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"mailform/plan"
	"mailform/server/manifest"
	"mailform/specs"
)

// diskWorld is what can be seen of a host with a data disk whose machine is gone.
type diskWorld struct {
	now      time.Time
	rotate   time.Duration
	observed []plan.Object
}

func newDiskWorld() *diskWorld {
	w := &diskWorld{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	w.see(plan.Object{Address: diskAddr("mx1"), Provider: "cloud", Kind: "disk", Owner: plan.Ours})
	return w
}

func (w *diskWorld) see(o plan.Object) *diskWorld {
	w.observed = append(w.observed, o)
	return w
}

// published adds a record of so many hours ago.
func (w *diskWorld) published(selector, text string, hours int, owner plan.Ownership) *diskWorld {
	return w.see(plan.Object{Address: recordAddr("acme.example", selector), Provider: "dns", Kind: "record", Owner: owner,
		Attrs: plan.Attrs{"content": plan.String(text), "published": plan.String(w.now.Add(-time.Duration(hours) * time.Hour).Format(time.RFC3339))}})
}

// schedule returns, of each key that is to be there, whether it is believed to be there
// already, signs, or waits.
func (w *diskWorld) schedule() string {
	spec := &specs.Spec{
		Stack: specs.Stack{Name: "acme-mail"},
		Hosts: []*specs.Host{{Name: "mx1", Hostname: "mail.acme.example", Instance: &specs.Instance{Type: "t", DataDisk: &specs.DataDisk{Disk: specs.Disk{SizeGiB: 20}}}}},
		Domains: []*specs.Domain{{Name: "acme.example", Host: "mx1",
			DKIM: &specs.DKIM{Selector: "mf1", Algorithms: []string{"rsa2048"}, Rotate: w.rotate}}},
	}
	p := New(Config{Stack: "acme-mail", Version: "1", Agents: sha{}, Now: func() time.Time { return w.now }})
	desired, _ := p.Declare(spec)
	for _, k := range signingKeys(spec.Domains[0]) {
		desired = append(desired, plan.Resource{Address: recordAddr("acme.example", k.selector), Provider: "dns", Kind: "record",
			Attrs: plan.Attrs{"content": plan.Unknown(dkimAddr("acme.example", k.selector), "txt")}})
	}
	desired, observed, _, _ := p.Schedule(plan.Scheduling{Now: w.now, Desired: desired, Observed: w.observed})
	var out []string
	for _, r := range desired {
		if r.Kind != kindKey {
			continue
		}
		words := []string{r.Address.Segments()[2]}
		if i := slices.IndexFunc(observed, func(o plan.Object) bool { return o.Address == r.Address }); i >= 0 {
			words = append(words, "kept")
			if o := observed[i]; o.Within != diskAddr("mx1") || r.Within != diskAddr("mx1") || o.Outputs["txt"].Str() == "" || !o.Attrs["algorithm"].Equal(r.Attrs["algorithm"]) {
				return fmt.Sprintf("%+v is not what %+v wants", o, r)
			}
		}
		for _, s := range desired {
			if s.Kind == kindServer && slices.ContainsFunc(s.Attrs["domains"].Field("acme.example").Field("sign").Texts(), func(k string) bool { return parseKey(k).selector == words[0] }) {
				words = append(words, "signs")
			}
		}
		if r.Waits != "" {
			words = append(words, "waits")
		}
		out = append(out, strings.Join(words, " "))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// Between two machines nobody can look at the keys on the disk. What DNS publishes of
// them is believed, and a rotation that was under way goes on where it was.
func TestKeysAreBelievedToBeOnTheDisk(t *testing.T) {
	t.Parallel()
	texts := make([]string, 3)
	for i := range texts {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		public, err := dkimText(&key.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		texts[i] = public
	}
	server := plan.Object{Address: serverAddr("mx1"), Provider: Name, Kind: kindServer, Owner: plan.Ours}
	storage := plan.Object{Address: storageAddr("mx1"), Provider: Name, Kind: kindStorage, Owner: plan.Ours}
	for _, c := range []struct {
		name  string
		world func(w *diskWorld)
		want  string
	}{
		{"nothing is published", func(w *diskWorld) {}, "mf1-rsa signs"},
		{"one key", func(w *diskWorld) { w.published("mf1-rsa", texts[0], 1000, plan.Ours) }, "mf1-rsa kept signs"},
		{"one key, published just now", func(w *diskWorld) { w.published("mf1-rsa", texts[0], 1, plan.Ours) }, "mf1-rsa kept signs"},
		{"the next one is coming up", func(w *diskWorld) {
			w.published("mf1-rsa", texts[0], 1000, plan.Ours).published("mf1-rsa-2", texts[1], 2, plan.Ours)
		}, "mf1-rsa kept signs, mf1-rsa-2 kept waits"},
		{"the old one is going", func(w *diskWorld) {
			w.published("mf1-rsa", texts[0], 1000, plan.Ours).published("mf1-rsa-2", texts[1], 50, plan.Ours)
		}, "mf1-rsa kept, mf1-rsa-2 kept signs"},
		{"it is due", func(w *diskWorld) {
			w.rotate = 30 * 24 * time.Hour
			w.published("mf1-rsa", texts[0], 1000, plan.Ours)
		}, "mf1-rsa kept signs, mf1-rsa-2"},
		{"revoked", func(w *diskWorld) {
			w.published("mf1-rsa", revokedText("rsa2048"), 50, plan.Ours).published("mf1-rsa-2", texts[1], 50, plan.Ours)
		}, "mf1-rsa-2 kept signs"},
		{"somebody else's", func(w *diskWorld) { w.published("mf1-rsa", texts[0], 1000, plan.Unowned) }, "mf1-rsa signs"},
		{"no key at all", func(w *diskWorld) { w.published("mf1-rsa", "v=DKIM1; k=rsa; p=AAAA", 1000, plan.Ours) }, "mf1-rsa-2 signs"},
		{"a machine serves without the disk", func(w *diskWorld) { w.published("mf1-rsa", texts[0], 1000, plan.Ours).see(server) }, "mf1-rsa-2 signs"},
		{"a machine has looked at the disk", func(w *diskWorld) { w.published("mf1-rsa", texts[0], 1000, plan.Ours).see(storage) }, "mf1-rsa-2 signs"},
		{"the disk is gone", func(w *diskWorld) { w.observed = nil; w.published("mf1-rsa", texts[0], 1000, plan.Ours) }, "mf1-rsa-2 signs"},
	} {
		w := newDiskWorld()
		c.world(w)
		if got := w.schedule(); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// dkimText is a key's record as the agent writes it.
func dkimText(key *rsa.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	return "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(der), err
}

func TestAlgorithmOf(t *testing.T) {
	t.Parallel()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(public): "ed25519",
		"v=DKIM1; k=ed25519; p=AAAA":                                         "",
		revokedText("rsa2048"):                                               "",
		"v=spf1 -all":                                                        "",
		"":                                                                   "",
	} {
		if got := algorithmOf(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func FuzzAlgorithmOf(f *testing.F) {
	f.Add("v=DKIM1; k=rsa; p=MIIBIjANBgkqhkiG9w0BAQ")
	f.Add("k=ed25519;p=")
	f.Fuzz(func(t *testing.T, text string) {
		if a := algorithmOf(text); a != "" && a != "ed25519" && !strings.HasPrefix(a, "rsa") {
			t.Errorf("%q is taken for a key of kind %q", text, a)
		}
	})
}

// Where the disk is mounted decides what is made before what.
func TestDiskIsMountedBeforeKeysAreMade(t *testing.T) {
	t.Parallel()
	change := func(a plan.Address, kind string, action plan.Action) plan.Change {
		return plan.Change{Address: a, Provider: Name, Kind: kind, Action: action,
			After: plan.Attrs{"host": plan.String("mx1"), "serial": plan.String("s1"), "algorithm": plan.String("rsa2048"), "domains": plan.Map(nil)}}
	}
	for _, c := range []struct {
		agent, server, storage plan.Action
		want                   []string
	}{
		{plan.Create, plan.Create, plan.Create, []string{opConnect, opInstall, opMount, opKeys, opConverge, opVerify}},
		{plan.Replace, plan.Replace, plan.NoOp, []string{opConnect, opInstall, opMount, opKeys, opConverge, opVerify}},
		{plan.NoOp, plan.Create, plan.Create, []string{opMount, opKeys, opConverge, opVerify}},
		{plan.NoOp, plan.Create, plan.NoOp, []string{opKeys, opConverge, opVerify}},
		{plan.NoOp, plan.NoOp, plan.Replace, []string{opMount, opKeys, opConverge}},
		{plan.Update, plan.Update, plan.Create, []string{opInstall, opKeys, opConverge, opVerify}}, // its mail moves
		{plan.NoOp, plan.NoOp, plan.Update, []string{opKeys, opConverge}},
	} {
		ops := New(Config{Stack: "s"}).Compile([]plan.Change{
			change(agentAddr("mx1"), kindAgent, c.agent), change(serverAddr("mx1"), kindServer, c.server), change(storageAddr("mx1"), kindStorage, c.storage),
			change(dkimAddr("acme.example", "mf1-rsa"), kindKey, plan.Create),
		})
		var kinds []string
		for i, op := range ops {
			kinds = append(kinds, op.Kind)
			if i > 0 && !slices.Contains(op.After, ops[i-1].ID) {
				t.Errorf("%s does not wait for %s", op.ID, ops[i-1].ID)
			}
		}
		if !slices.Equal(kinds, c.want) {
			t.Errorf("agent %s, server %s, storage %s: %q, want %q", c.agent, c.server, c.storage, kinds, c.want)
		}
	}
}

// What is found on the disk is lost with the disk, and the rest with the machine.
func TestKeysAreLostWithWhatTheyAreOn(t *testing.T) {
	t.Parallel()
	instance := plan.Addr("host", "mx1", "instance")
	for _, c := range []struct {
		storage   *manifest.Storage
		key, mail plan.Address
	}{
		{nil, instance, instance},
		{&manifest.Storage{}, instance, instance},
		{&manifest.Storage{Mounted: true}, instance, diskAddr("mx1")},
		{&manifest.Storage{Mounted: true, Keys: true}, diskAddr("mx1"), diskAddr("mx1")},
		{&manifest.Storage{Keys: true}, diskAddr("mx1"), diskAddr("mx1")}, // detached
	} {
		if key, mail := whereFound("mx1", kindKey, c.storage), whereFound("mx1", kindMailbox, c.storage); key != c.key || mail != c.mail {
			t.Errorf("%+v: keys within %s, mail within %s", c.storage, key, mail)
		}
	}
}
