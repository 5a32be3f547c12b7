package hostsim

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// shims are the programs on a simulated host that are this program under
// another name.
var shims = map[string]bool{"systemctl": true, "systemd-sysusers": true, "userdel": true, "journalctl": true, listenExec: true,
	"mkfs.ext4": true, "resize2fs": true, "mount": true, "umount": true, "sshd": true, "nft": true}

// listenExec starts a service with LISTEN_PID set, which only the process
// itself can know before it begins.
const listenExec = "hostsim-listen-exec"

// IsShim reports whether this process was started on a simulated host as one of
// its system programs. A main that starts hosts must ask first.
func IsShim(args []string) bool {
	return len(args) > 0 && shims[filepath.Base(args[0])] && os.Getenv(envMarker) != ""
}

// call is what a shim asks the supervisor.
type call struct {
	Program string   `json:"program"`
	Args    []string `json:"args"`
}

// reply is the answer.
type reply struct {
	Status int    `json:"status"`
	Stdout string `json:"stdout"`
	Stderr string `json:"stderr"`
	More   bool   `json:"more,omitempty"` // another answer follows
}

// ShimMain does what the named system program does and returns the exit status.
func ShimMain() int {
	program := filepath.Base(os.Args[0])
	if program == listenExec {
		return shimListenExec(os.Args[1:])
	}
	c, err := net.Dial("unix", os.Getenv(envMarker))
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: the supervisor does not answer: %v\n", program, err)
		return 1
	}
	defer c.Close()
	err = json.NewEncoder(c).Encode(call{program, os.Args[1:]})
	for dec := json.NewDecoder(c); ; {
		var r reply
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

func shimListenExec(argv []string) int {
	if len(argv) == 0 {
		return 2
	}
	env := append(os.Environ(), "LISTEN_PID="+strconv.Itoa(os.Getpid()))
	err := syscall.Exec(argv[0], argv, env)
	fmt.Fprintf(os.Stderr, "%s: %v\n", argv[0], err)
	return 203 // EXIT_EXEC, systemd.exec(5)
}
