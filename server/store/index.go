package store

import (
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// index is what the log says, in memory. Only the commit loop changes it, one
// account at a time under that account's lock; the loop itself reads without.
type index struct {
	mu       sync.RWMutex
	accounts map[string]*account
	queue    map[string]*QueueEntry // entries are replaced, never changed
	queueLSN uint64                 // last transaction that changed the queue

	refs  refCount
	flags flagTable

	file  atomic.Pointer[indexFile] // nil: all of the index is in memory
	tried map[string]bool           // queue entries that the file does not have as they are
}

// account is one person's mailboxes.
type account struct {
	mu     sync.RWMutex
	name   string
	quota  int64 // octets; 0 is none
	bytes  int64
	count  int64
	modseq ModSeq // the highest given out in any mailbox
	lastID uint32 // the highest mailbox id given out
	lsn    uint64 // last transaction that changed the account
	boxes  map[uint32]*mailbox
	names  map[string]*mailbox
	subs   map[string]bool
	meta   map[metaKey]string

	// What the index file does not have yet.
	dirty     bool
	metaDirty bool
	removed   []uint32 // ids of mailboxes
	// settled counts the flushes of the account that took something out of memory:
	// who read the file before one and the memory after it has read too little.
	settled uint64

	watches map[*AccountWatch]bool
}

// mailbox is the messages of one mailbox. All but the messages and what has
// vanished is always in memory.
type mailbox struct {
	id         uint32 // also its UIDVALIDITY
	name       string
	specialUse string
	uidNext    UID
	highest    ModSeq
	count      uint32 // messages
	unseen     uint32
	deleted    uint32
	bytes      int64
	keywords   map[string]int   // messages that have each
	segs       map[uint64]int64 // heads and bodies of the messages in each segment
	watches    map[*watch]bool

	// loaded says that msgs has all messages; otherwise it has those that have come
	// since the last flush, and the index file has the others.
	loaded bool
	msgs   List
	// goneHere says the same of gone.
	goneHere bool
	gone     vanished
	loading  sync.Mutex // held while they are read
	pins     int        // who needs it loaded
	used     time.Time  // when the last of them left

	// What the index file does not have yet.
	dirty     bool
	blocks    map[uint32]bool // of a loaded mailbox
	goneDirty bool
	flushing  bool // the flush that took note of these has not ended
}

// maxUnused is how many keywords a mailbox may have for those that no message
// has any more to be remembered.
const maxUnused = 50

// vanished remembers which UIDs were expunged when, for clients that come back
// (RFC 7162 3.2.6). Only the newest are kept; floor says what is known in full.
type vanished struct {
	floor ModSeq // expunges at or below are forgotten
	runs  []vanishedRun
	uids  int
}

type vanishedRun struct {
	modseq ModSeq
	uids   []UID
}

const maxVanished = 100_000 // UIDs for each mailbox

func newIndex() *index {
	return &index{
		accounts: map[string]*account{},
		queue:    map[string]*QueueEntry{},
		refs:     refCount{n: map[uint64]int64{}},
		flags:    flagTable{lists: map[string][]string{}},
		tried:    map[string]bool{},
	}
}

// lookup returns the account or nil.
func (ix *index) lookup(name string) *account {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	return ix.accounts[name]
}

func newAccount(name string) *account {
	return &account{name: name, boxes: map[uint32]*mailbox{}, names: map[string]*mailbox{}, subs: map[string]bool{}}
}

func newMailbox(id uint32, name string) *mailbox {
	return &mailbox{id: id, name: name, uidNext: 1, dirty: true}
}

// tally adds (by = 1) or takes away (by = -1) a message's share of the counters.
func (a *account) tally(m *mailbox, msg *Message, by int) {
	a.bytes += int64(by) * msg.Size
	a.count += int64(by)
	m.count += uint32(by)
	m.bytes += int64(by) * msg.Size
	m.tallyFlags(msg.Flags, by)
}

func (m *mailbox) tallyFlags(flags []string, by int) {
	if !hasFlag(flags, `\Seen`) {
		m.unseen += uint32(by)
	}
	if hasFlag(flags, `\Deleted`) {
		m.deleted += uint32(by)
	}
	for _, f := range flags {
		if f[0] == '\\' {
			continue
		}
		if m.keywords == nil {
			m.keywords = map[string]int{}
		}
		// A client may hold on to what it was told: few that are out of use stay.
		if m.keywords[f] += by; m.keywords[f] == 0 && len(m.keywords) > maxUnused {
			delete(m.keywords, f)
		}
	}
}

func (a *account) info(m *mailbox) MailboxInfo {
	return MailboxInfo{
		Name:          m.name,
		UIDValidity:   m.id,
		UIDNext:       m.uidNext,
		HighestModSeq: max(m.highest, 1),
		Messages:      m.count,
		Unseen:        m.unseen,
		Deleted:       m.deleted,
		Bytes:         m.bytes,
		SpecialUse:    m.specialUse,
		Subscribed:    a.subs[m.name],
		ObjectID:      objectIDOf(m.id),
	}
}

func (v *vanished) add(modseq ModSeq, uids []UID) {
	v.runs = append(v.runs, vanishedRun{modseq, uids})
	v.uids += len(uids)
	for v.uids > maxVanished && len(v.runs) > 0 {
		v.floor = v.runs[0].modseq
		v.uids -= len(v.runs[0].uids)
		v.runs = v.runs[1:]
	}
}

// since returns what was expunged after modseq; complete is false when some of
// it is forgotten.
func (v *vanished) since(modseq ModSeq) (uids []UID, complete bool) {
	i := sort.Search(len(v.runs), func(i int) bool { return v.runs[i].modseq > modseq })
	for _, r := range v.runs[i:] {
		uids = append(uids, r.uids...)
	}
	slices.Sort(uids)
	return uids, modseq >= v.floor
}

// flagTable keeps one copy of each list of flags, as long as there are not too many:
// clients make them up.
type flagTable struct {
	mu     sync.Mutex
	lists  map[string][]string
	octets int
}

// maxFlagTable is how many octets of lists are known at once; few are in use.
const maxFlagTable = 4 << 20

func (t *flagTable) intern(flags []string) []string {
	if len(flags) == 0 {
		return nil
	}
	key := strings.Join(flags, " ")
	t.mu.Lock()
	defer t.mu.Unlock()
	if l, ok := t.lists[key]; ok {
		return l
	}
	l := slices.Clip(slices.Clone(flags))
	if t.octets += len(key); t.octets > maxFlagTable {
		clear(t.lists)
		t.octets = len(key)
	}
	t.lists[key] = l
	return l
}

// refCount counts, for each segment, the heads and bodies in it that messages
// and queue entries use.
type refCount struct {
	mu   sync.Mutex
	n    map[uint64]int64
	dead []uint64 // segments whose count has come to zero
}

func (c *refCount) add(r BodyRef, by int64) {
	if r.Size > 0 {
		c.many(r.Segment, by)
	}
}

func (c *refCount) many(segment uint64, by int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n[segment] += by; c.n[segment] == 0 {
		delete(c.n, segment)
		c.dead = append(c.dead, segment)
	}
}

// message counts a message of the mailbox in or out.
func (c *refCount) message(m *mailbox, msg *Message, by int64) {
	for _, r := range [...]BodyRef{msg.Head, msg.Body} {
		c.add(r, by)
		if r.Size == 0 {
			continue
		}
		if m.segs == nil {
			m.segs = map[uint64]int64{}
		}
		if m.segs[r.Segment] += by; m.segs[r.Segment] == 0 {
			delete(m.segs, r.Segment)
		}
	}
}

// mailbox counts all messages of a mailbox in or out.
func (c *refCount) mailbox(m *mailbox, by int64) {
	for id, n := range m.segs {
		c.many(id, by*n)
	}
}

func (c *refCount) of(segment uint64) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[segment]
}

// takeDead returns the segments that nothing uses any more since the last call.
func (c *refCount) takeDead() []uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	var l []uint64
	for _, id := range c.dead {
		if c.n[id] == 0 {
			l = append(l, id)
		}
	}
	c.dead = nil
	return l
}
