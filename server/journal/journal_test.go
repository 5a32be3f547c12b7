package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"mailform/server/manifest"
)

// decode reads an entry of the native protocol as the journal does,
// https://systemd.io/JOURNAL_NATIVE_PROTOCOL/.
func decode(b []byte) (map[string]string, error) {
	fields := map[string]string{}
	for len(b) > 0 {
		line, rest, ok := bytes.Cut(b, []byte("\n"))
		if !ok {
			return nil, errors.New("the last field does not end")
		}
		name, value, inLine := bytes.Cut(line, []byte("="))
		if !inLine {
			if len(rest) < 8 {
				return nil, errors.New("no length")
			}
			n := binary.LittleEndian.Uint64(rest)
			if rest = rest[8:]; n >= uint64(len(rest)) || rest[n] != '\n' {
				return nil, fmt.Errorf("length %d of %d", n, len(rest))
			}
			value, rest = rest[:n], rest[n+1:]
		}
		if len(name) == 0 || len(name) > 64 || name[0] == '_' || name[0] >= '0' && name[0] <= '9' || strings.Trim(string(name), "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" {
			return nil, fmt.Errorf("name %q", name)
		}
		fields[string(name)] = string(value)
		b = rest
	}
	return fields, nil
}

func listen(t *testing.T) (path string, receive func() map[string]string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "j") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path = filepath.Join(dir, "s")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	buf := make([]byte, 256<<10)
	return path, func() map[string]string {
		t.Helper()
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		fields, err := decode(buf[:n])
		if err != nil {
			t.Fatalf("%v in %q", err, buf[:n])
		}
		return fields
	}
}

type secret string

func (secret) LogValue() slog.Value { return slog.StringValue("•••") }

func TestRecords(t *testing.T) {
	path, receive := listen(t)
	h, err := New(path, slog.LevelInfo, slog.DiscardHandler)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(h)
	if log.Enabled(t.Context(), slog.LevelDebug) {
		t.Error("a level below the least is enabled")
	}
	log.With("part", "queue").WithGroup("client").Warn("sent two\nlines", "queue-id", 7, "err", errors.New("a b"), "pass", secret("hunter2"),
		slog.Group("", "port", 25), slog.Group("tls", "version", "1.3"), slog.Attr{})
	got := receive()
	want := map[string]string{
		"PRIORITY": "4", "SYSLOG_IDENTIFIER": "mailformd", "MAILFORM_EVENT": "sent two\nlines", "MAILFORM_PART": "queue",
		"MAILFORM_CLIENT_QUEUE_ID": "7", "MAILFORM_CLIENT_ERR": "a b", "MAILFORM_CLIENT_PASS": "•••", "MAILFORM_CLIENT_PORT": "25", "MAILFORM_CLIENT_TLS_VERSION": "1.3",
		"MESSAGE": "sent two\nlines part=queue client_queue_id=7 client_err=\"a b\" client_pass=••• client_port=25 client_tls_version=1.3",
	}
	for name, v := range want {
		if got[name] != v {
			t.Errorf("%s is %q, want %q", name, got[name], v)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d fields, want %d: %q", len(got), len(want), got)
	}
	for level, priority := range map[slog.Level]string{slog.LevelInfo: "6", slog.LevelError: "3", slog.LevelError + 4: "3"} {
		log.Log(t.Context(), level, "x")
		if got := receive()["PRIORITY"]; got != priority {
			t.Errorf("%v has priority %s, want %s", level, got, priority)
		}
	}
}

// Whatever is logged fits into a datagram, and its beginning arrives.
func TestLongRecords(t *testing.T) {
	path, receive := listen(t)
	h, err := New(path, slog.LevelInfo, slog.DiscardHandler)
	if err != nil {
		t.Fatal(err)
	}
	var args []any
	for i := range 200 {
		args = append(args, "field"+strconv.Itoa(i), strings.Repeat("é", maxValue))
	}
	slog.New(h).Info("long", args...)
	got := receive()
	if got["MAILFORM_EVENT"] != "long" || !strings.HasSuffix(got["MAILFORM_FIELD0"], "é…") || len(got["MAILFORM_FIELD0"]) > maxValue || len(got) > maxFields+4 {
		t.Errorf("%d fields, the first has %d bytes", len(got), len(got["MAILFORM_FIELD0"]))
	}
}

// What the journal does not take is logged elsewhere, and a journal that was
// started again gets what follows.
func TestJournalAway(t *testing.T) {
	path, _ := listen(t)
	var lost bytes.Buffer
	h, err := New(path, slog.LevelInfo, slog.NewTextHandler(&lost, nil))
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(h).With("part", "smtp")
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	h.conn.conn.Close()
	log.Info("nobody hears")
	if !strings.Contains(lost.String(), `msg="nobody hears" part=smtp`) {
		t.Errorf("the other handler got %q", lost.String())
	}
	again, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	log.Info("back")
	buf := make([]byte, 4096)
	n, err := again.Read(buf)
	if fields, derr := decode(buf[:n]); err != nil || derr != nil || fields["MAILFORM_EVENT"] != "back" {
		t.Errorf("got %q, %v, %v", fields, err, derr)
	}
}

func TestConnected(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	for env, want := range map[string]bool{fmt.Sprintf("%d:%d", st.Dev, st.Ino): true, fmt.Sprintf("%d:%d", st.Dev, st.Ino+1): false, "": false, "x": false} {
		if got := Connected(func(string) string { return env }, f); got != want {
			t.Errorf("JOURNAL_STREAM=%q: %v", env, got)
		}
	}
}

// FuzzEncode: the journal reads every entry as it was meant, within its bounds.
func FuzzEncode(f *testing.F) {
	f.Add("message", "key", "value\nwith lines", -4)
	f.Add("", "", "\x00\xff=", 12)
	f.Add("=\n", "_ü=", strings.Repeat("x", maxValue+1), 0)
	f.Fuzz(func(t *testing.T, message, key, val string, level int) {
		r := slog.NewRecord(time.Time{}, slog.Level(level), message, 0)
		b := encode(r.Level, message, add(nil, "", slog.String(key, val)))
		fields, err := decode(b)
		if err != nil {
			t.Fatalf("%v in %q", err, b)
		}
		if len(b) > 4*maxValue+1024 {
			t.Errorf("%d bytes", len(b))
		}
		if fields[eventField] != cut(message) && (Prefix + fieldName(key))[:min(maxName, len(Prefix+fieldName(key)))] != eventField {
			t.Errorf("the message %q became %q", message, fields[eventField])
		}
	})
}

// FuzzParse: no line of journalctl's is too strange, and what was written is read again.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"__REALTIME_TIMESTAMP":"1763812800000000","MESSAGE":[104,105],"PRIORITY":"4"}`))
	f.Add([]byte(`{"__REALTIME_TIMESTAMP":"1","MESSAGE":null,"_SYSTEMD_UNIT":["a","b",[1,300]]}`))
	f.Add([]byte(`{"__REALTIME_TIMESTAMP":"-1"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, _, err := Parse(line)
		if err != nil {
			return
		}
		if !slices.Contains(manifest.LogLevels(), e.Level) {
			t.Errorf("level %q", e.Level)
		}
		b, err := json.Marshal(e)
		if err != nil {
			if e.Time.Year() > 9999 {
				return
			}
			t.Fatal(err)
		}
		var again manifest.LogEntry
		if err := json.Unmarshal(b, &again); err != nil {
			t.Fatal(err)
		}
	})
}

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		line string
		want manifest.LogEntry
	}{
		{`{"__CURSOR":"c","__REALTIME_TIMESTAMP":"1763812800000000","_SYSTEMD_UNIT":"mailformd.service","SYSLOG_IDENTIFIER":"mailformd","PRIORITY":"4","MESSAGE":"m k=v","MAILFORM_EVENT":"m","MAILFORM_K":"v"}`,
			manifest.LogEntry{Level: "warn", Unit: "mailformd.service", Message: "m", Fields: map[string]string{"k": "v"}}},
		{`{"__CURSOR":"c","__REALTIME_TIMESTAMP":"1763812800000000","_SYSTEMD_UNIT":"init.scope","UNIT":"mailformd.service","SYSLOG_IDENTIFIER":"systemd","MESSAGE":"Started."}`,
			manifest.LogEntry{Level: "info", Unit: "mailformd.service", Source: "systemd", Message: "Started."}},
		{`{"__CURSOR":"c","__REALTIME_TIMESTAMP":"1763812800000000","PRIORITY":"2","MESSAGE":[27,91,255,104,105]}`,
			manifest.LogEntry{Level: "error", Message: "\x1b[\ufffdhi"}},
		{`{"__CURSOR":"c","__REALTIME_TIMESTAMP":"1763812800000000","PRIORITY":"7","MESSAGE":["one",[116,119,111],null]}`,
			manifest.LogEntry{Level: "debug", Message: "one, two"}},
	} {
		tc.want.Time = time.Date(2025, 11, 22, 12, 0, 0, 0, time.UTC)
		got, cursor, err := Parse([]byte(tc.line))
		if err != nil || cursor != "c" || fmt.Sprint(got) != fmt.Sprint(tc.want) {
			t.Errorf("%s\n is %+v, %q, %v\nnot %+v", tc.line, got, cursor, err, tc.want)
		}
	}
}

// shelf is a journalctl with entries 0 to n-1, one a second, every third a warning.
type shelf struct {
	n    int
	args [][]string
}

func (s *shelf) run(_ context.Context, args []string, read func(io.Reader) error) error {
	s.args = append(s.args, args)
	var lines []string
	for i := range s.n {
		lines = append(lines, fmt.Sprintf(`{"__CURSOR":"%d","__REALTIME_TIMESTAMP":"%d","MESSAGE":"entry %d"}`+"\n", i, (1000+i)*1e6, i))
	}
	if slices.Contains(args, "--reverse") {
		slices.Reverse(lines)
	} else { // what comes
		lines = []string{fmt.Sprintf(`{"__REALTIME_TIMESTAMP":"5000000000","MESSAGE":"entry %d"}`+"\n", s.n), "damaged\n"}
	}
	return read(strings.NewReader(strings.Join(lines, "")))
}

func TestRead(t *testing.T) {
	now := time.Unix(2000, 0)
	for _, tc := range []struct {
		q    manifest.LogQuery
		n    int
		want string
		args string // of the last call
	}{
		{manifest.LogQuery{Lines: 2}, 5, "entry 3|entry 4", "--unit=mailformd.service --reverse"},
		{manifest.LogQuery{Lines: 9, Level: "warn"}, 2, "entry 0|entry 1", "--unit=mailformd.service --priority=4 --reverse"},
		{manifest.LogQuery{Lines: 2, Grep: "[024]$"}, 5, "entry 2|entry 4", "--unit=mailformd.service --reverse"},
		{manifest.LogQuery{Lines: 1, Unit: "ssh", AgoSeconds: 60}, 1, "entry 0", "--unit=ssh --reverse --since=@1940"},
		{manifest.LogQuery{Lines: 1, Since: time.Unix(7, 0)}, 1, "entry 0", "--unit=mailformd.service --reverse --since=@7"},
		{manifest.LogQuery{Lines: 1, Follow: true}, 5, "entry 4|entry 5", "--unit=mailformd.service --follow --no-tail --after-cursor=4"},
		{manifest.LogQuery{Follow: true, Since: time.Unix(7, 0)}, 5, "entry 5", "--unit=mailformd.service --follow --no-tail --after-cursor=4"},
		{manifest.LogQuery{Follow: true, Since: time.Unix(7, 0)}, 0, "entry 0", "--unit=mailformd.service --follow --no-tail --since=@7"},
		{manifest.LogQuery{Follow: true}, 0, "entry 0", "--unit=mailformd.service --follow --no-tail --since=@2000"},
		{manifest.LogQuery{Follow: true, Grep: "nothing"}, 1, "", "--unit=mailformd.service --follow --no-tail --after-cursor=0"},
	} {
		q, err := NewQuery(tc.q)
		if err != nil {
			t.Fatal(err)
		}
		s := &shelf{n: tc.n}
		var got []string
		if err := Read(t.Context(), s.run, q, now, func(e manifest.LogEntry) error {
			got = append(got, e.Message)
			return nil
		}); err != nil {
			t.Errorf("%+v: %v", tc.q, err)
		}
		args := s.args[len(s.args)-1]
		if strings.Join(got, "|") != tc.want || strings.Join(args[3:], " ") != tc.args {
			t.Errorf("%+v gives %q with %q", tc.q, got, args)
		}
	}
}

func TestBadQueries(t *testing.T) {
	for want, q := range map[string]manifest.LogQuery{
		"no name of a unit":  {Unit: "--flush"},
		"is none of debug":   {Level: "loud"},
		"may be 0 to":        {Lines: manifest.MaxLogLines + 1},
		"look for":           {Grep: "("},
		"lies in the future": {AgoSeconds: -1},
	} {
		if _, err := NewQuery(q); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want one about %q", q, err, want)
		}
	}
}

// A line of journalctl's that is too long is passed over, whatever comes after it.
func TestVeryLongEntry(t *testing.T) {
	line := func(n int, message string) string {
		return fmt.Sprintf(`{"__CURSOR":"%d","__REALTIME_TIMESTAMP":"%d","MESSAGE":"%s"}`+"\n", n, n, message)
	}
	text := line(3, "c") + line(2, strings.Repeat("x", maxEntry)) + line(1, "a")
	q, err := NewQuery(manifest.LogQuery{Lines: 10})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	err = Read(t.Context(), func(_ context.Context, _ []string, read func(io.Reader) error) error {
		return read(strings.NewReader(text))
	}, q, time.Now(),
		func(e manifest.LogEntry) error { got = append(got, e.Message); return nil })
	if err != nil || !slices.Equal(got, []string{"a", "c"}) {
		t.Errorf("%q %v", got, err)
	}
}
