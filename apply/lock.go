package apply

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"mailform/plan"
)

// Holder says who holds the lock.
type Holder = plan.Holder

// maxHolderBytes bounds what is read from a lock file.
const maxHolderBytes = 4 << 10

// Lock is the held lock of one state directory.
type Lock struct {
	fs   FS
	file File
}

// Lock takes the stack's lock or says who has it (class plan.ErrLocked). The
// lock is the kernel's: when its holder dies, however it dies, it is free. The
// file itself stays and means nothing.
func (d *Dir) Lock(h Holder) (*Lock, error) {
	if err := d.create(); err != nil {
		return nil, err
	}
	name := filepath.Join(d.path, LockName)
	f, err := d.fs.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, d.failure("open the lock file", err)
	}
	held, err := d.fs.TryLock(f)
	if err != nil {
		f.Close()
		e := d.failure("lock "+name, err)
		e.Fix = "the file system must support file locks; keep the stack's folder on a local disk"
		return nil, e
	}
	if !held {
		holder := readHolder(f)
		f.Close()
		return nil, lockedError(d.path, holder)
	}
	if err := writeHolder(f, h); err != nil {
		f.Close()
		return nil, d.failure("write "+name, err)
	}
	return &Lock{fs: d.fs, file: f}, nil
}

// Holder tells who holds the lock, nil when nobody does. It makes nothing: a
// directory that does not exist is not locked.
func (d *Dir) Holder() (*Holder, error) {
	name := filepath.Join(d.path, LockName)
	f, err := d.fs.OpenFile(name, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, d.failure("open the lock file", err)
	}
	defer f.Close()
	free, err := d.fs.TryLock(f)
	if err != nil {
		return nil, d.failure("try to lock "+name, err)
	}
	if free {
		return nil, d.fs.Unlock(f)
	}
	h := readHolder(f)
	return &h, nil
}

// Release gives the lock back.
func (l *Lock) Release() error {
	// Emptied, so that nobody reads the name of a holder that has left.
	return errors.Join(l.file.Truncate(0), l.fs.Unlock(l.file), l.file.Close())
}

func writeHolder(f File, h Holder) error {
	data, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	return err
}

// readHolder returns what the lock file says, or the zero Holder: its holder may
// have taken the lock this instant and not have written its name yet.
func readHolder(r io.Reader) Holder {
	var h Holder
	data, err := io.ReadAll(io.LimitReader(r, maxHolderBytes))
	if err != nil || json.Unmarshal(data, &h) != nil {
		return Holder{}
	}
	return h.Printable()
}

func lockedError(path string, h Holder) *plan.Error {
	e := &plan.Error{
		Class: plan.ErrLocked,
		Code:  codeLocked,
		Step:  "lock " + path,
		Got:   "another mailform is working on this stack",
		Fix:   "wait until it is done; the lock frees itself when that process ends, however it ends",
	}
	if h.PID == 0 {
		return e
	}
	e.Got = "held by " + h.String()
	e.Fix = fmt.Sprintf("wait until it is done, or stop it with ^C (kill -INT %d on %s) and run this again; the lock frees itself when that process ends, however it ends",
		h.PID, h.Host)
	return e
}
