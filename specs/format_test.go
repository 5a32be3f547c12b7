package specs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFormat(t *testing.T) {
	for name, c := range map[string][2]string{
		"aligns and indents": {"domain \"a\" {\n# c\nhost=\"x\"\n  catch_all   =   \"y\" # d\n}", "domain \"a\" {\n  # c\n  host      = \"x\"\n  catch_all = \"y\" # d\n}\n"},
		"keeps comments":     {"# top\n\n/* a\n b */\nlocals {\n// x\na=[1,2,# two\n3]\n}\n\n\n", "# top\n\n/* a\n b */\nlocals {\n  // x\n  a = [1, 2, # two\n  3]\n}\n"},
		"keeps a heredoc":    {"locals {\na=<<-EOT\n    x\n   y\n  EOT\n}\n", "locals {\n  a = <<-EOT\n    x\n   y\n  EOT\n}\n"},
		"empty":              {"", ""},
		"blank":              {"\n\n", ""},
	} {
		got, ds := Format("x.hcl", []byte(c[0]))
		if len(ds) > 0 || string(got) != c[1] {
			t.Errorf("%s: got\n%s\nwant\n%s\n%v", name, got, c[1], ds)
		}
	}
	src := []byte("domain \"a\" {")
	got, ds := Format("x.hcl", src)
	if string(got) != string(src) || !ds.HasErrors() || ds[0].Code != codeSyntax || ds[0].Subject.File != "x.hcl" {
		t.Errorf("a file with a syntax error: %q %v", got, ds)
	}
}

func TestFormatDiff(t *testing.T) {
	src := []byte("domain \"a.example\" {\n  mailbox \"x\" {\n    name = \"X\"\n    password_hash=\"canary-1\"\n  }\n}\n\n\n")
	now, ds := Format("a.hcl", src)
	if len(ds) > 0 {
		t.Fatal(ds)
	}
	want := `--- a.hcl
+++ a.hcl (formatted)
@@ -1,8 +1,6 @@
 domain "a.example" {
   mailbox "x" {
-    name = "X"
-    password_hash="•••
+    name          = "X"
+    password_hash = "•••
   }
 }
-
-
`
	if got := FormatDiff("a.hcl", src, now); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := FormatDiff("a.hcl", now, now); got != "" {
		t.Errorf("no difference gives %q", got)
	}
}

func TestExamplesAreFormatted(t *testing.T) {
	names, _ := filepath.Glob("../examples/*/*.hcl")
	if len(names) < 4 {
		t.Fatalf("only %v", names)
	}
	for _, n := range names {
		text, err := os.ReadFile(n)
		if err != nil {
			t.Fatal(err)
		}
		if got, ds := Format(n, text); string(got) != string(text) || len(ds) > 0 {
			t.Errorf("%s is not formatted: %v", n, ds)
		}
	}
}

func FuzzFormat(f *testing.F) {
	for _, s := range fuzzSeeds() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		once, ds := Format("x.hcl", []byte(text))
		if ds.HasErrors() {
			if string(once) != text {
				t.Fatalf("changed a file with errors")
			}
			return
		}
		twice, ds := Format("x.hcl", once)
		if ds.HasErrors() || string(twice) != string(once) {
			t.Fatalf("formatting twice differs:\n%q\n%q\n%v", once, twice, ds)
		}
		if a, b := strings.Count(text, "#"), strings.Count(string(once), "#"); a != b {
			t.Fatalf("%d comment signs became %d", a, b)
		}
	})
}
