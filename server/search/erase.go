package search

import (
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
)

// Erase removes all that is indexed of an account, whose messages have gone, and
// returns how many octets its files had.
func (n *Indexer) Erase(account string) (freed int64, err error) {
	n.work.Lock()
	defer n.work.Unlock()
	n.mu.Lock()
	e := n.open[account]
	delete(n.open, account)
	delete(n.todo, account)
	n.order = slices.DeleteFunc(n.order, func(a string) bool { return a == account })
	n.mu.Unlock()
	if e != nil {
		err = e.x.drop()
	}
	err = errors.Join(err, EraseFiles(n.cfg.Dir, account, &freed))
	return freed, err
}

// EraseFiles removes an account's index from a directory of indexes that no Indexer
// uses, adding the octets of its files to freed.
func EraseFiles(dir, account string, freed *int64) error {
	dir = filepath.Join(dir, url.PathEscape(account))
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			*freed += info.Size()
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, os.RemoveAll(dir))
}
