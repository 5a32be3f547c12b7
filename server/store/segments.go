package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// segments are the files of the log directory: log segments, to which
// transactions and small bodies are appended, and one segment for each large body.
type segments struct {
	fs   FS
	dir  string
	rand io.Reader

	mu   sync.Mutex
	next uint64              // id for the next new segment
	open map[uint64]*segment // handles in use or kept for use
	kind map[uint64]segmentKind
	used uint64 // clock of last uses
	// doomed are segments that are to go but could not be removed yet.
	doomed map[uint64]bool
	// held counts the images that a segment's file must stay for.
	held map[uint64]int
}

type segmentKind uint8

const (
	kindLog segmentKind = iota + 1
	kindBody
	// kindKept is of a large body that nothing refers to, in a store that has lost
	// some of its log: its message may have been in that. It is for salvage.
	kindKept
)

// segmentKinds are all of them.
var segmentKinds = [...]segmentKind{kindLog, kindBody, kindKept}

// segment is an open segment. Readers and the writer hold references; a
// removed segment's file is closed with the last.
type segment struct {
	info segmentInfo
	file File
	refs int
	last uint64 // when it was last used, by segments.used
	gone bool
}

// maxIdle is how many segments that nobody reads are kept open.
const maxIdle = 128

func (k segmentKind) suffix() string {
	switch k {
	case kindBody:
		return ".body"
	case kindKept:
		return ".kept"
	}
	return ".log"
}

func segmentName(id uint64, k segmentKind) string { return fmt.Sprintf("%016x%s", id, k.suffix()) }

func parseSegmentName(name string) (uint64, segmentKind, bool) {
	stem, suffix, _ := strings.Cut(name, ".")
	id, err := strconv.ParseUint(stem, 16, 64)
	if err != nil || len(stem) != 16 {
		return 0, 0, false
	}
	switch "." + suffix {
	case ".log":
		return id, kindLog, true
	case ".body":
		return id, kindBody, true
	case ".kept":
		return id, kindKept, true
	}
	return 0, 0, false
}

func (s *segments) path(id uint64, k segmentKind) string {
	return filepath.Join(s.dir, segmentName(id, k))
}

// list fills kind from the directory.
func (s *segments) list() error {
	names, err := s.fs.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		if id, k, ok := parseSegmentName(n); ok {
			s.kind[id] = k
			s.next = max(s.next, id+1)
		}
	}
	return nil
}

// create makes a segment with a durable header; the caller releases it.
func (s *segments) create(k segmentKind, prev uint64, prevEnd int64) (*segment, error) {
	var marker [8]byte
	if _, err := io.ReadFull(s.rand, marker[:]); err != nil {
		return nil, fmt.Errorf("make a segment marker: %w", err)
	}
	s.mu.Lock()
	id := s.next
	s.next++
	s.mu.Unlock()
	info := segmentInfo{ID: id, Marker: binary.LittleEndian.Uint64(marker[:]), Prev: prev, PrevEnd: prevEnd}
	name := s.path(id, k)
	f, err := s.fs.Create(name)
	if err != nil {
		return nil, err
	}
	_, err = f.WriteAt(info.encode(), 0)
	if err == nil && k == kindLog {
		err = f.Sync()
		if err == nil {
			err = s.fs.SyncDir(s.dir)
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), s.fs.Remove(name))
	}
	seg := &segment{info: info, file: f, refs: 1}
	s.mu.Lock()
	s.open[id], s.kind[id] = seg, k
	s.mu.Unlock()
	return seg, nil
}

// acquire opens a segment for reading; the caller releases it.
func (s *segments) acquire(id uint64) (*segment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used++
	if seg := s.open[id]; seg != nil {
		seg.refs++
		seg.last = s.used
		return seg, nil
	}
	k, ok := s.kind[id]
	if !ok {
		return nil, fmt.Errorf("%w: segment %x is gone", ErrNoMessage, id)
	}
	f, err := s.fs.Open(s.path(id, k))
	if err != nil {
		return nil, err
	}
	info, err := readSegmentInfo(f, id)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("segment %x: %w: %w", id, ErrDamaged, err), f.Close())
	}
	seg := &segment{info: info, file: f, refs: 1, last: s.used}
	s.open[id] = seg
	return seg, nil
}

func (s *segments) release(seg *segment) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	seg.refs--
	if seg.refs > 0 {
		return nil
	}
	if seg.gone {
		return seg.file.Close()
	}
	return s.trim()
}

// trim closes the idle segments that were used longest ago. Called with the lock held.
func (s *segments) trim() error {
	idle := 0
	var oldest *segment
	for _, seg := range s.open {
		if seg.refs == 0 {
			idle++
			if oldest == nil || seg.last < oldest.last {
				oldest = seg
			}
		}
	}
	if idle <= maxIdle {
		return nil
	}
	delete(s.open, oldest.info.ID)
	return oldest.file.Close()
}

// remove deletes a segment's file. Readers that have it open keep it until they are done.
func (s *segments) remove(id uint64) error {
	s.mu.Lock()
	if s.held[id] > 0 {
		s.doomed[id] = true
		s.mu.Unlock()
		return nil
	}
	k, ok := s.kind[id]
	seg := s.open[id]
	delete(s.kind, id)
	delete(s.open, id)
	var err error
	if seg != nil {
		if seg.gone = true; seg.refs == 0 {
			err = seg.file.Close()
		}
	}
	s.mu.Unlock()
	if !ok {
		return err
	}
	rerr := ignoreMissing(s.fs.Remove(s.path(id, k)))
	s.mu.Lock()
	if rerr != nil {
		s.kind[id], s.doomed[id] = k, true
	} else {
		delete(s.doomed, id)
	}
	s.mu.Unlock()
	return errors.Join(err, rerr)
}

// keep has a body's segment stay for salvage. It is called before anything reads.
func (s *segments) keep(id uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fs.Rename(s.path(id, kindBody), s.path(id, kindKept)); err != nil {
		return err
	}
	s.kind[id] = kindKept
	return nil
}

// retry removes what could not be removed before.
func (s *segments) retry() {
	s.mu.Lock()
	ids := slices.Sorted(maps.Keys(s.doomed))
	s.mu.Unlock()
	for _, id := range ids {
		if s.remove(id) != nil {
			return // still failing; there will be another time
		}
	}
}

func (s *segments) isDoomed(id uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.doomed[id]
}

// cut makes a segment end where it is known to end.
func (s *segments) cut(id uint64, end int64) error {
	seg, err := s.acquire(id)
	if err != nil {
		return err
	}
	size, err := seg.file.Size()
	if err == nil && size > end {
		if err = seg.file.Truncate(end); err == nil {
			err = seg.file.Sync()
		}
	}
	return errors.Join(err, s.release(seg))
}

func (s *segments) kindOf(id uint64) segmentKind {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kind[id]
}

// ids returns the segments of one kind in no order.
func (s *segments) ids(k segmentKind) []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var l []uint64
	for id, kind := range s.kind {
		if kind == k {
			l = append(l, id)
		}
	}
	return l
}

func (s *segments) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for id, seg := range s.open {
		delete(s.open, id)
		if seg.gone = true; seg.refs == 0 {
			errs = append(errs, seg.file.Close())
		}
	}
	return errors.Join(errs...)
}

// readSegmentInfo reads a segment's header. When that is damaged the marker is
// taken from the first record, which carries it too.
func readSegmentInfo(f io.ReaderAt, id uint64) (segmentInfo, error) {
	b := make([]byte, segmentHeader+recordHeader)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return segmentInfo{}, err
	}
	info, err := decodeSegmentInfo(b[:n])
	if err == nil && info.ID == id {
		return info, nil
	}
	if n == len(b) {
		marker := binary.LittleEndian.Uint64(b[segmentHeader:])
		if _, err := decodeRecord(b[segmentHeader:], marker); err == nil {
			return segmentInfo{ID: id, Marker: marker, Guessed: true}, nil
		}
	}
	return segmentInfo{}, errHeader
}
