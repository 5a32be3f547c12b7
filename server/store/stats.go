package store

import (
	"context"
	"errors"
	"io/fs"
)

// Stats is what a store holds and what it takes on the disk.
type Stats struct {
	Format    int   `json:"format"`
	Accounts  int   `json:"accounts"`
	Mailboxes int   `json:"mailboxes"`
	Messages  int64 `json:"messages"`
	// Octets is the sum of the messages' sizes; a body that several have counts for each.
	Octets       int64 `json:"octets"`
	Queued       int   `json:"queued"`
	LogSegments  int   `json:"log_segments"`
	LogOctets    int64 `json:"log_octets"`
	BodySegments int   `json:"body_segments"` // one for each large message
	BodyOctets   int64 `json:"body_octets"`
	// KeptSegments are those of large messages whose place in a mailbox was lost to damage.
	KeptSegments int   `json:"kept_segments,omitempty"`
	KeptOctets   int64 `json:"kept_octets,omitempty"`
	// Live is what messages and queue entries use of the log segments' octets. The
	// rest is the log itself and what was expunged; compaction takes it off the disk.
	Live int64 `json:"live_octets"`
	// Packed is how many octets of messages are stored compressed, and PackedTo what
	// those take on the disk.
	Packed   int64 `json:"compressed_octets,omitempty"`
	PackedTo int64 `json:"compressed_to_octets,omitempty"`
	// Sealing is how far encryption has come; nil when nothing is encrypted.
	Sealing *Sealing `json:"encryption,omitempty"`
	Damage  []Damage `json:"damage,omitempty"` // found since the store was opened
	// Compacted is the last compaction since then; nil when there was none.
	Compacted *Compaction `json:"compacted,omitempty"`
}

// Stats counts. It looks at one account after the other, beside other work.
func (l *Log) Stats(ctx context.Context) (Stats, error) {
	if l.closed() {
		return Stats{}, ErrClosed
	}
	st := Stats{Format: int(l.format.Load()), Damage: l.Damage()}
	l.ix.mu.RLock()
	st.Accounts, st.Queued = len(l.ix.accounts), len(l.ix.queue)
	for _, a := range l.ix.accounts {
		a.mu.RLock()
		st.Mailboxes += len(a.boxes)
		st.Messages += a.count
		st.Octets += a.bytes
		a.mu.RUnlock()
	}
	l.ix.mu.RUnlock()
	found, err := l.survey(ctx)
	if err != nil {
		return st, err
	}
	for _, n := range found.live {
		st.Live += n
	}
	st.Packed, st.PackedTo = found.packed, found.packedTo
	for _, k := range segmentKinds {
		for _, id := range l.seg.ids(k) {
			n, err := l.fileSize(id, k)
			if errors.Is(err, fs.ErrNotExist) {
				continue // removed since
			}
			if err != nil {
				return st, err
			}
			switch k {
			case kindLog:
				st.LogSegments++
				st.LogOctets += n
			case kindBody:
				st.BodySegments++
				st.BodyOctets += n
			case kindKept:
				st.KeptSegments++
				st.KeptOctets += n
			}
		}
	}
	if l.vault.text != nil || l.vault.ring.Load() != nil {
		list, err := l.clearSegments(ctx)
		if err != nil {
			return st, err
		}
		left := l.sealingOf(list)
		st.Sealing = &left
	}
	l.compaction.last.mu.Lock()
	defer l.compaction.last.mu.Unlock()
	if c := l.compaction.last.c; !c.Time.IsZero() {
		st.Compacted = &c
	}
	return st, nil
}

func (l *Log) fileSize(id uint64, k segmentKind) (int64, error) {
	f, err := l.fs.Open(l.seg.path(id, k))
	if err != nil {
		return 0, err
	}
	n, err := f.Size()
	return n, errors.Join(err, f.Close())
}
