package plan

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"mailform/plan/style"
)

// TextOptions say how a plan is shown in a terminal.
type TextOptions struct {
	Width int  // columns; 0 means 80, less than 40 is taken as 40
	Color bool // ANSI colours
	Fold  int  // how many of many similar changes to show: 0 means 10, less shows all

	Now      time.Time // for how long it is until something is renewed; zero leaves that out
	Estimate Estimate
}

// RenderText writes the plan for people: what happens to what, why, at what
// risk, and what to do about what is blocked. What stays as it is is not shown.
func RenderText(w io.Writer, p *Plan, o TextOptions) error {
	t := newText(o)
	t.plan(p)
	if len(o.Estimate.Advice) > 0 {
		t.line(0)
		t.advice(o.Estimate.Advice)
	}
	_, err := w.Write(t.out.Bytes())
	return err
}

func newText(o TextOptions) *text {
	if o.Width == 0 {
		o.Width = 80
	}
	if o.Fold == 0 {
		o.Fold = 10
	}
	return &text{sheet: style.New(o.Color), width: max(o.Width, 40), fold: o.Fold, estimate: o.Estimate}
}

// text lays a plan out line by line.
type text struct {
	out   bytes.Buffer
	sheet style.Sheet
	width int
	fold  int

	estimate Estimate
}

// word is a piece of plain text and the style it gets once it is measured.
type word struct {
	text  string
	style func(string) string
}

func plain(s string) string { return s }

func (t *text) line(indent int, parts ...string) {
	s := strings.TrimRight(strings.Join(parts, ""), " ")
	if s != "" {
		t.out.WriteString(strings.Repeat(" ", indent))
		t.out.WriteString(s)
	}
	t.out.WriteByte('\n')
}

func (t *text) plan(p *Plan) {
	sum := p.Summary()
	if !p.HasChanges() && !p.HasBlocked() && sum.Wait == 0 {
		t.line(0, t.sheet.Bold(nothingToDo(p, sum)))
		for _, s := range []string{leftOutWords(p, sum), ignoredWords(sum.Ignored), foreignWords(p.Foreign)} {
			if s != "" {
				t.line(0, t.sheet.Dim(s))
			}
		}
		t.upcoming(p)
		return
	}
	title := "Plan for stack " + style.Clean(p.Stack)
	if p.Destroy {
		title = "Plan to destroy stack " + style.Clean(p.Stack)
	}
	t.line(0, t.sheet.Bold(title))
	for _, line := range t.wrap(t.legend(p), "   ", t.width) {
		t.line(0, line)
	}
	for _, g := range p.groups() {
		t.line(0)
		t.line(0, t.sheet.Bold(style.Clean(g.Title)))
		t.group(g)
	}
	t.line(0)
	for _, line := range t.wrap(summaryWords(p, sum, t.estimate, t.sheet), " · ", t.width) {
		t.line(0, line)
	}
	t.upcoming(p)
}

// upcoming says what will be renewed when nobody does anything.
func (t *text) upcoming(p *Plan) {
	if p.Destroy {
		return
	}
	for _, s := range t.estimate.upcomingWords() {
		t.line(0, t.sheet.Dim(s))
	}
}

// nothingToDo is a plan without changes in a sentence or two.
func nothingToDo(p *Plan, s Summary) string {
	switch {
	case s.LeftOut > 0:
		return "No changes in what was asked for."
	case p.Destroy:
		return "Nothing to destroy: nothing of stack " + style.Clean(p.Stack) + " is left."
	}
	return "No changes. The world matches the spec."
}

// leftOutWords says how much of the plan was put off: "3 changes left out by --only cert/*".
func leftOutWords(p *Plan, s Summary) string {
	if s.LeftOut == 0 || p.Asked == nil {
		return ""
	}
	var flags []string
	for _, glob := range p.Asked.Only {
		flags = append(flags, lift("only", Address(glob)))
	}
	for _, glob := range p.Asked.Except {
		flags = append(flags, lift("except", Address(glob)))
	}
	const shown = 3
	if len(flags) > shown {
		flags = append(flags[:shown], "…")
	}
	what := " changes left out"
	if s.LeftOut == 1 {
		what = " change left out"
	}
	words := thousands(s.LeftOut) + what
	if len(flags) > 0 {
		words += " by " + style.Clean(strings.Join(flags, " "))
	}
	return words
}

func (t *text) legend(p *Plan) []word {
	var parts []word
	for _, a := range []Action{Create, Update, Replace, Rotate, Adopt, Wait, Forget, Delete} {
		if slices.ContainsFunc(p.Changes, func(c Change) bool { return c.Action == a }) {
			parts = append(parts, word{a.Glyph() + " " + verb(a), t.sheet.Dim})
		}
	}
	return parts
}

func (t *text) group(g group) {
	folds := foldRuns(g.Changes, t.fold)
	column := 0
	for _, f := range folds {
		for _, c := range f.Shown {
			column = max(column, style.Width(style.Clean(string(c.Address))))
		}
	}
	column = min(column, t.width*45/100)
	for _, f := range folds {
		for _, c := range f.Shown {
			t.change(c, column)
		}
		if f.Hidden > 0 {
			t.line(4, t.sheet.Dim(f.hidden()))
		}
	}
}

// change shows one change: its address and beside it, in a column of its own,
// why, at what risk, what is created and what that means for mail; below it the
// fields that differ.
func (t *text) change(c Change, column int) {
	address := style.Clean(string(c.Address))
	indent := 4 + column + 2
	words := t.notes(c)
	if price, ok := t.estimate.price(c.Address); ok {
		words = append(words, word{price.words(), plain})
	}
	var items []string
	if c.Action == Create {
		var attrs []word
		attrs, items = t.wanted(c.After)
		words = append(words, attrs...)
	}
	notes := t.wrap(words, " · ", t.width-indent)
	if c.Effect != "" && c.Blocked == nil {
		notes = append(notes, t.effect(c.Effect, t.width-indent)...)
	}

	head := "  " + t.paint(c)(c.Action.Glyph()) + " " + t.address(address)
	if used := style.Width(address); used <= column && len(notes) > 0 {
		head += strings.Repeat(" ", column+2-used) + notes[0]
		notes = notes[1:]
	}
	t.line(0, head)
	for _, n := range notes {
		t.line(indent, n)
	}
	for _, item := range items {
		t.line(6, item)
	}
	t.fields(c.Fields)
	if c.Blocked != nil {
		t.blocked(*c.Blocked)
	}
}

// blocked says what would let a blocked change go ahead and why it does not.
func (t *text) blocked(b Block) {
	const indent = 6
	mark, styled := "blocked:", t.sheet.Red("blocked:")
	if b.Allow != "" {
		flag := style.Clean(b.Allow)
		mark = "blocked unless " + flag + ":"
		styled = t.sheet.Red("blocked unless ") + t.sheet.Bold(flag) + t.sheet.Red(":")
	}
	words := append([]string{mark}, strings.Fields(style.Clean(b.Why))...)
	for i, line := range style.Wrap(words, " ", t.width-indent-2) {
		if i > 0 {
			t.line(indent+2, t.sheet.Red(strings.Join(line, " ")))
			continue
		}
		t.line(indent, styled, " ", t.sheet.Red(strings.Join(line[1:], " ")))
	}
}

// paint is the colour of a change's glyph.
func (t *text) paint(c Change) func(string) string {
	switch {
	case c.Blocked != nil, c.Action == Delete, c.Risk == RiskLosesData:
		return t.sheet.Red
	case c.Action == Create, c.Action == Adopt:
		return t.sheet.Green
	}
	return t.sheet.Yellow
}

// address sets the last part of an address off from where it belongs.
func (t *text) address(a string) string {
	i := strings.LastIndexByte(a, '/') + 1
	if strings.HasPrefix(a, "mailbox/") || strings.HasPrefix(a, "alias/") {
		i = strings.IndexByte(a, '/') + 1 // a local part may hold "/"
	}
	return t.sheet.Dim(a[:i]) + t.sheet.Bold(a[i:])
}

// notes are a change's reason and risk. That something is created because it is
// not there, or deleted because all is, goes without saying.
func (t *text) notes(c Change) []word {
	var notes []word
	if c.Reason != "" && c.Reason != reasonMissing && c.Reason != reasonDestroyed {
		for _, r := range strings.Split(c.Reason, "; ") {
			notes = append(notes, word{style.Clean(r), plain})
		}
	}
	switch c.Risk {
	case RiskInterrupts:
		notes = append(notes, word{string(c.Risk), t.sheet.Yellow})
	case RiskLosesData:
		notes = append(notes, word{string(c.Risk), t.sheet.Red})
	}
	return notes
}

// wrap joins styled words with sep into lines of at most w columns. A word that
// is wider is broken at its spaces.
func (t *text) wrap(words []word, sep string, w int) []string {
	var pieces []word
	var texts []string
	for _, whole := range words {
		parts := []string{whole.text}
		if style.Width(whole.text) > w {
			parts = breakText(whole.text, w)
		}
		for _, s := range parts {
			pieces = append(pieces, word{s, whole.style})
			texts = append(texts, s)
		}
	}
	var lines []string
	n := 0
	for _, line := range style.Wrap(texts, sep, w) {
		styled := make([]string, len(line))
		for i := range line {
			styled[i] = pieces[n].style(pieces[n].text)
			n++
		}
		lines = append(lines, strings.Join(styled, t.sheet.Dim(sep)))
	}
	return lines
}

// effect says what a change means for mail, wrapped under its own beginning.
func (t *text) effect(s string, w int) []string {
	var lines []string
	mark := t.sheet.Dim("↳ ")
	for _, line := range style.Wrap(strings.Fields(style.Clean(s)), " ", w-2) {
		lines = append(lines, mark+strings.Join(line, " "))
		mark = "  "
	}
	return lines
}

// summaryWords is the plan in one line.
func summaryWords(p *Plan, s Summary, e Estimate, sheet style.Sheet) []word {
	counts := []string{
		thousands(s.Create) + " to create", thousands(s.Update) + " to change",
	}
	for _, extra := range []struct {
		n    int
		what string
	}{{s.Replace, "replace"}, {s.Rotate, "rotate"}, {s.Adopt, "adopt"}, {s.Wait, "wait for"}, {s.Forget, "forget"}} {
		if extra.n > 0 {
			counts = append(counts, thousands(extra.n)+" to "+extra.what)
		}
	}
	counts = append(counts, thousands(s.Delete)+" to delete")
	words := []word{{"Plan: " + strings.Join(counts, ", "), sheet.Bold}}
	if s.Blocked > 0 {
		words = append(words, word{thousands(s.Blocked) + " blocked", sheet.Red})
	}
	if l := leftOutWords(p, s); l != "" {
		words = append(words, word{l, plain})
	}
	if i := ignoredWords(s.Ignored); i != "" {
		words = append(words, word{i, plain})
	}
	if f := foreignWords(p.Foreign); f != "" {
		words = append(words, word{f, plain})
	}
	if cost := e.costWords(); cost != "" {
		words = append(words, word{cost, plain})
	}
	if d := about(e.seconds(p)); d != "" {
		words = append(words, word{d, plain})
	}
	return words
}

// ignoredWords says how many differences the spec ignores.
func ignoredWords(n int) string {
	switch n {
	case 0:
		return ""
	case 1:
		return "1 difference ignored"
	}
	return thousands(n) + " differences ignored"
}

// foreignWords says what was seen and left alone: "35 foreign records and 2
// foreign rules left alone".
func foreignWords(foreign []Foreign) string {
	count := map[string]int{}
	for _, f := range foreign {
		one := "object"
		switch scope, _, _ := strings.Cut(f.Scope, " "); scope {
		case "zone":
			one = "record"
		case "security":
			one = "rule"
		}
		count[one] += f.Count
	}
	var parts []string
	for _, one := range []string{"record", "rule", "object"} {
		switch n := count[one]; {
		case n == 1:
			parts = append(parts, "1 foreign "+one)
		case n > 1:
			parts = append(parts, thousands(n)+" foreign "+one+"s")
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return strings.Join(parts, " and ") + " left alone"
}

// about is a duration as far as an estimate can be trusted.
func about(seconds int) string {
	switch {
	case seconds <= 0:
		return ""
	case seconds < 10:
		return "a few seconds"
	case seconds < 90:
		return fmt.Sprintf("about %d s", (seconds+4)/5*5)
	}
	return fmt.Sprintf("about %d min", (seconds+30)/60)
}

// thousands writes a count as people read it: 4,990.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
