package plan

import (
	"io"
	"testing"
)

// Five thousand mailboxes are a normal spec: go test ./plan -bench Mailboxes -benchmem
func BenchmarkMailboxes(b *testing.B) {
	desired := sampleDesired(many(5000)...)
	first, none := sampleInput(desired, zoneFound()), sampleInput(desired, applied(desired))
	file := Encode(mustBuild(b, none))
	for _, bench := range []struct {
		name string
		f    func()
	}{
		{"BuildFirst", func() { mustBuild(b, first) }},
		{"BuildNoChanges", func() { mustBuild(b, none) }},
		{"Encode", func() { Encode(mustBuild(b, first)) }},
		{"Decode", func() {
			if _, err := Decode(file); err != nil {
				b.Fatal(err)
			}
		}},
		{"RenderText", func() {
			if err := RenderText(io.Discard, mustBuild(b, first), TextOptions{Width: 120, Fold: -1}); err != nil {
				b.Fatal(err)
			}
		}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				bench.f()
			}
		})
	}
	b.Logf("plan file: %d KiB", len(file)>>10)
}
