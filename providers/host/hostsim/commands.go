package hostsim

import (
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// session is one command on the host.
type session struct {
	host   *Host
	sup    *supervisor
	root   bool // runs with root's rights
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
}

// fail prints an error as the named program would and gives the exit status.
func (s *session) fail(program string, err error) int {
	var pathErr *fs.PathError
	text := err.Error()
	if errors.As(err, &pathErr) {
		text = strings.TrimPrefix(pathErr.Path, filepath.Join(s.host.short, "r")) + ": " + pathErr.Err.Error()
	}
	fmt.Fprintf(s.stderr, "%s: %s\n", program, text)
	return 1
}

// builtins are the commands that exist on the host beside what is installed.
// The second value says that only root may do it in the places we care about.
var builtins = map[string]struct {
	run      func(*session, []string) int
	needRoot bool
}{
	"true":      {func(*session, []string) int { return 0 }, false},
	"uname":     {(*session).uname, false},
	"systemctl": {(*session).systemctl, false},
	"sha256sum": {(*session).sha256sum, false},
	"mkdir":     {(*session).mkdir, true},
	"dd":        {(*session).dd, true},
	"stat":      {(*session).stat, true},
	"gzip":      {(*session).gzip, true},
	"chmod":     {(*session).chmod, true},
	"rm":        {(*session).rm, true},
}

// run carries out a command line and returns its exit status.
func (s *session) run(ctx context.Context, line string) int {
	words, err := splitWords(line)
	if err != nil {
		fmt.Fprintf(s.stderr, "sh: %v\n", err)
		return 2
	}
	if len(words) > 2 && words[0] == "sudo" && words[1] == "-n" {
		if s.host.cfg.SudoAsks && !s.root {
			fmt.Fprintln(s.stderr, "sudo: a password is required")
			return 1
		}
		s.root, words = true, words[2:]
	}
	if b, ok := builtins[words[0]]; ok {
		if b.needRoot && !s.root {
			return s.fail(words[0], errors.New("Permission denied"))
		}
		return b.run(s, words[1:])
	}
	program := words[0]
	if !strings.HasPrefix(program, "/") {
		program = "/usr/local/sbin/" + program
	}
	return s.program(ctx, program, words)
}

// program runs an executable from inside the host's root folder.
func (s *session) program(ctx context.Context, path string, argv []string) int {
	real := s.host.path(path)
	if _, err := os.Stat(real); err != nil {
		fmt.Fprintf(s.stderr, "sh: %s: not found\n", path)
		return 127
	}
	if !s.root {
		return s.fail(argv[0], errors.New("Permission denied"))
	}
	cmd := exec.CommandContext(ctx, real, argv[1:]...)
	cmd.Env, cmd.Dir = s.host.env(), s.host.path("/")
	cmd.Stdout, cmd.Stderr = s.stdout, s.stderr
	cmd.WaitDelay = 10 * time.Second
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return s.fail(argv[0], err)
	}
	if err := s.sup.spawn.start(cmd); err != nil {
		return s.fail(argv[0], err)
	}
	go func() {
		// Ends with the channel; the program may end without reading all.
		io.Copy(stdin, s.stdin)
		stdin.Close()
	}()
	err = cmd.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		return exit.ExitCode()
	}
	return s.fail(argv[0], err)
}

func (s *session) uname(args []string) int {
	out := map[string]string{"-s": "Linux", "-m": s.host.machine(), "-sm": "Linux " + s.host.machine()}[strings.Join(args, " ")]
	if out == "" {
		return s.fail("uname", errors.New("only -s, -m and -sm are simulated"))
	}
	fmt.Fprintln(s.stdout, out)
	return 0
}

// systemctl knows what is asked of a machine that mailform has not been on.
func (s *session) systemctl(args []string) int {
	switch version := s.host.cfg.Systemd; {
	case strings.Join(args, " ") != "show --property=Version":
		return s.fail("systemctl", errors.New("only show --property=Version is simulated over SSH"))
	case version == "none":
		fmt.Fprintln(s.stderr, "System has not been booted with systemd as init system (PID 1). Can't operate.")
		return 1
	case version == "":
		fmt.Fprintln(s.stdout, "Version=252.39-1~deb12u1")
	default:
		fmt.Fprintln(s.stdout, "Version="+version)
	}
	return 0
}

func (s *session) sha256sum(args []string) int {
	for _, name := range args {
		f, err := os.Open(s.host.path(name))
		if err != nil {
			return s.fail("sha256sum", err)
		}
		h := sha256.New()
		_, err = io.Copy(h, f)
		f.Close()
		if err != nil {
			return s.fail("sha256sum", err)
		}
		fmt.Fprintf(s.stdout, "%s  %s\n", hex.EncodeToString(h.Sum(nil)), name)
	}
	return 0
}

func (s *session) mkdir(args []string) int {
	if len(args) < 2 || args[0] != "-p" {
		return s.fail("mkdir", errors.New("only -p is simulated"))
	}
	for _, name := range args[1:] {
		if err := os.MkdirAll(s.host.path(name), 0o755); err != nil {
			return s.fail("mkdir", err)
		}
	}
	return 0
}

func (s *session) dd(args []string) int {
	var of string
	var seek int64
	flags := os.O_TRUNC
	for _, a := range args {
		switch k, v, _ := strings.Cut(a, "="); k {
		case "of":
			of = v
		case "seek": // with oflag=seek_bytes
			n, err := strconv.ParseInt(v, 10, 64)
			if err != nil || n < 0 {
				return s.fail("dd", fmt.Errorf("invalid number: %q", v))
			}
			seek = n
		case "conv":
			if strings.Contains(v, "notrunc") {
				flags = 0
			}
		case "bs", "status", "oflag":
		default:
			return s.fail("dd", fmt.Errorf("unrecognized operand %q", a))
		}
	}
	if of == "" {
		return s.fail("dd", errors.New("of= is missing"))
	}
	f, err := os.OpenFile(s.host.path(of), os.O_WRONLY|os.O_CREATE|flags, 0o644)
	if err != nil {
		return s.fail("dd", err)
	}
	if _, err = f.Seek(seek, io.SeekStart); err == nil && s.host.cfg.DiskFull != nil && s.host.cfg.DiskFull() {
		// What there is room for is written, the rest is lost.
		io.CopyN(f, s.stdin, 64<<10)
		f.Close()
		return s.fail("dd", fmt.Errorf("error writing '%s': No space left on device", of))
	}
	if err == nil {
		_, err = io.Copy(f, s.stdin)
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return s.fail("dd", err)
	}
	return 0
}

func (s *session) stat(args []string) int {
	if len(args) != 3 || args[0] != "-c" || args[1] != "%s" {
		return s.fail("stat", errors.New("only -c %s FILE is simulated"))
	}
	info, err := os.Stat(s.host.path(args[2]))
	if err != nil {
		return s.fail("stat", err)
	}
	fmt.Fprintln(s.stdout, info.Size())
	return 0
}

func (s *session) gzip(args []string) int {
	if len(args) != 2 || args[0] != "-df" {
		return s.fail("gzip", errors.New("only -df is simulated"))
	}
	name, ok := strings.CutSuffix(s.host.path(args[1]), ".gz")
	if !ok {
		return s.fail("gzip", errors.New("unknown suffix"))
	}
	if err := gunzip(name+".gz", name); err != nil {
		return s.fail("gzip", err)
	}
	return 0
}

func gunzip(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	z, err := gzip.NewReader(in)
	if err != nil {
		return err
	}
	// A process that is forked meanwhile, for any host, would hold the file open for
	// writing until it has become another program, and nobody could run the file.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, z)
	if err = errors.Join(err, out.Close()); err != nil {
		os.Remove(to)
		return err
	}
	return os.Remove(from)
}

func (s *session) chmod(args []string) int {
	if len(args) != 2 {
		return s.fail("chmod", errors.New("only MODE FILE is simulated"))
	}
	mode, err := strconv.ParseUint(args[0], 8, 12)
	if err != nil {
		return s.fail("chmod", fmt.Errorf("invalid mode %q", args[0]))
	}
	if err := os.Chmod(s.host.path(args[1]), fs.FileMode(mode).Perm()); err != nil {
		return s.fail("chmod", err)
	}
	return 0
}

func (s *session) rm(args []string) int {
	if len(args) < 2 || args[0] != "-f" {
		return s.fail("rm", errors.New("only -f is simulated"))
	}
	for _, name := range args[1:] {
		if err := os.Remove(s.host.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return s.fail("rm", err)
		}
	}
	return 0
}
