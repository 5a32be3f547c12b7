package apply

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"mailform/plan"
)

// sampleJournal is what a run leaves: two operations done, one refused, one
// unfinished. It returns the file and the offsets at which its lines end.
func sampleJournal(t testing.TB) (data []byte, ends []int) {
	t.Helper()
	for _, r := range sampleRecords() {
		line, err := encodeRecord(r)
		if err != nil {
			t.Fatal(err)
		}
		data = append(data, line...)
		ends = append(ends, len(data))
	}
	return data, ends
}

func sampleRecords() []record {
	begin := func(id string, generation int) record {
		o := op(id)
		o.Inputs = plan.Attrs{"name": plan.String("ü\n\"<&>"), "password": plan.Secret("fp"), "n": plan.List(plan.Int(1), plan.Bool(true))}
		return record{Kind: recBegin, Time: epoch, ID: id, Token: Token("test", o, generation), Generation: generation, Op: &o}
	}
	end := func(kind recordKind, b record) record {
		return record{Kind: kind, Time: epoch, ID: b.ID, Token: b.Token, Generation: b.Generation}
	}
	a, b, c, d := begin("a", 0), begin("b", 3), begin("c", 0), begin("d", 0)
	done := end(recDone, a)
	done.Outputs = map[plan.Address]plan.Attrs{"a": {"id": plan.String("i-1")}}
	return []record{a, b, done, c, end(recDone, b), d, end(recFailed, c)}
}

func unfinished(c contents) string {
	var ids []string
	for _, i := range c.open {
		ids = append(ids, i.op.ID)
	}
	return strings.Join(ids, " ")
}

func TestJournalRoundTrip(t *testing.T) {
	data, _ := sampleJournal(t)
	found, kept, damaged, err := parseJournal(data)
	if err != nil || len(damaged) != 0 || !bytes.Equal(kept, data) {
		t.Fatalf("damage %v, error %v, kept %d of %d bytes", damaged, err, len(kept), len(data))
	}
	if unfinished(found) != "c d" || !found.open[0].failed || found.open[1].failed {
		t.Errorf("open %+v", found.open)
	}
	if found.generations["a"] != 1 || found.generations["b"] != 4 || found.generations["c"] != 0 {
		t.Errorf("generations %v", found.generations)
	}
	if got := found.open[0].op.Inputs["name"].Str(); got != "ü\n\"<&>" {
		t.Errorf("inputs came back as %q", got)
	}
}

// TestTornTailIsCut cuts the file at every byte: what was acknowledged before is
// there, what was being written is gone, and nothing is called damage.
func TestTornTailIsCut(t *testing.T) {
	data, ends := sampleJournal(t)
	for size := 0; size <= len(data); size++ {
		whole := 0
		for whole < len(ends) && ends[whole] <= size {
			whole++
		}
		want := 0
		if whole > 0 {
			want = ends[whole-1]
		}
		for _, tail := range []string{"", "\x00\x00\x00"} {
			torn := append(bytes.Clone(data[:size]), tail...)
			found, kept, damaged, err := parseJournal(torn)
			if err != nil || len(damaged) != 0 || found.records != whole || len(kept) != want {
				t.Fatalf("cut at %d + %q: %d records, kept %d bytes, damage %v, %v; want %d records, %d bytes", size, tail, found.records, len(kept), damaged, err, whole, want)
			}
		}
	}
}

// TestWhatMayHaveBeenRecordsIsKept puts bytes in the journal that no torn write
// leaves. Somebody is told, once, and the bytes are kept.
func TestWhatMayHaveBeenRecordsIsKept(t *testing.T) {
	data, ends := sampleJournal(t)
	noise := make([]byte, 3000)
	rand.NewChaCha8([32]byte{1}).Read(noise)
	head := append([]byte("X"), data[1:ends[0]]...)
	last := bytes.Clone(data)
	last[len(last)-3] ^= 1
	for name, test := range map[string]struct {
		bytes []byte
		kept  int // records
	}{
		"random bytes":             {noise, 0},
		"random without line ends": {bytes.ReplaceAll(noise, []byte{'\n'}, nil), 0},
		"a text":                   {[]byte("hello\n"), 0},
		"the only record's head":   {head, 0},
		"the last record":          {last, len(ends) - 1},
		"random behind records":    {append(bytes.Clone(data), noise...), len(ends)},
	} {
		b := newBench(t, &fake{name: "cloud"})
		b.open().Close()
		b.disk.put("/"+journalName, string(test.bytes))
		s := b.open()
		if w := s.Warnings(); len(w) != 1 || !strings.Contains(w[0].Error(), fmt.Sprintf("the %d intact records were kept", test.kept)) {
			t.Errorf("%s: warnings %v", name, w)
		}
		s.Close()
		if got := b.disk.read("/" + journalName + damagedSuffix); got != string(test.bytes) {
			t.Errorf("%s: %d of %d bytes were kept aside", name, len(got), len(test.bytes))
		}
		s = b.open()
		if len(s.Warnings()) != 0 {
			t.Errorf("%s: told again: %v", name, s.Warnings())
		}
		s.Close()
	}
}

// TestTornJournalIsContinued appends after a torn tail, on a disk, at every byte.
func TestTornJournalIsContinued(t *testing.T) {
	data, ends := sampleJournal(t)
	for size := range len(data) + 1 {
		b := newBench(t, &fake{name: "cloud"})
		b.open().Close()
		b.disk.put("/"+journalName, string(data[:size]))
		s := b.open()
		if len(s.Warnings()) != 0 {
			t.Fatalf("cut at %d: warnings %v", size, s.Warnings())
		}
		o := op("new")
		if err := s.write(record{Kind: recBegin, Time: epoch, ID: o.ID, Token: "t", Op: &o}); err != nil {
			t.Fatal(err)
		}
		s.Close()
		found, _, damaged, err := parseJournal([]byte(b.disk.read("/" + journalName)))
		whole := 0
		for whole < len(ends) && ends[whole] <= size {
			whole++
		}
		if err != nil || len(damaged) != 0 || found.records != whole+1 {
			t.Fatalf("cut at %d: %d records, damage %v, %v; want %d", size, found.records, damaged, err, whole+1)
		}
	}
}

// TestDamageInTheMiddleIsReported flips every byte of a record in the middle.
func TestDamageInTheMiddleIsReported(t *testing.T) {
	data, ends := sampleJournal(t)
	for at := ends[1]; at < ends[2]; at++ {
		bad := bytes.Clone(data)
		bad[at] ^= 0x20
		found, kept, damaged, err := parseJournal(bad)
		if err != nil {
			t.Fatalf("flip at %d: %v", at, err)
		}
		// Case does not matter in the hex of a checksum, and a flipped line end may
		// take the next record with it; neither may pass for a record of its own.
		if len(damaged) == 0 {
			if found.records != len(ends) {
				t.Fatalf("flip at %d: %d records and no damage", at, found.records)
			}
			continue
		}
		d := damaged[0]
		if len(damaged) != 1 || d.offset != int64(ends[1]) || found.records < len(ends)-2 || int(d.length)+len(kept) != len(bad) {
			t.Fatalf("flip at %d: damage %+v, %d records, kept %d of %d", at, damaged, found.records, len(kept), len(bad))
		}
		if unfinished(found) == "c d" {
			t.Fatalf("flip at %d: the operation whose end was lost is not asked about", at)
		}
	}
}

func TestDamagedJournalIsSetAsideAndUsed(t *testing.T) {
	data, ends := sampleJournal(t)
	bad := bytes.Clone(data)
	bad[ends[1]+20] ^= 1
	cloud := &fake{name: "cloud"}
	b := newBench(t, cloud)
	b.open().Close()
	b.disk.put("/"+journalName, string(bad))
	b.config.State = b.open()
	defer b.config.State.Close()
	if _, err := Fold(context.Background(), b.config); err != nil {
		t.Fatal(err)
	}
	w := b.config.State.Warnings()
	if len(w) != 1 {
		t.Fatalf("warnings %v", w)
	}
	for _, want := range []string{fmt.Sprintf("at byte %d", ends[1]), fmt.Sprintf("(%d bytes)", ends[2]-ends[1]), "6 intact records", "journal.damaged"} {
		if !strings.Contains(w[0].Error(), want) {
			t.Errorf("%q does not say %q", w[0], want)
		}
	}
	if b.disk.read("/"+journalName+damagedSuffix) != string(bad) {
		t.Error("the damaged file was not kept")
	}
	// The end of "a" was in the damaged record, so "a" is asked about like the unfinished ones.
	if got := strings.Join(cloud.resolves, " "); got != "a c d" {
		t.Errorf("resolved %q", got)
	}
}

func TestJournalOfANewerVersionIsNotTouched(t *testing.T) {
	r := sampleRecords()[0]
	r.Kind = "merge"
	line, err := encodeRecord(r)
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t)
	b.open().Close()
	b.disk.put("/"+journalName, string(line))
	_, err = NewDir(b.disk, "/stack").Open("test", Holder{})
	if err == nil || !strings.Contains(err.Error(), "merge") {
		t.Errorf("%v", err)
	}
	if b.disk.read("/"+journalName) != string(line) {
		t.Error("the journal was changed")
	}
	// The lock was given back.
	b.disk.put("/"+journalName, "")
	b.open().Close()
}

func TestJournalIsEmptyAfterACompleteRun(t *testing.T) {
	b := newBench(t, &fake{name: "cloud"})
	if _, err := b.run(context.Background(), planOf(op("a"), op("b", "a"))); err != nil {
		t.Fatal(err)
	}
	if got := b.disk.read("/" + journalName); got != "" {
		t.Errorf("journal %q", got)
	}
}

// TestJournalDoesNotGrow fails the same operation again and again.
func TestJournalDoesNotGrow(t *testing.T) {
	b := newBench(t, &fake{name: "cloud", cannot: true, do: func(_ context.Context, o plan.Op, _ plan.Token, _ plan.Progress) (plan.Result, error) {
		if o.ID == "b" {
			return plan.Result{}, &plan.Error{Got: "no"}
		}
		return plan.Result{}, nil
	}})
	var sizes []int
	for range 4 {
		b.run(context.Background(), planOf(op("a"), op("b", "a")))
		sizes = append(sizes, len(b.disk.read("/"+journalName)))
	}
	if sizes[3] != sizes[0] {
		t.Errorf("sizes %v", sizes)
	}
}

// FuzzJournal feeds bytes as they are, and again as lines whose checksums hold,
// so that what lies behind the checksum is reached too.
func FuzzJournal(f *testing.F) {
	data, ends := sampleJournal(f)
	f.Add(data)
	f.Add(data[:ends[2]+9])
	f.Add([]byte("00000000 \n"))
	f.Add([]byte("ffffffff {\"kind\":\"begin\"}\nx"))
	bad := bytes.Clone(data)
	bad[ends[0]+1] ^= 1
	f.Add(bad)
	var payloads []byte
	for line := range bytes.Lines(data) {
		payloads = append(payloads, line[9:]...)
	}
	f.Add(payloads)
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		checkParse(t, data)
		var signed []byte
		for line := range bytes.Lines(data) {
			signed = append(signed, seal(bytes.TrimSuffix(line, []byte("\n")))...)
		}
		checkParse(t, signed)
	})
}

func checkParse(t *testing.T, data []byte) {
	found, kept, damaged, err := parseJournal(data)
	if err != nil {
		return
	}
	lost := int64(0)
	for _, d := range damaged {
		if d.length <= 0 || d.offset < 0 || d.offset+d.length > int64(len(data)) {
			t.Fatalf("damage %+v in %d bytes", d, len(data))
		}
		lost += d.length
	}
	if int64(len(kept))+lost > int64(len(data)) {
		t.Fatalf("kept %d and lost %d of %d bytes", len(kept), lost, len(data))
	}
	// What is kept is a sound journal that says the same.
	again, same, none, err := parseJournal(kept)
	if err != nil || len(none) != 0 || !bytes.Equal(same, kept) || again.records != found.records || unfinished(again) != unfinished(found) {
		t.Fatalf("the kept records are not a journal: %v %v", none, err)
	}
	// What the next run would carry over says the same, too.
	j := &journal{contents: found}
	keep := newContents()
	carried, err := j.carryOver(&keep, epoch, "")
	if err != nil {
		t.Fatal(err)
	}
	if again, _, _, err := parseJournal(carried); err != nil || unfinished(again) != unfinished(found) || len(again.latest) != len(found.latest) {
		t.Fatalf("carried over: open %q, %v; want %q", unfinished(again), err, unfinished(found))
	}
}
