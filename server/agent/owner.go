package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"mailform/server/manifest"
)

// lockWait bounds how long a command waits for another one to end.
const lockWait = 20 * time.Second

// lock takes the agent lock. The kernel gives it back when the process dies.
func (a *Agent) lock(ctx context.Context) (unlock func(), err error) {
	path := a.Layout.AgentLock()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	deadline := a.Now().Add(lockWait)
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() {
				// Closing is not enough: a child that is being started has the file, too,
				// until it becomes another program.
				syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
				f.Close()
			}, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) || !a.Now().Before(deadline) {
			f.Close()
			if errors.Is(err, syscall.EWOULDBLOCK) {
				return nil, failf(manifest.ExitBusy, "another mailformd command has been changing this host for %s", lockWait)
			}
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if err := a.Sleep(ctx, 100*time.Millisecond); err != nil {
			f.Close()
			return nil, err
		}
	}
}

func (a *Agent) readOwner() (*manifest.Owner, error) {
	o := &manifest.Owner{}
	ok, err := readJSON(a.Layout.OwnerFile(), o)
	if err == nil && !ok && fileExists(a.Layout.MovingFile()) { // see vacate
		ok, err = readJSON(filepath.Join(a.Layout.MovedStateDir(), filepath.Base(a.Layout.OwnerFile())), o)
	}
	if err != nil || !ok {
		return nil, err
	}
	return o, nil
}

// claim checks that the host is the claimant's and not in newer hands. With
// create, a host that is nobody's becomes the claimant's, unless files that are
// not ours stand in our places.
func (a *Agent) claim(c manifest.Claim, create bool) error {
	if !manifest.ValidName(c.Stack) || !manifest.ValidName(c.Host) {
		return failf(manifest.ExitRequest, "the request names no stack and host")
	}
	o, err := a.readOwner()
	if err != nil {
		return err
	}
	if o == nil {
		if !create {
			return failf(manifest.ExitFailed, "mailformd is not installed here for stack %s: %s is missing", c.Stack, a.Layout.OwnerFile())
		}
		if err := a.unclaimedConflict(); err != nil {
			return err
		}
		if err := mkdirAll(a.Layout.StateDir(), 0o750); err != nil {
			return err
		}
		return a.writeOwner(manifest.Owner(c))
	}
	by := ""
	if o.Actor != "" {
		by = " (claimed by " + o.Actor + ")"
	}
	switch {
	case o.Stack != c.Stack:
		return failf(manifest.ExitOwned, "this machine belongs to stack %q%s, not to %q: destroy it there first, or remove it by hand with `mailformd remove`", o.Stack, by, c.Stack)
	case o.Host != c.Host:
		return failf(manifest.ExitOwned, "this machine is host %q of stack %q%s, not %q", o.Host, o.Stack, by, c.Host)
	case c.Epoch < o.Epoch:
		return failf(manifest.ExitFenced, "this host was leased under epoch %d, and this command comes with epoch %d (0: with no lease)", o.Epoch, c.Epoch)
	case c.Epoch > o.Epoch:
		o.Epoch = c.Epoch
		return a.writeOwner(*o)
	}
	return nil
}

// reclaim gives a claim the epoch of a host from which mailform was removed while
// its mail stayed: no command of an earlier run can be at work there, and whoever
// installs has had nobody to ask for a lease.
func (a *Agent) reclaim(c *manifest.Claim) error {
	if _, err := os.Lstat(a.Layout.Binary()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	o, err := a.readOwner()
	if err == nil && o != nil {
		c.Epoch = max(c.Epoch, o.Epoch)
	}
	return err
}

func (a *Agent) writeOwner(o manifest.Owner) error {
	return writeJSON(a.Layout.OwnerFile(), o, 0o644)
}

// unclaimedConflict reports what stands in our places on a host that nobody has
// claimed. An empty folder is no conflict, nor is an upload in progress.
func (a *Agent) unclaimedConflict() error {
	for _, dir := range []string{a.Layout.ConfigDir(), a.Layout.StateDir(), a.Layout.VersionsDir()} {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return conflict(dir, "it is not a folder of mailform's")
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			// A claim that was interrupted leaves its temporary file.
			if strings.HasPrefix(path, a.Layout.UploadPrefix()) || isTemp(e.Name()) {
				continue
			}
			return conflict(path, "it is in the way of mailform's own files and mailform did not make it")
		}
	}
	return a.binaryConflict()
}

// binaryConflict reports a mailformd that is not a link into our versions.
func (a *Agent) binaryConflict() error {
	link := a.Layout.Binary()
	target, err := os.Readlink(link)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || versionOf(target) == "" {
		return conflict(link, "mailform did not make it")
	}
	return nil
}

func conflict(path, why string) error {
	return failf(manifest.ExitConflict, "conflict: %s exists, and %s; move it away and run again", path, why)
}
