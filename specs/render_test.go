package specs

import (
	"encoding/json"
	"strings"
	"testing"
)

// brokenSpec has mistakes of every kind in two files.
func brokenSpec() files {
	return files{
		"stack/mail.hcl": `stack "acme" {
  contact = "ops"
}

host "mx1" {
  hostname = "mail.acme.example"

  instance {
    type = "ecs.g7.large"

    volume {
      size = "200GiB"
    }
  }
}

domain "acme.example" {
	catch_all = "alcie"

  spf {
    all = "softfial"
  }

  mailbox "alice" {
    name          = "Alice"
    quta          = "10GiB"
    password_hash = "hunter2"
    aliases       = ["sales", "a+b"]
  }

  mailbox "bob" {
    quota = var.default_quota
  }

  alias "sales" { to = ["alice", "bob", "nobody", "partner@elsewhere.example"] }
}
`,
		"stack/people.hcl": `# 王选 and others
domain "例子.example" { host = "mx1", catch_all = "x" }
`,
	}
}

func TestGoldenDiagnostics(t *testing.T) {
	f := brokenSpec()
	_, src, ds := Load(f.options())
	golden(t, "syntax.txt", render(t, src, ds, 80, false))
	delete(f, "stack/people.hcl")
	f["stack/people.hcl"] = `# 王选 and others
domain "例子.example" {
  mailbox "wang" {
    name = "王选，北京大学教授，汉字激光照排系统的发明人，办公室在计算机科学技术研究所，请勿在周末打电话联系" + 1
  }
  mailbox "li" { name = lookup({ a = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" }, nothing) }
}
`
	_, src, ds = Load(f.options())
	golden(t, "findings-80.txt", render(t, src, ds, 80, false))
	golden(t, "findings-50-color.txt", render(t, src, ds, 50, true))
	golden(t, "findings.json", string(DiagnosticsJSON(src, ds)))
	for _, width := range []int{40, 50, 80, 100} {
		for _, line := range strings.Split(render(t, src, ds, width, false), "\n") {
			if textWidth(line) > width && !strings.Contains(line, "hcl:") {
				t.Errorf("width %d: %q has %d columns", width, line, textWidth(line))
			}
		}
	}
}

func render(t *testing.T, src *Sources, ds Diagnostics, width int, color bool) string {
	t.Helper()
	var b strings.Builder
	if err := WriteDiagnostics(&b, src, ds, width, color); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestDiagnosticsJSON(t *testing.T) {
	_, src, ds := Load(brokenSpec().options())
	var got struct {
		FormatVersion int `json:"format_version"`
		Valid         bool
		Errors        int
		Diagnostics   []struct {
			Code  string
			Range struct{ Start struct{ Line, Column int } }
		}
	}
	if err := json.Unmarshal(DiagnosticsJSON(src, ds), &got); err != nil {
		t.Fatal(err)
	}
	if got.FormatVersion != 1 || got.Valid || got.Errors != len(got.Diagnostics) || got.Errors == 0 || got.Diagnostics[0].Range.Start.Line != 2 {
		t.Errorf("%+v", got)
	}
	if out := string(DiagnosticsJSON(nil, nil)); !strings.Contains(out, `"valid": true`) || !strings.Contains(out, `"diagnostics": []`) {
		t.Error(out)
	}
}

// Findings come in the order of the source, and are the same every time.
func TestFindingsAreOrdered(t *testing.T) {
	f := brokenSpec()
	delete(f, "stack/people.hcl")
	var first string
	for range 10 {
		_, src, ds := Load(f.options())
		for i := 1; i < len(ds); i++ {
			if before(ds[i], ds[i-1]) {
				t.Fatalf("%v stands before %v", ds[i-1], ds[i])
			}
		}
		if out := show(src, ds); first == "" {
			first = out
		} else if out != first {
			t.Fatal("the findings differ from run to run")
		}
	}
}

// What a spec holds cannot steer the terminal.
func TestControlCharactersAreNotPrinted(t *testing.T) {
	_, src, ds := load(base + "domain \"acme.example\" {\n  mailbox \"a\" { name = upper(\"\x1b[31m\u202e\") + 1 } # \x1b]0;x\x07\n  mailbox \"b\\u001b\" {}\n}\n")
	if out := show(src, ds); !ds.HasErrors() || strings.ContainsAny(out, "\x1b\x07") {
		t.Errorf("%q", out)
	}
}

// A finding of another package, or in a file that was not read, has no snippet and no trouble.
func TestRangesThatDoNotFit(t *testing.T) {
	_, src, _ := load(base)
	for _, r := range []Range{
		{File: "none.hcl", Line: 1, Column: 1}, {File: "stack/main.hcl", Line: 999, Column: 1}, {File: "stack/main.hcl"},
		{File: "stack/main.hcl", Line: 2, Column: 500, EndLine: 2, EndCol: 600}, {File: "stack/main.hcl", Line: 2, Column: 5, EndLine: 2, EndCol: 2},
		{File: "stack/main.hcl", Line: -1, Column: -1, EndLine: -1, EndCol: -1},
	} {
		out := show(src, Diagnostics{{Severity: SeverityWarning, Code: "MF2000", Summary: "s", Subject: &r}})
		if !strings.Contains(out, "1 warning") {
			t.Errorf("%v: %q", r, out)
		}
	}
	if out := show(nil, Diagnostics{{Severity: SeverityWarning, Code: "MF2000", Summary: "s", Subject: &Range{File: "x", Line: 1}}}); out == "" {
		t.Error("nothing without sources")
	}
}
