package plan

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"mailform/plan/style"
)

// Cause says who made a difference, as far as the ledger knows.
type Cause string

// The causes.
const (
	CauseUnknown Cause = "unknown" // no ledger here remembers what was applied
	CauseWorld   Cause = "world"   // changed outside mailform since the last apply
	CauseSpec    Cause = "spec"    // the spec changed and was not applied yet
	CauseBoth    Cause = "both"
	CauseFollows Cause = "follows" // only differs because something else does
)

// causeOf reads the cause off a change's reason, which is made of the ledger.
func causeOf(c Change) Cause {
	first, _, _ := strings.Cut(c.Reason, "; ")
	switch {
	case first == reasonDrift, first == reasonRemoved:
		return CauseWorld
	case first == reasonSpec, first == reasonUnwanted, first == reasonForgotten:
		return CauseSpec
	case first == reasonConflict:
		return CauseBoth
	case strings.HasSuffix(first, " is replaced"), strings.HasSuffix(first, " is created"):
		return CauseFollows
	}
	return CauseUnknown
}

// Drift is how the world differs from the spec: a plan to be read, not applied.
type Drift struct {
	Stack       string
	Differences []Change // sorted by address
	Due         []Change // renewals whose time has come; no difference to the spec
	Ignored     int      // differences that the spec or a flag told to ignore, fields and objects
	Foreign     []Foreign
}

// FindDrift takes the differences out of a plan. What Input.Ignore and
// Input.Overlook name is no difference there already.
func FindDrift(p *Plan) Drift {
	d := Drift{Stack: p.Stack, Foreign: p.Foreign, Ignored: p.Summary().Ignored}
	for _, c := range p.Changes {
		switch c.Action {
		case NoOp, Wait:
		case Rotate:
			d.Due = append(d.Due, c)
		default:
			c.Blocked = nil // nothing is about to be done here that could be
			d.Differences = append(d.Differences, c)
		}
	}
	return d
}

// words sums a drift up: "2 changed outside mailform", "1 changed in the spec and not applied".
func (d Drift) words() []string {
	count := map[Cause]int{}
	for _, c := range d.Differences {
		count[causeOf(c)]++
	}
	var out []string
	for _, w := range []struct {
		cause Cause
		what  string
	}{
		{CauseWorld, "changed outside mailform"}, {CauseBoth, "changed outside mailform and in the spec"},
		{CauseSpec, "changed in the spec and not applied"}, {CauseFollows, "following from others"},
		{CauseUnknown, "of unknown cause"},
	} {
		if n := count[w.cause]; n > 0 {
			out = append(out, thousands(n)+" "+w.what)
		}
	}
	if d.Ignored > 0 {
		out = append(out, thousands(d.Ignored)+" ignored")
	}
	for _, c := range d.Due {
		out = append(out, string(c.Address)+" "+c.Reason)
	}
	if f := foreignWords(d.Foreign); f != "" {
		out = append(out, f)
	}
	return out
}

func (d Drift) headline() string {
	switch n := len(d.Differences); n {
	case 0:
		return "No drift."
	case 1:
		return "Drift in stack " + style.Clean(d.Stack) + ": 1 difference"
	default:
		return "Drift in stack " + style.Clean(d.Stack) + ": " + thousands(n) + " differences"
	}
}

// RenderDriftText writes a drift for people. A field reads from what is to what
// the spec says.
func RenderDriftText(w io.Writer, d Drift, o TextOptions) error {
	t := newText(o)
	t.line(0, t.sheet.Bold(d.headline()))
	for _, g := range (&Plan{Changes: d.Differences}).groups() {
		t.line(0)
		t.line(0, t.sheet.Bold(style.Clean(g.Title)))
		t.group(g)
	}
	if len(d.Differences) > 0 {
		t.line(0)
	}
	var words []word
	for _, s := range d.words() {
		words = append(words, word{style.Clean(s), plain})
	}
	for _, line := range t.wrap(words, " · ", t.width) {
		t.line(0, line)
	}
	_, err := w.Write(t.out.Bytes())
	return err
}

// RenderDriftMarkdown writes a drift as GitHub-flavoured Markdown, for an issue
// or the summary of a CI job.
func RenderDriftMarkdown(w io.Writer, d Drift) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "### mailform drift of stack %s\n\n**%s**\n", code(d.Stack), prose(strings.TrimSuffix(d.headline(), ".")))
	for _, s := range d.words() {
		fmt.Fprintf(&b, "- %s\n", prose(s))
	}
	if len(d.Differences) > 0 {
		b.WriteString("\n| Address | Is → the spec says | Why |\n|---|---|---|\n")
	}
	for _, c := range d.Differences {
		what := markdownWhat(c)
		switch c.Action {
		case Create:
			what = "is not there"
		case Delete:
			what = "should not be there"
		case Forget:
			what = "still carries our mark"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", code(string(c.Address)), what, prose(c.Reason))
	}
	_, err := w.Write(b.Bytes())
	return err
}

// DriftFormatVersion is the version of the document that RenderDriftJSON writes.
const DriftFormatVersion = 1

// jsonDrift is the document of `mailform drift --json`. Values are as in the plan's document.
type jsonDrift struct {
	FormatVersion int              `json:"format_version"` // 1
	Stack         string           `json:"stack"`          // the stack's name
	Drift         bool             `json:"drift"`          // whether there is any difference
	Differences   []jsonDifference `json:"differences"`    // sorted by address
	Due           []jsonDue        `json:"due"`            // renewals whose time has come; no drift
	Ignored       int              `json:"ignored"`        // differences that the spec or --ignore ignores
	Foreign       []Foreign        `json:"foreign"`        // seen and left alone, by scope
}

type jsonDifference struct {
	Address  Address          `json:"address"`      // identity in mail
	Provider string           `json:"provider"`     // whose business it is
	Kind     string           `json:"kind"`         // the provider's own type
	Action   Action           `json:"action"`       // what an apply would do about it
	ID       string           `json:"id,omitempty"` // the vendor's id
	Cause    Cause            `json:"cause"`        // who made the difference, as far as the ledger knows
	Reason   string           `json:"reason"`       // the same, for people
	Fields   []jsonDriftField `json:"fields"`       // none when it is not there, or should not be
}

type jsonDriftField struct {
	Path   string      `json:"path"`   // as in the plan's document
	Is     publicValue `json:"is"`     // observed
	Wanted publicValue `json:"wanted"` // what the spec says
}

type jsonDue struct {
	Address Address `json:"address"` // of what is to be renewed
	Reason  string  `json:"reason"`  // why now
}

// RenderDriftJSON writes a drift as a document for other programs.
func RenderDriftJSON(w io.Writer, d Drift) error {
	doc := jsonDrift{FormatVersion: DriftFormatVersion, Stack: d.Stack, Drift: len(d.Differences) > 0,
		Differences: []jsonDifference{}, Due: []jsonDue{}, Ignored: d.Ignored, Foreign: list(d.Foreign)}
	for _, c := range d.Differences {
		fields := []jsonDriftField{}
		for _, f := range c.Fields {
			fields = append(fields, jsonDriftField{f.Path, publicValue{f.Before}, publicValue{f.After}})
		}
		doc.Differences = append(doc.Differences, jsonDifference{c.Address, c.Provider, c.Kind, c.Action, c.ID, causeOf(c), c.Reason, fields})
	}
	for _, c := range d.Due {
		doc.Due = append(doc.Due, jsonDue{c.Address, c.Reason})
	}
	return writeJSON(w, doc)
}
