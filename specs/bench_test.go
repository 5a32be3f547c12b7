package specs

import (
	"fmt"
	"strings"
	"testing"
)

// crowd is a spec whose mailboxes come from a CSV of n people.
func crowd(n int) files {
	var csv strings.Builder
	csv.WriteString("login,name,quota,hash\n")
	for i := range n {
		fmt.Fprintf(&csv, "user%05d,Person Number %d,%dGiB,\"%s\"\n", i, i, 1+i%20, goodHash)
	}
	return files{"stack/people.csv": csv.String(), "stack/main.hcl": base + `
locals { people = csvdecode(file("people.csv")) }
domain "acme.example" {
  dynamic "mailbox" {
    for_each = local.people
    labels   = [mailbox.value.login]
    content {
      name          = mailbox.value.name
      quota         = mailbox.value.quota
      password_hash = mailbox.value.hash
      aliases       = ["a.${mailbox.value.login}", lower("B.${mailbox.value.login}")]
    }
  }
  alias "everyone" { to = local.people[*].login }
}
`}
}

func BenchmarkLoad(b *testing.B) {
	literal := func(n int) files {
		var t strings.Builder
		t.WriteString(base + "domain \"acme.example\" {\n")
		for i := range n {
			fmt.Fprintf(&t, "  mailbox \"user%05d\" {\n    name  = \"Person %d\"\n    quota = \"5GiB\"\n  }\n", i, i)
		}
		return files{"stack/main.hcl": t.String() + "}\n"}
	}
	for name, f := range map[string]files{"csv-5000": crowd(5000), "csv-500": crowd(500), "literal-5000": literal(5000), "small": literal(2)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if s, src, ds := Load(f.options()); s == nil {
					b.Fatal(show(src, ds))
				}
			}
		})
	}
}

func TestFiveThousandMailboxes(t *testing.T) {
	s, src, ds := Load(crowd(5000).options())
	if s == nil {
		t.Fatal(show(src, ds))
	}
	d := s.Domains[0]
	if len(d.Mailboxes) != 5000 || d.Mailboxes[4999].Local != "user04999" || d.Mailboxes[4999].Aliases[1] != "b.user04999" {
		t.Errorf("%d mailboxes, the last %+v", len(d.Mailboxes), d.Mailboxes[len(d.Mailboxes)-1])
	}
	if got, ok := s.Secret(Fingerprint(goodHash)); !ok || got != goodHash {
		t.Error("the hash is not kept")
	}
}
