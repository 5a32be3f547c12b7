package specs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zclconf/go-cty/cty"
)

// fuzzSeeds are whole specs and all the pieces of TestCodes.
func fuzzSeeds() []string {
	seeds := []string{"", "\ufeff", "stack \"a\" {}", "stack \"a\" {\r\n}\r\n", "a = <<EOT\n${1}\nEOT\n", "locals { a = \"%{ for x in [1] }${x}%{ endfor }\" }",
		"locals {\n a = { for k, v in { b = 1 } : k => v... }\n c = local.a[*].b\n}", "variable \"x\" { type = object({ a = optional(list(string), [\"b\"]) }) }"}
	for _, c := range codeCases() {
		if len(c.text) < 4096 {
			seeds = append(seeds, base+c.text)
		}
	}
	names, _ := filepath.Glob("../examples/*/*.hcl")
	for _, n := range names {
		if text, err := os.ReadFile(n); err == nil {
			seeds = append(seeds, string(text))
		}
	}
	text, _ := Starter("example.com", StarterOptions{})
	return append(seeds, string(text))
}

// FuzzLoad: whatever a spec holds, Load gives a Spec or errors, never fails
// inside, and every finding can be shown.
func FuzzLoad(f *testing.F) {
	for _, s := range fuzzSeeds() {
		f.Add(s, "login,name\nbob,Bob\n", "MAILFORM_VAR_x=1", "y=[2]")
	}
	f.Fuzz(func(t *testing.T, text, csv, env, arg string) {
		o := files{"stack/main.hcl": text, "stack/people.csv": csv, "vars.json": csv, "vars.hcl": text}.options()
		o.Environ, o.Vars = []string{env}, []string{arg}
		if strings.HasPrefix(arg, "f") {
			o.VarFiles = []string{"vars.json", "vars.hcl"}
		}
		s, src, ds := Load(o)
		if (s == nil) != ds.HasErrors() {
			t.Fatalf("spec %v, findings %v", s, ds)
		}
		known := map[string]bool{}
		for _, c := range Codes() {
			known[c.Code] = true
		}
		for _, d := range ds {
			if d.Code == codeInternal || !known[d.Code] || d.Summary == "" {
				t.Fatalf("%+v", d)
			}
		}
		if len(ds) > 0 {
			_ = show(src, ds)
			_ = DiagnosticsJSON(src, ds)
		}
		if s != nil {
			checkSpec(t, s)
		}
	})
}

// checkSpec holds what every Spec promises to those who use it.
func checkSpec(t *testing.T, s *Spec) {
	t.Helper()
	if s.Stack.Name == "" || len(s.Stack.Name) > 32 || s.AliCloud.Region == "" {
		t.Fatalf("stack %+v region %q", s.Stack, s.AliCloud.Region)
	}
	for _, h := range s.Hosts {
		if h.Name == "" || h.Hostname == "" || h.Address.IsValid() == (h.Instance != nil) || len(h.SSH.From) == 0 || h.SSH.Port == 0 || h.SSH.User == "" {
			t.Fatalf("host %+v", h)
		}
		if i := h.Instance; i != nil && i.DataDisk != nil {
			if d := i.DataDisk; d.Category == "" || d.SizeGiB < 10 || d.SizeGiB > 65536 || d.Snapshots != nil && (d.Snapshots.Hour < 0 || d.Snapshots.Hour > 23 || d.Snapshots.Days < 1) {
				t.Fatalf("data disk %+v", d)
			}
		}
		if i := h.Instance; i != nil && (i.Type == "" || i.Image == "" || i.SystemDisk.SizeGiB < 20 || i.Bandwidth < 1 || i.Bandwidth > 200) {
			t.Fatalf("instance %+v", i)
		}
	}
	checkOperation(t, s)
	for _, d := range s.Domains {
		if d.MTASTS != nil && (d.MTASTS.Mode == "" || d.MTASTS.MaxAge < 24*time.Hour) || d.TLSRPT != nil && len(d.TLSRPT.Reports) == 0 ||
			d.DKIM != nil && d.DKIM.Rotate != 0 && d.DKIM.Rotate < 7*24*time.Hour {
			t.Fatalf("domain %+v", d)
		}
		if again, err := NormalizeDomain(d.Name); err != nil || again != d.Name || s.Host(d.Host) == nil {
			t.Fatalf("domain %+v", d)
		}
		serves := map[string]bool{}
		for _, m := range d.Mailboxes {
			if l, err := ownLocal(m.Local); err != nil || l != m.Local || serves[l] {
				t.Fatalf("mailbox %+v", m)
			}
			serves[m.Local] = true
		}
		if d.CatchAll != "" && !serves[d.CatchAll] {
			t.Fatalf("catch-all %q", d.CatchAll)
		}
		for _, m := range d.Mailboxes {
			for _, a := range m.Aliases {
				if serves[a] {
					t.Fatalf("%s twice", a)
				}
				serves[a] = true
			}
		}
		for _, a := range d.Aliases {
			if serves[a.Local] || len(a.To) == 0 {
				t.Fatalf("alias %+v", a)
			}
			serves[a.Local] = true
			for _, to := range a.To {
				if again, err := emailAddress(to); err != nil || again != to {
					t.Fatalf("alias %s to %q", a.Local, to)
				}
			}
		}
		if !serves["postmaster"] || !serves["abuse"] {
			t.Fatalf("%s lacks postmaster or abuse", d.Name)
		}
	}
}

// checkOperation holds what a Spec promises beside hosts and domains.
func checkOperation(t *testing.T, s *Spec) {
	t.Helper()
	for _, z := range s.Zones {
		if again, err := NormalizeDomain(z.Name); err != nil || again != z.Name {
			t.Fatalf("zone %+v", z)
		}
		for _, w := range z.Web {
			if w.Name == "" || s.Host(w.Host) == nil {
				t.Fatalf("web %+v", w)
			}
		}
		for _, r := range z.Rules {
			if r.Name == "" || r.Expression == "" || r.Action == "" {
				t.Fatalf("rule %+v", r)
			}
		}
	}
	if l := s.Server.Limits; l.Connections < 1 || l.ConnectionsPerClient < 1 || l.ConnectionsPerClient > l.Connections || l.RecipientsPerMessage < 1 || l.MessagesPerHour < 1 {
		t.Fatalf("limits %+v", l)
	}
	if b := s.Backup; b != nil && (b.Endpoint == "" || b.Bucket == "" || b.SecretAccessKey == "" || b.Every < 15*time.Minute || b.Keep < 24*time.Hour) {
		t.Fatal("backup", b.Range)
	}
	if m := s.Monitor; m.DiskFreePercent < 1 || m.DiskFreePercent > 90 || m.QueueAge <= 0 || m.Certificate <= 0 || len(s.Domains) > 0 && len(m.Alerts) == 0 {
		t.Fatalf("monitor %+v", m)
	}
	if k := s.Lock; k != nil && (k.Kind == "bucket") != (k.Endpoint != "" && k.Bucket != "" && k.Key != "") {
		t.Fatal("lock", k.Range)
	}
	if p := s.Protection.ZonePercent; p < 1 || p > 100 {
		t.Fatalf("zone changes %d", p)
	}
	for _, i := range s.Ignore {
		if i.Address == "" || len(i.Fields) == 0 {
			t.Fatalf("ignore %+v", i)
		}
	}
}

// FuzzValues: whatever text stands in an attribute, it is refused or comes out in
// its one form, which is read as itself again.
func FuzzValues(f *testing.F) {
	for _, s := range []string{"", "0", "03:00", "23:59", "10%", "100 %", "14d", "1w2d", "0d", "dns/acme.example/spf", "host/*", "m?ilbox/a'b@x.example", "*", "rules[office]*",
		"acme-mail", "/a/b/", "postgres://u:p@h/d", ".EXE", "(ip.src eq 1.1.1.1)", `r"\d" "x`, "@", "www.x", "ecs.g7.large", "10GiB", "10Mbps", "127.0.0.1:9100", "[::1]:1", "\xff", "\x00"} {
		f.Add(s)
	}
	root := rootSchema()
	f.Fuzz(func(t *testing.T, text string) {
		var walk func(b *blockSchema)
		walk = func(b *blockSchema) {
			for i := range b.Attrs {
				if b.Attrs[i].Kind != kindExpr {
					tryValue(t, b.Name+"."+b.Attrs[i].Name, &b.Attrs[i], text)
				}
			}
			for _, lb := range b.Labels {
				tryValue(t, b.Name, &attrSchema{Name: lb.Name, Kind: lb.Kind}, text)
			}
			for _, c := range b.children() {
				walk(c)
			}
		}
		walk(root)
	})
}

func tryValue(t *testing.T, name string, a *attrSchema, text string) {
	v, f := a.parse(cty.StringVal(text))
	if f != nil {
		if f.code == "" || f.summary == "" || f.detail == "" {
			t.Fatalf("%s: %+v", name, f)
		}
		if a.Sensitive && len(text) > 8 && strings.Contains(f.summary+f.detail, text) {
			t.Fatalf("%s: a secret is quoted: %+v", name, f)
		}
		return
	}
	s, isText := v.(string)
	if !isText {
		return
	}
	if again, f := a.parse(cty.StringVal(s)); f != nil || again != v {
		t.Fatalf("%s: %q is read as %q, and that as %v %+v", name, text, s, again, f)
	}
}

// The pattern syntax is that of plan.Match: what is checked here can match an
// address, and every address matches itself.
func FuzzAddressGlob(f *testing.F) {
	for _, s := range []string{"host/mx1/instance", "mailbox/o'brien@acme.example", "dns/acme.example/acme-challenge/_acme-challenge.acme.example", "catch-all/x.example", "d*", "*/mx1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		g, err := addressGlob(text)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Fatalf("%q", err)
			}
			return
		}
		kind, rest, slash := strings.Cut(g, "/")
		literal, _, wild := strings.Cut(kind, "*")
		literal, _, one := strings.Cut(literal, "?")
		for _, k := range addressKinds() {
			if wild || one || strings.Contains(kind, "?") {
				if strings.HasPrefix(k+"/", literal) {
					return
				}
			} else if k == kind && slash && rest != "" {
				return
			}
		}
		t.Fatalf("%q can match no address", g)
	})
}
