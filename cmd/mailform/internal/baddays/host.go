package baddays

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"mailform/providers/host/hostsim"
)

// program names what a command on a host does, without the hashes in it.
func program(command string) string {
	words := strings.Fields(command)
	if len(words) == 0 {
		return ""
	}
	words[0] = path.Base(words[0])
	if words[0] == "mailformd" || strings.HasPrefix(words[0], "mailformd") {
		return strings.Join(words, " ")
	}
	return words[0]
}

var digest = regexp.MustCompile(`[0-9a-f]{64}`)

// cutAt cuts the connection the first time that each kind of command comes to one of
// the steps for which at holds.
func cutAt(at func(hostsim.Step) bool) func(*weather) {
	return func(w *weather) {
		w.host = func(s hostsim.Step) bool {
			// A lease's renewal is in the background, and tried again there.
			if strings.HasSuffix(s.Command, " lease renew") {
				return true
			}
			return !at(s) || !w.first(program(digest.ReplaceAllString(s.Command, "HASH")))
		}
	}
}

// noLease overlooks the lease on a host: when giving it back is cut, it ends by itself.
func noLease(lines []string) []string {
	return slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return strings.Contains(l, "/etc/mailform/lease.json") })
}

func hostFaults() []fault {
	return []fault{
		{id: "host/latency", what: "every command takes 3 s longer", bend: func(w *weather) {
			w.host = func(s hostsim.Step) bool {
				if s.At == hostsim.Asked {
					w.hit()
					w.clock.rest(latency)
				}
				return true
			}
		}},
		{id: "host/cut", what: "SSH is cut before each kind of command", alike: noLease, bend: cutAt(func(s hostsim.Step) bool { return s.At == hostsim.Asked })},
		{id: "host/lost", what: "SSH is cut when each kind of command is done", bend: cutAt(func(s hostsim.Step) bool { return s.At == hostsim.Ended })},
		{id: "host/cut-converging", what: "SSH is cut in the middle of converging", bend: cutAt(func(s hostsim.Step) bool {
			return strings.HasSuffix(s.Command, " converge") && s.At == hostsim.Said && s.N == 5
		})},
		{id: "host/cut-uploading", what: "SSH is cut in the middle of the upload", bend: cutAt(func(s hostsim.Step) bool {
			return strings.Contains(s.Command, "dd ") && s.At == hostsim.Heard
		})},
		{id: "host/disk-full", what: "the host's disk is full", code: 8, says: []string{"No space left on device", "Make room"},
			bend: func(w *weather) { w.full = true }},
	}
}
