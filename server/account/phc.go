package account

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// What HashPassword makes: the OWASP minimum for argon2id.
const (
	hashTime    = 2
	hashMemory  = 19 * 1024 // KiB
	hashThreads = 1
	hashSalt    = 16 // octets
	hashKey     = 32 // octets
)

// The bounds of a hash that came from elsewhere. They keep one line in a
// document from taking the machine's memory or seconds of its time.
const (
	maxTime    = 16
	maxMemory  = 256 * 1024 // KiB
	maxThreads = 16
	minSalt    = 8
	maxSalt    = 64
	minKey     = 16
	maxKey     = 64
	maxPHC     = 512 // octets of the whole string
)

// ErrHash says that a string is not an argon2id PHC string within our bounds.
var ErrHash = errors.New("not an argon2id PHC string this server accepts")

// phc is a parsed PHC string, https://github.com/P-H-C/phc-string-format.
type phc struct {
	time, memory uint32 // memory in KiB
	threads      uint8
	salt, key    []byte
}

// HashPassword returns a new argon2id PHC string for password.
func HashPassword(password string) (string, error) {
	salt := make([]byte, hashSalt)
	if _, err := rand.Read(salt); err != nil {
		return "", fmt.Errorf("make a salt: %w", err)
	}
	p := phc{time: hashTime, memory: hashMemory, threads: hashThreads, salt: salt, key: make([]byte, hashKey)}
	p.key = p.derive(password)
	return p.String(), nil
}

// CheckHash returns an error that wraps ErrHash unless s is a PHC string that
// Verify can work with.
func CheckHash(s string) error {
	_, err := parsePHC(s)
	return err
}

// Verify says whether password is the one s was made from. It takes the same
// time whichever octet differs. An s that is not acceptable is an error.
func Verify(s, password string) (bool, error) {
	p, err := parsePHC(s)
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(p.derive(password), p.key) == 1, nil
}

func (p phc) derive(password string) []byte {
	return argon2.IDKey([]byte(password), p.salt, p.time, p.memory, p.threads, uint32(len(p.key)))
}

func (p phc) String() string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, p.memory, p.time, p.threads,
		b64.EncodeToString(p.salt), b64.EncodeToString(p.key))
}

// parsePHC reads "$argon2id$v=19$m=19456,t=2,p=1$salt$hash". It accepts the
// parameters in that order only, which is the order the reference writes.
func parsePHC(s string) (phc, error) {
	bad := func(what string) (phc, error) { return phc{}, fmt.Errorf("%w: %s", ErrHash, what) }
	if len(s) > maxPHC {
		return bad("too long")
	}
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" {
		return bad("want five fields that begin with $")
	}
	if parts[1] != "argon2id" {
		return bad("the algorithm is not argon2id")
	}
	if parts[2] != "v="+strconv.Itoa(argon2.Version) {
		return bad("the version is not 19")
	}
	params := strings.Split(parts[3], ",")
	if len(params) != 3 {
		return bad("want m, t and p")
	}
	var n [3]uint64
	for i, limit := range []struct {
		name     string
		min, max uint64
	}{{"m=", 8, maxMemory}, {"t=", 1, maxTime}, {"p=", 1, maxThreads}} {
		text, ok := strings.CutPrefix(params[i], limit.name)
		if !ok || text == "" || text[0] < '0' || text[0] > '9' {
			return bad("want m, t and p in that order")
		}
		v, err := strconv.ParseUint(text, 10, 32)
		if err != nil || v < limit.min || v > limit.max {
			return bad(limit.name + " is out of bounds")
		}
		n[i] = v
	}
	if n[0] < 8*n[2] { // RFC 9106 3.1
		return bad("m is less than 8p")
	}
	p := phc{memory: uint32(n[0]), time: uint32(n[1]), threads: uint8(n[2])}
	var err error
	if p.salt, err = base64.RawStdEncoding.Strict().DecodeString(parts[4]); err != nil || len(p.salt) < minSalt || len(p.salt) > maxSalt {
		return bad("the salt is not 8 to 64 octets of base64")
	}
	if p.key, err = base64.RawStdEncoding.Strict().DecodeString(parts[5]); err != nil || len(p.key) < minKey || len(p.key) > maxKey {
		return bad("the hash is not 16 to 64 octets of base64")
	}
	return p, nil
}

// passwordAlphabet has 32 letters and digits that people do not mistake for
// one another when they copy them from paper.
const passwordAlphabet = "abcdefghijkmnpqrstuvwxyz23456789"

// GeneratePassword returns a password of 100 random bits in five groups of
// four characters: "k3pd-w7xm-9tqa-hn42-c8rv".
func GeneratePassword() (string, error) {
	raw := make([]byte, 20)
	if _, err := rand.Read(raw); err != nil {
		return "", fmt.Errorf("make a password: %w", err)
	}
	var b strings.Builder
	for i, c := range raw {
		if i > 0 && i%4 == 0 {
			b.WriteByte('-')
		}
		b.WriteByte(passwordAlphabet[c%32]) // 256 is a multiple of 32: no bias
	}
	return b.String(), nil
}
