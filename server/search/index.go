package search

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"mailform/server/store"
	"mailform/server/store/seal"
)

const (
	suffix = ".seg"
	// What is in memory becomes a segment at so many bodies or octets.
	memoryBodies = 4096
	memoryOctets = 12 << 20
	// mergeAt segments of about one size become one, unless that is larger than maxSegment.
	mergeAt    = 6
	maxSegment = 128 << 20
)

// Index is the index of one account. Add and Tidy are called by one goroutine at
// a time; Find by any.
type Index struct {
	dir     string
	log     *slog.Logger
	account string
	keys    keysOf
	work    *workspace

	mu       sync.Mutex
	segments []*segment // by number
	next     uint64
	memory   *builder
	places   map[store.BodyRef]bool // in memory
	closed   bool
}

// Open opens the index in dir, or begins one. A file that is damaged is removed:
// what it knew is indexed anew.
func Open(dir string, log *slog.Logger) (*Index, error) {
	return openFor(dir, log, "", func() *seal.Ring { return nil }, &workspace{})
}

// openFor is Open for an account's index that is encrypted when keys says so.
// Indexes to which the same goroutine adds may share a workspace.
func openFor(dir string, log *slog.Logger, account string, keys keysOf, work *workspace) (*Index, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	x := &Index{dir: dir, log: log, account: account, keys: keys, work: work, next: 1, memory: newBuilder(work), places: map[store.BodyRef]bool{}}
	replaced := map[uint64]bool{}
	for _, e := range entries {
		name, ours := strings.CutSuffix(e.Name(), suffix)
		number, err := strconv.ParseUint(name, 16, 64)
		if !ours || err != nil {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil { // half a segment
				return nil, err
			}
			continue
		}
		s, err := openSegment(x.path(number), number, x.account, keys())
		if errors.Is(err, errSegment) {
			log.Warn("search: a file of the index is damaged, of an earlier version, or not encrypted as the mail is; its messages are indexed anew", "file", x.path(number))
			if err := os.Remove(x.path(number)); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, errors.Join(err, x.Close())
		}
		s.refs.Store(1)
		x.segments = append(x.segments, s)
		x.next = max(x.next, number+1)
		for _, n := range s.replaces {
			replaced[n] = true
		}
	}
	slices.SortFunc(x.segments, func(a, b *segment) int {
		if a.number < b.number {
			return -1
		}
		return 1
	})
	for _, s := range slices.Clone(x.segments) {
		if replaced[s.number] { // a merge was cut short after it was done
			x.remove(s)
		}
	}
	return x, nil
}

func (x *Index) path(number uint64) string {
	return filepath.Join(x.dir, fmt.Sprintf("%016x", number)+suffix)
}

// refCount counts who uses a segment's memory; the index itself is one.
type refCount = atomic.Int32

func (s *segment) release() {
	if s.refs.Add(-1) == 0 {
		_ = s.close() // unmapping what was mapped does not fail
	}
}

// remove takes a segment out and deletes its file. The caller has mu, or is alone.
func (x *Index) remove(s *segment) {
	if err := os.Remove(x.path(s.number)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		x.log.Warn("search: remove a file of the index", "err", err)
	}
	if i := slices.Index(x.segments, s); i >= 0 { // the index may be closed already
		x.segments = slices.Delete(x.segments, i, i+1)
		s.release()
	}
}

// at is a reference without what does not tell bodies apart: those in segments are so.
func at(ref store.BodyRef) store.BodyRef {
	ref.Stored = 0
	return ref
}

// Has says whether a body is indexed.
func (x *Index) Has(ref store.BodyRef) bool {
	ref = at(ref)
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.has(ref)
}

func (x *Index) has(ref store.BodyRef) bool {
	if x.places[ref] {
		return true
	}
	for _, s := range x.segments {
		if _, ok := s.find(ref); ok {
			return true
		}
	}
	return false
}

// Add indexes a body that the index does not have. What it cannot understand of
// it is not found; an error is the store's, and nothing is added.
func (x *Index) Add(ref store.BodyRef, src Source) error {
	ref = at(ref)
	m := x.memory
	m.begin()
	if err := extract(src, func(field Field, text string, more bool) bool {
		x.mu.Lock() // searches go on between two pieces
		defer x.mu.Unlock()
		m.text(field, text, more)
		return true
	}, &x.work.piece); err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	m.end(ref)
	x.places[ref] = true
	if len(m.bodies) >= memoryBodies || m.octets() >= memoryOctets {
		return x.flush()
	}
	return nil
}

// Flush writes what is in memory.
func (x *Index) Flush() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.flush()
}

func (x *Index) flush() error {
	if len(x.memory.bodies) == 0 {
		return nil
	}
	number := x.next
	x.next++
	s, err := x.write(number, nil, func(e *encoder) error {
		x.memory.encode(e)
		return nil
	})
	if err != nil {
		return err
	}
	x.segments = append(x.segments, s)
	x.memory, x.places = newBuilder(x.work), map[store.BodyRef]bool{}
	return nil
}

// write makes a segment's file, with what fill gives it, and opens it. It is not synced: one that a loss of
// power leaves damaged is noticed by its checksum.
func (x *Index) write(number uint64, replaces []uint64, fill func(*encoder) error) (*segment, error) {
	tmp := x.path(number) + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	ring := x.keys()
	if err := errors.Join(x.encode(f, replaces, ring, fill), f.Close()); err != nil {
		return nil, errors.Join(err, os.Remove(tmp))
	}
	if err := os.Rename(tmp, x.path(number)); err != nil {
		return nil, err
	}
	s, err := openSegment(x.path(number), number, x.account, ring)
	if err != nil {
		return nil, err
	}
	s.refs.Store(1)
	return s, nil
}

// encode writes a segment, encrypted when there is a ring.
func (x *Index) encode(f io.Writer, replaces []uint64, ring *seal.Ring, fill func(*encoder) error) error {
	encode := func(w io.Writer) error {
		e := newEncoder(w)
		if err := fill(e); err != nil {
			return err
		}
		return e.end(replaces)
	}
	if ring == nil {
		return encode(f)
	}
	body, err := ring.NewBody(seal.BindingOf(seal.PartIndex, x.account), x.account)
	if err != nil {
		return err
	}
	w, err := newSealWriter(f, body)
	if err != nil {
		return err
	}
	if err := encode(w); err != nil {
		return err
	}
	return w.close()
}

// Trim gives back memory that is not needed until somebody asks.
func (x *Index) Trim() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, s := range x.segments {
		s.trim()
	}
}

// Find looks for a folded text in some fields.
func (x *Index) Find(fields Field, text string) (*Hits, error) {
	q := newQuery(fields, text)
	h := &Hits{all: len(q.words) == 0}
	if h.all {
		return h, nil
	}
	x.mu.Lock()
	if x.closed {
		x.mu.Unlock()
		return nil, fs.ErrClosed
	}
	for _, s := range x.segments {
		s.refs.Add(1)
		h.segments = append(h.segments, segmentHits{segment: s})
	}
	h.memory = x.memory.search(q)
	x.mu.Unlock()
	// Segments have nothing to do with each other: each processor takes some.
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i := range h.segments {
		g.Go(func() error {
			s, ok := &h.segments[i], false
			if s.yes, s.maybe, ok = match(q, s.len(), s.flags, s.lists); !ok {
				return errSegment
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

// Tidy drops bodies that are gone, with all their words, and merges segments. It does
// one piece of work at a time and says whether there is more. alive is asked about
// places only: its references say nothing of how a body is stored.
func (x *Index) Tidy(alive func(store.BodyRef) bool) (more bool, err error) {
	x.mu.Lock()
	if slices.ContainsFunc(x.memory.bodies, func(b indexed) bool { return !alive(at(b.ref)) }) {
		err = x.flush()
	}
	segments := slices.Clone(x.segments)
	for _, s := range segments {
		s.refs.Add(1)
		defer s.release()
	}
	x.mu.Unlock()
	if err != nil {
		return false, err
	}
	for _, s := range segments {
		for i := range s.len() {
			if !alive(s.body(i)) {
				return true, x.merge([]*segment{s}, alive)
			}
		}
	}
	// Of each size class, a factor of mergeAt apart, the members.
	classes := map[int][]*segment{}
	for _, s := range segments {
		class := 0
		for size := len(s.data); size > 1<<20; size /= mergeAt {
			class++
		}
		classes[class] = append(classes[class], s)
	}
	for _, list := range classes {
		total := 0
		for _, s := range list {
			total += len(s.data)
		}
		if len(list) >= mergeAt && total <= maxSegment {
			return true, x.merge(list, alive)
		}
	}
	return false, nil
}

// merge puts some segments in the place of which one comes. Readers go on with the old ones.
func (x *Index) merge(list []*segment, alive func(store.BodyRef) bool) error {
	var replaces []uint64
	for _, s := range list {
		replaces = append(replaces, s.number)
	}
	x.mu.Lock()
	number := x.next
	x.next++
	x.mu.Unlock()
	var made *segment
	if m := newMerger(list, alive); len(m.bodies) > 0 {
		var err error
		if made, err = x.write(number, replaces, m.encode); err != nil {
			return err
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case made == nil:
	case x.closed:
		made.release()
	default:
		x.segments = append(x.segments, made)
	}
	for _, s := range list {
		x.remove(s)
	}
	return nil
}

// Close writes what is in memory and closes the files.
func (x *Index) Close() error { return x.end((*Index).flush) }

// drop closes the files; what is in memory goes nowhere.
func (x *Index) drop() error { return x.end(func(*Index) error { return nil }) }

func (x *Index) end(flush func(*Index) error) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return nil
	}
	x.closed = true
	err := flush(x)
	for _, s := range x.segments {
		s.release()
	}
	x.segments = nil
	return err
}
