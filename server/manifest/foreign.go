package manifest

import "strings"

// Foreign is something on the host that stands where mailform's own would go and
// that mailform did not make. It stays as it is until somebody asks for it to be
// taken over by its name.
type Foreign struct {
	Name string `json:"name"` // "sysctl", "mailformd.service", "user": of the thing that would stand there
	Path string `json:"path"`
	What string `json:"what"` // one of the Foreign… kinds
	// Owner is the user that a file belongs to, by name where it has one.
	Owner  string `json:"owner,omitempty"`
	Bytes  int64  `json:"bytes,omitempty"`
	SHA256 string `json:"sha256"` // hex, of the content; of the target of a link; of the line of a user or group
	// Line is the first of a file's lines that mailform's would not have, where every
	// user of the machine may read it; a link's target; what a user or group is.
	Line string `json:"line,omitempty"`
	// WantedBytes and WantedSHA256 are of what would stand there, "" where that is not known yet.
	WantedBytes  int64  `json:"wanted_bytes,omitempty"`
	WantedSHA256 string `json:"wanted_sha256,omitempty"`
}

// What a Foreign can be.
const (
	ForeignFile  = "file"
	ForeignLink  = "link"
	ForeignUser  = "user"
	ForeignGroup = "group"
)

// Taken names a foreign thing that is to be taken over, as it was seen.
type Taken struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
}

// Units that have names of their own.
const (
	FirewallUnit = "mailformd-firewall.service"
	MountUnit    = "var-lib-mailform.mount" // its name is systemd's way to write Layout.StateDir
)

// SavedSuffix ends the name of what was taken over: it stays beside what took its
// place, and comes back when that goes.
const SavedSuffix = ".mailform-saved"

// IsSaved reports whether a file is one that was taken over.
func IsSaved(name string) bool { return strings.Contains(name, SavedSuffix) }

// TakenFile lists what was taken over on this host.
func (l Layout) TakenFile() string { return l.at("/etc/mailform/taken.json") }
