package manifest

import "time"

// Holder says who works on a host. Its fields are those of plan.Holder, which
// this side must not import.
type Holder struct {
	Stack   string    `json:"stack,omitempty"`
	Who     string    `json:"who"`
	Host    string    `json:"host"`
	PID     int       `json:"pid"`
	Command string    `json:"command"`
	Since   time.Time `json:"since"`
	Place   string    `json:"place,omitempty"` // of two holders from the same place the earlier one is dead
}

// Lease is Layout.LeaseFile: which run works on the host. The times are the
// host's own, and so is what is compared with them.
type Lease struct {
	ID      string    `json:"id"` // of the acquisition, chosen by the run
	Epoch   int64     `json:"epoch"`
	Holder  Holder    `json:"holder"`
	Seconds int64     `json:"ttl_seconds"`
	Expires time.Time `json:"expires"`
}

// Bounds of a lease's length, in seconds.
const (
	MinLeaseSeconds = 10
	MaxLeaseSeconds = 600
)

// LeaseRequest asks for the lease on a host, for more time, or to end it; its
// Claim's epoch is the lease's, or 0 before there is one.
type LeaseRequest struct {
	Claim
	ID      string `json:"id"` // the same id asks for the same lease again
	Holder  Holder `json:"holder,omitzero"`
	Seconds int64  `json:"ttl_seconds,omitempty"`
	// Break, with a release, ends somebody else's lease and fences its holder.
	Break bool `json:"break,omitempty"`
}

// Leased answers an acquisition with what is on the host, read under the lease.
// There is no lease while the host is not the claimant's.
type Leased struct {
	Lease *Lease `json:"lease,omitempty"`
	Facts *Facts `json:"facts"`
}

// Renewed answers a renewal.
type Renewed struct {
	Expires time.Time `json:"expires"`
}

// Released answers a release.
type Released struct {
	Released bool `json:"released"` // false: it was not the lease that is held
}
