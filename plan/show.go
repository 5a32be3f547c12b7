package plan

import (
	"io"
	"slices"
	"strings"
	"time"

	"mailform/plan/style"
)

// View is everything known about one address: what the spec wants, what was
// found, what was applied last, and what a plan would do.
type View struct {
	Change  Change
	Wanted  Attrs   // nil when the spec does not want it; outputs it needs are filled in where known
	Object  *Object // nil when nothing was found
	Applied Attrs   // from the ledger; nil when it does not remember
}

// Views returns what is known about every address of a plan, sorted by address.
func Views(in Input, p *Plan) []View {
	wanted := map[Address]bool{}
	for _, r := range in.Desired {
		wanted[r.Address] = true
	}
	objects := map[Address]*Object{}
	for i := range in.Observed {
		objects[in.Observed[i].Address] = &in.Observed[i]
	}
	views := make([]View, 0, len(p.Changes))
	for _, c := range p.Changes {
		v := View{Change: c, Object: objects[c.Address]}
		if wanted[c.Address] {
			v.Wanted = c.After
		}
		if in.Ledger != nil {
			v.Applied = in.Ledger.Entries[c.Address].Applied
		}
		views = append(views, v)
	}
	return views
}

// state says in two words how the address stands.
func (v View) state() string {
	switch {
	case v.Object == nil:
		return "missing"
	case v.Change.Action == Forget:
		return "forgotten"
	case v.Wanted == nil:
		return "not wanted"
	case v.Change.Action == NoOp:
		return "as wanted"
	case v.Change.Action == Rotate:
		return "due"
	case v.Change.Action == Adopt:
		return "as wanted, no mark"
	}
	return "differs"
}

func (v View) owner() string {
	switch {
	case v.Object == nil:
		return ""
	case v.Object.Owner == OtherStack:
		return "stack " + v.Object.OwnedBy
	}
	return v.Object.Owner.String()
}

// renews says when the object will be made anew and who chose that time: "in 12
// days, on 2026-12-04: the CA asks for it between …".
func (v View) renews(now time.Time) string {
	o := v.Object
	if o.Renews.IsZero() {
		return ""
	}
	when := "on " + o.Renews.UTC().Format(time.DateOnly)
	if o.Renews.After(now) && !now.IsZero() {
		when = "in " + Until(o.Renews.Sub(now)) + ", " + when
	}
	if o.RenewsWhy != "" {
		when += ": " + o.RenewsWhy
	}
	return when
}

// RenderViews writes a line for each address, by host and domain.
func RenderViews(w io.Writer, views []View, o TextOptions) error {
	t := newText(o)
	at := map[Address]View{}
	shown := &Plan{}
	column := 0
	for _, v := range views {
		at[v.Change.Address] = v
		c := v.Change
		c.Action = Wait // any that is grouped: here what stays as it is counts, too
		shown.Changes = append(shown.Changes, c)
		column = max(column, style.Width(style.Clean(string(c.Address))))
	}
	column = min(column, t.width/2)
	for i, g := range shown.groups() {
		if i > 0 {
			t.line(0)
		}
		t.line(0, t.sheet.Bold(style.Clean(g.Title)))
		for _, c := range g.Changes {
			v := at[c.Address]
			paint := plain
			if s := v.state(); s != "as wanted" {
				paint = t.sheet.Yellow
			}
			address := style.Elide(style.Clean(string(c.Address)), column)
			words := []string{paint(style.Pad(v.state(), 10)), style.Pad(v.owner(), 7)}
			if v.Object != nil && v.Object.ID != "" {
				words = append(words, t.sheet.Dim(style.Clean(v.Object.ID)))
			}
			if i := ignoredWords(len(v.Change.Ignored)); i != "" {
				words = append(words, t.sheet.Dim(i))
			}
			if v.Object != nil && v.Object.Renews.After(o.Now) && !o.Now.IsZero() {
				words = append(words, t.sheet.Dim("renews in "+Until(v.Object.Renews.Sub(o.Now))))
			}
			t.line(2, t.address(style.Pad(address, column)), "  ", strings.Join(words, "  "))
		}
	}
	_, err := w.Write(t.out.Bytes())
	return err
}

// RenderView writes all that is known about one address.
func RenderView(w io.Writer, v View, o TextOptions) error {
	t := newText(o)
	c := v.Change
	t.line(0, t.sheet.Bold(style.Clean(string(c.Address))), t.sheet.Dim("  "+style.Clean(c.Provider+" "+c.Kind)))
	row := func(name, text string) {
		if text != "" {
			t.line(2, t.sheet.Dim(style.Pad(name, 10)), "  ", style.Clean(text))
		}
	}
	state := v.state()
	if c.Reason != "" {
		state += ": " + c.Reason
	}
	row("state", state)
	row("owner", v.owner())
	if v.Object != nil {
		row("id", v.Object.ID)
		row("broken", v.Object.Tainted)
		row("renews", v.renews(o.Now))
	}
	if c.Blocked != nil {
		row("blocked", strings.TrimSuffix(c.Blocked.Why+"; to go ahead: "+c.Blocked.Allow, "; to go ahead: "))
	}
	var deps []string
	for _, d := range c.DependsOn {
		deps = append(deps, string(d))
	}
	row("needs", strings.Join(deps, ", "))

	var is Attrs
	if v.Object != nil {
		is = v.Object.Attrs
	}
	names := slices.Concat(v.Wanted.Names(), is.Names())
	slices.Sort(names)
	names = slices.Compact(names)
	column := 0
	for _, name := range names {
		column = max(column, style.Width(style.Clean(name)))
	}
	if len(names) > 0 {
		t.line(0)
	}
	for _, name := range names {
		label := style.Pad(style.Clean(name), column)
		found, want, applied := is[name], v.Wanted[name], v.Applied[name]
		switch {
		case v.Object == nil:
			t.line(2, label, "  ", full(name, want))
			continue
		case found.IsNull() && !want.IsNull():
			t.line(2, label, "  ", full(name, want), t.sheet.Dim("  (only used when it is made)"))
			continue
		}
		t.line(2, label, "  ", full(name, found))
		// An attribute that is not in the spec is not managed.
		if !want.IsNull() && !want.Equal(found) {
			t.line(2, style.Pad("", column), "  ", t.sheet.Yellow("the spec says "+another(name, want)))
		}
		for _, f := range c.Ignored {
			if f.Path == name || strings.HasPrefix(f.Path, name+".") || strings.HasPrefix(f.Path, name+"[") {
				t.line(2, style.Pad("", column), "  ", t.sheet.Dim(ignoredField(name, f)))
			}
		}
		if !applied.IsNull() && !applied.Equal(found) {
			t.line(2, style.Pad("", column), "  ", t.sheet.Dim("last applied "+another(name, applied)))
		}
	}
	if v.Object != nil && len(v.Object.Outputs) > 0 {
		t.line(0)
		for _, name := range v.Object.Outputs.Names() {
			t.line(2, t.sheet.Dim("output "), style.Clean(name), " = ", full(name, v.Object.Outputs[name]))
		}
	}
	_, err := w.Write(t.out.Bytes())
	return err
}

// ignoredField says what the spec gives for a field whose difference it ignores.
func ignoredField(attr string, f Field) string {
	where := ""
	if f.Path != attr {
		where = " for " + style.Clean(f.Path)
	}
	if f.After.IsNull() {
		return "ignored: the spec has nothing" + where
	}
	return "ignored: the spec says " + another(f.Path, f.After) + where
}

// full is the value of an attribute as a plan shows it, not shortened; texts are quoted.
func full(name string, v Value) string {
	switch v.kind {
	case KindInt:
		return displayAs(name, v)
	case KindList:
		parts := make([]string, len(v.list))
		for i, e := range v.list {
			parts[i] = full("", e)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case KindObject:
		var parts []string
		for _, k := range v.FieldNames() {
			parts = append(parts, style.Clean(k)+" = "+full(k, v.fields[k]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return style.Clean(v.String())
}

// another is a value beside one that it differs from, which with secrets nobody sees.
func another(name string, v Value) string {
	if v.kind == KindSecret {
		return "another one"
	}
	return full(name, v)
}

// ShowFormatVersion is the version of the document that RenderViewsJSON writes.
const ShowFormatVersion = 1

// jsonViews is the document of `mailform show --json`. Values are as in the plan's document.
type jsonViews struct {
	FormatVersion int        `json:"format_version"` // 1
	Stack         string     `json:"stack"`          // the stack's name
	Objects       []jsonView `json:"objects"`        // sorted by address
}

type jsonView struct {
	Address   Address     `json:"address"`      // identity in mail
	Provider  string      `json:"provider"`     // whose business it is
	Kind      string      `json:"kind"`         // the provider's own type
	State     string      `json:"state"`        // "as wanted", "as wanted, no mark", "differs", "due", "missing", "not wanted" or "forgotten"
	Owner     string      `json:"owner"`        // "ours", "unowned", "stack NAME"; "" when nothing was found
	ID        string      `json:"id,omitempty"` // the vendor's id
	Action    Action      `json:"action"`       // what a plan would do
	Reason    string      `json:"reason"`       // why, for people
	Wanted    publicAttrs `json:"wanted"`       // null when the spec does not want it
	Observed  publicAttrs `json:"observed"`     // null when nothing was found
	Ignored   []jsonField `json:"ignored"`      // differences that the spec ignores: after is what it would give
	Applied   publicAttrs `json:"applied"`      // null when the ledger does not remember
	Outputs   publicAttrs `json:"outputs"`      // what others may refer to
	Renews    *time.Time  `json:"renews"`       // when it is made anew, RFC 3339 in UTC; null when never
	DependsOn []Address   `json:"depends_on"`   // what it needs
}

// RenderViewsJSON writes views as a document for other programs; values are as in jsonPlan.
func RenderViewsJSON(w io.Writer, stack string, views []View) error {
	doc := jsonViews{ShowFormatVersion, stack, []jsonView{}}
	for _, v := range views {
		j := jsonView{Address: v.Change.Address, Provider: v.Change.Provider, Kind: v.Change.Kind, State: v.state(), Owner: v.owner(),
			Action: v.Change.Action, Reason: v.Change.Reason, Wanted: publicAttrs(v.Wanted), Applied: publicAttrs(v.Applied),
			Ignored: jsonFields(v.Change.Ignored), DependsOn: list(v.Change.DependsOn)}
		if v.Object != nil {
			j.ID, j.Observed, j.Outputs = v.Object.ID, publicAttrs(v.Object.Attrs), publicAttrs(v.Object.Outputs)
			if at := v.Object.Renews.UTC(); !v.Object.Renews.IsZero() {
				j.Renews = &at
			}
		}
		doc.Objects = append(doc.Objects, j)
	}
	return writeJSON(w, doc)
}
