//go:build !linux

package hostsim

import "os/exec"

// dieWithParent does nothing where the kernel offers nothing of the kind.
func dieWithParent(*exec.Cmd) {}
