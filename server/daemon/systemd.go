package daemon

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mailform/server/manifest"
)

// firstFD is the first descriptor that systemd passes, sd_listen_fds(3).
const firstFD = 3

// maxFDs bounds what LISTEN_FDS may say.
const maxFDs = 64

// SystemdListeners takes over the sockets that systemd, or who stands in for
// it, has passed to this process, by the names in LISTEN_FDNAMES. It returns
// nothing when none were passed. A missing LISTEN_PID is accepted: a supervisor
// cannot know the number of a process before it starts it.
func SystemdListeners(getenv func(string) string) (map[string][]net.Listener, error) {
	count := getenv("LISTEN_FDS")
	if count == "" {
		return nil, nil
	}
	if pid := getenv("LISTEN_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return nil, nil // for our parent
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || n > maxFDs {
		return nil, fmt.Errorf("LISTEN_FDS is %q", count)
	}
	names := strings.Split(getenv("LISTEN_FDNAMES"), ":")
	if n > 0 && len(names) != n {
		return nil, fmt.Errorf("LISTEN_FDNAMES has %d names for %d sockets", len(names), n)
	}
	listeners := map[string][]net.Listener{}
	for i := range n {
		fd := firstFD + i
		unix.CloseOnExec(fd)
		f := os.NewFile(uintptr(fd), names[i])
		if f == nil {
			return nil, fmt.Errorf("socket %d (%s) is not open", fd, names[i])
		}
		l, err := net.FileListener(f)
		_ = f.Close()
		if err != nil {
			return nil, fmt.Errorf("socket %d (%s): %w", fd, names[i], err)
		}
		listeners[names[i]] = append(listeners[names[i]], l)
	}
	return listeners, nil
}

// Listen opens listeners for running by hand: each of addresses is "name=host:port",
// with a name of manifest.ServicesOf.
func Listen(addresses []string) (map[string][]net.Listener, error) {
	listeners := map[string][]net.Listener{}
	fail := func(err error) (map[string][]net.Listener, error) {
		for _, list := range listeners {
			for _, l := range list {
				_ = l.Close()
			}
		}
		return nil, err
	}
	for _, a := range addresses {
		name, address, ok := strings.Cut(a, "=")
		if !ok || !known(name) {
			return fail(fmt.Errorf("%q is not NAME=HOST:PORT with one of the names %s", a, strings.Join(serviceNames(), ", ")))
		}
		l, err := net.Listen("tcp", address)
		if err != nil {
			return fail(err)
		}
		listeners[name] = append(listeners[name], l)
	}
	return listeners, nil
}

func serviceNames() []string {
	var names []string
	for _, s := range manifest.EveryService() {
		names = append(names, s.Name)
	}
	return names
}

func known(name string) bool { return slices.Contains(serviceNames(), name) }

// Notifier returns how to tell systemd about our state, sd_notify(3). Without
// NOTIFY_SOCKET it tells nobody.
func Notifier(getenv func(string) string) (func(state string) error, error) {
	path := getenv("NOTIFY_SOCKET")
	if path == "" {
		return func(string) error { return nil }, nil
	}
	if path[0] != '/' && path[0] != '@' {
		return nil, errors.New("NOTIFY_SOCKET is neither a path nor an abstract name")
	}
	return func(state string) error {
		c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte(state))
		return err
	}, nil
}

// WatchdogInterval is how often systemd wants to hear from us at the latest,
// sd_watchdog_enabled(3); 0 when it does not.
func WatchdogInterval(getenv func(string) string) time.Duration {
	if pid := getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0
	}
	usec, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || usec <= 0 || usec > int64(time.Hour/time.Microsecond) {
		return 0
	}
	return time.Duration(usec) * time.Microsecond
}

// monotonicUSec is what RELOADING=1 must be told with, sd_notify(3).
func monotonicUSec() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0
	}
	return ts.Nano() / 1000
}
