package route

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"mailform/server/manifest"
)

func example() *manifest.Manifest {
	return &manifest.Manifest{
		Hostname: "mail.example.com",
		Domains: []manifest.Domain{{
			Name: "example.com",
			Mailboxes: []manifest.Mailbox{
				{Local: "alice", Aliases: []string{"a", "sales"}},
				{Local: "bob"},
				{Local: "c+d"},
			},
			Aliases: []manifest.Alias{
				{Local: "all", To: []string{"alice@example.com", "bob@example.com", "partner@elsewhere.example"}},
				{Local: "everyone", To: []string{"all@example.com", "Partner2@Elsewhere.example", "a@example.com"}},
				{Local: "loop1", To: []string{"loop2@example.com"}},
				{Local: "loop2", To: []string{"loop1@example.com"}},
				{Local: "mixed", To: []string{"mixed@example.com", "bob@example.com"}},
				{Local: "dangling", To: []string{"gone@example.com", "bob@example.com"}},
				{Local: "dead", To: []string{"gone@example.com"}},
				{Local: "news", To: []string{"info@other.example"}},
				{Local: "info", To: []string{"bob@example.com"}},
			},
		}, {
			Name:      "other.example",
			Mailboxes: []manifest.Mailbox{{Local: "zoe"}, {Local: "catcher"}},
			CatchAll:  "catcher",
		}, {
			Name: "empty.example",
		}},
	}
}

var exampleRetained = []manifest.Retained{{Address: "left@other.example"}, {Address: "info@example.com"}}

func TestResolve(t *testing.T) {
	table, err := New(example(), exampleRetained)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		address string
		want    string // "account tag" of each delivery, then "-> forward", or the error
	}{
		{"alice@example.com", "alice@example.com"},
		{"ALICE@Example.COM", "alice@example.com"},
		{"alice@example.com.", "alice@example.com"},
		{"sales@example.com", "alice@example.com"},
		{"alice+news@example.com", "alice@example.com news"},
		{"Alice+News+x@example.com", "alice@example.com News+x"},
		{"a+t@example.com", "alice@example.com t"},
		{"alice+@example.com", "alice@example.com"},
		{"c+d@example.com", "c+d@example.com"}, // the whole name comes first
		{"+x@example.com", "no such address"},
		{"all@example.com", "alice@example.com, bob@example.com, -> partner@elsewhere.example"},
		{"all+tag@example.com", "alice@example.com, bob@example.com, -> partner@elsewhere.example"},
		{"everyone@example.com", "alice@example.com, bob@example.com, -> partner@elsewhere.example, -> Partner2@elsewhere.example"},
		{"loop1@example.com", "no such address"},
		{"mixed@example.com", "bob@example.com"},
		{"dangling@example.com", "bob@example.com"},
		{"dead@example.com", "no such address"},
		{"nobody@example.com", "no such address"},
		{"postmaster@example.com", "alice@example.com"},
		{"ABUSE@example.com", "alice@example.com"},
		{"postmaster@mail.example.com", "alice@example.com"},
		{"alice@mail.example.com", "no such address"},
		{"postmaster@empty.example", "alice@example.com"},
		{"x@empty.example", "no such address"},
		{"anything@other.example", "catcher@other.example"},
		{"postmaster@other.example", "catcher@other.example"},
		{"zoe@other.example", "zoe@other.example"},
		{"left@other.example", "mailbox is disabled"}, // the catch-all does not take it
		{"left+x@other.example", "mailbox is disabled"},
		{"news@example.com", "catcher@other.example"},
		{"info@example.com", "bob@example.com"}, // an alias has taken the removed mailbox's name
		{"alice@elsewhere.example", "domain is not served here"},
		{"alice@[192.0.2.1]", "domain is not served here"},
		{"alice", "not a mail address"},
		{"@example.com", "not a mail address"},
		{"alice@", "not a mail address"},
		{"al ice@example.com", "not a mail address"},
		{"al\r\nice@example.com", "not a mail address"},
		{"älice@example.com", "not a mail address"},
		{"alice@example..com", "not a mail address"},
		{strings.Repeat("x", 65) + "@example.com", "not a mail address"},
	} {
		r, err := table.Resolve(tc.address)
		var got []string
		for _, d := range r.Deliveries {
			if d.Mailbox != Inbox {
				t.Errorf("%s: mailbox %q", tc.address, d.Mailbox)
			}
			got = append(got, strings.TrimSpace(d.Account+" "+d.Tag))
		}
		for _, f := range r.Forwards {
			got = append(got, "-> "+f)
		}
		if err != nil {
			got = []string{err.Error()}
		}
		if g := strings.Join(got, ", "); g != tc.want {
			t.Errorf("%s\n got %s\nwant %s", tc.address, g, tc.want)
		}
	}
}

func TestOwns(t *testing.T) {
	table, err := New(example(), exampleRetained)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		account, address string
		want             bool
	}{
		{"alice@example.com", "alice@example.com", true},
		{"alice@example.com", "Sales@example.com", true},
		{"alice@example.com", "alice+shop@example.com", true},
		{"alice@example.com", "postmaster@example.com", true},
		{"alice@example.com", "bob@example.com", false},
		{"alice@example.com", "all@example.com", false}, // others get its mail too
		{"bob@example.com", "info@example.com", true},
		{"catcher@other.example", "anything@other.example", true},
		{"zoe@other.example", "anything@other.example", false},
		{"alice@example.com", "alice@elsewhere.example", false},
		{"alice@example.com", "", false},
	} {
		if got := table.Owns(tc.account, tc.address); got != tc.want {
			t.Errorf("Owns(%s, %s) = %v", tc.account, tc.address, got)
		}
	}
}

func TestProblems(t *testing.T) {
	table, err := New(example(), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"alias dangling@example.com: gone@example.com: no such address",
		"alias dead@example.com: gone@example.com: no such address",
		"alias loop1@example.com: loop2@example.com: no such address",
		"alias loop2@example.com: loop1@example.com: no such address",
	}
	if got := table.Problems(); !slices.Equal(got, want) {
		t.Errorf("problems:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for name, change := range map[string]func(m *manifest.Manifest){
		"a catch-all without its mailbox": func(m *manifest.Manifest) { m.Domains[0].CatchAll = "ghost" },
		"a domain twice":                  func(m *manifest.Manifest) { m.Domains[1].Name = "Example.com" },
		"a mailbox twice":                 func(m *manifest.Manifest) { m.Domains[0].Mailboxes[1].Local = "Alice" },
		"a malformed target":              func(m *manifest.Manifest) { m.Domains[0].Aliases[0].To[0] = "alice" },
	} {
		m := example()
		change(m)
		if _, err := New(m, nil); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

// Random alias graphs, cycles included: an address leads to exactly the
// mailboxes and foreign addresses that can be reached from it.
func TestResolveReachesWhatCanBeReached(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const n = 8
		d := manifest.Domain{Name: "d.example"}
		edges := map[string][]string{}
		for i := range n {
			name := fmt.Sprintf("n%d", i)
			if rapid.Bool().Draw(t, "mailbox") {
				d.Mailboxes = append(d.Mailboxes, manifest.Mailbox{Local: name})
				continue
			}
			var to []string
			for range rapid.IntRange(0, 3).Draw(t, "fan-out") {
				k := rapid.IntRange(0, n+1).Draw(t, "target")
				if k >= n {
					to = append(to, fmt.Sprintf("f%d@far.example", k))
				} else {
					to = append(to, fmt.Sprintf("n%d@d.example", k))
				}
			}
			edges[name+"@d.example"] = to
			d.Aliases = append(d.Aliases, manifest.Alias{Local: name, To: to})
		}
		table, err := New(&manifest.Manifest{Hostname: "mx.example", Domains: []manifest.Domain{d}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			start := fmt.Sprintf("n%d@d.example", i)
			want, seen, todo := map[string]bool{}, map[string]bool{start: true}, []string{start}
			for len(todo) > 0 {
				at := todo[0]
				todo = todo[1:]
				if next, alias := edges[at]; alias {
					for _, a := range next {
						if !seen[a] {
							seen[a] = true
							todo = append(todo, a)
						}
					}
				} else {
					want[at] = true
				}
			}
			got := map[string]bool{}
			r, err := table.Resolve(strings.ToUpper(start[:2]) + start[2:])
			for _, x := range r.Deliveries {
				got[x.Account] = true
			}
			for _, f := range r.Forwards {
				got[f] = true
			}
			if len(got) != len(r.Deliveries)+len(r.Forwards) {
				t.Fatalf("%s: a destination is repeated: %+v", start, r)
			}
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("%s: got %v, want %v", start, got, want)
			}
			if (len(want) == 0) != errors.Is(err, ErrUnknown) {
				t.Fatalf("%s: error %v with %d destinations", start, err, len(want))
			}
		}
	})
}

func FuzzResolve(f *testing.F) {
	for _, s := range []string{"alice@example.com", "all+x@example.com", "a@b@c", "@", "+@example.com", "x@[::1]"} {
		f.Add(s)
	}
	table, err := New(example(), exampleRetained)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, address string) {
		r, err := table.Resolve(address)
		if (err == nil) != (len(r.Deliveries)+len(r.Forwards) > 0) {
			t.Fatalf("%q: %+v, %v", address, r, err)
		}
		lower, err2 := table.Resolve(strings.ToLower(address))
		if len(address) == len(strings.ToLower(address)) && (err == nil) != (err2 == nil) && !errors.Is(err, ErrSyntax) {
			t.Fatalf("%q: case decides: %v, %v", address, err, err2)
		}
		_ = lower
	})
}

// A list of everybody in a large company is resolved for each message to it.
func BenchmarkResolveList(b *testing.B) {
	d := manifest.Domain{Name: "example.com", Aliases: []manifest.Alias{{Local: "all"}}}
	for i := range 5000 {
		d.Mailboxes = append(d.Mailboxes, manifest.Mailbox{Local: fmt.Sprintf("u%d", i)})
		d.Aliases[0].To = append(d.Aliases[0].To, fmt.Sprintf("u%d@example.com", i))
	}
	table, err := New(&manifest.Manifest{Hostname: "mx.example.com", Domains: []manifest.Domain{d}}, nil)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if r, err := table.Resolve("all@example.com"); err != nil || len(r.Deliveries) != 5000 {
			b.Fatal(err)
		}
	}
}
