package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"mailform/server/store/seal"
)

// Staged is a message's octets on the way into a mailbox: safe, but no message
// yet. Whoever does not append it discards it.
type Staged interface {
	// Size returns the octets.
	Size() int64
	// Discard lets go of it. After it was appended that does nothing.
	Discard()
}

// StagedMessage is a message to be appended.
type StagedMessage struct {
	Body         Staged
	Flags        []string
	InternalDate time.Time // zero: now
}

// Replaced names the message that an append takes the place of, RFC 8508.
type Replaced struct {
	Mailbox Box
	UID     UID
}

// stagedBody is the Staged of a Log.
type stagedBody struct {
	log  *Log
	body *body // nil when it was appended or discarded
	held int64 // octets of memory
	// object is the id that the message will have; "" when that is still free.
	object string
}

// done lets go of the body.
func (s *stagedBody) done() {
	s.log.staged.Add(-s.held)
	s.body, s.held = nil, 0
}

func (s *stagedBody) Size() int64 {
	if s.body == nil {
		return 0
	}
	return s.body.size()
}

func (s *stagedBody) Discard() {
	if s.body == nil {
		return
	}
	if err := s.log.discard(s.body); err != nil {
		s.log.opt.Logger.Warn("store: remove a message that was not wanted", "err", err)
	}
	s.done()
}

// Stage implements Store. It finds out early, before the message is read, that
// the message will be refused.
func (l *Log) Stage(ctx context.Context, account string, mailbox Box, r io.Reader, size int64) (Staged, error) {
	mailbox, err := mailbox.clean()
	if err != nil {
		return nil, err
	}
	if err := l.appendable(account, mailbox, size); err != nil {
		return nil, err
	}
	take := l.accept
	if l.staged.Load() >= maxStaged && size != 0 {
		take = l.acceptLong
	}
	object := l.reserve()
	b, err := take(r, size, belonging{[]string{account}, seal.PartBody, object})
	if err != nil {
		return nil, err
	}
	s := &stagedBody{log: l, body: b, object: object}
	if b.seg == nil {
		s.held = b.size()
		l.staged.Add(s.held)
	}
	return s, nil
}

// maxStaged is how many octets of messages may wait in memory for their
// AppendStaged, all together: clients decide when that comes. Beyond it messages
// wait in files.
const maxStaged = 64 << 20

// acceptLong is accept for a body that is not to be held in memory.
func (l *Log) acceptLong(r io.Reader, size int64, to belonging) (x *body, err error) {
	defer func() { l.refused(err) }()
	if l.closed() {
		return nil, ErrClosed
	}
	if err := l.room(size); err != nil {
		return nil, err
	}
	if size >= 0 {
		r = io.LimitReader(r, size+1)
	}
	return l.spoolLong(nil, r, size, to)
}

// AppendStaged implements Store.
func (l *Log) AppendStaged(ctx context.Context, account string, mailbox Box, msgs []StagedMessage, replaced *Replaced) ([]Message, uint32, error) {
	mailbox, err := mailbox.clean()
	if err != nil {
		return nil, 0, err
	}
	var old Box
	if replaced != nil {
		if old, err = replaced.Mailbox.clean(); err != nil {
			return nil, 0, err
		}
	}
	bodies := make([]*body, len(msgs))
	objects := make([]string, len(msgs))
	size, n := int64(0), int64(len(msgs))
	for i, m := range msgs {
		s, ok := m.Body.(*stagedBody)
		if !ok || s.log != l || s.body == nil {
			return nil, 0, errors.New("a message was not staged here, or twice")
		}
		bodies[i], objects[i] = s.body, s.object
		size += s.body.size()
	}
	if replaced != nil {
		release, err := l.pin(account, old)
		if err != nil {
			return nil, 0, err
		}
		defer release()
	}
	var out []Message
	var validity uint32
	err = l.do(ctx, func(t *txn) error {
		a, b, err := t.mailbox(account, mailbox)
		if err == nil {
			err = t.readable(bodies...)
		}
		if err != nil {
			return err
		}
		var from *stagedBox
		if replaced != nil {
			if from, err = a.mustBox(old); err != nil {
				return err
			}
			if err := t.loaded(a, from); err != nil {
				return err
			}
			was := from.message(replaced.UID)
			if was == nil {
				return fmt.Errorf("UID %d: %w", replaced.UID, ErrNoMessage)
			}
			size -= was.Size
			n--
		}
		if err := t.room(a, size, n); err != nil {
			return err
		}
		fresh := newKeywords{box: b}
		flags := make([][]string, len(msgs))
		for i, s := range msgs {
			flags[i] = l.ix.flags.intern(canonicalList(s.Flags))
			if err := fresh.take(flags[i]); err != nil {
				return err
			}
		}
		fresh.done()
		validity = b.id
		for i, s := range msgs {
			if objects[i] == "" {
				objects[i] = t.objectID("", i)
			}
			m := &Message{Flags: flags[i], InternalDate: dateOr(s.InternalDate, t.now),
				Body: t.put(bodies[i]), ObjectID: objects[i]}
			t.append(a, b, m)
			out = append(out, *m)
		}
		if from != nil {
			t.expunge(a, from, []UID{replaced.UID})
		}
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	var errs []error
	for i, m := range msgs {
		m.Body.(*stagedBody).done()
		errs = append(errs, l.keep(bodies[i]))
	}
	return out, validity, errors.Join(errs...)
}
