package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// MetadataEntry is one annotation of a mailbox or of an account, RFC 5464.
type MetadataEntry struct {
	Name  string // "/private/comment": kept in lower case
	Value []byte // nil removes it
}

// The bounds on an account's annotations.
const (
	MaxMetadataEntries = 1000     // of one account
	MaxMetadataValue   = 64 << 10 // octets
	MaxMetadataOctets  = 1 << 20  // of the names and values of one account, which are in memory
	maxMetadataName    = 255
)

// ErrMetadata says that an annotation is too large, or one too many.
var ErrMetadata = errors.New("the annotation is too large or one too many")

// metaKey names an annotation: of a mailbox, or of the account when box is 0.
type metaKey struct {
	box  uint32
	name string
}

// Metadata implements Store.
func (l *Log) Metadata(ctx context.Context, account, mailbox string) ([]MetadataEntry, error) {
	a, err := l.reading(account)
	if err != nil {
		return nil, err
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	box := uint32(0)
	if mailbox != "" {
		name, err := cleanName(mailbox)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNoMailbox, err)
		}
		m := a.names[name]
		if m == nil {
			return nil, fmt.Errorf("%s: %w", name, ErrNoMailbox)
		}
		box = m.id
	}
	var out []MetadataEntry
	for k, v := range a.meta {
		if k.box == box {
			out = append(out, MetadataEntry{k.name, []byte(v)})
		}
	}
	slices.SortFunc(out, func(x, y MetadataEntry) int { return strings.Compare(x.Name, y.Name) })
	return out, nil
}

// SetMetadata implements Store.
func (l *Log) SetMetadata(ctx context.Context, account, mailbox string, entries []MetadataEntry) error {
	for _, e := range entries {
		if len(e.Value) > MaxMetadataValue || e.Name == "" || len(e.Name) > maxMetadataName {
			return ErrMetadata
		}
	}
	name := mailbox
	if mailbox != "" {
		var err error
		if name, err = cleanName(mailbox); err != nil {
			return fmt.Errorf("%w: %w", ErrNoMailbox, err)
		}
	}
	return l.do(ctx, func(t *txn) error {
		a, err := t.account(account)
		if err != nil {
			return err
		}
		box := uint32(0)
		if mailbox != "" {
			b, err := a.mustBox(Named(name))
			if err != nil {
				return err
			}
			box = b.id
		}
		have := a.metaCount()
		for _, e := range entries {
			if e.Value != nil {
				have++ // an upper bound: it may replace another
			}
		}
		if have > MaxMetadataEntries || a.metaOctets(box, entries) > MaxMetadataOctets {
			return ErrMetadata
		}
		for _, e := range entries {
			t.op(&opMeta{account, box, strings.ToLower(e.Name), string(e.Value), e.Value != nil})
			a.metaAdded++
			a.metaGrown += len(e.Name) + len(e.Value)
		}
		return nil
	})
}

// metaCount is how many annotations the account has at most.
func (a *stagedAccount) metaCount() int {
	n := a.metaAdded
	if a.base != nil {
		n += len(a.base.meta)
	}
	return n
}

// metaOctets is how many octets of annotations the account has at most once these are set.
func (a *stagedAccount) metaOctets(box uint32, entries []MetadataEntry) int {
	n := a.metaGrown
	set := map[string]bool{}
	for _, e := range entries {
		set[strings.ToLower(e.Name)] = true
		n += len(e.Name) + len(e.Value)
	}
	if a.base != nil {
		for k, v := range a.base.meta {
			if k.box != box || !set[k.name] {
				n += len(k.name) + len(v)
			}
		}
	}
	return n
}

// opMeta sets or removes an annotation.
type opMeta struct {
	Account string
	Box     uint32 // 0: the account's own
	Name    string
	Value   string
	Set     bool
}

func (*opMeta) code() opCode    { return codeMeta }
func (o *opMeta) owner() string { return o.Account }

func (o *opMeta) encode(e *encoder) {
	e.string(o.Account)
	e.uint(uint64(o.Box))
	e.string(o.Name)
	e.bool(o.Set)
	e.string(o.Value)
}

func (o *opMeta) decode(d *decoder) {
	o.Account = d.string()
	o.Box = d.uint32()
	o.Name = d.string()
	o.Set = d.bool()
	o.Value = d.string()
}

func (a *account) applyMeta(o *opMeta) {
	a.metaDirty = true
	c := Change{What: ChangedMetadata, Entries: []string{o.Name}}
	if m := a.boxes[o.Box]; m != nil {
		c.Mailbox = m.name
	}
	a.tell(c)
	k := metaKey{o.Box, o.Name}
	if !o.Set {
		delete(a.meta, k)
		return
	}
	if a.meta == nil {
		a.meta = map[metaKey]string{}
	}
	a.meta[k] = o.Value
}

// dropMeta removes the annotations of a mailbox that has gone.
func (a *account) dropMeta(box uint32) {
	if len(a.meta) > 0 {
		a.metaDirty = true
	}
	maps.DeleteFunc(a.meta, func(k metaKey, _ string) bool { return k.box == box })
}

// metaOps are an account's annotations as operations, for a checkpoint. The
// account's lock is held.
func (a *account) metaOps() []*opMeta {
	var out []*opMeta
	for k, v := range a.meta {
		out = append(out, &opMeta{a.name, k.box, k.name, v, true})
	}
	slices.SortFunc(out, func(x, y *opMeta) int {
		if x.Box != y.Box {
			return int(int64(x.Box) - int64(y.Box))
		}
		return strings.Compare(x.Name, y.Name)
	})
	return out
}
