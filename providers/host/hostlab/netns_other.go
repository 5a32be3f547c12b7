//go:build !linux

package hostlab

import (
	"errors"
	"os"
	"os/exec"
)

var errNotLinux = errors.New("a lab of real machines needs Linux")

type namespace struct{}

func newNamespace() (*namespace, error)  { return nil, errNotLinux }
func (*namespace) do(func() error) error { return errNotLinux }
func (*namespace) path() string          { return "" }
func (*namespace) close()                {}
func detach(*exec.Cmd)                   {}
func lock(*os.File) error                { return errNotLinux }
