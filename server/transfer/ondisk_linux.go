package transfer

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// OnDisk waits until the file system that dir is on has written what it was given: an export
// is there when that is so.
func OnDisk(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(f.Fd())), f.Close())
}
