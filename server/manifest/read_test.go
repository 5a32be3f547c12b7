package manifest

import (
	"bytes"
	"strings"
	"testing"
)

func sample() Manifest {
	return Manifest{
		Format: Format, Stack: "acme-mail", Host: "mx1", Hostname: "mail.acme.example", MaxMessageBytes: 50 << 20,
		Domains: []Domain{{
			Name:      "acme.example",
			DKIM:      []DKIMKey{{Selector: "mf1-ed25519", Algorithm: "ed25519"}},
			Mailboxes: []Mailbox{{Local: "alice", Aliases: []string{"a"}}, {Local: "bob"}},
		}},
	}
}

func TestReadManifest(t *testing.T) {
	m := sample()
	b, err := Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ReadManifest(b)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Encode(got)
	if err != nil || !bytes.Equal(b, again) {
		t.Fatalf("not canonical: %v\n%s\n%s", err, b, again)
	}
	for name, spoil := range map[string]func(*Manifest){
		"newer version":      func(m *Manifest) { m.Format = Format + 1 },
		"bad domain":         func(m *Manifest) { m.Domains[0].Name = "../etc" },
		"bad selector":       func(m *Manifest) { m.Domains[0].DKIM[0].Selector = "a/../../b" },
		"bad host name":      func(m *Manifest) { m.Host = "" },
		"bad hostname":       func(m *Manifest) { m.Hostname = "mail acme" },
		"bad mailbox":        func(m *Manifest) { m.Domains[0].Mailboxes[0].Local = "a/b" },
		"bad blocklist zone": func(m *Manifest) { m.Filter = &Filter{DNSBL: []string{"zen example"}} },
		"bad MTA-STS mode":   func(m *Manifest) { m.Domains[0].MTASTS = &MTASTS{Mode: "enforce\r\nmx: evil.example"} },
		"bad opening": func(m *Manifest) {
			m.Firewall = []Opening{{Name: "x\"; drop", Protocol: "tcp", FromPort: 1, ToPort: 1, From: []string{"::/0"}}}
		},
		"bad network": func(m *Manifest) {
			m.Firewall = []Opening{{Name: "x", Protocol: "tcp", FromPort: 1, ToPort: 1, From: []string{"0.0.0.0/0 }"}}}
		},
		"bob@acme.example st": func(m *Manifest) { m.Domains[0].Mailboxes[0].Local = "bob" },
	} {
		m := sample()
		spoil(&m)
		b, err := Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ReadManifest(b); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("want an error that says %q, got %v", name, err)
		}
	}
	if _, err := ReadManifest(append(b, b...)); err == nil {
		t.Error("two documents in one file were accepted")
	}
}

func FuzzReadManifest(f *testing.F) {
	m := sample()
	b, _ := Encode(m)
	f.Add(b)
	f.Add([]byte(`{"format":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ReadManifest(b)
		if err != nil {
			return
		}
		for _, d := range m.Domains {
			for _, k := range d.DKIM {
				p := Layout{Root: "/r"}.DKIMKey(d.Name, k.Selector)
				if !strings.HasPrefix(p, "/r/etc/mailform/dkim/"+d.Name+"/") {
					t.Fatalf("key path %q leaves its folder", p)
				}
			}
		}
	})
}

func FuzzReadFacts(f *testing.F) {
	m := sample()
	b, _ := Encode(Facts{Format: Format, OS: "debian", Manifest: &m})
	f.Add(b)
	f.Add([]byte(`{"format":1,"dkim":[{"domain":"..","selector":"x"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if facts, err := ReadFacts(b); err == nil && facts.Format != Format {
			t.Fatalf("format %d accepted", facts.Format)
		}
	})
}
