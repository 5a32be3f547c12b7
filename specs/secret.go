package specs

import (
	"crypto/sha256"
	"encoding/hex"
)

// Fingerprint returns the one-way fingerprint under which a secret stands in
// plans and ledgers: hex of a domain-separated SHA-256. It is meant for texts of
// high entropy or slow hashes (PHC strings, API secrets), never for bare passwords.
func Fingerprint(secret string) string {
	sum := sha256.Sum256([]byte("mailform-secret-v1\x00" + secret))
	return hex.EncodeToString(sum[:16])
}
