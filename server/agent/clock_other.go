//go:build !linux

package agent

import "mailform/server/manifest"

// kernelClock is not known: hosts run Linux.
func kernelClock() *manifest.Clock { return nil }
