package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

	"mailform/server/manifest"
)

// What stands in mailform's places and is not mailform's: it is a conflict, until
// somebody asks for it by its name. Then it is kept beside what takes its place,
// under a name that nothing else has, and comes back when that goes.

// takenRecord is one line of Layout.TakenFile. It is written before anything is
// taken, so that a run that was cut off finds what it has begun.
type takenRecord struct {
	Name   string `json:"name"`
	Path   string `json:"path"`
	Saved  string `json:"saved,omitempty"` // where it is kept; "" for users and groups
	SHA256 string `json:"sha256"`
	// Enabled and Active are a unit's state before, which it gets back.
	Enabled bool `json:"enabled,omitempty"`
	Active  bool `json:"active,omitempty"`
	GID     int  `json:"gid,omitempty"` // a group's number
}

// maxCompared bounds what is read of a foreign file to tell of a line of it.
const maxCompared = 64 << 10

// foreignName is what a file of ours goes by in `--take host/H/file/NAME`.
func (a *Agent) foreignName(path string) string {
	switch path {
	case a.Layout.SysusersFile():
		return "sysusers"
	case a.Layout.SysctlFile():
		return "sysctl"
	case a.Layout.JournalDropIn():
		return "journald"
	case a.Layout.SSHDropIn():
		return "sshd"
	case a.Layout.FirewallFile():
		return "firewall"
	}
	return filepath.Base(path)
}

// foreign is the conflict with something that can be taken over.
func (a *Agent) foreign(name, what string) error {
	host := "HOST"
	if o, err := a.readOwner(); err == nil && o != nil {
		host = o.Host
	}
	return &Error{Code: manifest.ExitConflict, Foreign: name, Msg: fmt.Sprintf(
		"conflict: %s, and mailform did not make it; `mailform apply --take host/%s/file/%s` takes it over and keeps what is there, or move it away and run again", what, host, name)}
}

// isForeign reports whether an error is such a conflict.
func isForeign(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Foreign != ""
}

// places are all files that mailform writes outside its own folders, whether they
// are asked for or not. What would stand there is known from a manifest, or "".
func (a *Agent) places(m *manifest.Manifest) []*fileItem {
	services := manifest.EveryService()
	var tuning *manifest.Tuning
	if m != nil {
		services, tuning = manifest.ServicesOf(m), m.Tuning
	}
	out := append([]*fileItem{a.file(a.Layout.SysusersFile(), sysusersConf, 0o644)}, a.unitItems(services)...)
	out = append(out, a.revertItems()...)
	if len(tuning.Parameters()) > 0 {
		out = append(out, a.file(a.Layout.SysctlFile(), sysctlText(tuning), 0o644))
	}
	if tuning != nil && tuning.JournalMiB > 0 {
		out = append(out, a.file(a.Layout.JournalDropIn(), journalText(tuning), 0o644))
	}
	if m != nil {
		out = append(out, a.access(m).files()...)
	}
	others := append(a.accessFiles(), a.Layout.SysctlFile(), a.Layout.JournalDropIn(), a.mountUnitFile())
	for _, p := range manifest.EveryService() {
		others = append(others, a.socketFile(p))
	}
	for _, path := range others {
		if !slices.ContainsFunc(out, func(f *fileItem) bool { return f.path == path }) {
			out = append(out, &fileItem{a: a, path: path})
		}
	}
	return out
}

// foreignThings lists what stands in our places. m is the applied manifest, or nil.
func (a *Agent) foreignThings(m *manifest.Manifest) ([]manifest.Foreign, error) {
	var out []manifest.Foreign
	for _, f := range a.places(m) {
		found, err := f.foreign()
		if err != nil {
			return nil, err
		}
		if found != nil {
			out = append(out, *found)
		}
	}
	if found := a.foreignAccount(); found != nil {
		out = append(out, *found)
	}
	return out, nil
}

// foreign looks at what stands in the file's place; nil for nothing, for ours, and
// for a folder or a device, which nobody can take over.
func (f *fileItem) foreign() (*manifest.Foreign, error) {
	fi, err := os.Lstat(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := &manifest.Foreign{Name: f.a.foreignName(f.path), Path: f.path, What: manifest.ForeignFile, Owner: f.a.ownerOf(fi)}
	if f.content != "" {
		out.WantedBytes, out.WantedSHA256 = int64(len(f.content)), manifest.SHA256([]byte(f.content))
	}
	switch {
	case fi.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(f.path)
		out.What, out.Line, out.SHA256 = manifest.ForeignLink, target, manifest.SHA256([]byte(target))
		return out, err
	case !fi.Mode().IsRegular():
		return nil, nil
	}
	file, err := os.Open(f.path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	start := make([]byte, maxCompared)
	n, err := io.ReadFull(file, start)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	start = start[:n]
	if bytes.HasPrefix(start, []byte(Header)) {
		return nil, nil
	}
	h := sha256.New()
	h.Write(start)
	rest, err := io.Copy(h, file)
	if err != nil {
		return nil, err
	}
	out.Bytes, out.SHA256 = int64(n)+rest, hex.EncodeToString(h.Sum(nil))
	if fi.Mode().Perm()&0o004 != 0 {
		out.Line = strangeLine(string(start), f.content)
	}
	return out, nil
}

// strangeLine is the first line of a text that another does not have, "" when there
// is none or it is better not shown. Comments, headings and empty lines say nothing.
func strangeLine(text, ours string) string {
	known := map[string]bool{}
	for line := range strings.Lines(ours) {
		known[strings.TrimSpace(line)] = true
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.ContainsAny(line[:1], "#;[") || known[line] {
			continue
		}
		if len(line) > 120 || !utf8.ValidString(line) || strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) || secretLine(line) {
			return ""
		}
		return line
	}
	return ""
}

// secretLine reports whether a line of a configuration may hold a secret, although
// everybody may read its file.
func secretLine(line string) bool {
	lower := strings.ToLower(line)
	return slices.ContainsFunc([]string{"pass", "secret", "token", "key", "credential", "environment", "auth"}, func(word string) bool { return strings.Contains(lower, word) })
}

// ownerOf names the user that a file belongs to.
func (a *Agent) ownerOf(fi fs.FileInfo) string {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	b, err := os.ReadFile(a.Layout.PasswdFile())
	if err != nil {
		return strconv.Itoa(int(st.Uid))
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Split(line, ":"); len(f) > 2 && f[2] == strconv.Itoa(int(st.Uid)) {
			return f[0]
		}
	}
	return strconv.Itoa(int(st.Uid))
}

func (a *Agent) readTaken() ([]takenRecord, error) {
	var out []takenRecord
	_, err := readJSON(a.Layout.TakenFile(), &out)
	return out, err
}

// takenOver returns the record of what was taken over under a name; nil without one.
func (a *Agent) takenOver(name string) *takenRecord {
	all, err := a.readTaken()
	if err != nil {
		return nil
	}
	if i := slices.IndexFunc(all, func(r takenRecord) bool { return r.Name == name }); i >= 0 {
		return &all[i]
	}
	return nil
}

// noteTaken writes a record down, in the place of an earlier one of the same name.
func (a *Agent) noteTaken(r takenRecord) error {
	all, err := a.readTaken()
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(have takenRecord) bool { return have.Name == r.Name })
	if err := mkdirAll(a.Layout.ConfigDir(), 0o750); err != nil {
		return err
	}
	return writeJSON(a.Layout.TakenFile(), append(all, r), 0o600)
}

func (a *Agent) forgetTaken(name string) error {
	all, err := a.readTaken()
	if err != nil {
		return err
	}
	left := slices.DeleteFunc(slices.Clone(all), func(r takenRecord) bool { return r.Name == name })
	if len(left) == len(all) {
		return nil
	}
	if len(left) == 0 {
		return removeDurably(a.Layout.TakenFile())
	}
	return writeJSON(a.Layout.TakenFile(), left, 0o600)
}

// asked reports whether a run wants to take over what was found. What has changed
// since it was seen has to be looked at again.
func (a *Agent) asked(f *manifest.Foreign) (bool, error) {
	for _, t := range a.taking {
		if t.Name != f.Name {
			continue
		}
		if t.SHA256 != f.SHA256 {
			return false, failf(manifest.ExitConflict, "conflict: %s is not what it was when the plan was made; look at a new plan", f.Path)
		}
		return true, nil
	}
	return false, nil
}

// save keeps what stands in the file's place beside it. Nothing that was saved
// before is ever written over.
func (f *fileItem) save(ctx context.Context, found *manifest.Foreign) error {
	a := f.a
	r := takenRecord{Name: found.Name, Path: f.path, SHA256: found.SHA256}
	if unit := filepath.Base(f.path); filepath.Dir(f.path) == a.Layout.UnitDir() {
		states, err := a.Systemd.Units(ctx, unit)
		if err != nil {
			return err
		}
		r.Enabled, r.Active = states[0].UnitFileState == "enabled", states[0].ActiveState == "active"
	}
	if earlier := a.takenOver(found.Name); earlier != nil && sameFile(earlier.Saved, f.path) {
		return nil // a run that was cut off has just done so
	}
	for n := 1; ; n++ {
		r.Saved = f.path + manifest.SavedSuffix
		if n > 1 {
			r.Saved += "-" + strconv.Itoa(n)
		}
		if _, err := os.Lstat(r.Saved); err == nil {
			continue
		}
		if err := a.noteTaken(r); err != nil {
			return err
		}
		// A link fails where there is something, and leaves no moment without the file.
		err := os.Link(f.path, r.Saved)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return err
		}
		return syncDir(filepath.Dir(r.Saved))
	}
}

// sameFile reports whether two names are one file's.
func sameFile(a, b string) bool {
	x, err := os.Lstat(a)
	if err != nil {
		return false
	}
	y, err := os.Lstat(b)
	return err == nil && os.SameFile(x, y)
}

// giveBack removes a file of ours or, where something was taken over, puts that
// back in its place and returns its record. What is not ours by now stays.
func (a *Agent) giveBack(path string) (*takenRecord, error) {
	all, err := a.readTaken()
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(r takenRecord) bool { return r.Path == path && r.Saved != "" })
	if i < 0 {
		return nil, removeDurably(path)
	}
	r := all[i]
	if f := (&fileItem{a: a, path: path}); existsAt(path) && !f.ours() || !existsAt(r.Saved) {
		if f.ours() {
			err = removeDurably(path)
		}
		return nil, errors.Join(err, a.forgetTaken(r.Name))
	}
	if err := os.Rename(r.Saved, path); err != nil {
		return nil, err
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	return &r, a.forgetTaken(r.Name)
}

func existsAt(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// dropFile is giveBack for a file that nothing asks for any more.
func (a *Agent) dropFile(path string) error {
	_, err := a.giveBack(path)
	return err
}

// resumeTaken lets units that came back be what they were.
func (a *Agent) resumeTaken(ctx context.Context, back []takenRecord) error {
	for _, r := range back {
		unit := filepath.Base(r.Path)
		if filepath.Dir(r.Path) != a.Layout.UnitDir() {
			continue
		}
		if r.Enabled {
			if err := a.Systemd.Enable(ctx, unit); err != nil {
				return err
			}
		}
		if r.Active {
			if err := a.Systemd.Start(ctx, unit); err != nil {
				return err
			}
		}
	}
	return nil
}
