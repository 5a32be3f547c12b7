package manifest

import "fmt"

// StorageKeyRequest asks for the host's storage key, notes that somebody has a copy of
// it, or puts one in its place. It goes through standard input.
type StorageKeyRequest struct {
	Claim
	Fingerprint string `json:"fingerprint,omitempty"` // of the key that was received
	Key         string `json:"key,omitempty"`         // to be imported, as it was exported
}

// StorageKey answers a StorageKeyRequest for the key.
type StorageKey struct {
	Fingerprint string `json:"fingerprint"`
	Key         string `json:"key"` // as it is written down
}

// Format shows the fingerprint only, whatever the verb.
func (k StorageKey) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "storage key %s", k.Fingerprint) }

// Format shows whose it is and no key.
func (r StorageKeyRequest) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "request about the storage key %s of %s", r.Fingerprint, r.Host)
}
