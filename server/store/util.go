package store

import (
	"errors"
	"io/fs"
)

// ignoreMissing passes over the removal of what is not there.
func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
