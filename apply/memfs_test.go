package apply

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// errDead is what everything answers once the simulated process is dead. Nothing
// has an effect from then on, which is what a kill means to the world outside.
var errDead = errors.New("this process is dead")

// fate decides at which point the simulated process dies: at the target-th one
// that it passes, counted from 1. It also counts them.
type fate struct {
	mu     sync.Mutex
	passed int
	target int // 0: never
	dead   bool
	where  string
}

// point passes one crash point and reports whether the process is alive after it.
func (f *fate) point(where string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead {
		return false
	}
	f.passed++
	if f.passed == f.target {
		f.dead, f.where = true, where
	}
	return !f.dead
}

func (f *fate) alive() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.dead
}

// memFS is a disk in memory that knows what was made durable. Crash points lie
// before, inside and after every write, and around every fsync and rename.
type memFS struct {
	mu      sync.Mutex
	fate    *fate
	dirs    map[string]bool
	current map[string]*inode // by path
	durable map[string]*inode // entries that SyncDir has seen

	// fail, when set, makes an operation fail: the name of the operation and the path.
	fail func(op, name string) error
}

type inode struct {
	data, synced []byte
	locked       bool
}

func newMemFS(f *fate) *memFS {
	return &memFS{fate: f, dirs: map[string]bool{}, current: map[string]*inode{}, durable: map[string]*inode{}}
}

// restart is what the next process finds. A killed process leaves what it wrote
// to the page cache; a power cut leaves only what was synced.
func (m *memFS) restart(f *fate, powerCut bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fate = f
	if powerCut {
		m.current = maps.Clone(m.durable)
		for _, n := range m.current {
			n.data = bytes.Clone(n.synced)
		}
	}
	for _, n := range m.current {
		n.locked = false
	}
}

func (m *memFS) step(op, name string) error {
	if m.fail != nil {
		if err := m.fail(op, name); err != nil {
			return err
		}
	}
	if !m.fate.point(op + " " + filepath.Base(name)) {
		return errDead
	}
	return nil
}

func (m *memFS) Mkdir(name string, _ fs.FileMode) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.fate.alive() {
		return errDead
	}
	m.dirs[name] = true
	return nil
}

func (m *memFS) OpenFile(name string, flag int, _ fs.FileMode) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.fate.alive() {
		return nil, errDead
	}
	if m.fail != nil {
		if err := m.fail("open", name); err != nil {
			return nil, err
		}
	}
	n := m.current[name]
	switch {
	case n == nil && flag&os.O_CREATE == 0:
		return nil, fs.ErrNotExist
	case n != nil && flag&os.O_EXCL != 0:
		return nil, fs.ErrExist
	case n == nil:
		n = &inode{}
		m.current[name] = n
	}
	if flag&os.O_TRUNC != 0 {
		n.data = nil
	}
	return &memFile{fs: m, name: name, node: n}, nil
}

func (m *memFS) Rename(oldname, newname string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.step("before rename to", newname); err != nil {
		return err
	}
	n := m.current[oldname]
	if n == nil {
		return fs.ErrNotExist
	}
	m.current[newname] = n
	delete(m.current, oldname)
	return m.step("after rename to", newname)
}

func (m *memFS) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.fate.alive() {
		return errDead
	}
	delete(m.current, name)
	return nil
}

func (m *memFS) SyncDir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.fate.alive() {
		return errDead
	}
	for p := range m.durable {
		if filepath.Dir(p) == name && m.current[p] == nil {
			delete(m.durable, p)
		}
	}
	for p, n := range m.current {
		if filepath.Dir(p) == name {
			m.durable[p] = n
		}
	}
	return m.step("after syncdir", name)
}

func (m *memFS) TryLock(f File) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	mf := f.(*memFile)
	if mf.node.locked {
		return false, nil
	}
	mf.node.locked, mf.locker = true, true
	return true, nil
}

func (m *memFS) Unlock(f File) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if mf := f.(*memFile); mf.locker {
		mf.node.locked, mf.locker = false, false
	}
	return nil
}

// read returns a file's content, for assertions.
func (m *memFS) read(suffix string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	for p, n := range m.current {
		if strings.HasSuffix(p, suffix) {
			return string(n.data)
		}
	}
	return ""
}

// put changes a file behind mailform's back.
func (m *memFS) put(suffix, content string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for p, n := range m.current {
		if strings.HasSuffix(p, suffix) {
			n.data = []byte(content)
		}
	}
}

type memFile struct {
	fs     *memFS
	name   string
	node   *inode
	at     int64
	locker bool
}

func (f *memFile) Read(p []byte) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.at >= int64(len(f.node.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.node.data[f.at:])
	f.at += int64(n)
	return n, nil
}

// Write dies before, halfway through, and after the bytes have reached the file.
func (f *memFile) Write(p []byte) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.fs.step("before write", f.name); err != nil {
		return 0, err
	}
	put := func(part []byte) {
		f.node.data = append(f.node.data[:f.at:f.at], part...)
		f.at += int64(len(part))
	}
	half := len(p) / 2
	put(p[:half])
	if err := f.fs.step("torn write", f.name); err != nil {
		return half, err
	}
	put(p[half:])
	if err := f.fs.step("after write", f.name); err != nil {
		return len(p), err
	}
	return len(p), nil
}

func (f *memFile) Seek(offset int64, whence int) (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if whence != io.SeekStart {
		return 0, errors.New("memFile: only SeekStart")
	}
	f.at = offset
	return offset, nil
}

func (f *memFile) Truncate(size int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if !f.fs.fate.alive() {
		return errDead
	}
	f.node.data = f.node.data[:size:size]
	return nil
}

func (f *memFile) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if !f.fs.fate.alive() {
		return errDead
	}
	if f.fs.fail != nil {
		if err := f.fs.fail("sync", f.name); err != nil {
			return err
		}
	}
	f.node.synced = bytes.Clone(f.node.data)
	return f.fs.step("after sync", f.name)
}

func (f *memFile) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.locker {
		f.node.locked = false
	}
	return nil
}
