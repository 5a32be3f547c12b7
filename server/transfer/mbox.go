package transfer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Mbox is a file of messages that each begin with a "From " line, or a directory
// of such files, one for each mailbox (RFC 4155, and the variants mboxo, mboxrd,
// mboxcl and mboxcl2 of http://qmail.org/man/man5/mbox.html). Files may be
// compressed. Gmail's export is one file whose messages name their labels.
type Mbox struct {
	Path string
	Warn func(text string) // told of what is left out; may be nil
}

// Name implements Source.
func (Mbox) Name() string { return "mbox" }

// Walk implements Source. Messages are named by their content.
func (d Mbox) Walk(ctx context.Context, want func(string) bool, visit func(*Message) error) error {
	root, err := followed(d.Path)
	if err != nil {
		return err
	}
	info, err := os.Stat(root)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		if info.Size() > 0 {
			if ok, err := isMbox(root); err != nil {
				return err
			} else if !ok {
				return fmt.Errorf("%s is no mbox: it does not begin with a \"From \" line", d.Path)
			}
		}
		return d.file(ctx, root, &Message{Mailbox: "INBOX"}, visit)
	}
	ours, err := readFolderNames(root)
	if err != nil {
		return err
	}
	list, err := mboxFiles(root, ours)
	if err != nil {
		return err
	}
	if len(list) == 0 && ours == nil {
		return fmt.Errorf("no file below %s is an mbox: none begins with a \"From \" line", d.Path)
	}
	for _, f := range list {
		if err := d.file(ctx, f.path, &Message{Mailbox: f.mailbox, Exact: ours != nil}, visit); err != nil {
			return err
		}
	}
	return nil
}

type mboxFile struct{ path, mailbox string }

// mboxFiles finds the files with messages below a directory, and the empty ones
// that mail programs keep for folders without any.
func mboxFiles(root string, ours folderNames) (list []mboxFile, err error) {
	err = filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if strings.HasPrefix(e.Name(), ".") && p != root {
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		info, err := os.Stat(p) // a link may lead to a file
		if err != nil {
			if e.Type()&fs.ModeSymlink != 0 {
				return nil // to nowhere
			}
			return err
		}
		if !info.Mode().IsRegular() {
			return nil
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		ok := false
		if info.Size() == 0 {
			ok = emptyFolder(p)
		} else if ok, err = isMbox(p); err != nil {
			return err
		}
		if ok {
			list = append(list, mboxFile{p, ours.name(filepath.ToSlash(rel), func() string { return mboxName(filepath.Base(root), rel) })})
		}
		return nil
	})
	slices.SortStableFunc(list, func(a, b mboxFile) int { return strings.Compare(a.mailbox, b.mailbox) })
	return list, err
}

// emptyFolder tells a folder without messages from other empty files: it is
// called as one, or Thunderbird has an index of it.
func emptyFolder(p string) bool {
	switch filepath.Ext(p) {
	case ".mbox", ".mbx":
		return true
	}
	_, err := os.Stat(p + ".msf")
	return err == nil || filepath.Base(p) == "mbox" // Apple Mail's
}

// mboxName is the mailbox of a file below the directory root: Thunderbird keeps
// folders below others in "Name.sbd", Apple Mail writes "Name.mbox/mbox".
func mboxName(root, rel string) string {
	levels := strings.Split(filepath.ToSlash(rel), "/")
	if levels[len(levels)-1] == "mbox" {
		if levels = levels[:len(levels)-1]; len(levels) == 0 {
			levels = []string{root}
		}
	}
	for i, l := range levels {
		for _, suffix := range []string{".gz", ".bz2", ".zst", ".sbd", ".mbox", ".mbx"} {
			if short := strings.TrimSuffix(l, suffix); short != "" {
				l = short
			}
		}
		levels[i] = l
	}
	if strings.EqualFold(levels[0], "inbox") {
		levels[0] = "INBOX"
	}
	return strings.Join(levels, "/")
}

func isMbox(p string) (bool, error) {
	f, err := os.Open(p)
	if err != nil {
		return false, err
	}
	defer f.Close()
	r, _, err := decompressed(f)
	if err != nil {
		return false, nil // something else that is compressed so, or no longer whole
	}
	defer r.Close()
	head := make([]byte, len(fromLine))
	n, err := io.ReadFull(r, head)
	if err != nil && n == 0 && !errors.Is(err, io.EOF) {
		return false, err
	}
	return string(head[:n]) == string(fromLine), nil
}

// file visits the messages of one file, like is what is known of all of them.
func (d Mbox) file(ctx context.Context, path string, like *Message, visit func(*Message) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil {
		return err
	}
	content, compressed, err := decompressed(f)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer content.Close()
	box := &mboxReader{}
	if !compressed {
		box.at, box.size = f, before.Size()
	}
	box.r = bufio.NewReaderSize(io.TeeReader(content, &box.read), 64<<10)
	// A file that somebody writes to ends anywhere in its last message.
	box.complete = func() bool {
		now, err := f.Stat()
		return err == nil && now.Size() == before.Size() && now.ModTime().Equal(before.ModTime())
	}
	labelled, deleted := false, 0
	err = func() error {
		line, err := readLine(box.r) // the first From line
		if errors.Is(err, io.EOF) {
			return visit(&Message{Mailbox: like.Mailbox, Exact: like.Exact})
		}
		box.loose = !isFrom(line)
		for n := 1; err == nil && len(line) > 0; n++ {
			if err := ctx.Err(); err != nil {
				return err
			}
			m := &mboxMessage{mboxReader: box, empty: true, atStart: true}
			m.date = fromDate(line)
			if err := m.header(); err != nil {
				return fmt.Errorf("%s: message %d: %w", path, n, err)
			}
			to := Message{Mailbox: like.Mailbox, Exact: like.Exact, Flags: m.flags, Date: m.date, Size: m.octets, Body: m}
			if m.labels != nil {
				to.Scope, to.Exact, labelled = "Gmail", m.labels.folder != "", true
				if to.Exact {
					to.Mailbox = m.labels.folder
				}
			} else if n == 1 {
				if err := visit(&Message{Mailbox: like.Mailbox, Exact: like.Exact}); err != nil {
					return err
				}
			}
			if m.internal || m.deleted {
				if m.deleted {
					deleted++
					to.Body, to.Deleted = nil, true
					if err := visit(&to); err != nil {
						return err
					}
				}
			} else if err := visit(&to); err != nil {
				return err
			}
			if _, err := io.Copy(io.Discard, m); err != nil && !errors.As(err, new(*LeftOut)) { // what nobody wanted to read
				return fmt.Errorf("%s: message %d: %w", path, n, err)
			}
			line, err = m.next, m.err
			if errors.Is(err, io.EOF) {
				return nil
			}
		}
		return err
	}()
	if deleted > 0 {
		d.warn("%s: %d messages are left out that were deleted in the mail program, and are in the file until it compacts the folder", path, deleted)
	}
	if box.cut {
		d.warn("%s changed while it was read, and its last message is left out: run the import again", path)
	}
	if labelled && err == nil {
		d.warn("%s is an export of Gmail: each message goes to one folder, by its labels, and its other labels become keywords", path)
	}
	return err
}

func (d Mbox) warn(format string, args ...any) {
	if d.Warn != nil {
		d.Warn(fmt.Sprintf(format, args...))
	}
}
