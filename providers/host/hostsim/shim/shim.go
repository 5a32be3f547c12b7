// Package shim is what runs on a simulated host under the names of its system
// programs: it asks the host's supervisor to do what the program would, and says what
// the answer was. It is started many times for each change of a host, so that a
// program of its own (hostshim), which begins in a millisecond, can take the place
// of one that starts hosts. It imports the standard library only.
package shim

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// Programs are the system programs that are this program under another name.
var Programs = []string{"systemctl", "systemd-sysusers", "userdel", "journalctl", ListenExec,
	"mkfs.ext4", "resize2fs", "mount", "umount", "sshd", "nft"}

// ListenExec starts a service with LISTEN_PID set, which only the process
// itself can know before it begins.
const ListenExec = "hostsim-listen-exec"

// Marker is set in the environment of everything that runs on a simulated
// host; it is the address of its supervisor.
const Marker = "MAILFORM_HOSTSIM"

// Call is what a shim asks the supervisor.
type Call struct {
	Program string   `json:"program"`
	Args    []string `json:"args"`
}

// Reply is the answer.
type Reply struct {
	Status int    `json:"status"`
	Stdout string `json:"stdout"`
	Stderr string `json:"stderr"`
	More   bool   `json:"more,omitempty"` // another answer follows
}

// Is reports whether this process was started on a simulated host as one of
// its system programs. A main that starts hosts must ask first.
func Is(args []string) bool {
	if len(args) == 0 || os.Getenv(Marker) == "" {
		return false
	}
	name := filepath.Base(args[0])
	for _, p := range Programs {
		if p == name {
			return true
		}
	}
	return false
}

// Main does what the named system program does and returns the exit status.
func Main() int {
	program := filepath.Base(os.Args[0])
	if program == ListenExec {
		return listenExec(os.Args[1:])
	}
	c, err := net.Dial("unix", os.Getenv(Marker))
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: the supervisor does not answer: %v\n", program, err)
		return 1
	}
	defer c.Close()
	err = json.NewEncoder(c).Encode(Call{program, os.Args[1:]})
	for dec := json.NewDecoder(c); ; {
		var r Reply
		if err == nil {
			err = dec.Decode(&r)
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: the supervisor: %v\n", program, err)
			return 1
		}
		fmt.Fprint(os.Stdout, r.Stdout)
		fmt.Fprint(os.Stderr, r.Stderr)
		if !r.More {
			return r.Status
		}
	}
}

func listenExec(argv []string) int {
	if len(argv) == 0 {
		return 2
	}
	env := append(os.Environ(), "LISTEN_PID="+strconv.Itoa(os.Getpid()))
	err := syscall.Exec(argv[0], argv, env)
	fmt.Fprintf(os.Stderr, "%s: %v\n", argv[0], err)
	return 203 // EXIT_EXEC, systemd.exec(5)
}
