package session

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"mailform/apply"
	"mailform/plan"
	"mailform/providers/host"
	"mailform/providers/lock"
)

// Lock makes sure that this run is the only one at work on the stack, and reads
// what earlier runs left. It takes, in this order, the lock of the stack's
// folder, the lock that the team shares when the spec has one, and, as soon as
// they are observed, the leases on the hosts. Close gives them back.
func (s *Session) Lock(ctx context.Context, command string) error {
	h := s.holder(command)
	state, err := s.dir().Open(s.Spec.Stack.Name, h)
	if err != nil {
		return err
	}
	for _, w := range state.Warnings() {
		s.warn(w.Error())
	}
	s.state = state
	// Known only now that the file is there and ours.
	h.Place = place(filepath.Join(s.dir().Path(), apply.LockName))
	now := s.env.Now
	if s.env.LeaseNow != nil {
		now = s.env.LeaseNow
	}
	s.leases = apply.NewLeases(now, nil)
	shared, err := s.sharedLock()
	if err == nil && shared != nil {
		s.closers = append(s.closers, shared.Close)
		err = s.leases.Acquire(ctx, shared, h)
	}
	if err != nil {
		s.Close()
		return err
	}
	s.hosts.UseLeases(h, s.leases)
	return nil
}

func (s *Session) holder(command string) apply.Holder {
	machine, _ := os.Hostname()
	return apply.Holder{
		Stack: s.Spec.Stack.Name, Who: first(s.env.Getenv("USER"), s.env.Getenv("LOGNAME"), "somebody"),
		Host: machine, PID: os.Getpid(), Command: command, Since: s.env.Now().Truncate(time.Second),
	}
}

// sharedLock makes the lock that the spec asks for, nil without one.
func (s *Session) sharedLock() (plan.SharedLock, error) {
	if s.Spec.Lock == nil {
		return nil, nil
	}
	roots, err := s.roots()
	if err != nil {
		return nil, err
	}
	return lock.New(lock.Config{
		Stack: s.Spec.Stack.Name, Spec: s.Spec.Lock, Roots: roots, Dial: s.env.Dial, Now: s.env.Now,
		Getenv: func(name string) string { return strings.TrimSpace(s.env.Getenv(name)) },
	})
}

// release gives back what Lock took beyond the folder's lock.
func (s *Session) release() {
	if s.leases == nil {
		return
	}
	if err := s.leases.Release(context.Background()); err != nil {
		s.warn(err.Error())
	}
	s.leases = nil
}

// forgive lets the leases be silent on machines that the plan itself stops or
// deletes.
func (s *Session) forgive(p *plan.Plan) {
	for _, c := range p.Changes {
		if part := c.Address.Segments(); c.Pending() && part[0] == "host" && len(part) == 3 {
			s.leases.Forgive(host.LeaseName(part[1]))
		}
	}
}

// bootIDFile names this boot of this machine.
const bootIDFile = "/proc/sys/kernel/random/boot_id"

// place names a lock file, for plan.Holder: the file system's number for it on
// this boot of this machine. A copy of the folder is another place. It is ""
// where a boot has no name: a dead run's leases are then waited for.
func place(lockFile string) string {
	boot, err := os.ReadFile(bootIDFile)
	if err != nil {
		return ""
	}
	info, err := os.Stat(lockFile)
	if err != nil {
		return ""
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d %d", boot, st.Dev, st.Ino))
	return hex.EncodeToString(sum[:8])
}

// LockState is one of the locks of a stack and who holds it.
type LockState struct {
	Kind string // "folder", "bucket", "postgres" or "host"
	Name string
	// Local is who holds the folder's lock; Lease who holds one of the others. nil: nobody.
	Local *apply.Holder
	Lease *plan.Lease
	Err   error // why nobody can tell

	lock plan.Lock // nil for the folder's, which only the kernel gives back
}

// Locks looks at every lock of the stack. It takes none and changes nothing.
func (s *Session) Locks(ctx context.Context, sink apply.Sink) ([]LockState, error) {
	folder := LockState{Kind: "folder", Name: s.dir().Path()}
	folder.Local, folder.Err = s.dir().Holder()
	out := []LockState{folder}
	shared, err := s.sharedLock()
	if err != nil {
		return nil, err
	}
	if shared != nil {
		s.closers = append(s.closers, shared.Close)
		st := LockState{Kind: s.Spec.Lock.Kind, Name: shared.Name(), lock: shared}
		st.Lease, st.Err = shared.Held(ctx)
		out = append(out, st)
	}
	// The cloud tells where the hosts are; without it the rest is still worth saying.
	hosts, err := s.Status(ctx, sink)
	if err != nil {
		return append(out, LockState{Kind: "host", Name: "the hosts", Err: err}), nil
	}
	for _, h := range hosts {
		st := LockState{Kind: "host", Name: host.LeaseName(h.Name), Err: h.Err, lock: s.hosts.Lock(h.Name)}
		if f := h.Facts; f != nil && f.Owner != nil && f.Owner.Stack == s.Spec.Stack.Name && st.Err == nil {
			st.Lease = host.LeaseIn(f)
		}
		out = append(out, st)
	}
	return out, nil
}

// Break takes a lock from its holder, whom its epoch then fences.
func (l LockState) Break(ctx context.Context) error { return l.lock.Break(ctx, *l.Lease) }
