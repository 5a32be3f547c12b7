package plan

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"

	"mailform/specs"
)

// driftInput is the sample with a change of each origin, a renewal that is due
// and secrets.
func driftInput() Input {
	now := sampleDesired("alice", "bob")
	world := applied(sampleDesired("alice", "bob", "dave"))
	world = drift(world, "dns/acme.example/spf", "content", String("v=spf1 +all"))
	world = drift(world, "mailbox/bob@acme.example", "password", Secret(specs.Fingerprint("old "+canary)))
	world = slices.DeleteFunc(world, func(o Object) bool { return o.Address == "dns/acme.example/dmarc" })
	for i := range world {
		if world[i].Address == "cert/mx1" {
			world[i].Due = "expires in 20 days"
		}
	}
	now = change(now, "mailbox/alice@acme.example", "quota", Int(6<<30))
	in := sampleInput(now, world)
	in.Ledger = &Ledger{FormatVersion: 1, Stack: "acme-mail", Entries: map[Address]LedgerEntry{}}
	for _, o := range applied(sampleDesired("alice", "bob", "dave")) {
		in.Ledger.Entries[o.Address] = LedgerEntry{ID: o.ID, Applied: o.Attrs}
	}
	return in
}

func TestDrift(t *testing.T) {
	in := driftInput()
	in.Overlook = []string{"host/mx1/nothing"}
	p, diags := Build(in)
	if len(diags) != 1 || diags[0].Code != CodeUnusedFlag || !strings.Contains(diags[0].Summary, "--ignore host/mx1/nothing") {
		t.Errorf("diagnostics: %v", diags)
	}
	d := FindDrift(p)
	causes := map[Address]Cause{}
	for _, c := range d.Differences {
		causes[c.Address] = causeOf(c)
	}
	for a, want := range map[Address]Cause{
		"dns/acme.example/spf": CauseWorld, "dns/acme.example/dmarc": CauseWorld, "mailbox/bob@acme.example": CauseWorld,
		"mailbox/alice@acme.example": CauseSpec, "mailbox/dave@acme.example": CauseSpec,
	} {
		if causes[a] != want {
			t.Errorf("%s: cause %q, want %q", a, causes[a], want)
		}
	}
	if len(causes) != 5 || len(d.Due) != 1 {
		t.Errorf("differences %v, due %v", causes, d.Due)
	}
	for suffix, render := range map[string]func(io.Writer, Drift) error{
		"80.txt": func(w io.Writer, d Drift) error { return RenderDriftText(w, d, TextOptions{Width: 80}) },
		"md":     RenderDriftMarkdown, "json": RenderDriftJSON,
	} {
		var b bytes.Buffer
		if err := render(&b, d); err != nil {
			t.Fatal(err)
		}
		golden(t, "drift."+suffix, b.Bytes())
		noSecrets(t, suffix, b.String())
	}
}

func noSecrets(t *testing.T, where, text string) {
	t.Helper()
	for _, secret := range []string{canary, specs.Fingerprint(canary), specs.Fingerprint(canary + "bob"), specs.Fingerprint("old " + canary)} {
		if strings.Contains(text, secret) {
			t.Errorf("%s holds a secret or its fingerprint", where)
		}
	}
}

func TestDriftIgnores(t *testing.T) {
	for _, test := range []struct {
		ignore           string
		differences, not int
	}{
		{"dns/*/spf", 4, 1},
		{"dns/acme.example/spf.content", 4, 1},
		{"dns/acme.example/spf.ttl", 5, 0},
		{"mailbox/*.quota", 4, 1},
		{"mailbox/*", 2, 3},
		{"*", 0, 5},
	} {
		in := driftInput()
		in.Overlook = []string{test.ignore}
		d := FindDrift(mustBuild(t, in))
		if len(d.Differences) != test.differences || d.Ignored != test.not {
			t.Errorf("--ignore %s: %d differences, %d ignored; want %d, %d", test.ignore, len(d.Differences), d.Ignored, test.differences, test.not)
		}
	}
	if d := FindDrift(mustBuild(t, sampleInput(sampleDesired("alice"), applied(sampleDesired("alice"))))); len(d.Differences) > 0 || d.headline() != "No drift." {
		t.Errorf("drift of what is as wanted: %+v", d)
	}
}

func TestViews(t *testing.T) {
	in := driftInput()
	views := Views(in, mustBuild(t, in))
	var all, some bytes.Buffer
	if err := RenderViews(&all, views, TextOptions{Width: 100}); err != nil {
		t.Fatal(err)
	}
	golden(t, "show.100.txt", all.Bytes())
	for _, v := range views {
		if slices.Contains([]Address{"dns/acme.example/spf", "mailbox/alice@acme.example", "mailbox/bob@acme.example", "host/mx1/instance",
			"dns/acme.example/dmarc", "mailbox/dave@acme.example"}, v.Change.Address) {
			if err := RenderView(&some, v, TextOptions{Width: 100}); err != nil {
				t.Fatal(err)
			}
			some.WriteByte('\n')
		}
	}
	golden(t, "show.one.txt", some.Bytes())
	var doc bytes.Buffer
	if err := RenderViewsJSON(&doc, "acme-mail", views); err != nil {
		t.Fatal(err)
	}
	golden(t, "show.json", doc.Bytes())
	for where, b := range map[string]*bytes.Buffer{"list": &all, "one": &some, "json": &doc} {
		noSecrets(t, where, b.String())
	}
}
