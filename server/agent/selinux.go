package agent

import (
	"context"
	"os"
	"strings"
)

// programType is what SELinux calls a program that a service may run. By its place
// below /usr/local/lib ours would be a library.
const programType = "bin_t"

// labelProgram lets systemd run a program where SELinux is enforcing.
func (a *Agent) labelProgram(ctx context.Context, path string) error {
	b, err := os.ReadFile(a.Layout.EnforceFile())
	if err != nil || strings.TrimSpace(string(b)) != "1" {
		return nil // there is no SELinux, or it only tells
	}
	return a.Tools.Run(ctx, "chcon", "-t", programType, a.machinePath(path))
}
