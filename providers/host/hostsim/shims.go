package hostsim

import "mailform/providers/host/hostsim/shim"

// What the supervisor and the programs that ask it say to each other.
type (
	call  = shim.Call
	reply = shim.Reply
)

const (
	envMarker  = shim.Marker
	listenExec = shim.ListenExec
)

// IsShim reports whether this process was started on a simulated host as one of
// its system programs. A main that starts hosts must ask first, unless Config.Shim
// names another program for that.
func IsShim(args []string) bool { return shim.Is(args) }

// ShimMain does what the named system program does and returns the exit status.
func ShimMain() int { return shim.Main() }
