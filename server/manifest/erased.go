package manifest

import "time"

// EraseRequest has a removed mailbox's mail erased now, not when its time is over.
type EraseRequest struct {
	Claim
	Address string `json:"address"`
}

// Erased is the report of an erasure: what was removed, and what is still there.
type Erased struct {
	Account   string    `json:"account"`
	Time      time.Time `json:"time"`
	Clean     bool      `json:"clean"` // nothing was found afterwards
	Mailboxes int       `json:"mailboxes"`
	Messages  int64     `json:"messages"`
	Octets    int64     `json:"octets"`
	Queued    int       `json:"queued"` // messages that waited to be sent, removed with it

	Segments int   `json:"segments"`    // files of the log that were removed
	Freed    int64 `json:"freed_bytes"` // their octets
	Moved    int64 `json:"moved_bytes"` // of others, copied out of them before
	Indexes  int64 `json:"index_bytes"` // octets of its search index that were removed

	// Key says that the account's key was destroyed: copies of its mail that are left
	// elsewhere open only with a keyring from before and the storage key of that time.
	Key bool `json:"key_destroyed,omitempty"`

	// Files, Records and Scanned are what was read afterwards to look for more.
	Files   int   `json:"files_read"`
	Records int   `json:"records_read"`
	Scanned int64 `json:"octets_read"`

	Remains []string `json:"remains"`          // what was found of the account
	Waiting int      `json:"waiting_segments"` // files that go when a backup that reads them has ended
	// Shared are messages that others were sent, too, and have.
	Shared       int   `json:"shared"`
	SharedOctets int64 `json:"shared_bytes"`
	// BackupsUntil is when the last backup that may have a copy is given up; zero when
	// there are none by mailformd.
	BackupsUntil time.Time `json:"backups_until,omitzero"`
}
