package specs

import (
	"fmt"
	"strings"
	"testing"
)

// mailboxNamed loads a spec whose only mailbox has the name that expr gives.
func mailboxNamed(expr string, more files) (string, *Sources, Diagnostics) {
	f := files{"stack/main.hcl": base + mailboxWith("name = "+expr)}
	for n, text := range more {
		f[n] = text
	}
	s, src, ds := Load(f.options())
	if s == nil {
		return "", src, ds
	}
	return s.Domains[0].Mailboxes[0].Name, src, ds
}

func TestTemplateFile(t *testing.T) {
	for name, c := range map[string]struct{ template, vars, want, says string }{
		"text":            {"Alice", "{}", "Alice", ""},
		"variables":       {"${first} ${upper(last)}", `{ first = "Al", last = "B" }`, "Al B", ""},
		"a map":           {"${a}", `tomap({ a = "x" })`, "x", ""},
		"one number":      {"${n}", "{ n = 7 }", "7", ""},
		"directives":      {"%{ for p in people ~}\n${p}%{ if p != \"c\" }, %{ endif }%{ endfor }", `{ people = ["a", "b", "c"] }`, "a, b, c", ""},
		"many parts":      {strings.Repeat("${a}", 2000) + "b", `{ a = "" }`, "b", ""},
		"not given":       {"Hello\n${nobody}", `{ a = 1, b = 2 }`, "", "stack/t.tmpl:2,3: nobody is not given; the call gives a, b"},
		"nothing given":   {"${nobody}", "{}", "", "the call gives no variables"},
		"no spec's value": {"${var.x}", "{}", "", "var is not given"},
		"itself":          {"${templatefile(\"t.tmpl\", {})}", "{}", "", "templatefile() cannot be used in a template"},
		"no function":     {"${env(\"HOME\")}", "{}", "", "env() cannot be used in a template"},
		"syntax":          {"a\n%{ if x }", "{ x = true }", "", "stack/t.tmpl:2,"},
		"not a text":      {"${x}", "{ x = [1] }", "", "gives no text"},
		"not an object":   {"a", "[1]", "", "must be an object"},
		"an error inside": {"${x + 1}", `{ x = "a" }`, "", "stack/t.tmpl:1,3"},
		"too deep":        {strings.Repeat("${[", 200) + strings.Repeat("]}", 200), "{}", "", "too deeply"},
		"too many levels": {strings.Repeat("%{ if true }", 200) + strings.Repeat("%{ endif }", 200), "{}", "", "too deeply"},
	} {
		got, src, ds := mailboxNamed("templatefile(\"t.tmpl\", "+c.vars+")", files{"stack/t.tmpl": c.template})
		if c.says == "" && (got != c.want || len(ds) > 0) || c.says != "" && (!ds.HasErrors() || !strings.Contains(fmt.Sprint(ds), c.says)) {
			t.Errorf("%s: %q, want %q %q:\n%s", name, got, c.want, c.says, show(src, ds))
		}
	}
	if _, _, ds := mailboxNamed(`templatefile("none.tmpl", {})`, nil); !strings.Contains(fmt.Sprint(ds), "stack/none.tmpl cannot be read") {
		t.Errorf("a file that is not there: %v", ds)
	}
}

// What a sensitive variable goes into is sensitive, and no error shows it.
func TestTemplateKeepsSecrets(t *testing.T) {
	const canary = "canary-7f3a"
	for _, template := range []string{"x ${secret}", "${parseint(secret, 10)}", "${secret + 1}", "${regex(secret, 1)}", "${cidrhost(secret, 1)}"} {
		_, src, ds := mailboxNamed(`templatefile("t.tmpl", { secret = var.s })`, files{
			"stack/t.tmpl": template, "stack/v.hcl": "variable \"s\" {\n  default = \"" + canary + "\"\n  sensitive = true\n}\n"})
		if out := show(src, ds) + string(DiagnosticsJSON(src, ds)); !ds.HasErrors() || strings.Contains(out, canary) {
			t.Errorf("%s:\n%s", template, out)
		}
	}
}

func TestNetworkFunctions(t *testing.T) {
	for expr, want := range map[string]string{
		`cidrhost("198.51.100.0/24", 7)`:               "198.51.100.7",
		`cidrhost("198.51.100.0/24", -1)`:              "198.51.100.255",
		`cidrhost("2001:db8::/32", 65536)`:             "2001:db8::1:0",
		`cidrsubnet("10.0.0.0/8", 8, 3)`:               "10.3.0.0/16",
		`cidrsubnet("10.0.0.0/8", 0, 0)`:               "10.0.0.0/8",
		`cidrsubnet("2001:db8::/48", 16, -1)`:          "2001:db8:0:ffff::/64",
		`cidrhost(cidrsubnet("10.0.0.0/8", 24, 1), 0)`: "10.0.0.1",
	} {
		if got, src, ds := mailboxNamed(expr, nil); got != want {
			t.Errorf("%s = %q, want %q\n%s", expr, got, want, show(src, ds))
		}
	}
	for expr, says := range map[string]string{
		`cidrhost("198.51.100.0/24", 256)`:  "from 0 to 255",
		`cidrhost("198.51.100.0/24", -257)`: "from 0 to 255",
		`cidrhost("198.51.100.1/24", 1)`:    "is not a network",
		`cidrhost("10.0.0.0/8", 1.5)`:       "whole number",
		`cidrsubnet("10.0.0.0/8", 25, 0)`:   "0 to 24 bits",
		`cidrsubnet("10.0.0.0/8", -1, 0)`:   "0 to 24 bits",
		`cidrsubnet("10.0.0.0/8", 1, 2)`:    "from 0 to 1",
	} {
		if _, src, ds := mailboxNamed(expr, nil); !strings.Contains(fmt.Sprint(ds), says) {
			t.Errorf("%s does not say %q:\n%s", expr, says, show(src, ds))
		}
	}
}

// FuzzTemplate: whatever a template file holds, Load ends with a Spec or findings.
func FuzzTemplate(f *testing.F) {
	for _, s := range []string{"", "${a}", "%{ for x in b }${x}%{ endfor }", "%{ if a == \"x\" ~}\n y %{ else }z%{ endif }", "${~ a ~}", "$${a}", "%{", "${[for x in b : \"${x}\"][0]}", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, template string) {
		_, src, ds := mailboxNamed(`templatefile("t.tmpl", { a = "x", b = [1, 2] })`, files{"stack/t.tmpl": template})
		for _, d := range ds {
			if d.Code == codeInternal {
				t.Fatal(show(src, ds))
			}
		}
	})
}
