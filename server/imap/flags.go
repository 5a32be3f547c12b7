package imap

import (
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"

	"mailform/server/store"
)

// hasFlag compares without regard to case, as keywords do.
func hasFlag(m *store.Message, f string) bool { return containsFlag(m.Flags, f) }

func containsFlag(flags []string, f string) bool {
	for _, v := range flags {
		if v == f || len(v) == len(f) && strings.EqualFold(v, f) {
			return true
		}
	}
	return false
}

// settable returns the flags of a client that can be set. The error is the client's: one
// is a system flag that does not exist or no keyword, or they are too many.
func settable(flags []string) (l []string, err error) {
	l = []string{}
	for _, f := range flags {
		switch {
		case f == `\*`, strings.EqualFold(f, `\Recent`):
			continue
		case f[0] == '\\':
			i := slices.IndexFunc(systemFlags, func(s string) bool { return strings.EqualFold(s, f) })
			if i < 0 {
				return nil, errFlag
			}
			f = systemFlags[i]
		case strings.Contains(f, "]"):
			return nil, errKeyword
		case len(f) > maxKeyword:
			return nil, errKeywords
		}
		l = append(l, f)
	}
	if len(l) > store.MaxFlags {
		return nil, errManyFlags
	}
	return l, nil
}

var (
	errReadOnly = no("NOPERM", "The mailbox is open for reading only")
	errFlag     = bad("A system flag that does not exist")

	// RFC 9051 9, atom-specials: it would end the code of PERMANENTFLAGS.
	errKeyword   = no(imap.ResponseCodeCannot, "A keyword cannot have a bracket that closes")
	errKeywords  = no(imap.ResponseCodeLimit, "The mailbox cannot have so many keywords, or such a long one")
	errManyFlags = no(imap.ResponseCodeLimit, "A message cannot have so many flags")
)

// maxKeyword is how long a keyword can be that a mailbox has from before, see
// store.MaxKeyword; the store passes over longer ones.
const maxKeyword = 255

// maxModSeq is the condition that every message meets.
const maxModSeq = store.ModSeq(1<<63 - 1)

// storeCommand implements STORE, RFC 9051 6.4.6 and RFC 7162 3.1.3.
func (s *session) storeCommand(cmd *command) error {
	cmd.keepNumbers = !cmd.uid
	p := cmd.p
	set := s.number(p, cmd.uid)
	p.SP()
	unchanged, conditional := maxModSeq, false
	if p.Peek() == '(' {
		p.List(func() {
			if p.Word() != "UNCHANGEDSINCE" {
				p.Fail("Unknown modifier of STORE")
			}
			p.SP()
			unchanged, conditional = store.ModSeq(p.Number64()), true
		})
		p.SP()
	}
	item, silent := strings.CutSuffix(p.Word(), ".SILENT")
	op := store.FlagsSet
	switch item {
	case "FLAGS":
	case "+FLAGS":
		op = store.FlagsAdd
	case "-FLAGS":
		op = store.FlagsRemove
	default:
		p.Fail("Expected FLAGS")
	}
	p.SP()
	var flags []string
	if p.Peek() == '(' {
		flags = p.Flags()
	} else {
		for flags = append(flags, p.Flag()); p.More(); {
			flags = append(flags, p.Flag())
		}
	}
	if err := p.End(); err != nil {
		return bad(err.Error())
	}
	flags, err := settable(flags)
	if err != nil {
		return err
	}
	if conditional {
		s.useCondStore()
	}
	s.catchUp()
	spans, ok := s.view.resolve(set, s.saved)
	switch {
	case !ok:
		return errRange
	case s.readOnly:
		return errReadOnly
	}
	cmd.text = cmd.name + " completed"
	modified, err := s.updateFlags(spans, op, flags, silent, unchanged)
	if err != nil {
		return err
	}
	s.introduceFlags(flags)
	if !silent {
		for i, m := range s.view.heads(spans) {
			if _, was := slices.BinarySearch(modified, m.UID); was {
				continue
			}
			s.view.told(i)
			s.writeFlags(i, m, cmd.uid)
		}
	}
	if len(modified) > 0 {
		cmd.code = "MODIFIED " + s.numbers(modified, cmd.uid)
		cmd.text = "Some messages were changed meanwhile"
	} else if !cmd.uid && s.view.anyGone(spans) {
		cmd.code = string(codeExpunged)
		if !silent {
			s.pretend(spans, op, flags)
		}
	}
	return nil
}

// pretend tells the client that messages have the flags it wants which have
// been expunged, and it does not know that yet: it expects an answer for each
// number, RFC 2180 4.2, and NO would say that nothing was done to the others.
func (s *session) pretend(spans []span, op store.FlagOp, flags []string) {
	var m store.Message
	for _, sp := range spans {
		for i := sp.from; i < sp.to; i++ {
			if !s.view.isGone(i) {
				continue
			}
			s.view.msgs.Head(i, &m)
			m.Flags = changed(m.Flags, op, flags)
			s.view.msgs.SetFlags(i, m.Flags, m.ModSeq)
			s.writeFlags(i, &m, false)
		}
	}
}

// changed returns flags after a change.
func changed(have []string, op store.FlagOp, flags []string) []string {
	if op == store.FlagsSet {
		return flags
	}
	l := slices.DeleteFunc(slices.Clone(have), func(f string) bool { return containsFlag(flags, f) })
	if op == store.FlagsAdd {
		l = append(l, flags...)
	}
	return l
}

// numbers is a set of messages as the command named them.
func (s *session) numbers(uids []store.UID, uid bool) string {
	w := s.out
	mark := w.Mark()
	set := w.Set()
	for _, u := range uids {
		if uid {
			set.Add(uint32(u))
		} else if i, ok := s.view.msgs.Find(u); ok {
			set.Add(uint32(i) + 1)
		}
	}
	set.End()
	return w.Cut(mark)
}

// updateFlags changes flags in the store and then in the view. It returns the
// UIDs of messages that were changed after unchanged, and so were not now.
//
// Of a silent change nothing is announced but what others did before.
func (s *session) updateFlags(spans []span, op store.FlagOp, flags []string, silent bool, unchanged store.ModSeq) ([]store.UID, error) {
	uids := s.view.uids(spans)
	if len(uids) == 0 {
		return nil, nil
	}
	u, err := s.store.UpdateFlagsIf(s.ctx, s.account, s.box(), uids, op, flags, unchanged)
	if err != nil {
		return nil, err
	}
	if silent {
		s.view.silent, s.view.tellModSeq = u.ModSeq, s.enabled.condstore
	}
	s.catchUp()
	return u.Modified, nil
}
