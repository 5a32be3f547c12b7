// Package seal encrypts what a mail store keeps: a key of each account, wrapped by
// one root key, and a key of each stored body, wrapped by those of the accounts that
// have it. It does no I/O; the store writes what it makes.
//
//   - The root key is 32 octets in a file of the host. It wraps the keyring and
//     nothing else, so that it can be changed without touching a message.
//   - An account's key is random, too. Different uses get different keys, derived
//     from it (HKDF, RFC 5869): none seals with a nonce of another.
//   - A body's key is made for it and seals nothing else, block by block with
//     AES-256-GCM. The nonce is the number of the block, so none is used twice by
//     construction. What is authenticated besides is the block's number and whether
//     it is the last: blocks put in another order, left out or taken from another
//     body are found.
//   - Keys are wrapped with AES-256-GCM and a random nonce of 96 bits. NIST SP
//     800-38D 8.3 allows 2^32 of those under one key: an account may be given that
//     many messages.
//
// It imports nothing of mailform.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
)

// KeySize is the length of every key, in octets.
const KeySize = 32

// Overhead is how many octets a sealed block has more than what is in it.
const Overhead = 16

const nonceSize = 12

// Errors of reading what is sealed.
var (
	// ErrNoKey says that none of the keys that were at hand opens it: the account
	// was erased, or the keyring is not the store's.
	ErrNoKey = errors.New("its key is not in the keyring")
	// ErrTampered says that sealed octets are not those that were sealed.
	ErrTampered = errors.New("it is not what was sealed with this key")
)

// Key is a key for AES-256. It prints as its fingerprint only.
type Key struct{ octets [KeySize]byte }

// NewKey takes a key from r, which is a source of random octets.
func NewKey(r io.Reader) (k Key, err error) {
	_, err = io.ReadFull(r, k.octets[:])
	return k, err
}

// KeyOf is the key with these octets; there are KeySize of them.
func KeyOf(b []byte) (k Key, err error) {
	if len(b) != KeySize {
		return k, fmt.Errorf("a storage key has %d octets, not %d", KeySize, len(b))
	}
	copy(k.octets[:], b)
	return k, nil
}

// Octets returns the key itself, for the file that it is kept in.
func (k Key) Octets() []byte { return k.octets[:] }

// Fingerprint tells keys apart without telling them: 16 hexadecimal digits.
func (k Key) Fingerprint() string {
	sum := sha256.Sum256(append([]byte("mailform storage key fingerprint 1\x00"), k.octets[:]...))
	return hex.EncodeToString(sum[:8])
}

func (k Key) String() string { return "storage key " + k.Fingerprint() }

// Format keeps the octets out of every verb, %x and %d too.
func (k Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// textPrefix begins a key written down, and says what it is.
const textPrefix = "MAILFORM-STORAGE-KEY-1-"

// Text is the key to be written down, with a checksum against slips of the pen.
func (k Key) Text() string {
	b := append(k.Octets(), 0, 0, 0, 0)
	sum := crc32.Checksum(k.octets[:], crc32.MakeTable(crc32.Castagnoli))
	b[KeySize], b[KeySize+1], b[KeySize+2], b[KeySize+3] = byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum)
	return textPrefix + base64.RawURLEncoding.EncodeToString(b)
}

// ParseText reads what Text wrote; white space within it does not matter.
func ParseText(s string) (Key, error) {
	s = strings.Join(strings.Fields(s), "")
	rest, ok := strings.CutPrefix(s, textPrefix)
	if !ok {
		return Key{}, fmt.Errorf("a storage key begins with %s", textPrefix)
	}
	b, err := base64.RawURLEncoding.DecodeString(rest)
	if err != nil || len(b) != KeySize+4 {
		return Key{}, fmt.Errorf("a storage key has %d characters behind %s", base64.RawURLEncoding.EncodedLen(KeySize+4), textPrefix)
	}
	k, err := KeyOf(b[:KeySize])
	if err == nil && k.Text() != s {
		err = errors.New("the storage key does not match its checksum: a character of it is wrong")
	}
	if err != nil {
		return Key{}, err
	}
	return k, nil
}

// aead is the key's own cipher.
func (k Key) aead() (cipher.AEAD, error) {
	b, err := aes.NewCipher(k.octets[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(b)
}

// wrapping is the key's cipher with a random nonce ahead of what it seals.
func (k Key) wrapping() (cipher.AEAD, error) {
	b, err := aes.NewCipher(k.octets[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(b)
}

// derive makes the key for one use.
func (k Key) derive(use string) (Key, error) {
	b, err := hkdf.Key(sha256.New, k.octets[:], nil, "mailform "+use, KeySize)
	if err != nil {
		return Key{}, err
	}
	return KeyOf(b)
}
