package specs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
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
		if i := h.Instance; i != nil && (i.Type == "" || i.Image == "" || i.SystemDisk.SizeGiB < 20 || i.Bandwidth < 1 || i.Bandwidth > 200) {
			t.Fatalf("instance %+v", i)
		}
	}
	for _, d := range s.Domains {
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
