package sshconn

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1" // what known_hosts is hashed with, sshd(8)
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// maxKnownHosts bounds one known_hosts file, in bytes.
const maxKnownHosts = 16 << 20

// known is what known_hosts files say about one machine.
type known struct {
	keys        []knownKey
	authorities []knownKey // whose certificates are believed
	revoked     []knownKey // which must never be accepted
}

type knownKey struct {
	key   ssh.PublicKey
	where string // "file:line"
}

func has(keys []knownKey, key ssh.PublicKey) (where string, ok bool) {
	for _, k := range keys {
		if bytes.Equal(k.key.Marshal(), key.Marshal()) {
			return k.where, true
		}
	}
	return "", false
}

// readKnownHosts reads what files say about a machine under any of its names. A
// file that does not exist says nothing.
func readKnownHosts(files, names []string, port int) (known, error) {
	var k known
	for _, file := range files {
		info, err := os.Stat(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && info.Size() > maxKnownHosts {
			err = fmt.Errorf("it is longer than %d bytes", maxKnownHosts)
		}
		var text []byte
		if err == nil {
			text, err = os.ReadFile(file)
		}
		if err != nil {
			return k, fmt.Errorf("%s: %w", file, err)
		}
		k.read(file, text, names, port)
	}
	return k, nil
}

// read takes in one file. Lines that are none are left out, as ssh does.
func (k *known) read(file string, text []byte, names []string, port int) {
	wanted := make([]string, len(names))
	for i, name := range names {
		wanted[i] = knownName(name, port)
	}
	number := 0
	for line := range bytes.Lines(text) {
		number++
		marker, hosts, key, _, _, err := ssh.ParseKnownHosts(line)
		if err != nil {
			continue
		}
		found := knownKey{key, file + ":" + strconv.Itoa(number)}
		switch marker {
		case "revoked":
			// Whoever says of a key that it got out means it wherever it is shown.
			k.revoked = append(k.revoked, found)
			continue
		case "", "cert-authority":
		default:
			continue
		}
		if !listed(hosts, wanted) {
			continue
		}
		if marker == "" {
			k.keys = append(k.keys, found)
		} else {
			k.authorities = append(k.authorities, found)
		}
	}
}

// knownName is how known_hosts writes a name: with its port unless that is 22.
func knownName(name string, port int) string {
	return knownhosts.Normalize(net.JoinHostPort(name, strconv.Itoa(port)))
}

// listed reports whether the first field of a line, patterns or a hashed name, is
// about one of the names.
func listed(hosts, names []string) bool {
	if len(hosts) == 1 && strings.HasPrefix(hosts[0], "|") {
		part := strings.Split(hosts[0], "|")
		if len(part) != 4 || part[1] != "1" { // HMAC-SHA1, the one there is
			return false
		}
		salt, err := base64.StdEncoding.DecodeString(part[2])
		want, err2 := base64.StdEncoding.DecodeString(part[3])
		if err != nil || err2 != nil {
			return false
		}
		for _, name := range names {
			mac := hmac.New(sha1.New, salt)
			mac.Write([]byte(strings.ToLower(name)))
			if hmac.Equal(mac.Sum(nil), want) {
				return true
			}
		}
		return false
	}
	return matchesNames(hosts, names)
}

// addKnownHost records a key that the person has confirmed, as ssh does.
func addKnownHost(file, name string, port int, key ssh.PublicKey) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	line := KnownHostsLine(name, port, key) + "\n"
	if fi, err := f.Stat(); err == nil && fi.Size() > 0 {
		last := make([]byte, 1)
		if _, err := f.ReadAt(last, fi.Size()-1); err == nil && last[0] != '\n' {
			line = "\n" + line
		}
	}
	_, err = f.WriteString(line)
	return err
}

// Fingerprint is a host key's, "SHA256:…"; that of the key itself for a certificate.
func Fingerprint(key ssh.PublicKey) string {
	if cert, ok := key.(*ssh.Certificate); ok {
		key = cert.Key
	}
	return ssh.FingerprintSHA256(key)
}

// KnownHostsLine is the line of a known_hosts file that says which key a machine has.
func KnownHostsLine(name string, port int, key ssh.PublicKey) string {
	return knownhosts.Line([]string{knownName(name, port)}, key)
}
