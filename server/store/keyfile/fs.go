package keyfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// FS is what is asked of a file system. Tests put one in its place that loses power.
type FS interface {
	// Read reads a regular file, no link, and at most limit octets of it.
	Read(name string, limit int) ([]byte, error)
	// Write makes a file that must not exist, and has it durable but for its name.
	// It is for the owner of its folder, and for the group gid.
	Write(name string, b []byte, mode fs.FileMode, gid int) error
	Rename(from, to string) error
	// Link renames to a name that must not be taken.
	Link(from, to string) error
	Remove(name string) error
	// Hold keeps hold of what is in a file now, if there is one, until it is let go:
	// overwritten, for a disk that writes in place, or as it is.
	Hold(name string) (letGo func(overwrite bool) error, err error)
	MkdirAll(dir string, gid int) error
	// Lock has one at a time change a folder.
	Lock(dir string) (unlock func(), err error)
	// SyncDir makes what names a folder has durable.
	SyncDir(dir string) error
}

// disk is the machine's own file system.
type disk struct{}

func (disk) Read(name string, limit int) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("%s is a symbolic link: a key is a file of its own", name)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no file", name)
	}
	return io.ReadAll(io.LimitReader(f, int64(limit)))
}

func (disk) Write(name string, b []byte, mode fs.FileMode, gid int) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if os.Geteuid() == 0 && err == nil {
		err = own(f, filepath.Dir(name), gid)
	}
	return errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
}

// own gives a file to the owner of its folder, and to a group.
func own(f *os.File, dir string, gid int) error {
	fi, err := os.Stat(dir)
	if err != nil {
		return err
	}
	st := fi.Sys().(*syscall.Stat_t)
	if gid < 0 {
		gid = int(st.Gid)
	}
	return f.Chown(int(st.Uid), gid)
}

func (disk) Rename(from, to string) error { return os.Rename(from, to) }
func (disk) Remove(name string) error     { return os.Remove(name) }

func (disk) Link(from, to string) error {
	if err := os.Link(from, to); err != nil {
		return err
	}
	return os.Remove(from)
}

func (disk) Hold(name string) (func(bool) error, error) {
	f, err := os.OpenFile(name, os.O_WRONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ELOOP) {
		return func(bool) error { return nil }, nil
	}
	if err != nil {
		return nil, err
	}
	return func(overwrite bool) error {
		if !overwrite {
			return f.Close()
		}
		fi, err := f.Stat()
		if err == nil && fi.Mode().IsRegular() {
			_, err = f.WriteAt(make([]byte, fi.Size()), 0)
			err = errors.Join(err, f.Sync())
		}
		return errors.Join(err, f.Close())
	}, nil
}

// MkdirAll makes a folder that the group may enter.
func (disk) MkdirAll(dir string, gid int) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	if os.Geteuid() != 0 || gid < 0 {
		return nil
	}
	return os.Chown(dir, -1, gid)
}

func (disk) Lock(dir string) (func(), error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for {
		if err = syscall.Flock(int(d.Fd()), syscall.LOCK_EX); !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), d.Close())
	}
	return func() { d.Close() }, nil // which ends the lock
}

func (disk) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
