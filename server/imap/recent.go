package imap

import (
	"slices"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"

	"mailform/server/store"
)

// recents knows of each mailbox up to which UID a session has been told of its
// messages: the first one told has them as \Recent, RFC 3501 2.3.2. It is not
// kept over a restart: then what has come since is recent.
type recents struct {
	mu    sync.Mutex
	next  map[recentKey]store.UID
	since time.Time
}

type recentKey struct {
	account  string
	validity uint32
}

// maxRecents bounds the memory; beyond it nothing is recent for a while.
const maxRecents = 200_000

// claim returns the first UID that no session was told of, and with take says
// that one is now told of those below next. The messages from a place on are the
// newest.
func (r *recents) claim(key recentKey, msgs *store.List, from int, next store.UID, take bool) store.UID {
	r.mu.Lock()
	defer r.mu.Unlock()
	first, known := r.next[key]
	if !known {
		first = next
		var m store.Message
		for i := msgs.Len() - 1; i >= from; i-- {
			if msgs.Read(i, &m); m.SaveDate.Before(r.since) {
				break
			}
			first = m.UID
		}
	}
	if take && (!known || next > first) {
		if r.next == nil || len(r.next) >= maxRecents {
			r.next = map[recentKey]store.UID{}
		}
		r.next[key] = max(next, first)
	}
	return first
}

// claimRecent takes messages the client is told of now, from a place on, as recent,
// those that nobody was told of before.
func (s *session) claimRecent(from int, next store.UID) {
	if s.enabled.rev2 {
		return
	}
	msgs := &s.view.msgs
	first := s.srv.recents.claim(s.recentKey, msgs, from, next, !s.readOnly)
	if from < msgs.Len() {
		first = max(first, msgs.UID(from))
	}
	if first < next {
		s.recent.AddRange(imap.UID(first), imap.UID(next)-1)
	}
}

func (s *session) isRecent(m *store.Message) bool {
	return len(s.recent) > 0 && !s.enabled.rev2 && s.recent.Contains(imap.UID(m.UID))
}

// tellRecent writes how many messages are recent.
func (s *session) tellRecent() {
	if s.enabled.rev2 {
		return
	}
	n := 0
	for _, sp := range s.view.uidSpans(s.recent) {
		n += sp.to - sp.from
	}
	s.out.Raw("* ")
	s.out.Num(uint64(n))
	s.out.Raw(" RECENT")
	s.out.CRLF()
}

// countRecent is STATUS's RECENT.
func (s *session) countRecent(info store.MailboxInfo) (n uint64, err error) {
	snap, watch, err := s.store.Open(s.ctx, s.account, info.Name)
	if err != nil {
		return 0, err
	}
	watch.Close()
	first := s.srv.recents.claim(recentKey{s.account, info.UIDValidity}, &snap.Messages, 0, snap.Info.UIDNext, false)
	return uint64(snap.Messages.Len() - snap.Messages.Index(first)), nil
}

// writeFlagList writes a message's flags.
func (s *session) writeFlagList(m *store.Message) {
	if !s.isRecent(m) {
		s.out.Flags(m.Flags)
		return
	}
	s.out.Byte('(')
	for _, f := range m.Flags {
		s.out.Raw(f)
		s.out.Byte(' ')
	}
	s.out.Raw(`\Recent)`)
}

// introduce tells a client of the keywords that it has not seen in FLAGS, before
// a response uses them.
func (s *session) introduce(m *store.Message) {
	if len(m.Flags) == 0 || s.lastFlags == &m.Flags[0] {
		return // lists are shared: mostly the one just looked at
	}
	s.lastFlags = &m.Flags[0]
	s.introduceFlags(m.Flags)
}

// introduceFlags is introduce for flags that a command has named.
func (s *session) introduceFlags(flags []string) {
	fresh := false
	for _, f := range flags {
		if f[0] != '\\' && !containsFlag(s.keywords, f) {
			if len(s.keywords) >= maxKeywords {
				return
			}
			s.keywords = append(s.keywords, f)
			fresh = true
		}
	}
	if fresh {
		s.tellFlags()
	}
}

// tellFlags writes FLAGS and PERMANENTFLAGS.
func (s *session) tellFlags() {
	w := s.out
	flags := slices.Concat(systemFlags, s.keywords)
	w.Raw("* FLAGS ")
	w.Flags(flags)
	w.CRLF()
	w.Raw("* OK [PERMANENTFLAGS (")
	if !s.readOnly {
		for _, f := range flags {
			w.Raw(f)
			w.Byte(' ')
		}
		if len(s.keywords) < maxKeywords { // RFC 9051 7.1: more can be made
			w.Raw(`\*`)
		}
	}
	w.Raw(")] Flags that are kept\r\n")
}
