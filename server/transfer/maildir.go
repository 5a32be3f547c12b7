package transfer

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"mailform/server/imap/wire"
)

// Maildir is a directory with cur and new in it, and others below it: Maildir++
// (".Folder.Sub", as Courier and Dovecot keep them) or folders within folders.
// https://cr.yp.to/proto/maildir.html
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
	folders, err := d.folders()
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
type folder struct{ dir, mailbox string }

func (d Maildir) folders() ([]folder, error) {
	var list []folder
	err := filepath.WalkDir(d.Dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !e.IsDir() {
			return nil
		}
		switch e.Name() {
		case "cur", "new", "tmp":
			if p != d.Dir {
				return fs.SkipDir
			}
		}
		if !isDir(filepath.Join(p, "cur")) && !isDir(filepath.Join(p, "new")) { // a copy may lack the one that was empty
			return nil
		}
		rel, err := filepath.Rel(d.Dir, p)
		if err != nil {
			return err
		}
		list = append(list, folder{p, mailboxName(filepath.ToSlash(rel))})
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
		levels[i] = strings.Join(parts, ".")
		levels[i] = strings.NewReplacer("/", "_", "%", "_", "*", "_").Replace(levels[i])
	}
	return strings.Join(slices.DeleteFunc(levels, func(l string) bool { return l == "" }), "/")
}

// file is a file with a message. There may be a million of them.
type file struct {
	name  string
	date  int64 // when it was delivered, in Unix nanoseconds
	fresh bool  // in new, not in cur
}

func (m file) path(dir string) string {
	if m.fresh {
		return filepath.Join(dir, "new", m.name)
	}
	return filepath.Join(dir, "cur", m.name)
}

// unique is the part of the name that stays, and flags the rest of it.
func (m file) unique() (unique, flags string) {
	unique, flags, _ = strings.Cut(m.name, ":2,")
	return unique, flags
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
			if !e.Type().IsRegular() || strings.HasPrefix(e.Name(), ".") {
				continue
			}
			info, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) { // its flags changed meanwhile; the next run takes it
				d.warn("%s went away", e.Name())
				continue
			}
			if err != nil {
				return nil, err
			}
			to = append(to, file{e.Name(), info.ModTime().UnixNano(), fresh})
		}
		if errors.Is(err, io.EOF) {
			return to, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func (d Maildir) folder(ctx context.Context, f folder, want func(string) bool, visit func(*Message) error) error {
	if err := visit(&Message{Mailbox: f.mailbox}); err != nil {
		return err
	}
	keywords, err := readKeywords(f.dir)
	if err != nil {
		return err
	}
	var list []file
	for _, sub := range []string{"cur", "new"} {
		if list, err = d.list(list, filepath.Join(f.dir, sub), sub == "new"); err != nil {
			return err
		}
	}
	slices.SortFunc(list, func(a, b file) int {
		if a.date != b.date {
			return cmp.Compare(a.date, b.date)
		}
		x, _ := a.unique()
		y, _ := b.unique()
		return strings.Compare(x, y)
	})
	for _, m := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		// Dovecot appends ",S=size,W=size" to the unique part, not always at once.
		unique, _ := m.unique()
		unique, _, _ = strings.Cut(unique, ",")
		id := f.mailbox + "\x00" + unique
		if !want(id) {
			continue
		}
		if err := d.message(f, m, id, keywords, visit); err != nil {
			return err
		}
	}
	return nil
}

func (d Maildir) message(f folder, m file, id string, keywords map[byte]string, visit func(*Message) error) error {
	path := m.path(f.dir)
	opened, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		d.warn("%s went away", path)
		return nil
	}
	if err != nil {
		return err
	}
	defer opened.Close()
	body, err := plain(opened)
	if err != nil {
		d.warn("%s is left out: %v", path, err)
		return nil
	}
	_, flags := m.unique()
	return visit(&Message{Mailbox: f.mailbox, Flags: maildirFlags(flags, keywords), Date: time.Unix(0, m.date), ID: id, Body: body})
}

// plain refuses what Dovecot's zlib plugin has compressed, which would be
// imported as garbage.
func plain(f io.ReadSeeker) (io.Reader, error) {
	var magic [4]byte
	n, err := io.ReadFull(f, magic[:])
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	for _, m := range [][]byte{{0x1f, 0x8b}, {0x28, 0xb5, 0x2f, 0xfd}, []byte("BZh"), {0xfd, '7', 'z'}} {
		if bytes.HasPrefix(magic[:n], m) {
			return nil, errors.New("it is compressed; import it from the server that keeps it so, by IMAP")
		}
	}
	_, err = f.Seek(0, io.SeekStart)
	return f, err
}

func maildirFlags(letters string, keywords map[byte]string) []string {
	var flags []string
	for _, c := range []byte(letters) {
		switch c {
		case 'S':
			flags = append(flags, `\Seen`)
		case 'R':
			flags = append(flags, `\Answered`)
		case 'F':
			flags = append(flags, `\Flagged`)
		case 'D':
			flags = append(flags, `\Draft`)
		case 'T':
			flags = append(flags, `\Deleted`)
		case 'P':
			flags = append(flags, "$Forwarded")
		default:
			if k := keywords[c]; k != "" {
				flags = append(flags, k)
			}
		}
	}
	return flags
}

// readKeywords reads Dovecot's names for the letters a to z.
// https://doc.dovecot.org/main/core/config/mailbox_formats/maildir.html
func readKeywords(dir string) (map[byte]string, error) {
	f, err := os.Open(filepath.Join(dir, "dovecot-keywords"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	keywords := map[byte]string{}
	lines := bufio.NewScanner(io.LimitReader(f, 64<<10))
	for lines.Scan() {
		number, name, ok := strings.Cut(lines.Text(), " ")
		if n, err := strconv.Atoi(number); ok && err == nil && n >= 0 && n < 26 {
			keywords['a'+byte(n)] = name
		}
	}
	return keywords, lines.Err()
}

func (d Maildir) warn(format string, args ...any) {
	if d.Warn != nil {
		d.Warn(fmt.Sprintf(format, args...))
	}
}
