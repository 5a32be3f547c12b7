package agent

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// exchange lets two names change places in one step, renameat2(2): at no time is
// either of them missing.
func exchange(one, other string) error {
	if err := unix.Renameat2(unix.AT_FDCWD, one, unix.AT_FDCWD, other, unix.RENAME_EXCHANGE); err != nil {
		return fmt.Errorf("exchange %s and %s: %w", one, other, err)
	}
	return nil
}
