package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// lostAndFound is what ext4 has in the root of each file system.
const lostAndFound = "lost+found"

// extent is how much a tree of files is.
type extent struct {
	files int
	bytes int64
}

// measure counts the files of a tree and their bytes. What is being written, and
// what a file system has of its own, does not count.
func measure(root string) (extent, error) {
	var e extent
	err := walk(root, func(path string, d fs.DirEntry) error {
		if !d.Type().IsRegular() {
			return nil
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		e.files++
		e.bytes += fi.Size()
		return nil
	})
	return e, err
}

// walk visits everything below root that is ours to copy.
func walk(root string, visit func(path string, d fs.DirEntry) error) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case path == root:
			return nil
		case d.IsDir() && d.Name() == lostAndFound && filepath.Dir(path) == root:
			return fs.SkipDir
		case isTemp(d.Name()):
			return nil
		}
		return visit(path, d)
	})
}

// hasFiles reports whether a tree holds a file, apart from some in its root.
func hasFiles(root string, but ...string) (bool, error) {
	found := false
	err := walk(root, func(path string, d fs.DirEntry) error {
		if d.IsDir() || filepath.Dir(path) == root && slices.Contains(but, d.Name()) {
			return nil
		}
		found = true
		return fs.SkipAll
	})
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return found, err
}

// emptyDir deletes what is in a folder.
func emptyDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == lostAndFound {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// copyTree copies folders and files with their modes, owners and times, all of
// it durable, without one file of the root. Nothing else can be in our folders.
func copyTree(ctx context.Context, from, to, but string) error {
	if err := copyAccess(from, to); err != nil {
		return err
	}
	dirs := []string{to}
	err := walk(from, func(path string, d fs.DirEntry) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch {
		case rel == but:
			return nil
		case d.IsDir():
			dirs = append(dirs, target)
			if err := os.Mkdir(target, 0o700); err != nil {
				return err
			}
		case d.Type().IsRegular():
			if err := copyDurably(path, target); err != nil {
				return err
			}
		case d.Type()&fs.ModeSymlink != 0:
			return copyLink(path, target)
		default:
			return fmt.Errorf("%s is neither a file nor a folder", path)
		}
		return copyAccess(path, target)
	})
	if err != nil {
		return err
	}
	for _, d := range slices.Backward(dirs) {
		if err := syncDir(d); err != nil {
			return err
		}
	}
	return nil
}

// copyLink copies a link as what it says: those in our folders stay within them.
func copyLink(from, to string) error {
	target, err := os.Readlink(from)
	if err != nil {
		return err
	}
	if err := os.Symlink(target, to); err != nil {
		return err
	}
	fi, err := os.Lstat(from)
	if err != nil {
		return err
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return os.Lchown(to, int(st.Uid), int(st.Gid))
	}
	return nil
}

func copyDurably(from, to string) (err error) {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Sync(), dst.Close())
}

// copyAccess gives one file the owner, mode and times of another.
func copyAccess(from, to string) error {
	fi, err := os.Stat(from)
	if err != nil {
		return err
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		if err := os.Chown(to, int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
	}
	if err := os.Chmod(to, fi.Mode().Perm()); err != nil {
		return err
	}
	return os.Chtimes(to, fi.ModTime(), fi.ModTime())
}
