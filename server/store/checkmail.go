package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"mailform/server/store/seal"
)

// stretch is octets of a segment, from and up to an offset.
type stretch struct{ from, to int64 }

// checkMessages finds the messages and queue entries whose octets cannot be read, or
// are another's. bad are the stretches that are known to be damaged.
func (l *Log) checkMessages(ctx context.Context, bad map[uint64][]stretch) (errs []error) {
	whole := map[placeOf]bool{} // long ones that were opened to their end
	buf := make([]byte, blobBlock)
	err := l.eachHolder(ctx, 0, func(h holder) {
		if h.ref.Size == 0 {
			return
		}
		if err := l.checkHolder(&h, bad, whole, buf); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", l.describe(&h), err))
		}
	})
	if err != nil {
		errs = append(errs, err)
	}
	return errs
}

func (l *Log) checkHolder(h *holder, bad map[uint64][]stretch, whole map[placeOf]bool, buf []byte) error {
	b, err := l.openBlob(h.ref, h.reading())
	if errors.Is(err, ErrNoMessage) && l.ix.refs.of(h.ref.Segment) == 0 {
		return nil // expunged since
	}
	if err != nil {
		return err
	}
	sealed := b.coded != nil && b.coded.kind == recordSealed && b.keys != nil
	if sealed {
		err = b.unlock()
	}
	at, n := placeOf{h.ref.Segment, h.ref.Offset}, blocks(b.ref.Size)
	hit := slices.ContainsFunc(bad[h.ref.Segment], func(s stretch) bool {
		return s.from < h.ref.Offset+h.ref.recordSize() && h.ref.Offset < s.to
	})
	if err == nil && (sealed && !whole[at] || hit) {
		for i := int64(0); i < n && err == nil; i++ {
			if sealed {
				_, err = b.block(i, buf)
			} else {
				_, err = b.stored(i, make([]byte, storedBlock))
			}
		}
		if err == nil && n > 1 {
			whole[at] = true
		}
	}
	return errors.Join(err, l.seg.release(b.seg))
}

// describe says whose reference it is: enough for a person to know the message by, and
// nothing of what is in it but its Message-ID, where its header can be read.
func (l *Log) describe(h *holder) string {
	if h.account == seal.Server {
		text := "queue entry " + h.id
		l.ix.mu.RLock()
		defer l.ix.mu.RUnlock()
		if e := l.ix.queue[h.id]; e != nil {
			text += fmt.Sprintf(" (from <%s> to %s, since %s)", e.From, strings.Join(e.Recipients, ", "), e.Queued.UTC().Format(time.DateTime))
		}
		return text
	}
	name := fmt.Sprintf("mailbox %d", h.box)
	if a := l.ix.lookup(h.account); a != nil {
		a.mu.RLock()
		if m := a.boxes[h.box]; m != nil {
			name = m.name
		}
		a.mu.RUnlock()
	}
	part := "its body"
	if h.part == seal.PartHead {
		part = "the header lines from its delivery"
	}
	facts := []string{"of " + h.date.Format("2006-01-02 15:04:05 -0700"), fmt.Sprintf("%d octets", h.size), "EMAILID " + h.object}
	if id := l.messageID(h); id != "" {
		facts = append(facts, "Message-ID "+id)
	}
	return fmt.Sprintf("%s, %s, UID %d (%s), %s", h.account, name, h.uid, strings.Join(facts, ", "), part)
}

// maxHeader is how much of a damaged message is looked through for its Message-ID.
const maxHeader = blobBlock

// messageID is the Message-ID of a message of which not all can be read; "" when it is
// in what cannot.
func (l *Log) messageID(h *holder) string {
	if h.part != seal.PartBody {
		return ""
	}
	r, err := l.newReader(nil, part{h.ref, h.reading()})
	if err != nil {
		return ""
	}
	defer r.Close()
	in := bufio.NewReader(io.LimitReader(r, maxHeader))
	for {
		line, err := in.ReadString('\n')
		text := strings.TrimRight(line, "\r\n")
		if name, value, ok := strings.Cut(text, ":"); ok && strings.EqualFold(strings.TrimSpace(name), "Message-ID") {
			if strings.TrimSpace(value) == "" { // folded
				value, _ = in.ReadString('\n')
			}
			return plainID(strings.TrimSpace(value))
		}
		if err != nil || text == "" {
			return ""
		}
	}
}

// plainID is a Message-ID that may be shown: no white space, nothing but ASCII.
func plainID(s string) string {
	if len(s) > 300 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return ""
	}
	return s
}
