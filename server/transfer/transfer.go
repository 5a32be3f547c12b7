// Package transfer brings mail into accounts and out of them: from a Maildir,
// mbox files or another IMAP server, to a Maildir or mbox files.
//
// A Source is walked message by message. What is there already is known by an id
// made of where a message comes from, so that an import that was cut short, or is
// run again after more mail has come, only takes what is missing. Messages go to
// the server in batches, each durable when it is answered; memory is bounded by
// two batches, and longer messages wait in a file.
//
// It imports server/store.
package transfer

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// Message is one message of a source, or a mailbox without one.
type Message struct {
	Mailbox    string // our name: '/' between levels, UTF-8
	SpecialUse string // `\Sent` and so on, if the source says it
	Flags      []string
	Date       time.Time // zero: unknown
	// ID names the message within its source, and never another one. "" lets its
	// content be its name.
	ID string
	// Body is read before the next message is visited; nil announces a mailbox.
	// Line ends may be LF or CRLF.
	Body io.Reader
	// Size is what the message has with CRLF line ends, where the source knows that of
	// one whose last line may have lacked its end; else 0.
	Size int64
	// Exact keeps Mailbox as it is: it is not another program's name for a special one.
	Exact bool
	// Scope is what messages without an ID are told apart within; "" is Mailbox.
	Scope string
	// Deleted messages have no body: a mail program has deleted them, and only not yet
	// taken them out of its file.
	Deleted bool
}

// LeftOut is what reading a message ends with that the source cannot give whole: it
// is left out and counted, and the import goes on with the next.
type LeftOut struct{ Why string }

func (e *LeftOut) Error() string { return e.Why }

// Source is where mail is.
type Source interface {
	// Walk calls visit for each mailbox and each message in it, oldest first where
	// that is known. It does not read messages for which want(ID) is false.
	Walk(ctx context.Context, want func(id string) bool, visit func(*Message) error) error
	// Name tells sources apart whose messages may have the same ids; it stays when
	// the source is reached by another path.
	Name() string
}

// objectID is what a message of a source is kept under, RFC 8474 4. The "I"
// tells imported messages from those that came by mail.
func objectID(source, id string) objectKey {
	sum := sha256.Sum256([]byte(source + "\x00" + id))
	return objectKey(sum[:20])
}

// objectKey is an object id in as little memory as it takes: an account may have a
// million of them.
type objectKey [20]byte

func (k objectKey) String() string { return "I" + base32NoPadding().EncodeToString(k[:]) }

// parseKey is the reverse of String; ok is false for ids that are none of ours.
func parseKey(id string) (k objectKey, ok bool) {
	rest, ok := strings.CutPrefix(id, "I")
	if !ok {
		return k, false
	}
	b, err := base32NoPadding().DecodeString(rest)
	if err != nil || len(b) != len(k) {
		return k, false
	}
	return objectKey(b), true
}

func base32NoPadding() *base32.Encoding { return base32.StdEncoding.WithPadding(base32.NoPadding) }

const (
	batchBytes    = 8 << 20 // of one request
	batchMessages = 500
	keepInMemory  = 1 << 20 // a longer message waits in a file
)

// Importer brings a source into an account.
type Importer struct {
	Server   Server
	Account  string
	Map      map[string]string // names of mailboxes in the source to ours; "" leaves one out
	TempDir  string            // for long messages; "" for the system's
	Progress func(Counts)      // called after each batch; may be nil
	DryRun   bool              // count, and change nothing
}

// Server is the running mail server.
type Server interface {
	// Begin says that an import into the account begins. Batches of one that began
	// before, and may still be under way, are refused from now on: what Imported says
	// afterwards stays true until this import changes it.
	Begin(ctx context.Context, account string) error
	// Imported returns the object ids of the account's imported messages.
	Imported(ctx context.Context, account string) ([]string, error)
	// Import makes a batch durable: frames as Batch writes them.
	Import(ctx context.Context, account string, frames io.Reader, length int64) error
}

// Counts says how far an import is.
type Counts struct {
	Mailboxes int   `json:"mailboxes"`
	Imported  int   `json:"imported"`
	Present   int   `json:"present"` // were there already
	Skipped   int   `json:"skipped"` // in mailboxes that were left out
	Deleted   int   `json:"deleted"` // only not yet taken out of a mail program's file
	Failed    int   `json:"failed"`  // the source could not give them; the warnings say why
	Bytes     int64 `json:"bytes"`   // of imported messages
	// Folders is what went where, by our names; only in what Run and Export return.
	Folders map[string]Folder `json:"folders,omitempty"`
}

// Folder is what came into one mailbox.
type Folder struct {
	Messages int   `json:"messages"`
	Bytes    int64 `json:"bytes"`
}

func (f Folder) plus(other Folder) Folder {
	return Folder{f.Messages + other.Messages, f.Bytes + other.Bytes}
}

// Run imports all of source. What it counted is true also when it fails: run
// it again to continue.
func (im *Importer) Run(ctx context.Context, source Source) (Counts, error) {
	if !im.DryRun {
		if err := im.Server.Begin(ctx, im.Account); err != nil {
			return Counts{}, err
		}
	}
	ids, err := im.Server.Imported(ctx, im.Account)
	if err != nil {
		return Counts{}, err
	}
	r := &run{Importer: im, source: source.Name(), present: make(map[objectKey]struct{}, len(ids)), taker: newTaker(im.TempDir), seen: map[string]bool{}, same: map[objectKey]int32{}}
	for _, id := range ids {
		if k, ok := parseKey(id); ok {
			r.present[k] = struct{}{}
		}
	}
	ids = nil
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r.sender = startSender(ctx, cancel, im)
	err = source.Walk(ctx, r.want, func(m *Message) error { return r.visit(ctx, m) })
	if ferr := r.flush(ctx); err == nil { // what came before a source failed is kept
		err = ferr
	}
	sent, serr := r.sender.close()
	r.counts.Imported, r.counts.Bytes, r.counts.Folders = sent.Imported, sent.Bytes, sent.Folders
	if serr != nil {
		err = serr // the first cause; Walk saw only that it was to stop
	}
	return r.counts, err
}

// run is one import.
type run struct {
	*Importer
	source  string
	present map[objectKey]struct{} // messages that the account has
	taker   *taker
	seen    map[string]bool     // mailboxes
	same    map[objectKey]int32 // messages named by their content, met so far
	counts  Counts
	batch   *batch
	sender  *sender
}

func (r *run) want(id string) bool {
	if _, has := r.present[objectID(r.source, id)]; id == "" || !has {
		return true
	}
	r.counts.Present++
	return false
}

func (r *run) visit(ctx context.Context, m *Message) error {
	name, ok := r.target(m)
	switch {
	case m.Deleted:
		r.counts.Deleted++
		return nil
	case !ok:
		if m.Body != nil {
			r.counts.Skipped++
		}
		return nil
	}
	first := !r.seen[name]
	if first {
		r.seen[name] = true
		r.counts.Mailboxes++
	}
	h := header{Mailbox: name, Flags: m.Flags, Date: m.Date}
	if m.Body == nil {
		if !first {
			return nil
		}
		return r.add(ctx, h, nil)
	}
	b, sum, err := r.taker.take(m.Body, m.ID == "")
	if errors.As(err, new(*LeftOut)) {
		r.counts.Failed++
		return nil
	}
	if err != nil {
		return fmt.Errorf("a message of %s: %w", m.Mailbox, err)
	}
	if m.Size > 0 && b.size > m.Size && b.size <= m.Size+2 { // the format wanted a last line's end
		b.size = m.Size
	}
	id := m.ID
	if id == "" {
		id = cmp.Or(m.Scope, m.Mailbox) + "\x00" + sum
		k := objectID(r.source, id)
		if r.same[k]++; r.same[k] > 1 { // the same octets twice are two messages
			id += "\x00" + strconv.Itoa(int(r.same[k]))
		}
		if !r.want(id) {
			return b.Close()
		}
	}
	key := objectID(r.source, id)
	h.ID, h.Size = key.String(), b.size
	r.present[key] = struct{}{}
	return r.add(ctx, h, b)
}

// add puts a message into the batch, and sends batches that are full.
func (r *run) add(ctx context.Context, h header, b *taken) error {
	if r.batch != nil && b != nil && r.batch.bytes+b.size > batchBytes {
		if err := r.flush(ctx); err != nil {
			return err
		}
	}
	if r.batch == nil {
		r.batch = &batch{}
	}
	if err := r.batch.add(h, b); err != nil {
		return err
	}
	if len(r.batch.parts) < 2*batchMessages && r.batch.bytes < batchBytes {
		return nil
	}
	return r.flush(ctx)
}

func (r *run) flush(ctx context.Context) error {
	b := r.batch
	r.batch = nil
	if b == nil {
		return nil
	}
	return r.sender.send(ctx, b, r.counts)
}

// wellKnown are names that other servers and programs give to the special mailboxes.
var wellKnown = map[string]string{
	"sent items": "Sent", "sent messages": "Sent", "sent mail": "Sent", "sent-mail": "Sent",
	"deleted items": "Trash", "deleted messages": "Trash", "bin": "Trash",
	"junk e-mail": "Junk", "junk email": "Junk", "spam": "Junk", "bulk mail": "Junk",
	"draft": "Drafts", "archives": "Archive",
}

// target is the mailbox a message goes to: what the person says, else the
// special mailbox for the same use, else the one of the same name.
func (r *run) target(m *Message) (string, bool) {
	if to, ok := r.Map[m.Mailbox]; ok {
		return to, to != ""
	}
	if m.Exact {
		return possible(m.Mailbox), true
	}
	switch m.SpecialUse {
	case `\Sent`, `\Drafts`, `\Trash`, `\Junk`, `\Archive`:
		return m.SpecialUse[1:], true
	}
	if to := wellKnown[strings.ToLower(m.Mailbox)]; to != "" {
		return to, true
	}
	return possible(m.Mailbox), true
}

// taken is a message with CRLF line ends, in memory or in a file without a name.
type taken struct {
	data []byte
	file *os.File
	size int64
}

// taker reads messages, one after the other, with one buffer.
type taker struct {
	dir string // for long messages; "" for the system's
	buf []byte
}

func newTaker(dir string) *taker { return &taker{dir, make([]byte, 64<<10)} }

// take reads a message to its end, and says the hash of what it read if that is wanted.
func (k *taker) take(r io.Reader, hashed bool) (_ *taken, sum string, err error) {
	t := &taken{}
	w := &crlfWriter{t: t, dir: k.dir}
	if hashed {
		w.sum = sha256.New()
	}
	defer func() {
		if err != nil {
			_ = t.Close()
		}
	}()
	if _, err := io.CopyBuffer(w, struct{ io.Reader }{r}, k.buf); err != nil {
		return nil, "", err
	}
	if err := w.flush(); err != nil {
		return nil, "", err
	}
	if hashed {
		sum = fmt.Sprintf("%x", w.sum.Sum(nil)[:20])
	}
	return t, sum, nil
}

func (t *taken) reader() io.Reader {
	if t.file == nil {
		return bytes.NewReader(t.data[:t.size])
	}
	return io.NewSectionReader(t.file, 0, t.size)
}

// Close frees what the message holds.
func (t *taken) Close() error {
	t.data = nil
	if t.file == nil {
		return nil
	}
	f := t.file
	t.file = nil
	return f.Close()
}

// crlfWriter makes every line end CRLF. A CR without LF stays: it is a part of its line.
type crlfWriter struct {
	t   *taken
	dir string
	sum hash.Hash // nil when it is not wanted
	cr  bool
}

func (w *crlfWriter) Write(p []byte) (int, error) {
	n := len(p)
	if w.t.data == nil { // of most messages this is all
		w.t.data = make([]byte, 0, len(p)+bytes.Count(p, []byte{'\n'}))
	}
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			w.cr = p[len(p)-1] == '\r'
			w.t.data = append(w.t.data, p...)
			break
		}
		if i > 0 {
			w.cr = p[i-1] == '\r'
		}
		w.t.data = append(w.t.data, p[:i]...)
		if !w.cr {
			w.t.data = append(w.t.data, '\r')
		}
		w.t.data = append(w.t.data, '\n')
		w.cr = false
		p = p[i+1:]
		if len(w.t.data) > keepInMemory {
			if err := w.flush(); err != nil {
				return 0, err
			}
		}
	}
	if len(w.t.data) > keepInMemory {
		return n, w.flush()
	}
	return n, nil
}

// flush counts what has gathered; of a long message it goes to a file.
func (w *crlfWriter) flush() error {
	t := w.t
	if w.sum != nil {
		_, _ = w.sum.Write(t.data) // cannot fail
	}
	if t.file == nil {
		t.size = int64(len(t.data))
		if t.size <= keepInMemory {
			return nil
		}
		f, err := os.CreateTemp(w.dir, "mailform-import-")
		if err != nil {
			return err
		}
		t.file, t.size = f, 0
		if err := os.Remove(f.Name()); err != nil {
			return err
		}
	}
	n, err := t.file.WriteAt(t.data, t.size)
	t.size += int64(n)
	t.data = t.data[:0]
	return err
}
