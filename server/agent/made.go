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
	return []string{filepath.Dir(a.Layout.SysusersFile()), filepath.Dir(a.Layout.SysctlFile()), filepath.Dir(a.Layout.JournalDropIn())}
}

// noteFolder remembers, before a folder is made, that it is missing.
func (a *Agent) noteFolder(dir string) error {
	if fileExists(dir) {
		return nil
	}
	var made []string
	if _, err := readJSON(a.Layout.MadeFile(), &made); err != nil || slices.Contains(made, dir) {
		return err
	}
	if err := mkdirAll(a.Layout.ConfigDir(), 0o750); err != nil {
		return err
	}
	return writeJSON(a.Layout.MadeFile(), append(made, dir), 0o644)
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
