package daemon

import (
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"mailform/server/store"
)

// trouble is a disk that fails as it is told.
type trouble struct {
	store.Mapped
	full   atomic.Bool                   // there is no room
	writes atomic.Pointer[syscall.Errno] // of writing octets
	syncs  atomic.Pointer[syscall.Errno] // of making them durable
}

func (d *trouble) Free(dir string) (int64, error) {
	if d.full.Load() {
		return 0, nil
	}
	return d.Mapped.Free(dir)
}

func (d *trouble) Create(name string) (store.File, error) {
	if err := d.writes.Load(); err != nil {
		return nil, *err
	}
	f, err := d.Mapped.Create(name)
	return &troubledFile{f, d}, err
}

func (d *trouble) Open(name string) (store.File, error) {
	f, err := d.Mapped.Open(name)
	if err != nil {
		return nil, err
	}
	return &troubledFile{f, d}, nil
}

type troubledFile struct {
	store.File
	d *trouble
}

func (f *troubledFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.d.writes.Load(); err != nil {
		n, _ := f.File.WriteAt(p[:len(p)/2], off) // a part has reached the disk
		return n, *err
	}
	return f.File.WriteAt(p, off)
}

func (f *troubledFile) Sync() error {
	if err := f.d.syncs.Load(); err != nil {
		return *err
	}
	return f.File.Sync()
}

// imapTalk is a client's side of IMAP.
type imapTalk struct {
	*talk
	n int
}

// command sends one and returns all that is answered; what follows a "\n" goes with it
// as the octets of a literal.
func (k *imapTalk) command(text string) string {
	k.t.Helper()
	k.n++
	tag := fmt.Sprintf("t%d ", k.n)
	if _, err := io.WriteString(k.conn, tag+strings.ReplaceAll(text, "\n", "\r\n")+"\r\n"); err != nil {
		k.t.Fatal(err)
	}
	var all strings.Builder
	for {
		line, err := k.r.ReadString('\n')
		if err != nil {
			k.t.Fatalf("%s: after %q: %v", text, all.String(), err)
		}
		all.WriteString(line)
		if strings.HasPrefix(line, tag) {
			return all.String()
		}
	}
}

// want sends a command whose last line has to begin so, behind the tag.
func (k *imapTalk) want(text, begin string) string {
	k.t.Helper()
	got := k.command(text)
	lines := strings.Split(strings.TrimSuffix(got, "\r\n"), "\r\n")
	if _, last, _ := strings.Cut(lines[len(lines)-1], " "); !strings.HasPrefix(last, begin) {
		k.t.Errorf("%s: got %q, want %s", text, got, begin)
	}
	return got
}

func (h *host) imap(user, password string) *imapTalk {
	h.t.Helper()
	k := &imapTalk{talk: h.dialService("imaps")}
	k.startTLS(nil)
	if _, err := k.r.ReadString('\n'); err != nil {
		h.t.Fatal(err)
	}
	k.want(fmt.Sprintf("LOGIN %s {%d+}\n%s", user, len(password), password), "OK")
	return k
}

// A disk that is full or fails refuses what is new, on every way in, and says that it is
// for now; what is there is read all the while. When the disk works again so does the
// server, on the same connections, and what was refused has left nothing behind.
func TestDiskTrouble(t *testing.T) {
	errno := func(e syscall.Errno) *syscall.Errno { return &e }
	for name, tc := range map[string]struct {
		begin func(*trouble)
		small string // the answer to changes that need next to no room: what is kept free is for them
	}{
		"no room":      {func(d *trouble) { d.full.Store(true) }, "OK"},
		"writes fail":  {func(d *trouble) { d.writes.Store(errno(syscall.ENOSPC)) }, "NO [UNAVAILABLE]"},
		"quota of it":  {func(d *trouble) { d.writes.Store(errno(syscall.EDQUOT)) }, "NO [UNAVAILABLE]"},
		"input/output": {func(d *trouble) { d.writes.Store(errno(syscall.EIO)) }, "NO [UNAVAILABLE]"},
		"syncs fail":   {func(d *trouble) { d.syncs.Store(errno(syscall.EIO)) }, "NO [UNAVAILABLE]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := &trouble{Mapped: store.Machine()}
			h := newHost(t)
			h.disk = disk
			h.writeCertificate(1)
			h.start()
			mx := h.dialService("smtp")
			mx.do("", "220")
			mx.do("EHLO mx.sender.example", "250")
			alice := h.dialService("submissions")
			alice.startTLS(nil)
			alice.do("", "220")
			alice.do("EHLO laptop", "250")
			alice.do(plain("alice@example.com", "alice's secret"), "235")
			bob := h.imap("bob@example.com", "bob's secret")
			send := func(k *talk, from, subject, want string) {
				t.Helper()
				k.do("MAIL FROM:<"+from+">", "250")
				k.do("RCPT TO:<bob@example.com>", "250")
				k.do("DATA", "354")
				k.do("From: "+from+"\r\nSubject: "+subject+"\r\n\r\ntext\r\n.", want)
			}
			appending := func(subject, want string) {
				t.Helper()
				text := "Subject: " + subject + "\r\n\r\ntext\r\n"
				bob.want(fmt.Sprintf("APPEND Drafts {%d+}\n%s", len(text), strings.ReplaceAll(text, "\r", "")), want)
			}
			send(mx, "carol@sender.example", "before", "250")
			bob.want("SELECT INBOX", "OK")

			tc.begin(disk)
			send(mx, "carol@sender.example", "refused", "452")
			send(alice, "alice@example.com", "refused", "452")
			appending("refused", "NO [UNAVAILABLE]")
			bob.want("COPY 1 Archive", tc.small)
			bob.want(`STORE 1 +FLAGS (\Flagged)`, tc.small)
			if got := bob.want("FETCH 1 BODY.PEEK[]", "OK"); !strings.Contains(got, "Subject: before\r\n\r\ntext\r\n") {
				t.Errorf("read %q", got)
			}

			// The log says so once, and not for each who was refused.
			log := h.logs.String()
			if n := strings.Count(log, "store: new mail is refused until"); n != 1 {
				t.Errorf("the log says %d times that the disk takes nothing", n)
			}
			if n := strings.Count(log, `"level":"ERROR"`); n > 2 { // and that a segment is left
				t.Errorf("%d errors in the log:\n%s", n, log)
			}

			disk.full.Store(false)
			disk.writes.Store(nil)
			disk.syncs.Store(nil)
			send(mx, "carol@sender.example", "after", "250")
			send(alice, "alice@example.com", "after", "250")
			appending("after", "OK")
			bob.want(`STORE 1 +FLAGS (\Flagged)`, "OK")
			copies := 0
			if tc.small == "OK" {
				copies = 1
			}
			for range 2 {
				for box, want := range map[string]int{"INBOX": 3, "Drafts": 1, "Archive": copies} {
					list := h.mailbox("bob@example.com", box)
					if len(list) != want || strings.Contains(strings.Join(list, ""), "refused") {
						t.Errorf("%s has %q", box, list)
					}
				}
				h.must(h.stop())
				h.start()
			}
		})
	}
}
