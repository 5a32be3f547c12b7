package transfer

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// BenchmarkMaildir imports a Maildir of MAILFORM_BENCH_MESSAGES messages (20,000)
// of 2 to 8 KiB, files made beforehand. The figure to hold is 200,000 in 60 s.
func BenchmarkMaildir(b *testing.B) {
	n := 20_000
	if v := os.Getenv("MAILFORM_BENCH_MESSAGES"); v != "" {
		var err error
		n, err = strconv.Atoi(v)
		must(b, err)
	}
	dir := b.TempDir()
	must(b, os.MkdirAll(filepath.Join(dir, "cur"), 0o700))
	line := strings.Repeat("The quick brown fox jumps over the lazy dog. ", 2) + "\n"
	for i := range n {
		text := fmt.Sprintf("From: somebody%d@example.org\nSubject: message %d\nMessage-ID: <%d@x>\n\n", i%100, i, i) + strings.Repeat(line, 20+i%60)
		must(b, os.WriteFile(filepath.Join(dir, "cur", fmt.Sprintf("%d.x:2,S", i)), []byte(text), 0o600))
	}
	for b.Loop() {
		s := open(b)
		c, err := (&Importer{Server: &direct{Store: s}, Account: alice}).Run(b.Context(), Maildir{Dir: dir})
		must(b, err)
		if c.Imported != n {
			b.Fatalf("%+v", c)
		}
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}
