package apply

import (
	"bytes"
	"context"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"mailform/plan"
)

func TestLedgerRemembersWhatWasApplied(t *testing.T) {
	cloud := &fake{name: "cloud", faults: map[string][]fault{"bad": {{err: &plan.Error{Got: "no"}}}}}
	b := newBench(t, cloud)
	p := planOf(op("made"), op("bad"), op("gone"))
	p.Ops[2].Kind = "delete"
	for i := range p.Changes {
		p.Changes[i].After = plan.Attrs{"size": plan.String("1"), "peer": plan.Unknown("made", "id"), "key": plan.Secret("fp")}
	}
	p.Changes[2].Action, p.Changes[2].After = plan.Delete, nil
	p.Changes = append(p.Changes,
		plan.Change{Address: "same", Action: plan.NoOp, ID: "s-1", After: plan.Attrs{"size": plan.Int(3)}},
		plan.Change{Address: "blocked", Action: plan.Delete, ID: "b-1", Blocked: &plan.Block{Why: "protected"}})
	b.run(context.Background(), p)

	d := NewDir(b.disk, "/stack")
	l, err := d.loadLedger("test")
	if err != nil {
		t.Fatal(err)
	}
	// A plan must not take what was deleted for something that somebody removed.
	if shown, err := d.ReadLedger("test"); err != nil || len(shown.Entries) != 2 || shown.Entries["gone"].Generation != 0 {
		t.Errorf("a plan is shown %+v, %v", shown.Entries, err)
	}
	want := map[plan.Address]plan.LedgerEntry{
		"made": {ID: "cloud-1", Generation: 1, Applied: plan.Attrs{"size": plan.String("1"), "peer": plan.String("cloud-1"), "key": plan.Secret("fp")}},
		"gone": {Generation: 1},
		"same": {ID: "s-1", Applied: plan.Attrs{"size": plan.Int(3)}},
	}
	got, _ := json.MarshalIndent(l.Entries, "", " ")
	wanted, _ := json.MarshalIndent(want, "", " ")
	if !bytes.Equal(got, wanted) {
		t.Errorf("entries %s\nwant %s", got, wanted)
	}
}

func TestDamagedLedgerIsSetAside(t *testing.T) {
	good, err := encodeLedger(plan.Ledger{FormatVersion: 1, Stack: "test", Entries: map[plan.Address]plan.LedgerEntry{"a": {ID: "1"}}})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ content, says string }{
		"cut":         {string(good[:len(good)/2]), "EOF"},
		"garbage":     {"\x00\x01", "invalid"},
		"newer":       {`{"format_version":2,"stack":"test","entries":{}}`, "format is 2"},
		"other stack": {`{"format_version":1,"stack":"prod","entries":{}}`, `"prod"`},
		"field":       {`{"format_version":1,"stack":"test","entries":{},"x":1}`, "unknown field"},
		"two":         {string(good) + string(good), "more than one"},
		"negative":    {`{"format_version":1,"stack":"test","entries":{"a":{"generation":-1}}}`, "negative"},
		"deep":        {strings.Repeat("[", 1000), "nested"},
		"empty":       {"", "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, &fake{name: "cloud"})
			if _, err := b.run(context.Background(), planOf()); err != nil {
				t.Fatal(err)
			}
			b.disk.put("/"+ledgerName, c.content)

			// A plan only looks.
			l, err := NewDir(b.disk, "/stack").ReadLedger("test")
			if err == nil || !strings.Contains(err.Error(), c.says) || len(l.Entries) != 0 || l.Entries == nil {
				t.Errorf("ledger %+v, warning %v, want one that says %q", l, err, c.says)
			}
			if b.disk.read("/"+ledgerName) != c.content {
				t.Error("reading changed the file")
			}

			s := b.open()
			if len(s.Warnings()) != 1 || b.disk.read("/"+ledgerName+damagedSuffix) != c.content {
				t.Errorf("warnings %v", s.Warnings())
			}
			b.config.State = s
			if _, err := Run(context.Background(), b.config, planOf(op("a"))); err != nil {
				t.Errorf("a damaged ledger stops an apply: %v", err)
			}
			s.Close()
			if l, err := NewDir(b.disk, "/stack").ReadLedger("test"); err != nil || l.Entries["a"].ID == "" {
				t.Errorf("ledger after the apply: %+v, %v", l, err)
			}
		})
	}
}

func FuzzLedger(f *testing.F) {
	good, err := encodeLedger(plan.Ledger{FormatVersion: 1, Stack: "test", Entries: map[plan.Address]plan.LedgerEntry{
		"a": {ID: "1", Generation: 2, Applied: plan.Attrs{"x": plan.Unknown("b", "c"), "y": plan.List(plan.Int(1), plan.Secret("f"))}},
	}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"format_version":1,"stack":"test","entries":{"a":{"applied":{"x":{"$concat":[{"$ref":"a#b"}]}}}}}`))
	f.Add([]byte(`{"format_version":1,"stack":"test"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		l, err := parseLedger(data, "test")
		if err != nil {
			return
		}
		written, err := encodeLedger(l)
		if err != nil {
			t.Fatalf("an accepted ledger cannot be written: %v", err)
		}
		again, err := parseLedger(written, "test")
		if err != nil {
			t.Fatalf("a written ledger is not accepted: %v\n%s", err, written)
		}
		rewritten, err := encodeLedger(again)
		if err != nil || !bytes.Equal(rewritten, written) {
			t.Fatalf("the written form is not stable: %v\n%s\n%s", err, written, rewritten)
		}
		if !reflect.DeepEqual(l.Stack, again.Stack) {
			t.Fatal("another stack")
		}
	})
}
