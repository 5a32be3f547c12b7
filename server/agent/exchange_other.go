//go:build !linux

package agent

import "errors"

// exchange lets two names change places in one step.
func exchange(string, string) error { return errors.ErrUnsupported }
