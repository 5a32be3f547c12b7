package plan

import (
	"bytes"
	"strings"
	"testing"
)

// What show says of one address has durations as a spec has them, however deep.
func TestShowWritesDurations(t *testing.T) {
	attrs := Attrs{"every_seconds": Int(3600), "retention": Map(map[string]Value{"trash": Map(map[string]Value{"after_seconds": Int(30 * 86400), "mailbox": String("Trash")})}),
		"rules": List(Map(map[string]Value{"keep_seconds": Int(7 * 86400)}))}
	other := Attrs{"retention": Map(map[string]Value{"trash": Map(map[string]Value{"after_seconds": Int(36 * 3600)})})}
	var b strings.Builder
	v := View{Change: Change{Address: "host/mx1/server"}, Wanted: other, Object: &Object{Address: "host/mx1/server", Attrs: attrs}}
	if err := RenderView(&b, v, TextOptions{Width: 120}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"every_seconds  1h", `{trash = {after_seconds = 30d, mailbox = "Trash"}}`, "[{keep_seconds = 7d}]", "the spec says {trash = {after_seconds = 36h}}"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, &b)
		}
	}
}

// Durations stand in plans as they do in specs, where their attribute's name says that
// it counts seconds; other numbers stay numbers.
func TestDurationsAsInSpecs(t *testing.T) {
	rule := func(after int64) Value {
		return Map(map[string]Value{"trash": Map(map[string]Value{"mailbox": String("Trash"), "after_seconds": Int(after)})})
	}
	for n, want := range map[int64]string{0: "0s", 45: "45s", 60: "1m", 5400: "90m", 7200: "2h", 30 * 86400: "30d", 86401: "86401s"} {
		if got := duration(n); got != want {
			t.Errorf("%d seconds: %q, expected %q", n, got, want)
		}
	}
	p := &Plan{Changes: []Change{
		{Address: "host/mx1/server", Action: Create, After: Attrs{"retention": rule(30 * 86400), "every_seconds": Int(3600), "messages": Int(2592000)}},
		{Address: "host/mx2/server", Action: Update, Fields: []Field{
			{Path: "retention.trash.after_seconds", Before: Int(30 * 86400), After: Int(36 * 3600)},
			{Path: "backup", After: Map(map[string]Value{"keep_seconds": Int(7 * 86400)})},
		}},
	}}
	var text, page bytes.Buffer
	if err := RenderText(&text, p, TextOptions{Width: 120}); err != nil {
		t.Fatal(err)
	}
	if err := RenderMarkdown(&page, p, Estimate{}); err != nil {
		t.Fatal(err)
	}
	for what, out := range map[string]string{"text": text.String(), "markdown": strings.ReplaceAll(page.String(), `\_`, "_")} {
		for _, want := range []string{"after_seconds 30d", "every_seconds", "1h", "messages", "2592000", "30d", "36h", "keep_seconds 7d"} {
			if !strings.Contains(out, want) {
				t.Errorf("%s does not say %q:\n%s", what, want, out)
			}
		}
		if strings.Contains(out, "after_seconds 2592000") {
			t.Errorf("%s counts seconds:\n%s", what, out)
		}
	}
}
