package plan

// Ledger is what the last applies left behind on this machine. It is a cache:
// without it a plan has the same changes, only less is known about who caused them.
type Ledger struct {
	FormatVersion int                     `json:"format_version"`
	Stack         string                  `json:"stack"`
	Entries       map[Address]LedgerEntry `json:"entries"`
}

// LedgerEntry is the ledger's memory of one address.
type LedgerEntry struct {
	ID         string `json:"id,omitempty"`
	Applied    Attrs  `json:"applied,omitempty"`    // last applied canonical values; secrets as fingerprints
	Generation int    `json:"generation,omitempty"` // rises with every effect, so that the same wish later gets a new token
}
