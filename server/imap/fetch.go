package imap

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"mailform/server/imap/mimetree"
	"mailform/server/store"
)

// fetchChunk is how many messages are marked as seen with one commit.
const fetchChunk = 100

// Fetch implements imapserver.Session.
func (s *session) Fetch(w *imapserver.FetchWriter, set imap.NumSet, o *imap.FetchOptions) error {
	s.begin()
	defer s.mu.Unlock()
	msgs, ok := s.view.resolve(set, s.saved)
	if !ok {
		return errRange()
	}
	var failed error
	for chunk := range slices.Chunk(msgs, fetchChunk) {
		if marksSeen(o) && !s.readOnly {
			s.markSeen(chunk)
		}
		for _, n := range chunk {
			if n.gone {
				continue
			}
			err := s.fetchOne(w, n, o)
			var broken *brokenError
			if errors.As(err, &broken) {
				// A literal was begun that cannot be ended: the client must not
				// take what follows for its octets.
				if !s.g.isOver() {
					s.log.Error("fetch broke off", "mailbox", s.mailbox, "uid", n.msg.UID, "err", err)
				}
				s.g.abort()
				return err
			}
			if err != nil {
				failed = err
				if !errors.Is(err, store.ErrNoMessage) && !errors.Is(err, store.ErrDamaged) {
					return s.answer(err, imap.ResponseCodeNonExistent)
				}
				s.log.Warn("fetch", "mailbox", s.mailbox, "uid", n.msg.UID, "err", err)
			}
		}
	}
	return s.answer(failed, imap.ResponseCodeNonExistent)
}

// marksSeen says whether a FETCH sets \Seen, RFC 9051 6.4.5.
func marksSeen(o *imap.FetchOptions) bool {
	return slices.ContainsFunc(o.BodySection, func(b *imap.FetchItemBodySection) bool { return !b.Peek }) ||
		slices.ContainsFunc(o.BinarySection, func(b *imap.FetchItemBinarySection) bool { return !b.Peek })
}

// markSeen sets \Seen where it is missing. That it cannot be set is no reason
// not to show a message.
func (s *session) markSeen(msgs []numbered) {
	var unseen []numbered
	for _, n := range msgs {
		if !n.gone && !hasFlag(n.msg, imap.FlagSeen) {
			unseen = append(unseen, n)
		}
	}
	if err := s.updateFlags(unseen, store.FlagsAdd, []string{string(imap.FlagSeen)}, false); err != nil {
		s.log.Warn("mark as seen", "mailbox", s.mailbox, "err", err)
	}
}

// brokenError is an error behind which the connection cannot go on.
type brokenError struct{ err error }

func (e *brokenError) Error() string { return e.err.Error() }
func (e *brokenError) Unwrap() error { return e.err }

// section is the octets of one body section.
type section struct {
	item   *imap.FetchItemBodySection
	binary *imap.FetchItemBinarySection
	r      io.Reader
	size   int64
}

// fetchOne answers for one message. What may fail is done before the response
// is begun.
func (s *session) fetchOne(w *imapserver.FetchWriter, n numbered, o *imap.FetchOptions) error {
	var sections []section
	var sizes []uint32
	var env *imap.Envelope
	var structure imap.BodyStructure
	if o.Envelope || o.BodyStructure != nil || len(o.BodySection)+len(o.BinarySection)+len(o.BinarySectionSize) > 0 {
		c, err := s.load(n.msg)
		if err != nil {
			return err
		}
		if o.Envelope {
			h, err := c.header()
			if err != nil {
				return err
			}
			env = envelope(h)
		}
		if o.BodyStructure != nil {
			tree, err := c.structure()
			if err != nil {
				return err
			}
			structure = bodyStructure(tree)
		}
		if sections, sizes, err = c.sections(o); err != nil {
			return err
		}
	}
	// A change that the client was not told yet comes along.
	flags := o.Flags || s.view.dirty[n.entry]
	r := w.CreateMessage(n.seq)
	if o.UID {
		r.WriteUID(imap.UID(n.msg.UID))
	}
	if flags {
		delete(s.view.dirty, n.entry)
		n.tell()
		r.WriteFlags(flagsOf(n.msg))
	}
	if o.InternalDate {
		r.WriteInternalDate(n.msg.InternalDate)
	}
	if o.RFC822Size {
		r.WriteRFC822Size(n.msg.Size)
	}
	if o.Envelope {
		r.WriteEnvelope(env)
	}
	if o.BodyStructure != nil {
		r.WriteBodyStructure(structure)
	}
	for i, item := range o.BinarySectionSize {
		r.WriteBinarySectionSize(item, sizes[i])
	}
	var err error
	for _, sec := range sections {
		if err = sec.write(r); err != nil {
			break
		}
	}
	if cerr := r.Close(); err == nil && cerr != nil {
		err = &brokenError{cerr}
	}
	return err
}

func (sec section) write(r *imapserver.FetchResponseWriter) error {
	var wc io.WriteCloser
	if sec.binary != nil {
		wc = r.WriteBinarySection(sec.binary, sec.size)
	} else {
		wc = r.WriteBodySection(sec.item, sec.size)
	}
	_, err := io.Copy(wc, sec.r)
	if cerr := wc.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return &brokenError{err}
	}
	return nil
}

// sections gets the body sections ready: what they are and how long.
func (c *content) sections(o *imap.FetchOptions) (l []section, sizes []uint32, err error) {
	for _, item := range o.BodySection {
		r, size, err := c.bodySection(item)
		if err != nil {
			return nil, nil, err
		}
		r, size = cut(r, size, item.Partial)
		l = append(l, section{item: item, r: r, size: size})
	}
	for _, item := range o.BinarySection {
		r, size, err := c.binarySection(item.Part)
		if err != nil {
			return nil, nil, err
		}
		r, size = cut(r, size, item.Partial)
		l = append(l, section{binary: item, r: r, size: size})
	}
	for _, item := range o.BinarySectionSize {
		_, size, err := c.binarySection(item.Part)
		if err != nil {
			return nil, nil, err
		}
		sizes = append(sizes, uint32(min(size, 1<<32-1)))
	}
	return l, sizes, nil
}

// cut takes the partial range out of a section, RFC 9051 6.4.5.
func cut(r io.Reader, size int64, p *imap.SectionPartial) (io.Reader, int64) {
	if p == nil {
		return r, size
	}
	start := min(max(p.Offset, 0), size)
	n := min(max(p.Size, 0), size-start)
	if sk, ok := r.(io.Seeker); ok {
		if _, err := sk.Seek(start, io.SeekStart); err == nil {
			return io.LimitReader(r, n), n
		}
	}
	return io.LimitReader(&skipReader{r: r, n: start}, n), n
}

// skipReader passes over the first n octets.
type skipReader struct {
	r io.Reader
	n int64
}

func (s *skipReader) Read(p []byte) (int, error) {
	if s.n > 0 {
		k, err := io.CopyN(io.Discard, s.r, s.n)
		if s.n -= k; err != nil {
			return 0, err
		}
	}
	return s.r.Read(p)
}

// bodySection returns a section's octets, as they stand in the message. A part
// that does not exist is empty.
func (c *content) bodySection(item *imap.FetchItemBodySection) (io.Reader, int64, error) {
	span := func(s mimetree.Span) (io.Reader, int64, error) { return c.reader(s), s.Len(), nil }
	if len(item.Part) == 0 && item.Specifier == imap.PartSpecifierNone {
		return span(mimetree.Span{End: c.size})
	}
	tree, err := c.structure()
	if err != nil {
		return nil, 0, err
	}
	p := tree.Find(item.Part)
	if p == nil {
		return bytes.NewReader(nil), 0, nil
	}
	if len(item.Part) > 0 && (item.Specifier == imap.PartSpecifierHeader || item.Specifier == imap.PartSpecifierText) {
		// RFC 9051 6.4.5.1: these are of a message within.
		if p = p.Message; p == nil {
			return bytes.NewReader(nil), 0, nil
		}
	}
	switch item.Specifier {
	case imap.PartSpecifierMIME:
		return span(p.Header)
	case imap.PartSpecifierText:
		return span(p.Body)
	case imap.PartSpecifierHeader:
		fields, not := item.HeaderFields, false
		if len(item.HeaderFieldsNot) > 0 {
			fields, not = item.HeaderFieldsNot, true
		}
		if len(fields) == 0 {
			return span(p.Header)
		}
		b := p.Fields.Bytes(func(name string) bool {
			return not != slices.ContainsFunc(fields, func(f string) bool { return strings.EqualFold(f, name) })
		})
		return bytes.NewReader(b), int64(len(b)), nil
	default:
		return span(p.Body)
	}
}

// binarySection returns a part's octets without their transfer encoding, RFC
// 9051 6.4.5.2. The empty part is the whole message as it stands.
func (c *content) binarySection(part []int) (io.Reader, int64, error) {
	if len(part) == 0 {
		s := mimetree.Span{End: c.size}
		return c.reader(s), c.size, nil
	}
	tree, err := c.structure()
	if err != nil {
		return nil, 0, err
	}
	p := tree.Find(part)
	if p == nil {
		return bytes.NewReader(nil), 0, nil
	}
	if e := p.Encoding(); p.Multipart() || e != "base64" && e != "quoted-printable" {
		return c.reader(p.Body), p.Body.Len(), nil
	}
	// How long it is only decoding tells; a literal must say so beforehand.
	size, err := io.Copy(io.Discard, mimetree.Decoded(p.Encoding(), c.reader(p.Body)))
	if err != nil {
		return nil, 0, err
	}
	return mimetree.Decoded(p.Encoding(), c.reader(p.Body)), size, nil
}
