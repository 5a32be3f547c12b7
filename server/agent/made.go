package agent

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// Folders of the system's own that not every system has. What an installation had
// to make is remembered, so that Remove leaves the machine as it was found.

func (a *Agent) maybeMissing() []string {
	return []string{filepath.Dir(a.Layout.SysusersFile())}
}

// noteFolders remembers, before the first installation makes any, which folders
// are missing.
func (a *Agent) noteFolders() error {
	path := a.Layout.MadeFile()
	if fileExists(path) || fileExists(a.Layout.SysusersFile()) {
		return nil
	}
	missing := slices.DeleteFunc(a.maybeMissing(), fileExists)
	if len(missing) == 0 {
		return nil
	}
	if err := mkdirAll(a.Layout.ConfigDir(), 0o750); err != nil {
		return err
	}
	return writeJSON(path, missing, 0o644)
}

// removeFolders removes what we made of them and nobody else uses.
func (a *Agent) removeFolders() error {
	var made []string
	if _, err := readJSON(a.Layout.MadeFile(), &made); err != nil {
		return err
	}
	for _, dir := range a.maybeMissing() {
		if !slices.Contains(made, dir) {
			continue
		}
		err := os.Remove(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) {
			return err
		}
	}
	return nil
}
