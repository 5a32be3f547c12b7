package account

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// scramIterations is how often a client hashes a password before a login by
// SCRAM: 12 times what RFC 7677 4 asks for at least, and still no more than some
// tenths of a second for an old phone, which does it for each of its connections.
// It is the same for everybody, so that it tells nobody apart from a login that
// does not exist; keys of another count are made anew.
const scramIterations = 50_000

const scramSalt = 16 // octets

// ErrUnprepared says that a password has characters that SCRAM's clients may not send.
var ErrUnprepared = errors.New("the password has characters that SASLprep forbids")

// scramKeys are what a server stores of a password for SCRAM-SHA-256, RFC 5802 3.
// They let nobody log in, but passwords can be guessed with them.
type scramKeys struct {
	salt           []byte
	stored, server [sha256.Size]byte
}

// SCRAMKeys returns what a server needs to let the owner of password log in by
// SCRAM-SHA-256: "SCRAM-SHA-256$50000:salt$StoredKey:ServerKey", in the manner of
// RFC 5803. ErrUnprepared when SCRAM's clients cannot send that password.
func SCRAMKeys(password string) (string, error) {
	k, err := deriveKeys(password)
	if err != nil {
		return "", err
	}
	return k.String(), nil
}

func deriveKeys(password string) (*scramKeys, error) {
	prepared, ok := prepare(password)
	if !ok {
		return nil, ErrUnprepared
	}
	k := &scramKeys{salt: make([]byte, scramSalt)}
	if _, err := rand.Read(k.salt); err != nil {
		return nil, fmt.Errorf("make a salt: %w", err)
	}
	salted, err := pbkdf2.Key(sha256.New, prepared, k.salt, scramIterations, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("derive the keys: %w", err)
	}
	k.stored = sha256.Sum256(hmacOf(salted, "Client Key"))
	copy(k.server[:], hmacOf(salted, "Server Key"))
	return k, nil
}

func hmacOf(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

func (k *scramKeys) String() string {
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", scramIterations, b64(k.salt), b64(k.stored[:]), b64(k.server[:]))
}

// parseKeys reads what SCRAMKeys has made; ok is false for anything else, keys of
// another version's iteration count among them.
func parseKeys(s string) (k *scramKeys, ok bool) {
	parts := strings.Split(s, "$")
	if len(s) > maxPHC || len(parts) != 3 || parts[0] != "SCRAM-SHA-256" {
		return nil, false
	}
	salt, ok := strings.CutPrefix(parts[1], strconv.Itoa(scramIterations)+":")
	stored, server, two := strings.Cut(parts[2], ":")
	if !ok || !two {
		return nil, false
	}
	k = &scramKeys{}
	octets := func(text string, n int) []byte {
		b, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil || len(b) != n {
			ok = false
			return make([]byte, n)
		}
		return b
	}
	k.salt = octets(salt, scramSalt)
	copy(k.stored[:], octets(stored, sha256.Size))
	copy(k.server[:], octets(server, sha256.Size))
	return k, ok
}
