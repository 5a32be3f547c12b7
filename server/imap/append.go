package imap

import (
	"bytes"
	"io"
	"time"

	"github.com/emersion/go-imap/v2"

	"mailform/server/imap/mimetree"
	"mailform/server/imap/wire"
	"mailform/server/store"
)

// incoming is one message of an APPEND: what stands before its octets.
type incoming struct {
	flags []string
	date  time.Time
	utf8  bool // in UTF8 (...), RFC 6855 4
}

// appendCommand implements APPEND, RFC 9051 6.3.12, of one message or more,
// RFC 3502.
func (s *session) appendCommand(cmd *command) error {
	name, err := s.argument(cmd, func(p *wire.Parser) (name string) {
		p.SP()
		name = p.Mailbox()
		p.SP()
		return name
	})
	if err != nil {
		return err
	}
	msgs, box, err := s.messages(cmd, name, 0)
	defer discard(msgs)
	if err != nil {
		return s.tryCreate(err)
	}
	done, validity, err := s.store.AppendStaged(s.ctx, s.account, box, msgs, nil)
	if err != nil {
		return s.tryCreate(err)
	}
	cmd.code = appendCode(done, validity)
	return nil
}

// replace implements REPLACE, RFC 8508.
func (s *session) replace(cmd *command) error {
	var set imap.NumSet
	name, err := s.argument(cmd, func(p *wire.Parser) (name string) {
		set = s.number(p, cmd.uid)
		p.SP()
		name = p.Mailbox()
		p.SP()
		return name
	})
	if err != nil {
		return err
	}
	s.catchUp()
	spans, ok := s.view.resolve(set, s.saved)
	uids := s.view.uids(spans)
	switch {
	case !ok:
		return errRange
	case s.readOnly:
		return errReadOnly
	case len(uids) != 1:
		return no(imap.ResponseCodeNonExistent, "There is no one such message")
	}
	msgs, box, err := s.messages(cmd, name, 1)
	defer discard(msgs)
	if err != nil {
		return s.tryCreate(err)
	}
	done, validity, err := s.store.AppendStaged(s.ctx, s.account, box, msgs, &store.Replaced{Mailbox: s.box(), UID: uids[0]})
	if err != nil {
		return s.tryCreate(err)
	}
	s.untaggedOK(appendCode(done, validity), "The new message is there")
	s.removed(cmd, true)
	return nil
}

// argument parses what stands before the first message. While the literal that
// is announced belongs to it, and not to a message, it reads on.
func (s *session) argument(cmd *command, parse func(*wire.Parser) string) (string, error) {
	for {
		cmd.p = s.parser(cmd)
		name := parse(cmd.p)
		if cmd.p.Err() == nil || cmd.literal == nil {
			if err := cmd.p.Err(); err != nil {
				return "", bad(err.Error())
			}
			return name, nil
		}
		// A parser that does not come to the end of the line has met a literal
		// without its octets, or a mistake that more octets will not mend.
		if !cmd.p.Incomplete() {
			return "", bad(cmd.p.Err().Error())
		}
		l := *cmd.literal
		cmd.literal = nil
		if done, err := s.collect(cmd, l); done || err != nil {
			cmd.silent = true
			s.over = s.over || err != nil
			return "", bad("The command broke off")
		}
		start, err := s.continueLine()
		if err != nil {
			s.over, cmd.silent = true, true
			return "", err
		}
		next, ok, wrong := wire.TrailingLiteral(s.line[start:])
		if wrong {
			s.c.bye("A literal makes no sense")
			cmd.silent = true
			return "", errLeave
		}
		if ok {
			cmd.literal = &next
		}
	}
}

// messages reads the messages of a command, at most limit unless that is 0. It
// returns what it has staged also with an error, and the mailbox that had the name
// when the first came: the last may come minutes later.
func (s *session) messages(cmd *command, name string, limit int) (msgs []store.StagedMessage, box store.Box, err error) {
	p := cmd.p
	box = store.Named(name)
	var total int64
	for {
		in := parseIncoming(p)
		l, ok := p.LiteralNext()
		if err := p.Err(); err != nil {
			return msgs, box, bad(err.Error())
		}
		if !ok || cmd.literal == nil {
			return msgs, box, bad("Expected a message")
		}
		flags, err := settable(in.flags)
		switch {
		case err != nil:
			return msgs, box, err
		case l.Size == 0 && !in.utf8: // RFC 3502 6.3.11: the client has thought better of it
			return msgs, box, no(imap.ResponseCodeCannot, "A message must not be empty")
		}
		cmd.literal = nil
		if l.Size > s.c.st.MaxMessageBytes {
			cmd.silent = true
			if err := s.refuse(cmd, l, s.c.st.MaxMessageBytes); err != nil {
				s.over = true
			}
			return msgs, box, bad("The message is too large")
		}
		if total += l.Size; len(msgs) == maxTogether || total > max(maxTogetherBytes, s.c.st.MaxMessageBytes) {
			cmd.literal = &l
			return msgs, box, no(imap.ResponseCodeLimit, "Too much for one APPEND")
		}
		staged, err := s.stage(cmd, &box, l)
		if err != nil {
			return msgs, box, err
		}
		msgs = append(msgs, store.StagedMessage{Body: staged, Flags: flags, InternalDate: in.date})
		// Behind the message: the end, or another.
		if s.line, err = s.in.Line(s.line[:0], maxCommand); err != nil {
			_ = s.tooLong(err)
			s.over, cmd.silent = true, true
			return msgs, box, err
		}
		if next, ok, _ := wire.TrailingLiteral(s.line); ok {
			cmd.literal = &next
		}
		cmd.at = 0
		p = s.parser(cmd)
		cmd.p = p
		if in.utf8 {
			p.Expect(')')
		}
		if p.Done() || p.Err() != nil || limit > 0 && len(msgs) == limit {
			if err := p.End(); err != nil {
				return msgs, box, bad(err.Error())
			}
			return msgs, box, nil
		}
		p.SP()
	}
}

// What one APPEND may bring: the smaller messages are in memory until all are there.
const (
	maxTogether      = 1000
	maxTogetherBytes = 64 << 20
)

// parseIncoming reads flags and date of a message.
func parseIncoming(p *wire.Parser) (in incoming) {
	if p.Peek() == '(' {
		in.flags = p.Flags()
		p.SP()
	}
	if p.Peek() == '"' {
		in.date = p.DateTime()
		p.SP()
	}
	if p.PeekWord() == "UTF8" {
		p.Word()
		p.SP()
		p.Expect('(')
		in.utf8 = true
	}
	return in
}

// stage reads the octets of a message into the store, for a mailbox that is found by
// its name first. When the store does not
// take them, those of a client that does not wait are passed over.
func (s *session) stage(cmd *command, box *store.Box, l wire.Literal) (staged store.Staged, err error) {
	body := &literalReader{s: s, left: l.Size, ask: !l.NonSync}
	var from io.Reader = body
	size := l.Size
	if l.Binary && l.Size <= maxBinary {
		from, size = &binaryReader{from: body, size: l.Size}, -1
	}
	if box.UIDValidity == 0 {
		var info store.MailboxInfo
		if info, err = s.store.Mailbox(s.ctx, s.account, box.Name); err == nil {
			*box = info.Box()
		}
	}
	if err == nil {
		staged, err = s.store.Stage(s.ctx, s.account, *box, from, size)
	}
	s.c.expect(phaseLine)
	if err == nil {
		return staged, nil
	}
	switch {
	case body.err != nil:
		s.over, cmd.silent = true, true
	case !body.ask: // asked for, or on their way anyhow
		if derr := s.drain(wire.Literal{Size: body.left}); derr != nil {
			s.over, cmd.silent = true, true
		}
	}
	return nil, err
}

// literalReader is the octets of a literal. They are asked for with the first read.
type literalReader struct {
	s    *session
	left int64
	ask  bool
	err  error
}

func (r *literalReader) Read(p []byte) (int, error) {
	if r.ask {
		r.ask = false
		r.s.out.Raw("+ OK\r\n")
	}
	if r.left == 0 {
		return 0, io.EOF
	}
	r.s.c.expect(phaseLiteral)
	n, err := r.s.in.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	if err != nil {
		// Not io.EOF: a message that was cut off must not look complete.
		r.err = io.ErrUnexpectedEOF
		return n, r.err
	}
	return n, nil
}

// maxBinary is the largest literal8 whose NULs are encoded, in octets. Of a
// larger message they are hidden from clients that do not ask for BINARY.
const maxBinary = 8 << 20

// binaryReader is a message that may hold NUL, as it is kept, RFC 3516 4.2.
type binaryReader struct {
	from io.Reader
	size int64
	text *bytes.Reader
}

func (r *binaryReader) Read(p []byte) (int, error) {
	if r.text == nil {
		data := make([]byte, r.size)
		if _, err := io.ReadFull(r.from, data); err != nil {
			return 0, err
		}
		if out, ok := mimetree.WithoutNUL(data); ok {
			data = out
		}
		r.text = bytes.NewReader(data)
	}
	return r.text.Read(p)
}

// discard lets go of messages that were not appended.
func discard(msgs []store.StagedMessage) {
	for _, m := range msgs {
		m.Body.Discard()
	}
}
