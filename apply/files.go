package apply

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// FS is the part of a file system that the state directory needs. It is an
// interface so that a test can stop the world at any write, or break the disk.
type FS interface {
	// Mkdir makes one directory; one that exists is no error.
	Mkdir(name string, perm fs.FileMode) error
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	Rename(oldname, newname string) error
	Remove(name string) error
	// SyncDir makes the directory's entries durable.
	SyncDir(name string) error
	// TryLock takes an exclusive lock that the operating system drops when the
	// file is closed or the process dies. It reports false when another holds it.
	TryLock(File) (bool, error)
	// Unlock gives it back, also when another process has a copy of the open file: a
	// child that has been forked and has not yet begun its own program.
	Unlock(File) error
}

// File is an open file of an FS.
type File interface {
	io.Reader
	io.Writer
	io.Closer
	Seek(offset int64, whence int) (int64, error)
	Truncate(size int64) error
	Sync() error
}

// OS is the operating system's file system.
type OS struct{}

// Mkdir implements FS.
func (OS) Mkdir(name string, perm fs.FileMode) error {
	err := os.Mkdir(name, perm)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, statErr := os.Stat(name)
	if statErr != nil {
		return statErr
	}
	if !info.IsDir() {
		return err
	}
	return nil
}

// OpenFile implements FS.
func (OS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Rename implements FS.
func (OS) Rename(oldname, newname string) error { return os.Rename(oldname, newname) }

// Remove implements FS.
func (OS) Remove(name string) error { return os.Remove(name) }

// SyncDir implements FS.
func (OS) SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// TryLock implements FS with flock(2), which belongs to the open file and so is
// never left behind by a process that died.
func (OS) TryLock(f File) (bool, error) {
	file, ok := f.(*os.File)
	if !ok {
		return false, fmt.Errorf("lock: %T is not a file of the operating system", f)
	}
	conn, err := file.SyscallConn()
	if err != nil {
		return false, err
	}
	var lockErr error
	if err := conn.Control(func(fd uintptr) {
		for {
			lockErr = unix.Flock(int(fd), unix.LOCK_EX|unix.LOCK_NB)
			if lockErr != unix.EINTR {
				return
			}
		}
	}); err != nil {
		return false, err
	}
	if errors.Is(lockErr, unix.EWOULDBLOCK) {
		return false, nil
	}
	return lockErr == nil, lockErr
}

// Unlock implements FS. Closing the file alone is not enough: the lock lasts as long
// as any copy of the open file does.
func (OS) Unlock(f File) error {
	file, ok := f.(*os.File)
	if !ok {
		return fmt.Errorf("unlock: %T is not a file of the operating system", f)
	}
	conn, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var unlockErr error
	err = conn.Control(func(fd uintptr) { unlockErr = unix.Flock(int(fd), unix.LOCK_UN) })
	return errors.Join(err, unlockErr)
}

// readBounded reads a whole file of at most limit bytes. A missing file is
// fs.ErrNotExist, a longer one an error.
func readBounded(fsys FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is larger than %d MiB", name, limit>>20)
	}
	return data, nil
}

// Replace puts data in place of a file, whole or not at all, so that only its
// owner can read it. There must be one writer at a time.
func Replace(fsys FS, name string, data []byte) error {
	f, err := replaceFile(fsys, name, data)
	if err != nil {
		return err
	}
	return f.Close()
}

// replaceFile puts data in place of a file so that a reader, or the next start
// after a crash, sees either the old or the new content, whole. It returns the
// open file, positioned at its end. Callers hold the lock: there is one writer.
func replaceFile(fsys FS, name string, data []byte) (File, error) {
	tmp := name + ".tmp"
	f, err := fsys.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = fsys.Rename(tmp, name)
	}
	if err == nil {
		err = fsys.SyncDir(filepath.Dir(name))
	}
	if err != nil {
		f.Close()
		fsys.Remove(tmp) // what is left of a failed attempt helps nobody; the next one truncates it anyway
		return nil, fmt.Errorf("replace %s: %w", name, err)
	}
	return f, nil
}
