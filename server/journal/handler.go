// Package journal is mailformd's way to systemd's journal: a slog.Handler that
// writes records with their fields in the journal's native protocol, and a reader
// that gives them back. Of mailform it imports only server/manifest.
package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Identifier is the SYSLOG_IDENTIFIER of what mailformd logs.
const Identifier = "mailformd"

// Bounds of one entry, so that it always fits into one datagram: the kernel lets
// one of net.core.wmem_default (212,992 bytes) through.
const (
	maxFields  = 64
	maxValue   = 8 << 10  // bytes of a field's value
	maxMessage = 64 << 10 // bytes of all fields together
	maxName    = 64       // bytes of a field's name, the journal's own bound
)

// writeTimeout bounds the wait for a journal that does not read: mail matters more.
const writeTimeout = time.Second

// Prefix begins the names of our fields: the attribute "queue_id" of a record is
// MAILFORM_QUEUE_ID.
const Prefix = "MAILFORM_"

// eventField holds a record's message without its attributes, which MESSAGE has
// as well, so that a plain journalctl shows all there is.
const eventField = Prefix + "EVENT"

// Connected reports whether stderr is the journal's: JOURNAL_STREAM says which
// file the journal gave to this process, systemd.exec(5).
func Connected(getenv func(string) string, stderr *os.File) bool {
	dev, inode, ok := strings.Cut(getenv("JOURNAL_STREAM"), ":")
	if !ok {
		return false
	}
	info, err := stderr.Stat()
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && dev == strconv.FormatUint(st.Dev, 10) && inode == strconv.FormatUint(st.Ino, 10)
}

// Handler writes records to the journal's socket. It is safe for use by many
// goroutines.
type Handler struct {
	conn   *connection
	level  slog.Leveler
	lost   slog.Handler // gets what the journal does not take
	fields []field      // of With, in their order
	group  string       // prefix of the attributes to come: "CLIENT_"
}

// connection is shared by a handler and those made from it.
type connection struct {
	path string
	mu   sync.Mutex
	conn *net.UnixConn
}

type field struct{ name, value string }

// New returns a handler that writes to the journal's socket at path. Records that
// the journal does not take go to lost.
func New(path string, level slog.Leveler, lost slog.Handler) (*Handler, error) {
	h := &Handler{conn: &connection{path: path}, level: level, lost: lost}
	return h, h.conn.dial()
}

func (c *connection) dial() error {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: c.path, Net: "unixgram"})
	if err == nil {
		c.conn = conn
	}
	return err
}

// send writes one datagram, over a new connection when the journal was restarted.
func (c *connection) send(b []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for again := false; ; again = true {
		err := c.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		if err == nil {
			_, err = c.conn.Write(b)
		}
		if err == nil || again || errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		_ = c.conn.Close()
		if err := c.dial(); err != nil {
			return err
		}
	}
}

// Enabled implements slog.Handler.
func (h *Handler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level.Level() }

// Handle implements slog.Handler.
func (h *Handler) Handle(ctx context.Context, r slog.Record) error {
	fields := h.fields[:len(h.fields):len(h.fields)]
	r.Attrs(func(a slog.Attr) bool {
		fields = add(fields, h.group, a)
		return true
	})
	if err := h.conn.send(encode(r.Level, r.Message, fields)); err != nil {
		return h.lost.Handle(ctx, r)
	}
	return nil
}

// WithAttrs implements slog.Handler.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	out := *h
	out.lost = h.lost.WithAttrs(attrs)
	out.fields = h.fields[:len(h.fields):len(h.fields)]
	for _, a := range attrs {
		out.fields = add(out.fields, h.group, a)
	}
	return &out
}

// WithGroup implements slog.Handler.
func (h *Handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	out := *h
	out.lost = h.lost.WithGroup(name)
	out.group += fieldName(name) + "_"
	return &out
}

// add appends an attribute, or those of a group.
func add(fields []field, group string, a slog.Attr) []field {
	v := a.Value.Resolve()
	if a.Equal(slog.Attr{}) {
		return fields
	}
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			group += fieldName(a.Key) + "_"
		}
		for _, b := range v.Group() {
			fields = add(fields, group, b)
		}
		return fields
	}
	if len(fields) >= maxFields {
		return fields
	}
	return append(fields, field{group + fieldName(a.Key), text(v)})
}

// text writes a value as slog's own text handler does, without the quotes.
func text(v slog.Value) string {
	switch v.Kind() {
	case slog.KindTime:
		return v.Time().UTC().Format(time.RFC3339Nano)
	case slog.KindAny:
		if m, ok := v.Any().(interface{ MarshalText() ([]byte, error) }); ok {
			if b, err := m.MarshalText(); err == nil {
				return string(b)
			}
		}
		return fmt.Sprintf("%+v", v.Any())
	}
	return v.String()
}

// fieldName makes a name that the journal takes: capital letters, digits and
// underscores. Further attributes of that name are distinct values of one field.
func fieldName(key string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, key)
	if name == "" {
		return "FIELD"
	}
	return name
}

// priority is the syslog level of a record, RFC 5424 6.2.1.
func priority(l slog.Level) string {
	switch {
	case l < slog.LevelInfo:
		return "7"
	case l < slog.LevelWarn:
		return "6"
	case l < slog.LevelError:
		return "4"
	}
	return "3"
}

// encode writes an entry in the journal's native protocol,
// https://systemd.io/JOURNAL_NATIVE_PROTOCOL/.
func encode(l slog.Level, message string, fields []field) []byte {
	var line strings.Builder
	line.WriteString(message)
	for _, f := range fields {
		line.WriteString(" " + strings.ToLower(f.name) + "=")
		if f.value == "" || strings.ContainsAny(f.value, " \"=\n\t") {
			line.WriteString(strconv.Quote(f.value))
		} else {
			line.WriteString(f.value)
		}
	}
	b := appendField(nil, "MESSAGE", line.String())
	b = appendField(b, "PRIORITY", priority(l))
	b = appendField(b, "SYSLOG_IDENTIFIER", Identifier)
	b = appendField(b, eventField, message)
	for _, f := range fields {
		if len(b)+len(f.value) > maxMessage {
			break
		}
		name := Prefix + f.name
		b = appendField(b, name[:min(len(name), maxName)], f.value)
	}
	return b
}

// appendField writes one field: as a line, or with its length in front when the
// value has lines of its own.
func appendField(b []byte, name, value string) []byte {
	value = cut(value)
	b = append(b, name...)
	if strings.IndexByte(value, '\n') < 0 {
		b = append(append(b, '='), value...)
		return append(b, '\n')
	}
	b = append(b, '\n')
	n := uint64(len(value))
	for range 8 {
		b = append(b, byte(n))
		n >>= 8
	}
	return append(append(b, value...), '\n')
}

// cut keeps the beginning of what is too long.
func cut(s string) string {
	if len(s) <= maxValue {
		return s
	}
	return strings.ToValidUTF8(s[:maxValue-len("…")], "") + "…"
}
