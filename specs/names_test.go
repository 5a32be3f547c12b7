package specs

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2"
	"pgregory.net/rapid"
)

func TestNormalizeDomain(t *testing.T) {
	for in, want := range map[string]string{
		"Acme.Example": "acme.example", "acme.example.": "acme.example", "_dmarc.Acme.example": "_dmarc.acme.example",
		"Bücher.example": "xn--bcher-kva.example", "例子。测试": "xn--fsqu00a.xn--0zwm56d", "XN--BCHER-KVA.example": "xn--bcher-kva.example",
		" acme.example ": "acme.example", "ａｃｍｅ.example": "acme.example",
	} {
		if got, err := NormalizeDomain(in); err != nil || got != want {
			t.Errorf("NormalizeDomain(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"", ".", "..", "a..b", ".a", "a b", "-a.example", "a-.example", "xn--a.example", "a/b", strings.Repeat("a", 64), strings.Repeat("a.", 130) + "a", "é\u0301\u200d.x", "*.acme.example"} {
		if got, err := NormalizeDomain(in); err == nil {
			t.Errorf("NormalizeDomain(%q) = %q, want an error", in, got)
		}
	}
}

// Normal forms are normal: doing it again changes nothing.
func TestNormalFormsAreStable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(rapid.String(), rapid.StringMatching(`[A-Za-z0-9ü例。.+_@'-]{1,40}`)).Draw(t, "s")
		for name, f := range map[string]func(string) (string, error){"domain": NormalizeDomain, "mail domain": mailDomain, "local": ownLocal, "email": emailAddress} {
			once, err := f(s)
			if err != nil {
				continue
			}
			if twice, err := f(once); err != nil || twice != once {
				t.Fatalf("%s: %q became %q, then %q, %v", name, s, once, twice, err)
			}
		}
	})
}

func TestSizes(t *testing.T) {
	for in, want := range map[string]int64{"0": 0, "10": 10, "10GiB": 10 << 30, "500MB": 500e6, "1.5 GiB": 3 << 29, "2tib": 2 << 40, "1KB": 1000, "7B": 7} {
		if got, err := parseSize(in); err != nil || got != want {
			t.Errorf("parseSize(%q) = %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "-1", "GiB", "1.3B", "9EiB", "99999999TiB", "1e3", "10 G iB", "0x10"} {
		if got, err := parseSize(in); err == nil {
			t.Errorf("parseSize(%q) = %d, want an error", in, got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Min(0).Draw(t, "n")
		if got, err := parseSize(formatSize(n)); err != nil || got != n {
			t.Fatalf("%d is written %q and read %d, %v", n, formatSize(n), got, err)
		}
	})
}

func TestDurations(t *testing.T) {
	for in, want := range map[string]time.Duration{"30d": 720 * time.Hour, "12h": 12 * time.Hour, "1w2d3h4m5s": 219*time.Hour + 4*time.Minute + 5*time.Second, "90m": 90 * time.Minute} {
		if got, err := parseDuration(in); err != nil || got != want {
			t.Errorf("parseDuration(%q) = %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "30", "1.5h", "2h1d", "-1d", "99999w99999d", "999999999999s"} {
		if got, err := parseDuration(in); err == nil && (got < 0 || in == "" || in == "30" || in == "1.5h" || in == "2h1d" || in == "-1d") {
			t.Errorf("parseDuration(%q) = %v, want an error", in, got)
		}
	}
}

func TestPHC(t *testing.T) {
	if err := checkPHC(goodHash); err != nil {
		t.Error(err)
	}
	for _, in := range []string{
		"", "hunter2", "$2y$05$x", strings.Replace(goodHash, "argon2id", "argon2i", 1), strings.Replace(goodHash, "v=19", "v=16", 1),
		strings.Replace(goodHash, "m=19456", "m=4", 1), strings.Replace(goodHash, "t=2", "t=0", 1), strings.Replace(goodHash, "p=1", "p=-1", 1),
		strings.Replace(goodHash, "p=1", "p=1,x=2", 1), goodHash + "=", goodHash + "$x", strings.Replace(goodHash, "c2FsdHNhbHRzYWx0c2FsdA", "c2E", 1),
	} {
		if err := checkPHC(in); err == nil {
			t.Errorf("accepted %q", in)
		}
	}
}

func TestSpell(t *testing.T) {
	words := []string{"mailbox", "alias", "catch_all", "mx", "spf", "dkim", "dmarc"}
	for in, want := range map[string]string{"mailbx": "mailbox", "Mailbox": "mailbox", "aliass": "alias", "catchall": "catch_all", "mxx": "mx", "dikm": "dkim", "xyz": "", "backup": "", "mx": ""} {
		if got := spell(in, words); got != want {
			t.Errorf("spell(%q) = %q, want %q", in, got, want)
		}
	}
}

// Every default in the schema is a value its own attribute accepts, and every
// block and attribute is documented.
func TestSchemaIsSound(t *testing.T) {
	var walk func(path string, b *blockSchema)
	walk = func(path string, b *blockSchema) {
		if b.Doc == "" {
			t.Errorf("%s has no doc", path)
		}
		for i := range b.Attrs {
			a := &b.Attrs[i]
			at := path + "." + a.Name
			if a.Doc == "" {
				t.Errorf("%s has no doc", at)
			}
			if a.Required && a.Example == "" && a.Kind != kindExpr {
				t.Errorf("%s is required and has no example", at)
			}
			if a.Kind == kindExpr {
				continue
			}
			n := (&blockSchema{Attrs: []attrSchema{*a}}).defaults(hcl.Range{})
			v := n.values[a.Name]
			if a.List {
				for _, it := range v.items {
					if it.v == nil {
						t.Errorf("%s: the default has an element that does not parse", at)
					}
				}
			} else if v.v == nil && quoteIfText(a.Default) != "" {
				t.Errorf("%s: the default does not parse", at)
			}
		}
		for _, c := range append(append([]*blockSchema{}, b.Blocks...), b.Variants...) {
			walk(path+"/"+c.Name, c)
		}
	}
	walk("", rootSchema())
}

func TestReference(t *testing.T) {
	all, ok := Reference("")
	if !ok {
		t.Fatal("no reference")
	}
	golden(t, "reference.txt", all)
	for _, line := range strings.Split(all, "\n") {
		if len([]rune(line)) > 80 && !strings.Contains(line, "condition") && !strings.Contains(line, " = ") {
			t.Errorf("long line: %q", line)
		}
	}
	for _, topic := range Topics() {
		doc, ok := Reference(topic)
		if !ok || doc == "" {
			t.Errorf("no %s", topic)
		}
	}
	if doc, ok := Reference("relay"); !ok || !strings.Contains(doc, "smarthost") {
		t.Errorf("relay: %q", doc)
	}
	if _, ok := Reference("nothing"); ok {
		t.Error("a reference of nothing")
	}
}

// The examples in the documentation are right, as far as they go: what only the
// blocks around them could give may be missing.
func TestSchemaExamplesLoad(t *testing.T) {
	excused := map[string]bool{codeMissingAttribute: true, codeMissingBlock: true, codeMissingVariable: true}
	labels := map[string]string{"host": ` "mx1"`, "domain": ` "acme.example"`, "zone": ` "acme.example"`}
	var walk func(parents []string, b *blockSchema)
	walk = func(parents []string, b *blockSchema) {
		text := b.Example
		for i := len(parents) - 1; i >= 0; i-- {
			text = fmt.Sprintf("%s {\n%s\n}\n", parents[i], text)
		}
		_, src, ds := Load(files{"stack/main.hcl": text, "stack/people.csv": "a\nb\n", "stack/v.hcl": "variable \"relay_password\" { sensitive = true }\nvariable \"backup_key\" { sensitive = true }\n"}.options())
		for _, d := range ds {
			if d.Code < codeDuplicateHost && !excused[d.Code] {
				t.Errorf("the example of %s:\n%s", b.Name, show(src, ds))
				break
			}
		}
		for _, c := range b.Blocks {
			walk(append(append([]string{}, parents...), b.Name+labels[b.Name]), c)
		}
	}
	for _, b := range rootSchema().Blocks {
		if b.Name == "variable" || b.Name == "provider" {
			b.Blocks = nil
		}
		walk(nil, b)
	}
}

// REFERENCE.md is what the schema says, and says all of what mailform docs does.
func TestReferencePage(t *testing.T) {
	page := ReferenceMarkdown()
	goldenFile(t, "../REFERENCE.md", page)
	for _, topic := range Topics() {
		if !strings.Contains(page, "# "+topic+"\n") || !strings.Contains(page, "](#"+anchor(topic)+")") {
			t.Errorf("the page lacks %s, or a link to it", topic)
		}
	}
	plain := func(s string) string {
		return strings.Join(strings.Fields(strings.NewReplacer(`\`, "", "`", "").Replace(s)), " ")
	}
	all := plain(page)
	var walk func(b *blockSchema)
	walk = func(b *blockSchema) {
		for _, a := range b.Attrs {
			if says := plain(a.Name + " = " + a.typeText() + " " + a.Doc + " " + strings.Join(a.facts(), " ")); !strings.Contains(all, says) {
				t.Errorf("the page does not say: %s", says)
			}
		}
		for _, c := range b.children() {
			walk(c)
		}
	}
	walk(rootSchema())
}
