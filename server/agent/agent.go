// Package agent is the part of mailformd that works on the host it is installed
// on, as root: it reports what is there (Observe) and brings the machine to a
// manifest (Converge), makes the private keys that never leave the machine, and
// takes everything away again (Remove).
//
// Every path goes through manifest.Layout, so that the same code converges "/"
// and a private folder. It imports only server/manifest of mailform; password
// hashing and the running daemon come in through Config.
package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"mailform/server/manifest"
)

// Config is what an Agent works with. Every field must be set.
type Config struct {
	Layout       manifest.Layout
	Version      string // of this mailformd
	Executable   string // its file
	Systemd      Systemd
	Tools        Tools
	Daemon       Daemon
	Prober       Prober
	NewPassword  func() (string, error)       // makes a first password
	HashPassword func(string) (string, error) // text -> PHC string
	SCRAMKeys    func(string) (string, error) // text -> manifest.Credentials.SCRAM
	Rand         io.Reader                    // crypto/rand.Reader
	Now          func() time.Time
	Sleep        func(context.Context, time.Duration) error
}

// Agent carries out the commands. Its methods that change the host take the
// agent lock, so that two runs cannot interleave.
type Agent struct {
	Config
	uid int // owner of what is root's: our own user
	// effect is told of each effect of a move of keys before it happens; tests end
	// the agent there.
	effect func(what string)
	taking []manifest.Taken // what this run may take over
}

// New returns an agent.
func New(c Config) *Agent { return &Agent{Config: c, uid: os.Geteuid(), effect: func(string) {}} }

// Error is a refusal or failure that the sender tells apart by its exit code.
type Error struct {
	Code int // one of manifest.Exit…
	Msg  string
	Err  error
	// Foreign is set for a conflict with something that can be taken over by that name.
	Foreign string
}

func (e *Error) Error() string {
	if e.Err != nil {
		return e.Msg + ": " + e.Err.Error()
	}
	return e.Msg
}

func (e *Error) Unwrap() error { return e.Err }

// ExitCode returns the code the command exits with.
func (e *Error) ExitCode() int { return e.Code }

func failf(code int, format string, args ...any) error {
	return &Error{Code: code, Msg: fmt.Sprintf(format, args...)}
}

// ExitCode returns the exit code for an error of this package, 0 for nil.
func ExitCode(err error) int {
	if err == nil {
		return 0
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return manifest.ExitFailed
}

// Install makes the running executable the machine's mailformd: it checks its
// hash, claims the host, makes the service's user and folders, puts the file
// beside earlier versions and switches the link over. A service that runs goes
// on with its old version until converge restarts it.
func (a *Agent) Install(ctx context.Context, req manifest.InstallRequest) (manifest.Installed, error) {
	out := manifest.Installed{Arch: runtime.GOARCH}
	sum, err := fileSHA256(a.Executable)
	if err != nil {
		return out, err
	}
	if sum != req.SHA256 {
		return out, failf(manifest.ExitRequest, "the uploaded mailformd has SHA-256 %s, not %s: it was damaged on the way", sum, req.SHA256)
	}
	out.SHA256 = sum
	unlock, err := a.lock(ctx)
	if err != nil {
		return out, err
	}
	defer unlock()
	if err := a.Systemd.Available(ctx); err != nil {
		return out, err
	}
	if err := a.reclaim(&req.Claim); err != nil {
		return out, err
	}
	if err := a.claim(req.Claim, true); err != nil {
		return out, err
	}
	if err := a.noteFolder(filepath.Dir(a.Layout.SysusersFile())); err != nil {
		return out, err
	}
	// The program first: where something is in the way, it is what tells the next
	// plan of it.
	if err := (&dirItem{a, a.Layout.VersionsDir(), 0o755, -1, false}).apply(ctx); err != nil {
		return out, readOnlyHint(err)
	}
	switched, err := a.switchVersion(ctx, sum)
	if err != nil {
		return out, err
	}
	if err := mkdirAll(a.Layout.ConfigDir(), 0o750); err != nil {
		return out, err
	}
	if req.Lease != nil {
		if out.Lease, err = a.grant(*req.Lease); err != nil {
			return out, err
		}
	}
	changed, err := a.settle(ctx, a.baseItems(), func(manifest.AgentEvent) {}, false)
	if err != nil {
		return out, err
	}
	out.Changed = changed || switched
	return out, nil
}

// readOnlyHint says what to do where the system's programs cannot be written, as on
// images that are replaced as a whole.
func readOnlyHint(err error) error {
	if !errors.Is(err, syscall.EROFS) {
		return err
	}
	return failf(manifest.ExitFailed, "%v: mailform's programs are below /usr/local, which has to be a file system that can be written (on images with a read-only /usr, a mount or an overlay of its own)", err)
}
