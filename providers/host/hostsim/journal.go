package hostsim

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// journal stands in for systemd-journald: it takes entries in the native protocol
// and the lines that services write, and keeps them in a file as `journalctl
// --output=json` prints them. A cursor is an entry's place in the file.
type journal struct {
	conn *net.UnixConn

	mu      sync.Mutex
	file    *os.File
	size    int64
	changed chan struct{} // closed when an entry was added, and made anew
	wg      sync.WaitGroup
}

// maxJournalLine bounds one entry, in bytes.
const maxJournalLine = 1 << 20

func journalFile(h *Host) string { return h.path("/var/log/journal/system.jsonl") }

func newJournal(h *Host) (*journal, error) {
	socket := h.path("/run/systemd/journal/socket")
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		return nil, err
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(journalFile(h), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		conn.Close()
		return nil, err
	}
	j := &journal{conn: conn, file: f, changed: make(chan struct{})}
	if info, err := f.Stat(); err == nil {
		j.size = info.Size()
	}
	j.wg.Add(1)
	go j.receive()
	return j, nil
}

func (j *journal) close() {
	j.conn.Close()
	j.wg.Wait()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.file.Close()
}

// receive takes entries in the native protocol. Whose they are the kernel would
// say; here it is their SYSLOG_IDENTIFIER.
func (j *journal) receive() {
	defer j.wg.Done()
	buf := make([]byte, 256<<10)
	for {
		n, err := j.conn.Read(buf)
		if err != nil {
			return
		}
		if fields, err := parseNative(buf[:n]); err == nil {
			fields["_TRANSPORT"] = "journal"
			fields["_SYSTEMD_UNIT"] = fields["SYSLOG_IDENTIFIER"] + ".service"
			j.add(fields)
		}
	}
}

// parseNative reads one entry, https://systemd.io/JOURNAL_NATIVE_PROTOCOL/.
func parseNative(b []byte) (map[string]string, error) {
	fields := map[string]string{}
	for len(b) > 0 {
		line, rest, ok := bytes.Cut(b, []byte("\n"))
		if !ok {
			return nil, errors.New("the last field does not end")
		}
		name, value, ok := bytes.Cut(line, []byte("="))
		if !ok {
			if len(rest) < 8 {
				return nil, errors.New("a length is missing")
			}
			n := binary.LittleEndian.Uint64(rest)
			if rest = rest[8:]; n >= uint64(len(rest)) || rest[n] != '\n' {
				return nil, errors.New("a length is wrong")
			}
			value, rest = rest[:n], rest[n+1:]
		}
		if len(name) == 0 || len(name) > 64 || name[0] == '_' || strings.Trim(string(name), "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" {
			return nil, fmt.Errorf("%q is no name of a field", name)
		}
		fields[string(name)] = string(value)
		b = rest
	}
	return fields, nil
}

// add keeps an entry.
func (j *journal) add(fields map[string]string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	fields["__CURSOR"] = "i=" + strconv.FormatInt(j.size, 16)
	fields["__REALTIME_TIMESTAMP"] = strconv.FormatInt(time.Now().UnixMicro(), 10)
	line, err := json.Marshal(fields)
	if err != nil || len(line) >= maxJournalLine {
		return
	}
	n, _ := j.file.Write(append(line, '\n'))
	j.size += int64(n)
	close(j.changed)
	j.changed = make(chan struct{})
}

// lines gives what a service writes to its standard output and error: the file to
// write to, how JOURNAL_STREAM names it, and what is closed once all was read.
func (j *journal) lines(unit string) (w *os.File, stream string, read <-chan struct{}, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, "", nil, err
	}
	if info, err := w.Stat(); err == nil {
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			stream = fmt.Sprintf("%d:%d", st.Dev, st.Ino)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer r.Close()
		sc := bufio.NewScanner(r)
		sc.Buffer(nil, maxJournalLine/2)
		for sc.Scan() {
			j.add(map[string]string{
				"MESSAGE": strings.ToValidUTF8(sc.Text(), "?"), "PRIORITY": "6", "_TRANSPORT": "stdout", "_SYSTEMD_UNIT": unit,
				"SYSLOG_IDENTIFIER": strings.TrimSuffix(unit, ".service"),
			})
		}
		io.Copy(io.Discard, r)
	}()
	return w, stream, done, nil
}

// logf is what systemd itself says about a unit.
func (s *supervisor) logf(name, format string, args ...any) {
	s.journal.add(map[string]string{"MESSAGE": fmt.Sprintf(format, args...), "PRIORITY": "5", "SYSLOG_IDENTIFIER": "systemd", "_SYSTEMD_UNIT": "init.scope", "UNIT": name})
}

// Log returns what a unit has logged since the root folder was made, a line for each entry.
func (h *Host) Log(unit string) string {
	var b strings.Builder
	h.entries(journalQuery{unit: unit}, 0, func(e map[string]string, _ []byte) {
		b.WriteString(journalText(e) + "\n")
	})
	return b.String()
}

func journalText(e map[string]string) string {
	if e["UNIT"] != "" {
		return "systemd: " + e["MESSAGE"]
	}
	return e["MESSAGE"]
}

// journalQuery is what journalctl was asked.
type journalQuery struct {
	unit     string
	lines    int // -1: all
	json     bool
	reverse  bool
	follow   bool
	noTail   bool
	priority int
	since    int64 // µs since 1970
	after    int64 // place in the file; -1: from its beginning
}

func parseJournalctl(args []string) (journalQuery, error) {
	q := journalQuery{lines: -1, priority: 7, after: -1}
	number := func(v string, base int, into *int64) error {
		n, err := strconv.ParseInt(v, base, 64)
		if err != nil || n < 0 {
			return fmt.Errorf("bad number %q", v)
		}
		*into = n
		return nil
	}
	starts := 0
	for _, a := range args {
		k, v, _ := strings.Cut(a, "=")
		var n int64
		var err error
		switch k {
		case "--unit":
			q.unit = v
		case "--lines":
			err = number(v, 10, &n)
			q.lines = int(n)
		case "--priority":
			err = number(v, 10, &n)
			q.priority = int(n)
		case "--since":
			starts++
			err = number(strings.TrimPrefix(v, "@"), 10, &n)
			q.since = n * 1e6
		case "--after-cursor":
			starts++
			err = number(strings.TrimPrefix(v, "i="), 16, &q.after)
		case "--output":
			q.json = v == "json"
		case "--reverse":
			q.reverse = true
		case "--follow":
			q.follow = true
		case "--no-tail":
			q.noTail = true
		case "--all", "--no-pager":
		default:
			err = fmt.Errorf("option %s is not simulated", a)
		}
		if err != nil {
			return q, err
		}
	}
	if starts > 1 {
		return q, errors.New("Please specify only one of --since=, --cursor=, and --after-cursor=.")
	}
	if q.follow && q.lines < 0 && !q.noTail {
		q.lines = 10
	}
	return q, nil
}

// entries gives those that a query asks for from a place in the file on, and the
// place of the next.
func (h *Host) entries(q journalQuery, from int64, do func(e map[string]string, line []byte)) (next int64) {
	b, err := os.ReadFile(journalFile(h))
	if err != nil && !errors.Is(err, fs.ErrNotExist) || int64(len(b)) < from {
		return from
	}
	for line := range bytes.Lines(b[from:]) {
		if line[len(line)-1] != '\n' {
			break // it is being written
		}
		at := from
		from += int64(len(line))
		var e map[string]string
		if json.Unmarshal(line, &e) != nil {
			continue
		}
		micros, _ := strconv.ParseInt(e["__REALTIME_TIMESTAMP"], 10, 64)
		priority, _ := strconv.Atoi(e["PRIORITY"])
		if q.unit != "" && e["_SYSTEMD_UNIT"] != q.unit && e["UNIT"] != q.unit ||
			q.json && (micros < q.since || priority > q.priority || q.after >= 0 && at <= q.after) {
			continue
		}
		do(e, line)
	}
	return from
}

// journalctl prints entries, and those that come while gone stays open.
func (s *supervisor) journalctl(args []string, gone <-chan struct{}, print func(string) error) error {
	q, err := parseJournalctl(args)
	if err != nil {
		return err
	}
	var out []string
	collect := func(e map[string]string, line []byte) {
		text := journalText(e) + "\n"
		if q.json {
			text = string(line)
		}
		out = append(out, text)
	}
	s.journal.mu.Lock()
	changed := s.journal.changed
	s.journal.mu.Unlock()
	next := s.host.entries(q, 0, collect)
	if q.lines >= 0 {
		out = out[max(0, len(out)-q.lines):]
	}
	if q.reverse {
		slices.Reverse(out)
	}
	for {
		if err := print(strings.Join(out, "")); err != nil || !q.follow {
			return err
		}
		select {
		case <-gone:
			return nil
		case <-changed:
		}
		s.journal.mu.Lock()
		changed = s.journal.changed
		s.journal.mu.Unlock()
		out = nil
		next = s.host.entries(q, next, collect)
	}
}
