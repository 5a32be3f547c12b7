package store

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// ReadOnly is an FS for looking at a store without changing it, be it damaged or
// on a disk that cannot be written to: what recovery cuts, mends and removes is
// so in memory only.
func ReadOnly() FS { return &overlay{nodes: map[string]*overlayNode{}} }

type overlay struct {
	mu    sync.Mutex
	nodes map[string]*overlayNode // of files that were opened or made; nil: removed
}

// overlayNode is a file of the disk with the pages that were written since.
type overlayNode struct {
	path string // on the disk; "" for one that was made here

	mu    sync.Mutex
	size  int64
	below int64 // octets of the disk's file that still count
	pages map[int64][]byte
}

// overlayFile is one open file.
type overlayFile struct {
	*overlayNode
	disk *os.File // nil when the node has none
}

const overlayPage = 4096

// MkdirAll makes nothing: a folder that is missing within a store reads as empty.
func (o *overlay) MkdirAll(dir string) error {
	_, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) && filepath.Base(dir) != "log" {
		if _, perr := os.Stat(filepath.Join(filepath.Dir(dir), "log")); perr == nil {
			return nil
		}
	}
	return err
}

func (o *overlay) Create(name string) (File, error) {
	if f, err := o.Open(name); err == nil {
		return nil, errors.Join(fs.ErrExist, f.Close())
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	n := &overlayNode{pages: map[int64][]byte{}}
	o.nodes[name] = n
	return &overlayFile{overlayNode: n}, nil
}

func (o *overlay) Open(name string) (File, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, known := o.nodes[name]
	if known && n == nil {
		return nil, fs.ErrNotExist
	}
	if known && n.path == "" {
		return &overlayFile{overlayNode: n}, nil
	}
	path := name
	if known {
		path = n.path
	}
	disk, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if !known {
		st, err := disk.Stat()
		if err != nil {
			return nil, errors.Join(err, disk.Close())
		}
		n = &overlayNode{path: path, size: st.Size(), below: st.Size(), pages: map[int64][]byte{}}
		o.nodes[name] = n
	}
	return &overlayFile{n, disk}, nil
}

func (o *overlay) Rename(from, to string) error {
	f, err := o.Open(from)
	if err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.nodes[to], o.nodes[from] = o.nodes[from], nil
	return f.Close()
}

func (o *overlay) Remove(name string) error {
	f, err := o.Open(name)
	if err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.nodes[name] = nil
	return f.Close()
}

func (o *overlay) ReadDir(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	names := map[string]bool{}
	for _, e := range entries {
		names[e.Name()] = true
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for name, n := range o.nodes {
		if filepath.Dir(name) != dir {
			continue
		}
		if n != nil {
			names[filepath.Base(name)] = true
		} else {
			delete(names, filepath.Base(name))
		}
	}
	return slices.Sorted(maps.Keys(names)), nil
}

func (o *overlay) SyncDir(string) error { return nil }

func (o *overlay) Free(string) (int64, error) { return 1 << 40, nil }

// Lock takes the lock of a store that has one.
func (o *overlay) Lock(name string) (io.Closer, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return io.NopCloser(nil), nil
	}
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrInUse
		}
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// page returns a page's octets; the lock is held.
func (f *overlayFile) page(n int64) ([]byte, error) {
	if p := f.pages[n]; p != nil {
		return p, nil
	}
	p := make([]byte, overlayPage)
	if from := n * overlayPage; f.disk != nil && from < f.below {
		if _, err := f.disk.ReadAt(p[:min(overlayPage, f.below-from)], from); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
	}
	return p, nil
}

func (f *overlayFile) ReadAt(p []byte, off int64) (n int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.pages) == 0 && f.disk != nil && f.below == f.size {
		// Whoever writes to the file meanwhile does not change its size here.
		k := max(min(int64(len(p)), f.size-off), 0)
		n, err := f.disk.ReadAt(p[:k], off)
		if err == nil && n < len(p) {
			err = io.EOF
		}
		return n, err
	}
	for n < len(p) && off < f.size {
		page, err := f.page(off / overlayPage)
		if err != nil {
			return n, err
		}
		at := off % overlayPage
		k := copy(p[n:], page[at:min(overlayPage, at+f.size-off)])
		n += k
		off += int64(k)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *overlayFile) WriteAt(p []byte, off int64) (n int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for n < len(p) {
		page, err := f.page(off / overlayPage)
		if err != nil {
			return n, err
		}
		f.pages[off/overlayPage] = page
		k := copy(page[off%overlayPage:], p[n:])
		n += k
		off += int64(k)
	}
	f.size = max(f.size, off)
	return n, nil
}

func (f *overlayFile) Size() (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.size, nil
}

func (f *overlayFile) Truncate(size int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if page := f.pages[size/overlayPage]; page != nil {
		clear(page[size%overlayPage:])
	}
	for n := range f.pages {
		if n*overlayPage >= size {
			delete(f.pages, n)
		}
	}
	f.size, f.below = size, min(f.below, size)
	return nil
}

func (f *overlayFile) Sync() error { return nil }

func (f *overlayFile) Close() error {
	if f.disk == nil {
		return nil
	}
	return f.disk.Close()
}
