package plan

import (
	"bytes"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailform/plan/style"
)

var update = flag.Bool("update", false, "write the golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (go test ./plan -update writes it)\ngot:\n%s\nwant:\n%s", file, got, want)
	}
}

// samples are plans that between them show everything a renderer can show.
func samples(t testing.TB) map[string]*Plan {
	now := sampleDesired("alice", "bob")
	changed := sampleDesired("alice", "carol")
	changed = change(changed, "dns/acme.example/spf", "content", String("v=spf1 mx include:_spf.newsletter.example include:spf.crm.example include:spf.helpdesk.example ~all"))
	changed = change(changed, "host/mx1/firewall", "rules", List(
		rule("imaps", "993/993", "0.0.0.0/0"), rule("smtp", "25/25", "0.0.0.0/0"), rule("ssh", "22/22", "192.0.2.0/24"),
		rule("submissions", "465/465", "0.0.0.0/0"), rule("webmail", "443/443", "0.0.0.0/0")))
	changed = change(changed, "host/mx1/instance", "type", String("ecs.g7.xlarge"))
	changed = change(changed, "alias/postmaster@acme.example", "to", Strings("alice@acme.example", "carol@acme.example"))
	changed = change(changed, "server/mx1", "relay", Map(map[string]Value{"host": String("smtp.relay.example"), "password": Secret("another")}))
	world := drift(applied(now), "dns/acme.example/dkim/mf1-rsa", "content", String(strings.Replace(dkimTXT, "GVDVKjnUDOF", "wrongwrong1", 1)))
	for i := range world {
		if world[i].Address == "cert/mx1" {
			world[i].Due = "expires in 20 days"
		}
		if world[i].Address == "dns/acme.example/dmarc" {
			world[i].Owner = Unowned
		}
	}
	ledger := &Ledger{FormatVersion: 1, Stack: "acme-mail", Entries: map[Address]LedgerEntry{}}
	for _, o := range applied(now) {
		ledger.Entries[o.Address] = LedgerEntry{ID: o.ID, Applied: o.Attrs}
	}
	changedInput := sampleInput(changed, world)
	changedInput.Ledger = ledger

	moved := sampleInput(change(sampleDesired("alice", "bob"), "host/mx1/instance", "zone", String("cn-hongkong-c")), applied(now))
	allowed := moved
	allowed.Allow = []string{"host/mx1/instance"}
	foreignMX := applied(now)
	for i := range foreignMX {
		if foreignMX[i].Address == "dns/acme.example/mx" {
			foreignMX[i].Owner = Unowned
			foreignMX[i].Attrs["content"] = String("mx.oldhoster.example")
		}
	}
	part := changedInput
	part.Only, part.Except = []string{"cert/*", "mailbox/*"}, []string{"mailbox/carol@*"}
	destroy := sampleInput(now, applied(now))
	destroy.Destroy = true
	return map[string]*Plan{
		"first":    mustBuild(t, sampleInput(now, zoneFound())),
		"none":     mustBuild(t, sampleInput(now, applied(now))),
		"changed":  mustBuild(t, changedInput),
		"blocked":  mustBuild(t, moved),
		"replaced": mustBuild(t, allowed),
		"conflict": mustBuild(t, sampleInput(now, foreignMX)),
		"destroy":  mustBuild(t, destroy),
		"part":     mustBuild(t, part),
		"many":     mustBuild(t, sampleInput(sampleDesired(many(5000)...), applied(sampleDesired("user0000")))),
	}
}

// estimates are what is known beside some of the samples.
var estimates = map[string]Estimate{
	"first": {Duration: 95 * time.Second, Prices: []Price{
		{Address: "host/mx1/address", Monthly: 24.5, Currency: "CNY", Note: "traffic is extra"},
		{Address: "host/mx1/instance", Monthly: 1287.9, Currency: "CNY"},
	}},
	"changed":  {Prices: []Price{{Address: "host/mx1/instance", Monthly: 640, Before: 320, Currency: "CNY"}}},
	"replaced": {PriceNote: "prices unknown: 403 Forbidden.RAM"},
	"none": {Advice: []Advice{
		{Code: "port-25-closed", About: "host mx1", Title: "outbound port 25 is closed, so mail to other servers waits in the queue",
			Text: "The cloud closes it until it is asked for.\nAsk here, or send through a relay:", Links: []string{"https://vendor.example/port-25"}, Spec: "server {\n  relay {\n  }\n}\n"},
		{Code: "reverse-dns", About: "host mx2", Title: "203.0.113.7 has\x1b[31m no name", Text: "Many servers refuse mail from such an address."},
	}},
}

func markdownOf(e Estimate) func(io.Writer, *Plan) error {
	return func(w io.Writer, p *Plan) error { return RenderMarkdown(w, p, e) }
}

func jsonOf(e Estimate) func(io.Writer, *Plan) error {
	return func(w io.Writer, p *Plan) error { return RenderJSON(w, p, e, nil) }
}

func TestRenderText(t *testing.T) {
	for name, p := range samples(t) {
		for _, o := range []struct {
			suffix string
			opts   TextOptions
		}{
			{"80.txt", TextOptions{Width: 80}},
			{"200.txt", TextOptions{Width: 200}},
			{"colour.txt", TextOptions{Width: 80, Color: true}},
		} {
			var b bytes.Buffer
			o.opts.Estimate = estimates[name]
			if err := RenderText(&b, p, o.opts); err != nil {
				t.Fatal(err)
			}
			golden(t, name+"."+o.suffix, b.Bytes())
			if !o.opts.Color {
				for _, line := range strings.Split(b.String(), "\n") {
					if style.Width(line) > o.opts.Width {
						t.Errorf("%s.%s: %d columns: %q", name, o.suffix, style.Width(line), line)
					}
				}
				if strings.Contains(b.String(), "\x1b") {
					t.Errorf("%s.%s has escape sequences", name, o.suffix)
				}
			}
		}
	}
}

// Whatever there is to show fits a narrow window, but for what cannot be broken:
// addresses, and flags for a person to copy.
func TestRenderTextNarrow(t *testing.T) {
	for name, p := range samples(t) {
		var b bytes.Buffer
		if err := RenderText(&b, p, TextOptions{Width: 40, Estimate: estimates[name]}); err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(b.String(), "\n") {
			if style.Width(line) > 40 && len(strings.Fields(line)) > 2 && !strings.Contains(line, "--") {
				t.Errorf("%s: %d columns: %q", name, style.Width(line), line)
			}
		}
	}
}

func TestRenderOthers(t *testing.T) {
	for name, p := range samples(t) {
		if name == "many" {
			continue
		}
		for suffix, render := range map[string]func(io.Writer, *Plan) error{
			"json": jsonOf(estimates[name]), "md": markdownOf(estimates[name]), "dot": WriteDot, "mermaid": WriteMermaid, "graph.json": WriteGraphJSON,
		} {
			var b bytes.Buffer
			if err := render(&b, p); err != nil {
				t.Fatal(err)
			}
			golden(t, name+"."+suffix, b.Bytes())
		}
	}
}

// Text from outside cannot move the cursor, forge lines or break a table, and
// stays within the width whatever its script.
func TestRenderersAreNotFooled(t *testing.T) {
	evil := "x\x1b[2J\r\n| `y` |\u202e</table>"
	in := Input{Stack: "s", Desired: []Resource{
		{Address: Address("dns/acme.example/" + evil), Provider: "p", Kind: "record", Attrs: Attrs{evil: String(evil)}, Effect: evil},
		res("mailbox/"+Address(strings.Repeat("long", 15))+"@acme.example", "2"),
		{Address: "mailbox/zhang@acme.example", Provider: "p", Kind: "mailbox", Attrs: Attrs{"name": String(strings.Repeat("张三李四", 8))}},
	}, Observed: []Object{with(obj("mailbox/"+Address(strings.Repeat("long", 15))+"@acme.example", "1"), func(o *Object) { o.Attrs["v"] = String(strings.Repeat("王五", 60)) })}}
	p := mustBuild(t, in)
	for name, render := range map[string]func(io.Writer, *Plan) error{
		"text": func(w io.Writer, p *Plan) error { return RenderText(w, p, TextOptions{Width: 100}) },
		"md":   markdownOf(Estimate{}), "json": jsonOf(Estimate{}), "dot": WriteDot, "mermaid": WriteMermaid,
	} {
		var b bytes.Buffer
		if err := render(&b, p); err != nil {
			t.Fatal(err)
		}
		if i := strings.IndexAny(b.String(), "\x1b\r"); i >= 0 {
			t.Errorf("%s lets control characters through", name)
		}
		for _, line := range strings.Split(b.String(), "\n") {
			if name == "text" && style.Width(line) > 100 {
				t.Errorf("%d columns: %q", style.Width(line), line)
			}
			if name == "md" && strings.HasPrefix(line, "|") && strings.Count(strings.ReplaceAll(line, `\|`, ""), "|") != 5 {
				t.Errorf("not four cells: %s", line)
			}
		}
	}
}

func TestNothingToDoIsOneSentence(t *testing.T) {
	var b bytes.Buffer
	if err := RenderText(&b, &Plan{FormatVersion: 1, Stack: "s"}, TextOptions{}); err != nil {
		t.Fatal(err)
	}
	equalText(t, b.String(), "No changes. The world matches the spec.")
	b.Reset()
	if err := RenderText(&b, &Plan{FormatVersion: 1, Stack: "s", Destroy: true}, TextOptions{}); err != nil {
		t.Fatal(err)
	}
	equalText(t, b.String(), "Nothing to destroy: nothing of stack s is left.")
}
