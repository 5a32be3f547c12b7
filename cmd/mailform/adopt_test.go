package main

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mailform/providers/cloudflare/cloudflaresim"
	"mailform/providers/world"
)

// TestAdoptForeignMail describes a domain whose mail was set up by hand: what is
// as the spec wants it only gets its mark, what somebody else needs stays.
func TestAdoptForeignMail(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	machine := netip.MustParseAddr("127.100.7.7")
	w, err := world.Start(context.Background(), world.Config{Shim: hostshim(), Dir: filepath.Join(dir, "world"), Zones: []string{"example.com"}, Machines: []netip.Addr{machine}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	w.DNS().Seed("example.com",
		cloudflaresim.Record{Type: "A", Name: "mail.example.com", Content: machine.String(), TTL: 300},
		cloudflaresim.Record{Type: "MX", Name: "example.com", Content: "mail.example.com", Priority: new(20), TTL: 300},
		cloudflaresim.Record{Type: "TXT", Name: "example.com", Content: `"v=spf1 mx include:spf.crm.example ~all"`, TTL: 300},
		cloudflaresim.Record{Type: "TXT", Name: "_dmarc.example.com", Content: `"v=DMARC1; p=none; pct=50"`, TTL: 300},
		cloudflaresim.Record{Type: "TXT", Name: "2019._domainkey.example.com", Content: `"v=DKIM1; p=MIIBIjANBg"`, TTL: 300},
		cloudflaresim.Record{Type: "CNAME", Name: "www.example.com", Content: "example.com", TTL: 300},
	)
	s := shell{dir: dir, env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "USER=tester"}}
	for name, value := range w.Environment() {
		s.env = append(s.env, name+"="+value)
	}

	// Nobody has said yet that the machine's host key is right.
	stdout, _, code := s.run(t, "adopt", "example.com", "--out", "mail")
	if code == 0 || !strings.Contains(stdout, "the hosts were not read") {
		t.Errorf("an unknown machine: exit code %d\n%s", code, stdout)
	}
	path := filepath.Join(dir, "mail", "mail.hcl")
	spec := string(read(t, path))
	pinned := strings.Replace(spec, "  ssh {\n", "  ssh {\n    host_key = \""+w.HostKey(machine)+"\"\n", 1)
	if err := os.WriteFile(path, []byte(pinned), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`address  = "127.100.7.7"`, "priority = 20", `include = ["spf.crm.example"]`, `all     = "softfail"`, "dmarc {\n    manage = false", `mailbox "postmaster"`,
	} {
		if !strings.Contains(spec, want) {
			t.Errorf("the spec says nothing of %s:\n%s", want, spec)
		}
	}
	for _, want := range []string{"2019._domainkey.example.com", "DMARC record of example.com cannot be written", "no mailformd of this stack answers"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("a note is missing: %s\n%s", want, stdout)
		}
	}
	s.dir = filepath.Join(dir, "mail")
	for _, name := range []string{"dns/example.com/mx", "dns/example.com/spf", "dns/example.com/a/mx1"} {
		if action := s.actions(t)[name]; action != "adopt" {
			t.Errorf("%s: %q, expected adopt", name, action)
		}
	}
	before := map[string]string{}
	for _, r := range w.DNS().Records("example.com") {
		before[r.ID] = r.Type + " " + r.Name + " " + r.Content
	}
	s.must(t, 0, "apply", "--auto-approve")
	after := map[string]string{}
	for _, r := range w.DNS().Records("example.com") {
		after[r.ID] = r.Type + " " + r.Name + " " + r.Content
	}
	for id, was := range before {
		if after[id] != was {
			t.Errorf("%s became %q", was, after[id])
		}
	}
	if todo := s.actions(t); len(todo) != 0 {
		t.Errorf("after apply there is still to do: %v", todo)
	}
}
