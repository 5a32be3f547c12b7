package specs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"sort"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// Limits on what is read. A spec of 5,000 mailboxes is about 1 MB.
const (
	maxFileBytes  = 8 << 20  // one file
	maxTotalBytes = 64 << 20 // all files of one Load together
	maxSpecFiles  = 1000
)

// Sources keeps the text of what was read, so that findings can show it.
type Sources struct{ files map[string]*source }

// mask stands for a secret.
const mask = "•••"

type source struct {
	text   []byte
	hidden [][2]int // byte ranges that hold secrets and are never shown
	lines  []int    // byte offset of each line
}

// NewSources returns an empty set.
func NewSources() *Sources { return &Sources{files: map[string]*source{}} }

// Add keeps the text of a file under the name that ranges carry.
func (s *Sources) Add(name string, text []byte) {
	src := &source{text: text, lines: []int{0}}
	for i, c := range text {
		if c == '\n' {
			src.lines = append(src.lines, i+1)
		}
	}
	for _, m := range secretLineRE.FindAllSubmatchIndex(text, -1) {
		src.hidden = append(src.hidden, [2]int{max(m[2], m[4]), max(m[3], m[5])}) // the group that is not there is -1
	}
	s.files[name] = src
}

// secretLineRE finds literal secrets by their attribute's name alone, and URLs of
// databases, which carry a password. It also works in a file with syntax errors,
// where no parsed expression says where they are.
var secretLineRE = regexp.MustCompile(`(?m)\b(?:password|password_hash|secret_access_key)["']?\s*[=:]\s*"([^\n]*)|"(postgres(?:ql)?://[^\n]*)`)

// hide keeps a range out of every snippet.
func (s *Sources) hide(r hcl.Range) {
	if src := s.files[r.Filename]; src != nil {
		src.hidden = append(src.hidden, [2]int{r.Start.Byte, r.End.Byte})
	}
}

// line returns the n-th line of a file (from 1) without its end, secrets
// replaced by as many •; ok is false when there is no such line.
func (s *Sources) line(file string, n int) (string, bool) {
	if s == nil || s.files[file] == nil {
		return "", false
	}
	src := s.files[file]
	if n < 1 || n > len(src.lines) {
		return "", false
	}
	start, end := src.lines[n-1], len(src.text)
	if n < len(src.lines) {
		end = src.lines[n] - 1
	}
	return strings.TrimRight(src.masked(start, end), "\r"), true
}

// masked is the text from start to end with a mask for each secret. The mask's
// length says nothing about the secret's, but columns left of it stay right.
func (src *source) masked(start, end int) string {
	var hidden [][2]int
	for _, h := range src.hidden {
		if h[0] < end && h[1] > start {
			hidden = append(hidden, h)
		}
	}
	slices.SortFunc(hidden, func(a, b [2]int) int { return a[0] - b[0] })
	var b strings.Builder
	at := start
	for _, h := range hidden {
		if h[1] <= at {
			continue
		}
		if h[0] >= at || at == start { // else it goes on from the one before
			b.Write(src.text[at:max(at, h[0])])
			b.WriteString(mask)
		}
		at = min(h[1], end)
	}
	b.Write(src.text[at:end])
	return b.String()
}

// place turns HCL's range into ours.
func place(r hcl.Range) *Range {
	if r.Filename == "" {
		return nil
	}
	return &Range{
		File: r.Filename,
		Line: r.Start.Line, Column: r.Start.Column, EndLine: r.End.Line, EndCol: r.End.Column,
		StartByte: r.Start.Byte, EndByte: r.End.Byte,
	}
}

func rangeOf(r hcl.Range) Range {
	if p := place(r); p != nil {
		return *p
	}
	return Range{}
}

func (r Range) String() string {
	return fmt.Sprintf("%s:%d,%d", r.File, r.Line, r.Column)
}

var (
	errTooLarge   = errors.New("too large")
	errNotRegular = errors.New("it is not a regular file")
)

// reader reads files within the limits, each once.
type reader struct {
	open  func(string) (fs.File, error)
	left  int64
	cache map[string][]byte
}

func (r *reader) read(name string) ([]byte, error) {
	if b, ok := r.cache[name]; ok {
		return b, nil
	}
	if r.open == nil {
		return nil, fs.ErrNotExist
	}
	f, err := r.open(name)
	if err != nil {
		return nil, plainError(err)
	}
	defer f.Close()
	// A pipe or a terminal could keep us waiting for ever.
	if st, err := f.Stat(); err != nil {
		return nil, plainError(err)
	} else if !st.Mode().IsRegular() {
		return nil, errNotRegular
	}
	limit := min(maxFileBytes, r.left)
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, plainError(err)
	}
	if int64(len(b)) > limit {
		return nil, errTooLarge
	}
	r.left -= int64(len(b))
	r.cache[name] = b
	return b, nil
}

// plainError takes the operation and path off an error: the message names the file itself.
func plainError(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("it does not exist")
	}
	if errors.Is(err, fs.ErrPermission) {
		return errors.New("permission denied")
	}
	return err
}

// specFiles lists the stack's files, sorted.
func specFiles(entries []fs.DirEntry, dir string, varFiles []string) []string {
	skip := map[string]bool{}
	for _, v := range varFiles {
		skip[path.Clean(v)] = true
	}
	var names []string
	for _, e := range entries {
		n := e.Name()
		p := path.Join(dir, n)
		if e.IsDir() || !strings.HasSuffix(n, ".hcl") || strings.HasPrefix(n, ".") || strings.HasSuffix(n, ".vars.hcl") || skip[p] {
			continue
		}
		names = append(names, p)
	}
	sort.Strings(names)
	return names
}

// hideValues hides every value of a variable file: what follows a name on its line.
func (s *Sources) hideValues(name string) {
	src := s.files[name]
	for i, start := range src.lines {
		end := len(src.text)
		if i+1 < len(src.lines) {
			end = src.lines[i+1] - 1
		}
		line := string(src.text[start:end])
		at := strings.IndexAny(line, "=:")
		if at < 0 {
			at = -1 // a line inside a value of several lines
		}
		if strings.TrimSpace(line[at+1:]) != "" {
			src.hidden = append(src.hidden, [2]int{start + at + 1, end})
		}
	}
}
