package journal

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"mailform/server/manifest"
)

// maxEntry bounds one line of journalctl's output, in bytes. A program sends at most
// 212,992 bytes in a datagram, which take five times that when they are no text; what is
// longer came as a file, as the remains of a crashed program do.
const maxEntry = 2 << 20

// unitName is what a unit may be called, systemd.unit(5). A name cannot be taken
// for an option.
var unitName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9:_.@\\-]{0,254}$`)

// Query is a manifest.LogQuery that was checked.
type Query struct {
	manifest.LogQuery
	grep *regexp.Regexp
}

// NewQuery checks a query. The error names what is wrong with it.
func NewQuery(q manifest.LogQuery) (Query, error) {
	out := Query{LogQuery: q}
	if q.Unit == "" {
		out.Unit = manifest.ServiceUnit
	}
	if !unitName.MatchString(out.Unit) {
		return out, fmt.Errorf("%q is no name of a unit", q.Unit)
	}
	if q.Level != "" && !slices.Contains(manifest.LogLevels(), q.Level) {
		return out, fmt.Errorf("level %q is none of %s", q.Level, strings.Join(manifest.LogLevels(), ", "))
	}
	if q.Lines < 0 || q.Lines > manifest.MaxLogLines {
		return out, fmt.Errorf("%d lines: it may be 0 to %d", q.Lines, manifest.MaxLogLines)
	}
	if q.AgoSeconds < 0 {
		return out, errors.New("the time to begin at lies in the future")
	}
	if q.Grep != "" {
		re, err := regexp.Compile(q.Grep)
		if err != nil {
			return out, fmt.Errorf("the expression to look for: %w", err)
		}
		out.grep = re
	}
	return out, nil
}

// Run runs journalctl with these arguments and gives its output to read, until
// read returns or the context ends.
type Run func(ctx context.Context, args []string, read func(io.Reader) error) error

// Journalctl is the Run of a real machine.
func Journalctl(ctx context.Context, args []string, read func(io.Reader) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, "journalctl", args...)
	cmd.WaitDelay = time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &limited{&stderr, 4 << 10}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("journalctl: %w", err)
	}
	readErr := read(out)
	ended := errors.Is(readErr, errEnough) || ctx.Err() != nil
	if readErr != nil {
		cancel() // it may still have much to say
	}
	err = cmd.Wait()
	switch {
	case errors.Is(readErr, errEnough):
		return nil
	case readErr != nil:
		return readErr
	case err != nil && !ended:
		return fmt.Errorf("journalctl: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return nil
}

// limited keeps the beginning of what is written to it.
type limited struct {
	b   *bytes.Buffer
	max int
}

func (l *limited) Write(p []byte) (int, error) {
	l.b.Write(p[:min(len(p), max(0, l.max-l.b.Len()))])
	return len(p), nil
}

// errEnough ends reading before the end.
var errEnough = errors.New("enough")

// Read gives the newest entries that a query asks for, oldest first, and, when it
// is to follow, those that come, until the context ends. now is the host's time.
func Read(ctx context.Context, run Run, q Query, now time.Time, each func(manifest.LogEntry) error) error {
	// Matching is ours, because not every journalctl can; so the way back goes until
	// enough were found.
	since := q.since(now)
	args := append(q.args(), "--reverse")
	if since != "" {
		args = append(args, since)
	}
	var found []manifest.LogEntry
	cursor := ""
	err := run(ctx, args, func(r io.Reader) error {
		return eachEntry(r, func(e manifest.LogEntry, at string) error {
			if cursor == "" {
				cursor = at
			}
			if len(found) == q.Lines {
				return errEnough
			}
			if q.matches(e) {
				found = append(found, e)
			}
			return nil
		})
	})
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	for _, e := range slices.Backward(found) {
		if err := each(e); err != nil {
			return err
		}
	}
	if !q.Follow || ctx.Err() != nil {
		return nil
	}
	args = append(q.args(), "--follow", "--no-tail")
	switch { // journalctl takes one of these
	case cursor != "":
		args = append(args, "--after-cursor="+cursor)
	case since != "":
		args = append(args, since)
	default:
		args = append(args, sinceOption(now))
	}
	return run(ctx, args, func(r io.Reader) error {
		return eachEntry(r, func(e manifest.LogEntry, _ string) error {
			if !q.matches(e) {
				return nil
			}
			return each(e)
		})
	})
}

// args are the options that every reading has.
func (q Query) args() []string {
	args := []string{"--output=json", "--all", "--no-pager", "--unit=" + q.Unit}
	if i := slices.Index(manifest.LogLevels(), q.Level); i >= 0 {
		args = append(args, "--priority="+[]string{"7", "6", "4", "3"}[i])
	}
	return args
}

// since is the option for the time to begin at, "" for any.
func (q Query) since(now time.Time) string {
	switch {
	case q.AgoSeconds > 0:
		return sinceOption(now.Add(-time.Duration(q.AgoSeconds) * time.Second))
	case !q.Since.IsZero():
		return sinceOption(q.Since)
	}
	return ""
}

func sinceOption(t time.Time) string { return "--since=@" + strconv.FormatInt(t.Unix(), 10) }

// matches looks for the expression in what would be shown.
func (q Query) matches(e manifest.LogEntry) bool {
	if q.grep == nil {
		return true
	}
	return q.grep.MatchString(e.Line())
}

// eachEntry reads journalctl's JSON lines. A line that is none, or is too long, is passed over.
func eachEntry(r io.Reader, do func(e manifest.LogEntry, cursor string) error) error {
	in := bufio.NewReaderSize(r, 64<<10)
	var line []byte
	for long := false; ; {
		part, err := in.ReadSlice('\n')
		if long = long || len(line)+len(part) > maxEntry; !long {
			line = append(line, part...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if e, cursor, bad := Parse(line); bad == nil && !long {
			if err := do(e, cursor); err != nil {
				return err
			}
		}
		if err != nil {
			return nil
		}
		line, long = line[:0], false
	}
}

// value is a field as journalctl writes it: text, numbers for bytes that are no
// text, several of these when the field is there more than once, or null when it
// is too long.
type value []string

// UnmarshalJSON implements json.Unmarshaler.
func (v *value) UnmarshalJSON(b []byte) error {
	if text, ok := single(b); ok {
		*v = value{text}
		return nil
	}
	var many []json.RawMessage
	if err := json.Unmarshal(b, &many); err != nil {
		return err
	}
	*v = value{} // also for null
	for _, m := range many {
		if text, ok := single(m); ok {
			*v = append(*v, text)
		}
	}
	return nil
}

// single reads text, or an array of numbers.
func single(b []byte) (string, bool) {
	var text *string // nil: null
	if json.Unmarshal(b, &text) == nil {
		if text == nil {
			return "", false
		}
		return *text, true
	}
	var numbers []uint8
	var wide []int
	if json.Unmarshal(b, &wide) != nil || len(wide) == 0 {
		return "", false
	}
	for _, n := range wide {
		if n < 0 || n > 255 {
			return "", false
		}
		numbers = append(numbers, uint8(n))
	}
	return strings.ToValidUTF8(string(numbers), "\ufffd"), true
}

// Parse reads one line of `journalctl --output=json` and returns the entry with
// its cursor.
func Parse(line []byte) (e manifest.LogEntry, cursor string, err error) {
	var fields map[string]value
	if err := json.Unmarshal(line, &fields); err != nil {
		return e, "", err
	}
	get := func(name string) string { return strings.Join(fields[name], ", ") }
	micros, err := strconv.ParseInt(get("__REALTIME_TIMESTAMP"), 10, 64)
	if err != nil || micros < 0 {
		return e, "", fmt.Errorf("the entry has no time: %q", get("__REALTIME_TIMESTAMP"))
	}
	e.Time = time.UnixMicro(micros).UTC()
	e.Unit = get("_SYSTEMD_UNIT")
	if unit := get("UNIT"); unit != "" { // what systemd says about a unit
		e.Unit = unit
	}
	switch p := get("PRIORITY"); {
	case p >= "0" && p <= "3" && len(p) == 1:
		e.Level = manifest.LogError
	case p == "4":
		e.Level = manifest.LogWarn
	case p == "7":
		e.Level = manifest.LogDebug
	default:
		e.Level = manifest.LogInfo
	}
	e.Message = get("MESSAGE")
	if id := get("SYSLOG_IDENTIFIER"); id != "" && id != Identifier {
		e.Source = id
	}
	if event, ok := fields[eventField]; ok {
		e.Message = strings.Join(event, ", ")
		for name, v := range fields {
			if short, ours := strings.CutPrefix(name, Prefix); ours && name != eventField {
				if e.Fields == nil {
					e.Fields = map[string]string{}
				}
				e.Fields[strings.ToLower(short)] = strings.Join(v, ", ")
			}
		}
	}
	return e, get("__CURSOR"), nil
}
