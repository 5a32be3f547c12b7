package world

import (
	"bytes"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A world made from a snapshot is the one that was left: ids, keys and files.
func TestSnapshotIsPlayedAgain(t *testing.T) {
	ip := netip.MustParseAddr("203.0.113.7")
	dir := t.TempDir()
	first, err := Start(t.Context(), Config{Dir: filepath.Join(dir, "first"), Zones: []string{"example.com"}, Machines: []netip.Addr{ip}, Record: true})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	publish(t, first, "one.example.com")
	publish(t, first, "two.example.com")
	const file = "var/lib/kept"
	if err := os.WriteFile(filepath.Join(first.living()[0].Root(), file), []byte("kept"), 0o640); err != nil {
		t.Fatal(err)
	}
	want, err := first.Describe()
	if err != nil {
		t.Fatal(err)
	}
	records, key := first.DNS().Records("example.com"), first.HostKey(ip)
	snapshot, err := first.Snapshot(filepath.Join(dir, "snapshot"))
	if err != nil {
		t.Fatal(err)
	}
	defer snapshot.Close()

	// Two at a time, and neither knows of the other.
	for _, name := range []string{"second", "third"} {
		w, err := Start(t.Context(), Config{Dir: filepath.Join(dir, name), From: snapshot})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		got, err := w.Describe()
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s:\n%s\nwant:\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if w.HostKey(ip) != key {
			t.Error("the machine has another key")
		}
		for i, r := range w.DNS().Records("example.com") {
			if r.ID != records[i].ID {
				t.Errorf("%s has another id", r.Name)
			}
		}
		ours, err := os.ReadFile(w.CABundle())
		if err != nil {
			t.Fatal(err)
		}
		if theirs, err := os.ReadFile(first.CABundle()); err != nil || !bytes.Contains(ours, theirs) {
			t.Errorf("the certificates of the first world are not trusted: %v", err)
		}
		publish(t, w, name+".example.com")
		if err := os.WriteFile(filepath.Join(w.living()[0].Root(), file), []byte(name), 0o640); err != nil {
			t.Fatal(err)
		}
	}
}

// publish makes an A record through the vendor's API.
func publish(t *testing.T, w *World, name string) {
	t.Helper()
	api := w.Environment()["CLOUDFLARE_BASE_URL"]
	zone := w.zoneID(t, api)
	body := `{"type":"A","name":"` + name + `","content":"203.0.113.7","ttl":300}`
	if answer := call(t, http.MethodPost, api+"/zones/"+zone+"/dns_records", body); !strings.Contains(answer, `"success":true`) {
		t.Fatal(answer)
	}
}

func (w *World) zoneID(t *testing.T, api string) string {
	t.Helper()
	_, rest, _ := strings.Cut(call(t, http.MethodGet, api+"/zones?name=example.com", ""), `"id":"`)
	for _, part := range strings.Split(rest, `"id":"`) { // the plan and the account have ids too
		if id, _, _ := strings.Cut(part, `"`); len(id) == 32 && strings.Contains(part, `"name":"example.com"`) {
			return id
		}
	}
	t.Fatalf("no zone: %s", rest)
	return ""
}

func call(t *testing.T, method, url, body string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+APIToken)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What differs between any two worlds is not described.
func TestVariable(t *testing.T) {
	got := variable(`{"at": "2026-11-22T08:00:00.123Z", "hash": "$argon2id$v=19$m=8,t=1,p=1$c2FsdA$aGFzaA", "epoch": 12, "dir": ".versions/mx1-0123456789abcdef/key.pem", "ask": "http://ca.simulated/x/renewalInfo/jywazqlSFNi-pU6P.BDr6hI_DCpI"}`)
	want := `{"at": "TIME", "hash": "HASH", "epoch": N, "dir": ".versions/mx1-VERSION/key.pem", "ask": "http://ca.simulated/x/renewalInfo/CERTIFICATE"}`
	if got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}
