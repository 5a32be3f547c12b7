package transfer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"mailform/server/store"
)

// Imported lists the object ids of messages that Receive has put into an account.
func Imported(ctx context.Context, s store.Store, account string, visit func(id string) error) error {
	boxes, err := s.Mailboxes(ctx, account)
	if err != nil {
		return err
	}
	for _, b := range boxes {
		snap, watch, err := s.Open(ctx, account, b.Name)
		if errors.Is(err, store.ErrNoMailbox) {
			continue
		}
		if err != nil {
			return err
		}
		watch.Close()
		for _, m := range snap.Messages.All() {
			if strings.HasPrefix(m.ObjectID, "I") {
				if err := visit(m.ObjectID); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// Receive puts a batch into the account, all or none. When all of it is here commit
// calls what it is given, which stores it, unless there is a reason not to.
func Receive(ctx context.Context, s store.Store, account string, frames io.Reader, commit func(func() error) error) error {
	r := bufio.NewReaderSize(frames, 64<<10)
	k := newTaker("")
	var list []store.Incoming
	total := int64(0)
	for {
		h, err := readFrame(r)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		in := store.Incoming{Mailbox: h.Mailbox, Flags: h.Flags, InternalDate: h.Date, ObjectID: h.ID, Size: h.Size}
		if h.ID != "" {
			if total += h.Size; total > maxBatch || len(list) > maxList {
				return fmt.Errorf("a batch has more than %d messages or %d octets", maxList, maxBatch)
			}
			body, _, err := k.take(io.LimitReader(r, h.Size), false)
			if err != nil {
				return err
			}
			defer body.Close()
			if body.size != h.Size {
				return fmt.Errorf("a message of %d octets was to have %d, with CRLF line ends", body.size, h.Size)
			}
			in.Body = body.reader()
		}
		list = append(list, in)
	}
	if len(list) == 0 {
		return nil
	}
	return commit(func() error {
		_, err := s.Import(ctx, account, list)
		return err
	})
}

const (
	maxBatch = maxFrame
	maxList  = 10_000
)

// Send writes an account as frames: each mailbox, then its messages.
func Send(ctx context.Context, s store.Store, account string, w io.Writer) error {
	boxes, err := s.Mailboxes(ctx, account)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(w, 64<<10)
	frame := func(h header) error {
		text, err := appendHeader(nil, h)
		if err == nil {
			_, err = out.Write(text)
		}
		return err
	}
	for _, b := range boxes {
		if err := frame(header{Mailbox: b.Name, SpecialUse: b.SpecialUse}); err != nil {
			return err
		}
		snap, watch, err := s.Open(ctx, account, b.Name)
		if errors.Is(err, store.ErrNoMailbox) {
			continue
		}
		if err != nil {
			return err
		}
		watch.Close()
		for _, m := range snap.Messages.All() {
			if err := ctx.Err(); err != nil {
				return err
			}
			body, err := s.Read(ctx, account, *m)
			if errors.Is(err, store.ErrNoMessage) {
				continue // expunged meanwhile
			}
			if err != nil {
				return fmt.Errorf("%s, UID %d: %w", b.Name, m.UID, err)
			}
			err = frame(header{Mailbox: b.Name, SpecialUse: b.SpecialUse, Flags: m.Flags, Date: m.InternalDate, ID: m.ObjectID, UID: uint32(m.UID), Size: m.Size})
			if err == nil {
				_, err = io.CopyN(out, body, m.Size)
			}
			if err = errors.Join(err, body.Close()); err != nil {
				return fmt.Errorf("%s, UID %d: %w", b.Name, m.UID, err)
			}
		}
	}
	if _, err := out.Write(end); err != nil {
		return err
	}
	return out.Flush()
}
