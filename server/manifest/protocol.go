package manifest

// The requests below are what the host provider writes to the standard input of
// mailformd's agent commands, one JSON document each, and what the agent
// answers. A failed command says why on standard error and exits with one of
// the Exit codes.

// Exit codes of the agent's commands.
const (
	ExitFailed    = 1  // anything else
	ExitConflict  = 65 // something that is not ours stands where ours should go
	ExitOwned     = 66 // the host belongs to another stack
	ExitFenced    = 67 // the epoch is too low: the lease was taken over or ended, or there was none
	ExitBusy      = 68 // another agent command is running
	ExitRequest   = 69 // the request is malformed or newer than this agent
	ExitUnhealthy = 70 // everything is installed, but the service does not answer
	ExitLeased    = 71 // another run holds the lease on the host
)

// Claim says on whose behalf a command that changes the host runs.
type Claim struct {
	Stack string `json:"stack"`
	Host  string `json:"host"`
	Epoch int64  `json:"epoch,omitempty"` // fencing epoch; 0 when the run holds no lease
	Actor string `json:"actor,omitempty"` // "alice@laptop", for the person who finds a conflict
}

// InstallRequest makes the running executable the host's mailformd.
type InstallRequest struct {
	Claim
	SHA256 string `json:"sha256"` // hex, what the executable must be
	// Lease, when there is one, is taken in the same step.
	Lease *LeaseRequest `json:"lease,omitempty"`
}

// Installed answers an InstallRequest.
type Installed struct {
	Arch    string `json:"arch"`
	SHA256  string `json:"sha256"`
	Changed bool   `json:"changed"`
	Lease   *Lease `json:"lease,omitempty"`
}

// MountRequest makes a data disk the place of the mail and the keys, before anything
// else is made on a new machine. Its keys come into use when it brings any.
type MountRequest struct {
	Claim
	Serial string `json:"serial"` // of the disk
}

// Mounted answers a MountRequest: what is there now.
type Mounted struct {
	Storage      Storage       `json:"storage"`
	DKIM         []DKIMPublic  `json:"dkim,omitempty"`
	Certificates []Certificate `json:"certificates,omitempty"`
}

// KeysRequest asks for signing keys; missing ones are made, retired ones deleted.
type KeysRequest struct {
	Claim
	Keys    []DKIMWanted `json:"keys"`
	Replace bool         `json:"replace,omitempty"` // a key of another algorithm under the selector is replaced
	Retire  []DKIMWanted `json:"retire,omitempty"`  // keys to delete; refused while the applied manifest names them
}

// DKIMWanted is one signing key that must exist.
type DKIMWanted struct {
	Domain    string `json:"domain"`
	Selector  string `json:"selector"`
	Algorithm string `json:"algorithm"` // "rsa2048", "rsa4096" or "ed25519"
}

// KeysResult answers a KeysRequest in the order of its keys.
type KeysResult struct {
	Keys    []DKIMPublic `json:"keys"`
	Retired []string     `json:"retired,omitempty"` // "mf1-rsa._domainkey.acme.example"
}

// CSRRequest asks for a certificate signing request. Its key is made, or taken
// up again, as a pending key beside the one in use. A key that is kept (because a
// TLSA record names it) is the one in use; without one of that kind a new one is made.
type CSRRequest struct {
	Claim
	Name  string   `json:"name"`  // the certificate's name: "mx1"
	Names []string `json:"names"` // DNS names, the first is the subject
	Key   string   `json:"key"`   // "ecdsa256" or "rsa2048"

	KeepKey bool `json:"keep_key,omitempty"`
}

// CertRequest installs a chain for the pending or the current key.
type CertRequest struct {
	Claim
	Name  string            `json:"name"`
	Chain string            `json:"chain"` // PEM, leaf first
	Meta  map[string]string `json:"meta,omitempty"`
}

// CertRemoval takes a certificate with its key off the host.
type CertRemoval struct {
	Claim
	Name string `json:"name"`
}

// CertRemoved answers a CertRemoval.
type CertRemoved struct {
	Changed bool `json:"changed"` // whether there was one
}

// CertMeta is meta.json beside an installed chain. The daemon does not need it.
type CertMeta struct {
	Directory string            `json:"directory,omitempty"` // the ACME directory it came from
	Extra     map[string]string `json:"extra,omitempty"`
}

// MetaRenewalInfo is the key in CertRequest.Meta of the URL at which the CA is
// asked when to renew the certificate (RFC 9773 4.1).
const MetaRenewalInfo = "renewal_info"

// AccountRequest asks for the account key of an ACME directory.
type AccountRequest struct {
	Claim
	Directory string `json:"directory"` // URL
}

// OrderRequest asks where the CA of an ACME directory keeps the order for a
// certificate that is being asked for, or, with a Location, writes that down.
type OrderRequest struct {
	Claim
	Name      string `json:"name"`      // the certificate's name: "mx1"
	Directory string `json:"directory"` // URL
	Location  string `json:"location,omitempty"`
}

// Order answers an OrderRequest. Location is "" when there is none.
type Order struct {
	Directory string `json:"directory"`
	Location  string `json:"location"` // the order's URL (RFC 8555 7.4)
}

// ConvergeRequest makes the host serve Manifest. Secrets whose text the sender
// does not know are left out of the manifest and named by their fingerprint:
// the agent takes them from the manifest it has.
type ConvergeRequest struct {
	Claim
	Manifest          Manifest          `json:"manifest"`
	KeepPasswords     map[string]string `json:"keep_passwords,omitempty"` // mailbox address -> fingerprint
	KeepRelayPassword string            `json:"keep_relay_password,omitempty"`
	KeepBackupSecret  string            `json:"keep_backup_secret,omitempty"`
	DryRun            bool              `json:"dry_run,omitempty"`
	// Take names what stands in mailform's places and is to be taken over.
	Take []Taken `json:"take,omitempty"`
}

// AgentEvent is one line of converge's output. The last one has a Result
// unless the command failed.
type AgentEvent struct {
	Step   string          `json:"step,omitempty"`
	Status string          `json:"status,omitempty"` // "unchanged", "changed", "waiting" or, in a dry run, "would change"
	Detail string          `json:"detail,omitempty"`
	Result *ConvergeResult `json:"result,omitempty"`
}

// ConvergeResult is the end of a converge. Passwords are first passwords by
// mailbox address; this is the only time they are told. The sender answers with
// AckPasswords on the agent's standard input; without it the next observation
// says that nobody has seen them.
type ConvergeResult struct {
	Changed        bool              `json:"changed"`
	ManifestSHA256 string            `json:"manifest_sha256"`
	Passwords      map[string]string `json:"passwords,omitempty"`
	Service        Service           `json:"service"`
	// Trial, when there is one, has to be confirmed: see TrialRequest.
	Trial string `json:"trial,omitempty"`
	// AccessOnly says that the trial is about who may reach the machine, and that
	// the service did not run before: its ports are no part of it.
	AccessOnly bool `json:"access_only,omitempty"`
}

// TrialSeconds is how long the host waits for the confirmation of a change before
// it takes it back. It leaves time to be back within a minute.
const TrialSeconds = 45

// TrialRequest confirms a change, over a connection that was made after it, or
// takes it back. Without Trial it takes back whatever waits.
type TrialRequest struct {
	Claim
	Trial string `json:"trial,omitempty"`
}

// TrialEnded answers a TrialRequest: the version that serves from now on.
type TrialEnded struct {
	SHA256 string `json:"sha256"`
}

// RollbackRequest makes another version that is on the host serve. The change
// has to be confirmed like a converge.
type RollbackRequest struct {
	Claim
	SHA256 string `json:"sha256"`
}

// RolledBack answers a RollbackRequest. Trial is empty when that version serves already.
type RolledBack struct {
	Trial   string  `json:"trial,omitempty"`
	Service Service `json:"service"`
}

// AckPasswords is the line that says that first passwords have arrived.
const AckPasswords = "passwords received"

// RemoveRequest takes mailform off the host. Mail is kept unless Purge is set.
type RemoveRequest struct {
	Claim
	Purge bool `json:"purge,omitempty"`
}

// Removed answers a RemoveRequest.
type Removed struct {
	Paths []string `json:"paths"`          // what was deleted
	Kept  []string `json:"kept,omitempty"` // what was left, and why
	// Restored is what had been taken over and is back in its place.
	Restored []string `json:"restored,omitempty"`
}

// PasswordRequest asks for a new password for a mailbox; the answer is its text.
type PasswordRequest struct {
	Claim
	Address string `json:"address"`
}

// RestoreRequest puts a retained mailbox back into the manifest that is served.
type RestoreRequest struct {
	Claim
	Address string `json:"address"`
}

// Restored answers a RestoreRequest with how the mailbox is again, without its
// password.
type Restored struct {
	Mailbox  Mailbox `json:"mailbox"`
	Password string  `json:"password"` // where it comes from: "host" or "spec"
}
