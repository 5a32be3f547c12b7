package backup

import (
	"strings"
	"testing"
	"time"
)

// What comes out of a bucket cannot name a file outside of what is restored.
func FuzzPage(f *testing.F) {
	s := strings.Repeat("ab", 32)
	for _, seed := range []string{
		`[{"name":"store/log/0000000000000001.log","marker":"01","size":3,"parts":[{"sha256":"` + s + `","size":3}]}]`,
		`[{"name":"../../etc/passwd","size":0}]`, `[{"name":"store/log/../x","size":0}]`, `[{"name":"credentials.json","size":1,"parts":[]}]`,
		`[{"name":"retained.json","size":-1,"parts":[{"sha256":"` + s + `","size":-1}]}]`, `null`, `{}`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		files, err := readPage(text)
		if err != nil {
			return
		}
		for _, f := range files {
			if f.Size < 0 || strings.Contains(f.Name, "..") || strings.HasPrefix(f.Name, "/") || len(f.Name) > 40 {
				t.Errorf("%q with %d octets is taken", f.Name, f.Size)
			}
		}
	})
}

func FuzzManifest(f *testing.F) {
	for _, seed := range []string{
		`{"format":1,"time":"2026-11-22T10:00:00Z","store":1,"pages":[{"sha256":"` + strings.Repeat("01", 32) + `","size":10}]}`,
		`{"format":2}`, `{"format":1,"time":"2026-11-22T10:00:00Z","pages":[{"size":-5}]}`, `{`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := readManifest(text)
		if err != nil {
			return
		}
		for _, p := range m.Pages {
			if p.Size <= 0 || p.Size > maxPage {
				t.Errorf("a page of %d octets", p.Size)
			}
		}
	})
}

func TestKeys(t *testing.T) {
	at := time.Date(2026, 11, 22, 9, 39, 45, 0, time.UTC)
	for prefix, want := range map[string]string{"": "mx1/backups/20261122T093945Z.json", "a/b/": "a/b/mx1/backups/20261122T093945Z.json"} {
		k := keysOf(prefix, "mx1")
		if got := k.manifest(at); got != want {
			t.Errorf("%q: %s", prefix, got)
		}
		if got, ok := k.timeOf(want); !ok || !got.Equal(at) {
			t.Errorf("%q: %v, %v", prefix, got, ok)
		}
		if _, ok := k.timeOf(want + ".tmp"); ok {
			t.Error("another name is taken for a manifest's")
		}
		if s, ok := k.sumOf(k.object(sum{1, 2})); !ok || s != (sum{1, 2}) {
			t.Error("the name of an object does not read back")
		}
	}
}
