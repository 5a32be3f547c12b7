package specs

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/width"
)

// maxShown is how many findings are printed before the rest is only counted.
const maxShown = 40

// The styles of a terminal, SGR codes. Only the eight base colours, which every
// theme makes readable.
const (
	styleReset  = "\x1b[0m"
	styleBold   = "\x1b[1m"
	styleDim    = "\x1b[2m"
	styleRed    = "\x1b[31m"
	styleYellow = "\x1b[33m"
)

// WriteDiagnostics prints findings for a person: what is wrong, where, the line
// with the place underlined, and what to do. Secrets in the lines are masked.
// width is the terminal's; text wraps at 40 to 100 columns. The last line counts.
func WriteDiagnostics(w io.Writer, src *Sources, ds Diagnostics, width int, color bool) error {
	p := &printer{src: src, width: min(max(width, 40), 100), color: color}
	shown, hidden := selectShown(ds)
	for _, d := range shown {
		p.diagnostic(d)
	}
	if hidden > 0 {
		p.line(styleDim, fmt.Sprintf("… and %d more", hidden))
		p.b.WriteString("\n")
	}
	if len(ds) > 0 {
		p.b.WriteString(summary(ds) + "\n")
	}
	_, err := io.WriteString(w, p.b.String())
	return err
}

// selectShown keeps source order; when there are too many, errors go first.
func selectShown(ds Diagnostics) (Diagnostics, int) {
	if len(ds) <= maxShown {
		return ds, 0
	}
	room := maxShown
	errorsKept := 0
	for _, d := range ds {
		if d.Severity == SeverityError && errorsKept < room {
			errorsKept++
		}
	}
	warnings := room - errorsKept
	var out Diagnostics
	for _, d := range ds {
		left := &warnings
		if d.Severity == SeverityError {
			left = &errorsKept
		}
		if *left > 0 {
			*left--
			out = append(out, d)
		}
	}
	return out, len(ds) - len(out)
}

func summary(ds Diagnostics) string {
	e, w := ds.count()
	var parts []string
	if e > 0 {
		parts = append(parts, plural(e, "error"))
	}
	if w > 0 {
		parts = append(parts, plural(w, "warning"))
	}
	return strings.Join(parts, ", ")
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func (ds Diagnostics) count() (errs, warnings int) {
	for _, d := range ds {
		if d.Severity == SeverityError {
			errs++
		} else {
			warnings++
		}
	}
	return errs, warnings
}

type printer struct {
	b     strings.Builder
	src   *Sources
	width int
	color bool
}

func (p *printer) style(code, s string) string {
	if !p.color || s == "" {
		return s
	}
	return code + s + styleReset
}

func (p *printer) line(code, s string) { p.b.WriteString(p.style(code, s) + "\n") }

func (p *printer) diagnostic(d Diagnostic) {
	accent := styleRed
	if d.Severity == SeverityWarning {
		accent = styleYellow
	}
	head := string(d.Severity) + " " + d.Code
	for i, l := range wrap(head+" "+printable(d.Summary), p.width-2) {
		if i > 0 {
			p.b.WriteString("  " + p.style(styleBold, l) + "\n")
			continue
		}
		p.b.WriteString(p.style(styleBold+accent, string(d.Severity)) + " " + p.style(styleDim, d.Code) + p.style(styleBold, strings.TrimPrefix(l, head)) + "\n")
	}
	if d.Subject != nil {
		p.line(styleDim, "  "+d.Subject.String())
		p.snippet(d, accent)
	}
	for i, para := range strings.Split(d.Detail, "\n\n") {
		if para == "" {
			continue
		}
		if i > 0 {
			p.b.WriteString("\n")
		}
		for _, given := range strings.Split(para, "\n") {
			for _, l := range wrap(printable(given), p.width-2) {
				p.b.WriteString(strings.TrimRight("  "+l, " ") + "\n")
			}
		}
	}
	p.b.WriteString("\n")
}

// snippet shows the header of the block around, when it is on another line, and
// the first line of the subject with the subject underlined.
func (p *printer) snippet(d Diagnostic, accent string) {
	at := d.Subject
	text, ok := p.src.line(at.File, at.Line)
	if !ok {
		return
	}
	gutter := len(fmt.Sprint(at.Line))
	number := func(n string) string { return p.style(styleDim, fmt.Sprintf("  %*s │ ", gutter, n)) }
	room := p.width - gutter - 5
	if c := d.Context; c != nil && c.File == at.File && c.Line < at.Line {
		if head, ok := p.src.line(c.File, c.Line); ok {
			shown, _, _ := fitLine(head, 1, 1, room)
			p.b.WriteString(number(fmt.Sprint(c.Line)) + p.style(styleDim, shown) + "\n")
			if c.Line+1 < at.Line {
				p.b.WriteString(p.style(styleDim, fmt.Sprintf("  %*s ┆", gutter, "")) + "\n")
			}
		}
	}
	endCol := at.EndCol
	if at.EndLine != at.Line {
		endCol = utf8.RuneCountInString(text) + 1
	}
	shown, start, length := fitLine(text, at.Column, max(endCol, at.Column+1), room)
	p.b.WriteString(number(fmt.Sprint(at.Line)) + shown + "\n")
	p.b.WriteString(number("") + strings.Repeat(" ", start) + p.style(accent, strings.Repeat("^", length)) + "\n")
}

// fitLine cuts a source line to room columns around the part from column from to
// column to (from 1, exclusive end), tabs as spaces. It returns the text and the
// part's start and length in terminal columns. What it costs does not grow with
// the line's length but for finding the part in it: a line can have megabytes.
func fitLine(s string, from, to, room int) (shown string, start, length int) {
	before, after := 0, false // characters left of the window; whether there are some right of it
	if from-1 > room {
		before = from - 1 - room
		s, before = skipRunes(s, before)
	}
	var cells []string
	columns := []int{0} // of the cells before each
	for _, r := range s {
		if len(cells) >= 4*room {
			after = true
			break
		}
		cell, wide := string(r), 1
		switch {
		case r == '\t':
			cell, wide = "  ", 2
		case unicode.IsControl(r) || r == utf8.RuneError:
			cell = "·"
		default:
			wide = runeWidth(r)
		}
		cells, columns = append(cells, cell), append(columns, columns[len(cells)]+wide)
	}
	from = min(max(from-1-before, 0), len(cells))
	to = min(max(to-1-before, from), len(cells))
	span := func(i, j int) int { return columns[j] - columns[i] }
	first, last := 0, len(cells)
	left, right := "", ""
	if before > 0 || after || span(0, len(cells)) > room {
		// Keep the subject in view with a little before it.
		for first < from-8 && span(first, to) > room-2 || span(first, max(from, first)) > room/2 {
			first++
		}
		if first > 0 || before > 0 {
			left = "…"
		}
		for last > first && span(first, last)+utf8.RuneCountInString(left)+1 > room {
			last--
		}
		if last < len(cells) || after {
			right = "…"
		}
	}
	start = utf8.RuneCountInString(left) + span(first, max(from, first))
	length = max(span(min(from, last), min(to, last)), 1)
	return left + strings.Join(cells[first:last], "") + right, start, length
}

// skipRunes takes the first n characters off a text and says how many there were.
func skipRunes(s string, n int) (rest string, skipped int) {
	for i := range s {
		if skipped == n {
			return s[i:], skipped
		}
		skipped++
	}
	return "", skipped
}

func runeWidth(r rune) int {
	switch {
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

func textWidth(s string) (n int) {
	for _, r := range s {
		n += runeWidth(r)
	}
	return n
}

// printable takes control characters out of text that may come from a spec, so
// that a spec cannot steer the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return '·'
		}
		return r
	}, s)
}

// wrap breaks text at spaces. Leading spaces are kept, and a line that begins
// with them (an example) is not broken.
func wrap(s string, columns int) []string {
	if strings.HasPrefix(s, " ") {
		return []string{s}
	}
	var lines []string
	line, used := "", 0
	for _, word := range strings.Fields(s) {
		n := textWidth(word)
		if used > 0 && used+1+n > columns {
			lines, line, used = append(lines, line), "", 0
		}
		if used > 0 {
			line, used = line+" ", used+1
		}
		line, used = line+word, used+n
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}

// maxSnippet is how many bytes of a line the machine-readable form holds; of a
// longer one it has the surroundings of the place.
const maxSnippet = 4096

// jsonReport is the document of `mailform validate --json`. Keys that do not
// apply are left out of a diagnostic.
type jsonReport struct {
	FormatVersion int              `json:"format_version"` // 1
	Valid         bool             `json:"valid"`          // whether there are no errors; warnings may be
	Errors        int              `json:"errors"`         // how many
	Warnings      int              `json:"warnings"`       // how many
	Diagnostics   []jsonDiagnostic `json:"diagnostics"`    // by place
}

type jsonDiagnostic struct {
	Severity Severity   `json:"severity"`          // how bad it is
	Code     string     `json:"code"`              // stable: "MF1305"; mailform docs codes lists them
	Summary  string     `json:"summary"`           // what is wrong, for people
	Detail   string     `json:"detail,omitempty"`  // what was expected and how to fix it, for people
	Range    *jsonRange `json:"range,omitempty"`   // where
	Context  *jsonRange `json:"context,omitempty"` // the block around it
	Snippet  string     `json:"snippet,omitempty"` // the subject's first line, secrets masked
}

type jsonRange struct {
	File  string  `json:"file"`  // relative to the stack's folder
	Start jsonPos `json:"start"` // its first character
	End   jsonPos `json:"end"`   // the one after its last
}

type jsonPos struct {
	Line   int `json:"line"`   // from 1
	Column int `json:"column"` // from 1, in characters as people see them
	Byte   int `json:"byte"`   // offset in the file, from 0
}

// DiagnosticsJSON gives findings as one JSON document, indented and ending in a
// newline. src may be nil; then there are no snippets.
func DiagnosticsJSON(src *Sources, ds Diagnostics) []byte {
	r := jsonReport{FormatVersion: 1, Valid: !ds.HasErrors(), Diagnostics: []jsonDiagnostic{}}
	r.Errors, r.Warnings = ds.count()
	for _, d := range ds {
		j := jsonDiagnostic{Severity: d.Severity, Code: d.Code, Summary: d.Summary, Detail: d.Detail, Range: jsonRangeOf(d.Subject), Context: jsonRangeOf(d.Context)}
		if d.Subject != nil {
			j.Snippet, _ = src.line(d.Subject.File, d.Subject.Line)
			if len(j.Snippet) > maxSnippet {
				j.Snippet, _, _ = fitLine(j.Snippet, d.Subject.Column, d.Subject.Column+1, maxSnippet/4)
			}
		}
		r.Diagnostics = append(r.Diagnostics, j)
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	_ = enc.Encode(r) // strings and numbers only, into memory: cannot fail
	return []byte(b.String())
}

func jsonRangeOf(r *Range) *jsonRange {
	if r == nil {
		return nil
	}
	return &jsonRange{r.File, jsonPos{r.Line, r.Column, r.StartByte}, jsonPos{r.EndLine, r.EndCol, r.EndByte}}
}
