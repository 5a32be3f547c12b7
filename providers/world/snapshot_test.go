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
	"time"

	"mailform/server/bucket"
	"mailform/specs"
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
	makeBucket(t, first, "example-backup")
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
		tomorrow := func() time.Time { return time.Now().Add(24 * time.Hour) }
		w, err := Start(t.Context(), Config{Dir: filepath.Join(dir, name), From: snapshot, Now: tomorrow})
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

// A machine has its data disk again, from the first moment on, and it is a copy.
func TestSnapshotWithADisk(t *testing.T) {
	ip, dir, serial := netip.MustParseAddr("203.0.113.7"), t.TempDir(), "j6c0123456789abcdefg"
	first, err := Start(t.Context(), Config{Dir: filepath.Join(dir, "first"), Machines: []netip.Addr{ip}, Record: true})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if err := first.living()[0].AttachDisk(serial, 20); err != nil {
		t.Fatal(err)
	}
	device := func(w *World) string { return filepath.Join(w.living()[0].Root(), "dev/vdb") }
	want, err := first.Describe()
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := first.Snapshot(filepath.Join(dir, "snapshot"))
	if err != nil {
		t.Fatal(err)
	}
	defer snapshot.Close()
	w, err := Start(t.Context(), Config{Dir: filepath.Join(dir, "second"), From: snapshot})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	got, err := w.Describe()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	ours, err := os.Stat(device(w))
	if err != nil {
		t.Fatal(err)
	}
	if theirs, err := os.Stat(device(first)); err != nil || os.SameFile(ours, theirs) || ours.Size() != 20<<30 {
		t.Errorf("the disk holds %d bytes, or is the one of the first world (%v)", ours.Size(), err)
	}
	// The call that put it there is played again, too.
	if err := w.living()[0].AttachDisk(serial, 20); err != nil {
		t.Error(err)
	}
}

// makeBucket makes one through the vendor's API, whose signature covers the host.
func makeBucket(t *testing.T, w *World, name string) {
	t.Helper()
	b, err := bucket.New(bucket.Config{Endpoint: w.Environment()["ALIBABA_CLOUD_OSS_ENDPOINT"], Bucket: name, Region: w.Region(), OSS: true,
		Credentials: bucket.Credentials{AccessKeyID: AccessKeyID, SecretAccessKey: AccessKeySecret}, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Call(t.Context(), bucket.Request{Method: http.MethodPut}); err != nil {
		t.Fatal(err)
	}
	lines, err := w.Describe()
	if err != nil || !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, name) }) {
		t.Fatalf("no bucket in %q, %v", lines, err)
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
	got := variable(`{"at": "2026-11-22T08:00:00.123Z", "hash": "$argon2id$v=19$m=8,t=1,p=1$c2FsdA$aGFzaA", "epoch": 12, "dir": ".versions/mx1-0123456789abcdef/key.pem", "ask": "http://ca.simulated/x/renewalInfo/jywazqlSFNi-pU6P.BDr6hI_DCpI", "uuid": "7744f977-0ec0-4a64-ad63-78a65497b07c", "link": "/tmp/mfd3713132036/image"}`)
	want := `{"at": "TIME", "hash": "HASH", "epoch": N, "dir": ".versions/mx1-VERSION/key.pem", "ask": "http://ca.simulated/x/renewalInfo/CERTIFICATE", "uuid": "UUID", "link": "DISK"}`
	if got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

// What a spec needs is there: zones, and the roles its instances are given.
func TestForSpec(t *testing.T) {
	c := ForSpec(&specs.Spec{
		Hosts: []*specs.Host{
			{Name: "mx1", Instance: &specs.Instance{RAMRole: "mail-backup"}},
			{Name: "mx2", Instance: &specs.Instance{RAMRole: "mail-backup"}},
			{Name: "mx3", Instance: &specs.Instance{}},
		},
		Domains: []*specs.Domain{{Name: "mail.example.com"}, {Name: "example.com"}},
	}, Config{})
	if !slices.Equal(c.Roles, []string{"mail-backup"}) || !slices.Equal(c.Zones, []string{"example.com"}) {
		t.Errorf("roles %q, zones %q", c.Roles, c.Zones)
	}
}
