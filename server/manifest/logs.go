package manifest

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// ServiceUnit is the daemon's systemd service.
const ServiceUnit = "mailformd.service"

// The levels of what is logged.
const (
	LogDebug = "debug"
	LogInfo  = "info"
	LogWarn  = "warn"
	LogError = "error"
)

// LogLevels are the levels, rising.
func LogLevels() []string { return []string{LogDebug, LogInfo, LogWarn, LogError} }

// MaxLogLines bounds how many entries of the past one query gives.
const MaxLogLines = 10_000

// LogQuery asks for entries of the host's journal.
type LogQuery struct {
	Unit       string    `json:"unit,omitempty"`        // "" is ServiceUnit
	Lines      int       `json:"lines"`                 // of the past, at most; the newest
	Follow     bool      `json:"follow,omitempty"`      // those that come, too, until standard input ends
	Level      string    `json:"level,omitempty"`       // the lowest that is shown
	Grep       string    `json:"grep,omitempty"`        // a regular expression (RE2) that LogEntry.Line must match
	Since      time.Time `json:"since,omitzero"`        // none before; AgoSeconds goes before it
	AgoSeconds int64     `json:"ago_seconds,omitempty"` // none older, by the host's clock
}

// LogEntry is one entry of the journal.
type LogEntry struct {
	Time    time.Time         `json:"time"`
	Level   string            `json:"level"`
	Unit    string            `json:"unit,omitempty"`
	Source  string            `json:"source,omitempty"` // the program, when it is not mailformd: "systemd"
	Message string            `json:"message"`
	Fields  map[string]string `json:"fields,omitempty"` // what mailformd said of it: "queue_id", "remote", …
}

// Line is the entry as text, without time and level: what it says and its fields
// by name.
func (e LogEntry) Line() string {
	var b strings.Builder
	b.WriteString(e.Message)
	names := make([]string, 0, len(e.Fields))
	for name := range e.Fields {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		b.WriteString(" " + name + "=")
		if v := e.Fields[name]; v == "" || strings.ContainsAny(v, " \"=\n\t") {
			b.WriteString(strconv.Quote(v))
		} else {
			b.WriteString(v)
		}
	}
	return b.String()
}
