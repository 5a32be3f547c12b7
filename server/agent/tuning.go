package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"mailform/server/manifest"
)

// What the machine itself is set to: the kernel's network parameters, the bound
// of the journal, and a clock that is kept right. All of it is help and none is
// needed, so a kernel that refuses (in a container, say) is no error.

const journald = "systemd-journald.service"

// timeKeepers are the services that keep the clock right; the first is systemd's
// own, which is started where there is no other.
var timeKeepers = []string{"systemd-timesyncd.service", "chrony.service", "chronyd.service", "ntp.service", "ntpd.service", "ntpsec.service", "openntpd.service"}

// tuningItems are what t wants, and the end of what it does not want any more.
func (a *Agent) tuningItems(ctx context.Context, t *manifest.Tuning) ([]item, error) {
	var items []item
	if names := t.Parameters(); len(names) > 0 {
		items = append(items, &kernelItem{a.file(a.Layout.SysctlFile(), sysctlText(t), 0o644), t})
	} else if f := (&fileItem{a: a, path: a.Layout.SysctlFile()}); f.ours() {
		items = append(items, &tunedItem{f, a.untune(f.path)})
	}
	if t != nil && t.JournalMiB > 0 {
		items = append(items, &journalItem{a.file(a.Layout.JournalDropIn(), journalText(t), 0o644)})
	} else if f := (&fileItem{a: a, path: a.Layout.JournalDropIn()}); f.ours() {
		items = append(items, &tunedItem{f, a.untune(f.path)})
	}
	if t != nil && t.TimeSync {
		it, err := a.timeItem(ctx)
		if err != nil {
			return nil, err
		}
		items = append(items, it)
	}
	return items, nil
}

func sysctlText(t *manifest.Tuning) string {
	var b strings.Builder
	for _, name := range t.Parameters() {
		fmt.Fprintf(&b, "%s = %d\n", name, t.Kernel[name])
	}
	return b.String()
}

func journalText(t *manifest.Tuning) string {
	return fmt.Sprintf("[Journal]\nSystemMaxUse=%dM\n", t.JournalMiB)
}

// write makes the file, and remembers the folder when that had to be made, too.
func (f *fileItem) write(ctx context.Context) error {
	if err := f.a.noteFolder(filepath.Dir(f.path)); err != nil {
		return err
	}
	return f.apply(ctx)
}

// kernelItem are the kernel's parameters: the file that is read at boot, and the
// values now.
type kernelItem struct {
	*fileItem
	want *manifest.Tuning
}

func (k *kernelItem) check() (string, error) {
	diff, err := k.fileItem.check()
	if err != nil {
		return "", err
	}
	diffs := k.low()
	if diff != "" {
		diffs = append([]string{diff}, diffs...)
	}
	return strings.Join(diffs, ", "), nil
}

// low says which values are too small and can be changed.
func (k *kernelItem) low() (diffs []string) {
	for _, name := range k.want.Parameters() {
		if is, ok := k.a.parameter(name); ok && is < k.want.Kernel[name] {
			diffs = append(diffs, fmt.Sprintf("%s is %d, not %d", name, is, k.want.Kernel[name]))
		}
	}
	return diffs
}

func (k *kernelItem) apply(ctx context.Context) error {
	if err := k.write(ctx); err != nil {
		return err
	}
	was := map[string]raised{}
	if _, err := readJSON(k.a.Layout.KernelFile(), &was); err != nil {
		return err
	}
	for _, name := range k.want.Parameters() {
		want := k.want.Kernel[name]
		is, ok := k.a.parameter(name)
		if !ok || is >= want {
			continue
		}
		if old, again := was[name]; again && old.To == is {
			is = old.From
		}
		was[name] = raised{From: is, To: want}
		if err := writeJSON(k.a.Layout.KernelFile(), was, 0o644); err != nil {
			return err
		}
		if err := k.a.setParameter(name, want); err != nil {
			return err
		}
	}
	return nil
}

// raised is what became of a parameter.
type raised struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// parameter reads a kernel parameter; false for one that is not there, is no
// number or cannot be written: a container shows those of its host.
func (a *Agent) parameter(name string) (int64, bool) {
	path := a.Layout.Sysctl(name)
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	return n, err == nil && writable(path)
}

// writable reports whether a file can be opened for writing, which for those of
// proc(5) changes nothing.
func writable(path string) bool {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return false
	}
	f.Close()
	return true
}

func (a *Agent) setParameter(name string, value int64) error {
	f, err := os.OpenFile(a.Layout.Sysctl(name), os.O_WRONLY|os.O_TRUNC, 0)
	if err == nil {
		_, err = f.WriteString(strconv.FormatInt(value, 10) + "\n")
		err = errors.Join(err, f.Close())
	}
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.EINVAL) {
		return nil // the kernel's to decide; what it is set to is seen at the next look
	}
	return err
}

// restoreKernel gives parameters that are still as we set them their old values.
func (a *Agent) restoreKernel() error {
	was := map[string]raised{}
	if _, err := readJSON(a.Layout.KernelFile(), &was); err != nil {
		return err
	}
	for name, r := range was {
		if is, ok := a.parameter(name); ok && is == r.To {
			if err := a.setParameter(name, r.From); err != nil {
				return err
			}
		}
	}
	return removeDurably(a.Layout.KernelFile())
}

// journalItem bounds the journal.
type journalItem struct{ *fileItem }

func (j *journalItem) apply(ctx context.Context) error {
	if err := j.write(ctx); err != nil {
		return err
	}
	return j.a.restartJournal(ctx)
}

// restartJournal makes journald read its configuration. Nothing is lost: systemd
// keeps what services write to meanwhile.
func (a *Agent) restartJournal(ctx context.Context) error {
	states, err := a.Systemd.Units(ctx, journald)
	if err != nil || states[0].ActiveState != "active" {
		return err
	}
	return a.Systemd.Restart(ctx, journald)
}

// tunedItem is a file of ours that nothing asks for any more.
type tunedItem struct {
	*fileItem
	undo func(context.Context, func(string) error) error
}

func (u *tunedItem) check() (string, error) {
	if u.ours() {
		return "is there, though nothing asks for it", nil
	}
	return "", nil
}

func (u *tunedItem) apply(ctx context.Context) error {
	return u.undo(ctx, u.a.dropFile)
}

// untune takes one of our files away, with what it does. The old values go first: a
// file that is still there says that there may be something to do.
func (a *Agent) untune(path string) func(context.Context, func(string) error) error {
	return func(ctx context.Context, remove func(string) error) error {
		if path == a.Layout.SysctlFile() {
			if err := a.restoreKernel(); err != nil {
				return err
			}
			return remove(path)
		}
		if err := remove(path); err != nil {
			return err
		}
		return a.restartJournal(ctx)
	}
}

// timeItem is that something keeps the clock right. Systemd is asked only while
// the kernel does not know that the clock is.
type timeItem struct {
	a    *Agent
	diff string
}

func (a *Agent) timeItem(ctx context.Context) (*timeItem, error) {
	it := &timeItem{a: a}
	if c := a.clock(); c == nil || c.Synchronized {
		return it, nil
	}
	states, err := a.Systemd.Units(ctx, timeKeepers...)
	if err != nil {
		return nil, err
	}
	kept := slices.ContainsFunc(states, func(s UnitState) bool { return s.ActiveState == "active" || s.UnitFileState == "enabled" })
	if !kept && states[0].LoadState == "loaded" {
		it.diff = "nothing keeps the clock right"
	}
	return it, nil
}

func (i *timeItem) name() string           { return "time synchronisation" }
func (i *timeItem) check() (string, error) { return i.diff, nil }

func (i *timeItem) apply(ctx context.Context) error {
	if err := i.a.Systemd.Enable(ctx, timeKeepers[0]); err != nil {
		return err
	}
	i.diff = ""
	return i.a.Systemd.Start(ctx, timeKeepers[0])
}

// clock asks the kernel whether the clock is synchronised; nil when
// that is not known. A private root folder has no kernel of its own: there it is
// what systemd-timesyncd leaves that counts.
func (a *Agent) clock() *manifest.Clock {
	if a.Layout.Inside("/") != "/" {
		return &manifest.Clock{Synchronized: fileExists(a.Layout.ClockFile())}
	}
	return kernelClock()
}

// removeTuning takes away what tuningItems has made. Whatever keeps the clock
// right goes on.
func (a *Agent) removeTuning(ctx context.Context, remove func(string) error) error {
	for _, path := range []string{a.Layout.SysctlFile(), a.Layout.JournalDropIn()} {
		if f := (&fileItem{a: a, path: path}); f.ours() {
			if err := a.untune(path)(ctx, remove); err != nil {
				return err
			}
		}
	}
	return nil
}
