package world

import (
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Describe says what the world has come to: the vendors' accounts, how much was
// ever made in them, the hosts' files and open ports. It leaves out what cannot be
// two times the same (ids, keys, times), so that two worlds which were brought to
// the same state in different ways describe themselves alike. Lines are sorted by
// where they belong.
func (w *World) Describe() ([]string, error) {
	var out, made []string
	keys := map[string]string{} // published form of a signing key: its file
	for n, m := range w.living() {
		lines, err := m.describe(keys)
		if err != nil {
			return nil, err
		}
		for _, l := range lines {
			out = append(out, fmt.Sprintf("host %d %s", n, l))
		}
	}
	for _, l := range w.cloud.Describe() {
		out = append(out, "cloud "+l)
	}
	for _, l := range w.cloud.Made() {
		made = append(made, "cloud ever made "+l)
	}
	for _, zone := range w.cfg.Zones {
		for _, r := range w.dns.Records(zone) {
			priority := ""
			if r.Priority != nil {
				priority = fmt.Sprintf(" priority %d", *r.Priority)
			}
			out = append(out, fmt.Sprintf("dns %s %s %q ttl %d%s proxied %v %q", r.Type, r.Name, publicKeys(r.Content, keys), r.TTL, priority, r.Proxied, r.Comment))
		}
	}
	return append(out, made...), nil
}

// publicKeys puts the name of a host's signing key in place of its text.
func publicKeys(content string, keys map[string]string) string {
	bare := strings.ReplaceAll(strings.ReplaceAll(content, `" "`, ""), `"`, "")
	for text, file := range keys {
		if strings.Contains(bare, text) {
			return strings.Replace(bare, text, "the key in "+file, 1)
		}
	}
	return content
}

// mailPorts are looked at.
var mailPorts = []int{22, 25, 110, 143, 443, 465, 587, 993, 995}

// passing are folders of a host whose content does not outlive a boot or only tells stories.
var passing = []string{"/proc", "/run", "/tmp", "/usr/bin", "/var/log"}

func (m *machine) describe(keys map[string]string) ([]string, error) {
	var out []string
	known := m.disks()
	err := filepath.WalkDir(m.Root(), func(path string, d fs.DirEntry, err error) (failed error) {
		defer func() {
			if errors.Is(failed, fs.ErrNotExist) && path != m.Root() {
				failed = nil // a service has put another in its place meanwhile
			}
		}()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(m.Root(), path)
		if err != nil {
			return err
		}
		name := "/" + filepath.ToSlash(rel)
		if d.IsDir() {
			if slices.Contains(passing, name) {
				return fs.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		var text string
		if info.Mode()&fs.ModeSymlink != 0 {
			link, err := os.Readlink(path)
			if err != nil {
				return err
			}
			text = "leads to " + variable(link)
		} else if text, err = content(path, name, keys); err != nil {
			return err
		}
		for disk, serial := range known {
			text = strings.ReplaceAll(text, serial, "the number of disk "+disk)
		}
		out = append(out, fmt.Sprintf("%s %s %s", variable(name), info.Mode().Perm(), text))
		return nil
	})
	for _, port := range mailPorts {
		if _, open := m.Addr(port); open {
			out = append(out, fmt.Sprintf("listens on %d", port))
		}
	}
	slices.Sort(out)
	return out, err
}

// disks are the serial numbers of the data disks that the machine has, by their names
// in it. A number that is none of them is described as it is: it would be wrong.
func (m *machine) disks() map[string]string {
	out := map[string]string{}
	for i, serial := range m.Disks() {
		out[string(rune('b'+i))] = serial
	}
	return out
}

// maxShown bounds a file that is described by its content.
const maxShown = 1 << 20

// content is what a file's content amounts to.
func content(path, name string, keys map[string]string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if info.Size() > maxShown {
		return fmt.Sprintf("%d bytes", info.Size()), nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	if block, _ := pem.Decode(text); block != nil {
		if strings.Contains(name, "/dkim/") {
			if public := publishedKey(block.Bytes); public != "" {
				keys[public] = name
			}
		}
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
			return fmt.Sprintf("a certificate for %s", strings.Join(cert.DNSNames, ", ")), nil
		}
		return "a " + strings.ToLower(block.Type), nil
	}
	switch {
	case strings.HasPrefix(name, "/var/lib/mailform/store/"):
		return "mail", nil
	case strings.HasSuffix(name, "/store/root.key"):
		return fmt.Sprintf("a storage key of %d bytes", len(text)), nil
	case name == "/etc/mailform/kept.json":
		return "what is known of keys", nil
	}
	return variable(string(text)), nil
}

// publishedKey is how DNS shows the public half of a PKCS #8 key (RFC 6376 3.6.1, RFC 8463 4).
func publishedKey(der []byte) string {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return ""
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return ""
	}
	if public, ok := signer.Public().(ed25519.PublicKey); ok {
		return base64.StdEncoding.EncodeToString(public)
	}
	spki, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return ""
	}
	return base64.StdEncoding.EncodeToString(spki)
}

// variable takes out of a text what is by chance or of the moment.
func variable(text string) string {
	for _, v := range variables {
		text = v.pattern.ReplaceAllString(text, v.with)
	}
	return text
}

// variables are hashes of passwords, times, the names of folders that each hold one
// version of a certificate, the ids of file systems, where disks and the root really are, and the epoch, which counts the runs there were.
var variables = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`\$argon2id\$[^"]*`), "HASH"},
	{regexp.MustCompile(`SCRAM-SHA-256\$[^"]*`), "HASH"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[0-9.]*(Z|[+-]\d\d:\d\d)`), "TIME"},
	{regexp.MustCompile(`SHA256:[A-Za-z0-9+/]{43}`), "FINGERPRINT"},
	{regexp.MustCompile(`ssh-ed25519 AAAA[A-Za-z0-9+/=]+`), "KEY"},
	{regexp.MustCompile(`"epoch": \d+`), `"epoch": N`},
	{regexp.MustCompile(`(/renewalInfo/)[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+`), "${1}CERTIFICATE"},
	{regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`), "UUID"},
	{regexp.MustCompile(`/\S*/mfd\d+/image`), "DISK"},
	{regexp.MustCompile(`/[^\s"]*/mf\d+/r/`), "/"},
	{regexp.MustCompile(`(\.versions/[^/"]*)-[0-9a-f]{16}`), "$1-VERSION"},
}
