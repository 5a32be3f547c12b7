package specs

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Fingerprint returns the one-way fingerprint under which a secret stands in
// plans and ledgers, 32 hexadecimal digits. Such files are kept and passed
// around, so a password must not be found from its fingerprint by trying: unless
// the secret is an argon2id hash (a PHC string) already, which has its own cost
// and is taken with one SHA-256, the fingerprint is argon2id with OWASP's costs,
// about 30 ms. The salt is fixed, because equal secrets must give equal
// fingerprints everywhere; it keeps them apart from all other uses of argon2id.
// server/manifest has the same function.
func Fingerprint(secret string) string {
	if strings.HasPrefix(secret, "$argon2id$") {
		sum := sha256.Sum256([]byte("mailform-secret-v1\x00" + secret))
		return hex.EncodeToString(sum[:16])
	}
	return hex.EncodeToString(argon2.IDKey([]byte(secret), []byte("mailform-secret-v2"), 2, 19*1024, 1, 16))
}
