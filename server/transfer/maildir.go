package transfer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mailform/server/imap/wire"
)

// Maildir is a directory with cur and new in it, and others below it: Maildir++
// (".Folder.Sub", as Courier and Dovecot keep them) or folders within folders.
// Messages may be compressed. https://cr.yp.to/proto/maildir.html
type Maildir struct {
	Dir string
	// Warn is told of what is left out; may be nil.
	Warn func(text string)
}

// Name implements Source.
func (Maildir) Name() string { return "maildir" }

// Walk implements Source. A message's id is its folder and the unique part of
// its file name, which stays when its flags change.
func (d Maildir) Walk(ctx context.Context, want func(string) bool, visit func(*Message) error) error {
	root, err := followed(d.Dir)
	if err != nil {
		return err
	}
	ours, err := readFolderNames(root)
	if err != nil {
		return err
	}
	folders, err := d.folders(root, ours)
	if err != nil {
		return err
	}
	if len(folders) == 0 {
		return fmt.Errorf("%s is no Maildir: it has no cur and new in it, nor have directories below it", d.Dir)
	}
	for _, f := range folders {
		if err := d.folder(ctx, f, want, visit); err != nil {
			return err
		}
	}
	return nil
}

// folder is a directory with messages and the mailbox that it is.
type folder struct {
	dir, mailbox string
	exact        bool
}

func (d Maildir) folders(root string, ours folderNames) ([]folder, error) {
	var list []folder
	err := filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.Type()&fs.ModeSymlink != 0 && isDir(filepath.Join(p, "cur")) {
			d.warn("%s is left out: it is a link; import what it leads to", p)
		}
		if !e.IsDir() {
			return nil
		}
		switch e.Name() {
		case "cur", "new", "tmp", courierDir:
			if p != root {
				return fs.SkipDir
			}
		}
		if !isDir(filepath.Join(p, "cur")) && !isDir(filepath.Join(p, "new")) { // a copy may lack the one that was empty
			return nil
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		list = append(list, folder{p, ours.name(rel, func() string { return mailboxName(rel) }), ours != nil})
		return nil
	})
	slices.SortFunc(list, func(a, b folder) int { return strings.Compare(a.mailbox, b.mailbox) })
	return list, err
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// escapedDot is how Dovecot writes a dot that does not separate levels: UTF-7 that
// is against the rules, because a dot needs none.
const escapedDot = "&AC4-"

// mailboxName is the mailbox of a directory below the Maildir.
func mailboxName(rel string) string {
	if rel == "." {
		return "INBOX"
	}
	var levels []string
	for _, part := range strings.Split(rel, "/") {
		if strings.HasPrefix(part, ".") { // Maildir++
			levels = append(levels, strings.Split(part[1:], ".")...)
		} else {
			levels = append(levels, part)
		}
	}
	for i, l := range levels {
		parts := strings.Split(l, escapedDot)
		for k, part := range parts {
			if text, err := wire.DecodeName(part); err == nil { // RFC 3501 5.1.3; some keep UTF-8
				parts[k] = text
			}
		}
		levels[i] = strings.ReplaceAll(strings.Join(parts, "."), "/", "_")
	}
	return strings.Join(slices.DeleteFunc(levels, func(l string) bool { return l == "" }), "/")
}

// file is a file with a message. There may be a million of them.
type file struct {
	name  string
	date  int64  // when it was delivered, in Unix nanoseconds
	uid   uint32 // Dovecot's; 0 is unknown
	fresh bool   // in new, not in cur
}

func (m file) path(dir string) string {
	if m.fresh {
		return filepath.Join(dir, "new", m.name)
	}
	return filepath.Join(dir, "cur", m.name)
}

// unique is the part of the name that stays, and flags the rest of it. On file
// systems without colons some programs write '!' or ';'.
func (m file) unique() (unique, flags string) {
	for _, mark := range []string{":2,", "!2,", ";2,"} {
		if unique, flags, ok := strings.Cut(m.name, mark); ok {
			return unique, flags
		}
	}
	return m.name, ""
}

// base is what a message is known by: Dovecot appends ",S=size,W=size" to the unique
// part, not always at once.
func (m file) base() string {
	unique, _ := m.unique()
	unique, _, _ = strings.Cut(unique, ",")
	return unique
}

// list adds the files in one of a folder's directories.
func (d Maildir) list(to []file, dir string, fresh bool) ([]file, error) {
	opened, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return to, nil
	}
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	for {
		entries, err := opened.ReadDir(1000)
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), ".") {
				continue
			}
			info, err := e.Info()
			if err == nil && info.Mode()&fs.ModeSymlink != 0 {
				info, err = os.Stat(filepath.Join(dir, e.Name()))
			}
			switch {
			case errors.Is(err, fs.ErrNotExist): // its flags changed meanwhile: find has its name
				to = append(to, file{name: e.Name(), fresh: fresh})
			case err != nil:
				return nil, err
			case info.Mode().IsRegular():
				to = append(to, file{name: e.Name(), date: info.ModTime().UnixNano(), fresh: fresh})
			}
		}
		if errors.Is(err, io.EOF) {
			return to, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// both lists new, then cur: a message that a program moves meanwhile is seen twice
// rather than not at all.
func (d Maildir) both(dir string) (list []file, err error) {
	for _, sub := range []string{"new", "cur"} {
		if list, err = d.list(list, filepath.Join(dir, sub), sub == "new"); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (d Maildir) folder(ctx context.Context, f folder, want func(string) bool, visit func(*Message) error) error {
	if err := visit(&Message{Mailbox: f.mailbox, Exact: f.exact}); err != nil {
		return err
	}
	list, err := d.both(f.dir)
	if err != nil {
		return err
	}
	marks, err := readMarks(f.dir)
	if err != nil {
		return err
	}
	uids, err := dovecotUIDs(f.dir)
	if err != nil {
		return err
	}
	for i := range list {
		list[i].uid = uids[list[i].base()]
	}
	slices.SortStableFunc(list, func(a, b file) int {
		if a.uid > 0 && b.uid > 0 {
			return cmp.Compare(a.uid, b.uid)
		}
		if n := cmp.Compare(min(a.uid, 1), min(b.uid, 1)); n != 0 {
			return -n // what Dovecot has not seen yet is newer
		}
		if a.date != b.date {
			return cmp.Compare(a.date, b.date)
		}
		return strings.Compare(a.base(), b.base())
	})
	lost := &renamed{d: d, dir: f.dir}
	for _, m := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		id := f.mailbox + "\x00" + m.base()
		if !want(id) {
			continue
		}
		if err := d.message(f, m, id, marks, lost, visit); err != nil {
			return err
		}
	}
	return nil
}

// renamed finds messages whose files got another name while the folder is read: their
// flags changed.
type renamed struct {
	d     Maildir
	dir   string
	names map[string]file
	looks int
}

// find opens a message, by its new name if it has one. It is fs.ErrNotExist when
// somebody removed it.
func (l *renamed) find(m file) (*os.File, file, error) {
	f, err := os.Open(m.path(l.dir))
	for range 2 {
		if !errors.Is(err, fs.ErrNotExist) {
			return f, m, err
		}
		now, ok := l.names[m.base()]
		if ok {
			if f, err = os.Open(now.path(l.dir)); err == nil {
				return f, now, nil
			}
		}
		if l.looks++; l.looks > 100 { // a folder that changes all the time
			break
		}
		list, lerr := l.d.both(l.dir)
		if lerr != nil {
			return nil, m, lerr
		}
		l.names = make(map[string]file, len(list))
		for _, x := range list {
			l.names[x.base()] = x
		}
		if now, ok = l.names[m.base()]; !ok {
			return nil, m, err
		}
		if f, err = os.Open(now.path(l.dir)); err == nil {
			return f, now, nil
		}
	}
	return f, m, err
}

func (d Maildir) message(f folder, m file, id string, marks maildirMarks, lost *renamed, visit func(*Message) error) error {
	leaveOut := func(why error) error {
		d.warn("%s is left out: %v", m.path(f.dir), why)
		return visit(&Message{Mailbox: f.mailbox, Exact: f.exact, ID: id, Body: failing{&LeftOut{why.Error()}}})
	}
	opened, m, err := lost.find(m)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // its owner removed it
	}
	if err != nil {
		return leaveOut(err)
	}
	defer opened.Close()
	if m.date == 0 {
		if info, err := opened.Stat(); err == nil {
			m.date = info.ModTime().UnixNano()
		}
	}
	body, _, err := decompressed(opened)
	if err != nil {
		return leaveOut(err)
	}
	defer body.Close()
	return visit(&Message{Mailbox: f.mailbox, Exact: f.exact, Flags: marks.flags(m), Date: time.Unix(0, m.date), ID: id, Body: &fragile{body, func(err error) {
		d.warn("%s is left out: %v", m.path(f.dir), err)
	}}})
}

// fragile is a message whose reading may fail without a reason to stop.
type fragile struct {
	io.Reader
	told func(error)
}

func (r *fragile) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && err != io.EOF {
		r.told(err)
		err = &LeftOut{err.Error()}
	}
	return n, err
}

// failing is a message that cannot be read.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func (d Maildir) warn(format string, args ...any) {
	if d.Warn != nil {
		d.Warn(fmt.Sprintf(format, args...))
	}
}
