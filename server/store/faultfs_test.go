package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
)

var ErrPower = errors.New("the power has gone")

// SimFS is a file system in memory that remembers what has been made durable.
// Power can be cut at any operation that changes something; Survivors then has
// what a disk may hold: what was synced, and of the rest any part, torn into
// sectors, in any order. It can also fail operations while the power is on.
type SimFS struct {
	mu      sync.Mutex
	rng     *rand.Rand
	files   map[string]*inode // as running programs see it
	durable map[string]*inode // names that were synced
	changes []change          // of names, since
	left    int               // operations until the power goes; negative: it stays
	dead    bool
	// fault, when set, may fail an operation with an error.
	fault func(op string) error
	free  int64

	// mapped is a folder of the machine's for the files that are mapped into memory,
	// which this cannot be between; older are such files as they were before. With
	// "" there are none.
	mapped string
	older  map[string][]byte
}

type inode struct {
	now    []byte
	synced []byte
	writes []write // since the last sync
}

type write struct {
	off  int64
	data []byte
	size int64 // of a truncation, when data is nil
}

type change struct {
	dir  string
	from string // removed name; "" for none
	to   string // new name; "" for none
	node *inode
}

func NewSimFS(rng *rand.Rand) *SimFS {
	return &SimFS{rng: rng, files: map[string]*inode{}, durable: map[string]*inode{}, left: -1, free: 1 << 40}
}

// CutAfter makes the power go during the n-th change from now.
func (s *SimFS) CutAfter(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = n
}

// step counts a change. The lock is held. The one during which the power goes
// may take effect in part.
func (s *SimFS) step(op string) (err error) {
	if s.dead {
		return ErrPower
	}
	if s.left > 0 {
		if s.left--; s.left == 0 {
			s.dead = true
		}
	}
	if s.fault != nil && !s.dead {
		return s.fault(op)
	}
	return nil
}

func (s *SimFS) after() error {
	if s.dead {
		return ErrPower
	}
	return nil
}

// Survivors is the file system as it is found when the power is back.
func (s *SimFS) Survivors() *SimFS {
	s.mu.Lock()
	defer s.mu.Unlock()
	// How much of what was not synced reached the disk: nothing, all, or some.
	keep := []float64{0, 1, 0.5, 0.9}[s.rng.IntN(4)]
	names := map[string]*inode{}
	for n, i := range s.durable {
		names[n] = i
	}
	for _, c := range s.changes {
		if s.rng.Float64() >= keep {
			continue
		}
		if c.from != "" {
			delete(names, c.from)
		}
		if c.to != "" {
			names[c.to] = c.node
		}
	}
	out := NewSimFS(s.rng)
	out.mapped, out.older = s.mapped, s.older
	out.tearMapped()
	for n, i := range names {
		data := slices.Clone(i.synced)
		for _, w := range i.writes {
			if w.data == nil {
				if s.rng.Float64() < keep {
					data = resize(data, w.size)
				}
				continue
			}
			const sector = 512
			for off := int64(0); off < int64(len(w.data)); {
				end := min(int64(len(w.data)), (w.off+off)/sector*sector+sector-w.off)
				if s.rng.Float64() < keep {
					data = put(data, w.off+off, w.data[off:end])
				} else if s.rng.IntN(8) == 0 {
					data = resize(data, max(int64(len(data)), w.off+end)) // the size grew, the octets did not come
				}
				off = end
			}
		}
		node := &inode{now: data, synced: slices.Clone(data)}
		out.files[n], out.durable[n] = node, node
	}
	return out
}

// Mapped gives the file system a folder of the machine's for the files of a MappedFS.
func (s *SimFS) Mapped(dir string) { s.mapped, s.older = dir, map[string][]byte{} }

// MappedFS is a SimFS with mapped files.
type MappedFS struct{ *SimFS }

// MapPath makes it a Mapped.
func (s *MappedFS) MapPath(name string) string { return filepath.Join(s.mapped, filepath.Base(name)) }

// tearMapped does to the mapped files what a power cut may do, and worse: they
// are as they were left, as they were some time before, a mix of the sectors of
// both, cut off, or gone.
func (s *SimFS) tearMapped() {
	if s.mapped == "" {
		return
	}
	entries, err := os.ReadDir(s.mapped)
	if err != nil {
		panic(err)
	}
	for _, e := range entries {
		path := filepath.Join(s.mapped, e.Name())
		now, err := os.ReadFile(path)
		if err != nil {
			panic(err)
		}
		old, torn := s.older[e.Name()], slices.Clone(now)
		switch s.rng.IntN(6) {
		case 0:
			torn = old
		case 1:
			for at := 0; at+512 <= min(len(old), len(now)); at += 512 {
				if s.rng.IntN(3) == 0 {
					copy(torn[at:at+512], old[at:])
				}
			}
		case 2:
			torn = torn[:s.rng.IntN(len(torn)+1)]
		case 3:
			torn = nil
		}
		if s.rng.IntN(2) == 0 {
			s.older[e.Name()] = now
		}
		if err := os.Remove(path); err != nil {
			panic(err)
		}
		if torn != nil {
			if err := os.WriteFile(path, torn, 0o600); err != nil {
				panic(err)
			}
		}
	}
}

func resize(b []byte, n int64) []byte {
	if n <= int64(len(b)) {
		return b[:n]
	}
	return append(b, make([]byte, n-int64(len(b)))...)
}

func put(b []byte, off int64, data []byte) []byte {
	b = resize(b, max(int64(len(b)), off+int64(len(data))))
	copy(b[off:], data)
	return b
}

func (s *SimFS) MkdirAll(string) error { return nil }

func (s *SimFS) Create(name string) (File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.step("create"); err != nil {
		return nil, err
	}
	if s.files[name] != nil {
		return nil, fs.ErrExist
	}
	node := &inode{}
	s.files[name] = node
	s.changes = append(s.changes, change{dir: filepath.Dir(name), to: name, node: node})
	return &simFile{s, node}, s.after()
}

func (s *SimFS) Open(name string) (File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return nil, ErrPower
	}
	if node := s.files[name]; node != nil {
		return &simFile{s, node}, nil
	}
	return nil, fs.ErrNotExist
}

func (s *SimFS) Rename(from, to string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.step("rename"); err != nil {
		return err
	}
	node := s.files[from]
	if node == nil {
		return fs.ErrNotExist
	}
	delete(s.files, from)
	s.files[to] = node
	s.changes = append(s.changes, change{dir: filepath.Dir(to), from: from, to: to, node: node})
	return s.after()
}

func (s *SimFS) Remove(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.step("remove"); err != nil {
		return err
	}
	if s.files[name] == nil {
		return fs.ErrNotExist
	}
	delete(s.files, name)
	s.changes = append(s.changes, change{dir: filepath.Dir(name), from: name})
	return s.after()
}

func (s *SimFS) ReadDir(dir string) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for n := range s.files {
		if filepath.Dir(n) == dir {
			names = append(names, filepath.Base(n))
		}
	}
	slices.Sort(names)
	return names, s.after()
}

func (s *SimFS) SyncDir(dir string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.step("syncdir"); err != nil {
		return err
	}
	if s.dead {
		return ErrPower
	}
	s.changes = slices.DeleteFunc(s.changes, func(c change) bool {
		if c.dir != dir {
			return false
		}
		if c.from != "" {
			delete(s.durable, c.from)
		}
		if c.to != "" {
			s.durable[c.to] = c.node
		}
		return true
	})
	return nil
}

func (s *SimFS) Free(string) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.free, nil
}

// SetFault makes f decide which changes fail; nil ends that.
func (s *SimFS) SetFault(f func(op string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// SetFree sets what Free returns.
func (s *SimFS) SetFree(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = n
}

type nopCloser struct{}

func (nopCloser) Close() error { return nil }

func (s *SimFS) Lock(string) (io.Closer, error) { return nopCloser{}, nil }

// Names returns the files whose name contains part.
func (s *SimFS) Names(part string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var l []string
	for n := range s.files {
		if strings.Contains(n, part) {
			l = append(l, n)
		}
	}
	slices.Sort(l)
	return l
}

type simFile struct {
	fs   *SimFS
	node *inode
}

func (f *simFile) ReadAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.fs.dead {
		return 0, ErrPower
	}
	if off >= int64(len(f.node.now)) {
		return 0, io.EOF
	}
	n := copy(p, f.node.now[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *simFile) WriteAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.fs.step("write"); err != nil {
		if !errors.Is(err, ErrPower) {
			// A part may have been written.
			n := f.fs.rng.IntN(len(p) + 1)
			f.write(p[:n], off)
			return n, err
		}
		return 0, err
	}
	f.write(p, off)
	return len(p), f.fs.after()
}

func (f *simFile) write(p []byte, off int64) {
	if len(p) == 0 {
		return
	}
	f.node.now = put(f.node.now, off, p)
	f.node.writes = append(f.node.writes, write{off: off, data: slices.Clone(p)})
}

func (f *simFile) Size() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return int64(len(f.node.now)), f.fs.after()
}

func (f *simFile) Truncate(n int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.fs.step("truncate"); err != nil {
		return err
	}
	f.node.now = resize(f.node.now, n)
	f.node.writes = append(f.node.writes, write{size: n})
	return f.fs.after()
}

func (f *simFile) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.fs.step("sync"); err != nil {
		return err
	}
	if f.fs.dead {
		return ErrPower
	}
	f.node.synced = slices.Clone(f.node.now)
	f.node.writes = nil
	return nil
}

func (f *simFile) Close() error { return nil }

// DiskFault fails with one of the errors of a full or failing disk.
func DiskFault(rng *rand.Rand) error {
	return []error{syscall.ENOSPC, syscall.EIO, syscall.EDQUOT}[rng.IntN(3)]
}

// Clone copies the file system as it is.
func (s *SimFS) Clone() *SimFS {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := NewSimFS(s.rng)
	for n, i := range s.files {
		node := &inode{now: slices.Clone(i.now), synced: slices.Clone(i.now)}
		out.files[n], out.durable[n] = node, node
	}
	return out
}

// Flip changes one bit of a file.
func (s *SimFS) Flip(name string, bit int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.files[name].now
	b[bit/8%len(b)] ^= 1 << (bit % 8)
}

// Content returns a file's octets.
func (s *SimFS) Content(name string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.files[name].now)
}

// Find says where a text stands in a file; "" for nowhere.
func (s *SimFS) Find(text string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, node := range s.files {
		if at := bytes.Index(node.now, []byte(text)); at >= 0 {
			return fmt.Sprintf("%s at %d", name, at)
		}
	}
	return ""
}

// SetContent makes a durable file.
func (s *SimFS) SetContent(name string, b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	node := &inode{now: slices.Clone(b), synced: slices.Clone(b)}
	s.files[name], s.durable[name] = node, node
}
