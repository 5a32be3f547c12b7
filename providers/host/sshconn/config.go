package sshconn

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Bounds of configuration files.
const (
	maxConfigFile  = 1 << 20 // bytes
	maxConfigFiles = 256
	maxConfigDepth = 16 // of Include, as ssh
	maxConfigLines = 50_000
)

// Files reads what a configuration is made of. os.ReadFile and filepath.Glob do.
type Files struct {
	ReadFile func(name string) ([]byte, error)
	Glob     func(pattern string) ([]string, error)
}

// Config is what ssh_config(5) files say, in their order: what comes first wins.
type Config struct {
	lines []configLine
	// Notes are parts that were left out, and why, for people.
	Notes []string
}

// configLine is one keyword with its arguments, and what must hold for it.
type configLine struct {
	keyword string // in lower case
	args    []string
	rest    string // the text after the keyword
	when    []condition
}

// condition is one Host or Match line. A line inside an included file has those
// of the Include, too.
type condition struct {
	kind     string // "host", "user" or "never"
	patterns []string
}

// ReadConfig reads configuration files of which the first wins. A file that does
// not exist says nothing. ~ and relative names in Include are below home.
func ReadConfig(f Files, home string, names ...string) (*Config, error) {
	r := &configReader{Files: f, home: home, config: &Config{}}
	for i, name := range names {
		base := filepath.Join(home, ".ssh")
		if i > 0 {
			base = filepath.Dir(name)
		}
		if err := r.file(name, base, nil, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return r.config, nil
}

type configReader struct {
	Files
	home   string
	config *Config
	files  int
}

func (r *configReader) file(name, base string, when []condition, depth int) error {
	if r.files++; depth > maxConfigDepth || r.files > maxConfigFiles {
		return fmt.Errorf("%s: too many files are included", name)
	}
	text, err := r.ReadFile(name)
	if err != nil {
		return err
	}
	if len(text) > maxConfigFile {
		return fmt.Errorf("%s is longer than %d bytes", name, maxConfigFile)
	}
	outer := slices.Clip(when)
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		at := fmt.Sprintf("%s:%d", name, number)
		l, err := splitConfigLine(line)
		if err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
		switch l.keyword {
		case "":
		case "host":
			when = append(outer, condition{"host", l.args})
		case "match":
			when = append(outer, r.match(at, l.args)...)
		case "include":
			if err := r.include(at, base, l.args, when, depth); err != nil {
				return err
			}
		default:
			l.when = when
			if r.config.lines = append(r.config.lines, l); len(r.config.lines) > maxConfigLines {
				return fmt.Errorf("%s: the configuration has more than %d lines", at, maxConfigLines)
			}
		}
	}
	return nil
}

func (r *configReader) include(at, base string, patterns []string, when []condition, depth int) error {
	for _, p := range patterns {
		if rest, ok := strings.CutPrefix(p, "~/"); ok {
			p = filepath.Join(r.home, rest)
		} else if !filepath.IsAbs(p) {
			p = filepath.Join(base, p)
		}
		names, err := r.Glob(p)
		if err != nil {
			return fmt.Errorf("%s: Include %s: %w", at, p, err)
		}
		for _, name := range names {
			// As ssh, without those that cannot be read.
			if err := r.file(name, base, when, depth+1); err != nil {
				if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
					continue
				}
				return err
			}
		}
	}
	return nil
}

// match turns the criteria of a Match line into conditions. Those that would run
// something or look at more than names hold never.
func (r *configReader) match(at string, args []string) []condition {
	var out []condition
	for i := 0; i < len(args); i++ {
		criterion := strings.ToLower(args[i])
		switch criterion {
		case "all":
			continue
		case "host", "originalhost", "user":
			kind := "host"
			if criterion == "user" {
				kind = "user"
			}
			if i+1 < len(args) {
				i++
				out = append(out, condition{kind, strings.Split(args[i], ",")})
				continue
			}
		}
		r.config.Notes = append(r.config.Notes, fmt.Sprintf("%s: Match %s is not supported; what it is about is not used", at, args[i]))
		return append(out, condition{kind: "never"})
	}
	return out
}

// splitConfigLine takes a line apart as ssh does: a keyword, blanks or one "=",
// and arguments in which quotes and backslashes count.
func splitConfigLine(line string) (configLine, error) {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' {
		return configLine{}, nil
	}
	end := strings.IndexAny(line, " \t=")
	if end < 0 {
		end = len(line)
	}
	l := configLine{keyword: strings.ToLower(strings.Trim(line[:end], `"`))}
	l.rest = strings.TrimLeft(line[end:], " \t")
	l.rest = strings.TrimLeft(strings.TrimPrefix(l.rest, "="), " \t")
	if l.keyword == "proxycommand" { // the rest of the line is the shell's
		return l, nil
	}
	var (
		word  strings.Builder
		begun bool
		quote byte
	)
	flush := func() {
		if begun {
			l.args = append(l.args, word.String())
		}
		word.Reset()
		begun = false
	}
	for i := 0; i < len(l.rest); i++ {
		c := l.rest[i]
		switch {
		case c == '\\' && i+1 < len(l.rest) && (strings.IndexByte(`"'\`, l.rest[i+1]) >= 0 || quote == 0 && l.rest[i+1] == ' '):
			i++
			word.WriteByte(l.rest[i])
		case quote == 0 && (c == ' ' || c == '\t'):
			flush()
			continue
		case quote == 0 && c == '#' && !begun:
			flush()
			return l, nil
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case c == quote && quote != 0:
			quote = 0
		default:
			word.WriteByte(c)
		}
		begun = true
	}
	if quote != 0 {
		return l, errors.New("a quote is not closed")
	}
	flush()
	return l, nil
}

// query is about whom a configuration is asked.
type query struct {
	names []string // any of them may be the one that is meant
	user  string   // "" while it is not known
}

func (c *Config) each(q query, keyword string, found func(configLine) bool) {
	if c == nil {
		return
	}
	for _, l := range c.lines {
		if l.keyword == keyword && l.holds(q) && !found(l) {
			return
		}
	}
}

func (l configLine) holds(q query) bool {
	for _, c := range l.when {
		switch c.kind {
		case "host":
			if !matchesNames(c.patterns, q.names) {
				return false
			}
		case "user":
			if q.user == "" || !matchesNames(c.patterns, []string{q.user}) {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// first is the value that counts of a keyword, "" when there is none.
func (c *Config) first(q query, keyword string) string {
	value := ""
	c.each(q, keyword, func(l configLine) bool {
		if keyword == "proxycommand" {
			value = l.rest
		} else if len(l.args) > 0 {
			value = l.args[0]
		}
		return value == ""
	})
	return value
}

// firstList is first for keywords with a list of values.
func (c *Config) firstList(q query, keyword string) []string {
	var values []string
	c.each(q, keyword, func(l configLine) bool {
		values = l.args
		return len(values) == 0
	})
	return values
}

// every is all values of a keyword that may be given several times.
func (c *Config) every(q query, keyword string) []string {
	var values []string
	c.each(q, keyword, func(l configLine) bool {
		if len(l.args) > 0 && !slices.Contains(values, l.args[0]) {
			values = append(values, l.args[0])
		}
		return true
	})
	return values
}

// aliases are the names, of Host lines without patterns, that stand for a machine
// with one of these names.
func (c *Config) aliases(names []string) []string {
	if c == nil {
		return nil
	}
	var out []string
	for _, l := range c.lines {
		if l.keyword != "hostname" || len(l.args) == 0 {
			continue
		}
		for _, when := range l.when {
			for _, p := range when.patterns {
				if when.kind != "host" || strings.ContainsAny(p, "*?!") || slices.Contains(names, p) || slices.Contains(out, p) {
					continue
				}
				if is := strings.ReplaceAll(c.first(query{names: []string{p}}, "hostname"), "%h", p); slices.Contains(names, is) {
					out = append(out, p)
				}
			}
		}
	}
	return out
}

// matchesNames reports whether one of the names matches a pattern, and none of
// them one that is negated.
func matchesNames(patterns, names []string) bool {
	hit := false
	for _, p := range patterns {
		p, negated := strings.CutPrefix(p, "!")
		for _, name := range names {
			if matchPattern(strings.ToLower(p), strings.ToLower(name)) {
				if negated {
					return false
				}
				hit = true
			}
		}
	}
	return hit
}

// matchPattern is ssh's: * stands for any text, ? for one character, nothing else
// is special.
func matchPattern(pattern, name string) bool {
	p, n, star, mark := 0, 0, -1, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, n
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == name[n]):
			p++
			n++
		case star >= 0:
			mark++
			p, n = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// tilde makes a file's name whole.
func tilde(home, name string) string {
	if name == "~" {
		return home
	}
	if rest, ok := strings.CutPrefix(name, "~/"); ok {
		return path.Join(home, rest)
	}
	return name
}
