package manifest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/crypto/argon2"
)

// MaxDocument bounds every document of this package, in bytes: 5,000 mailboxes
// take about 2 MiB.
const MaxDocument = 64 << 20

// Fingerprint is the one-way fingerprint of a secret; it is the same function
// as specs.Fingerprint, which this side must not import: one SHA-256 of what is
// an argon2id hash already, argon2id (about 30 ms) of everything else.
func Fingerprint(secret string) string {
	if strings.HasPrefix(secret, "$argon2id$") {
		sum := sha256.Sum256([]byte("mailform-secret-v1\x00" + secret))
		return hex.EncodeToString(sum[:16])
	}
	return hex.EncodeToString(argon2.IDKey([]byte(secret), []byte("mailform-secret-v2"), 2, 19*1024, 1, 16))
}

// SHA256 is the hex digest under which a manifest file is known.
func SHA256(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Encode writes a document in its canonical form: the same value gives the same
// bytes.
func Encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Decode reads exactly one JSON document of at most MaxDocument bytes.
func Decode(r io.Reader, v any) error {
	dec := json.NewDecoder(io.LimitReader(r, MaxDocument+1))
	if err := dec.Decode(v); err != nil {
		return err
	}
	if dec.InputOffset() > MaxDocument {
		return fmt.Errorf("document is larger than %d bytes", MaxDocument)
	}
	return nil
}

// ReadManifest reads and validates a manifest file.
func ReadManifest(b []byte) (*Manifest, error) {
	m := &Manifest{}
	if err := decodeAll(b, m); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if err := m.Validate(); err != nil {
		return nil, err
	}
	return m, nil
}

// ReadFacts reads what `mailformd observe` printed.
func ReadFacts(b []byte) (*Facts, error) {
	f := &Facts{}
	if err := decodeAll(b, f); err != nil {
		return nil, fmt.Errorf("facts: %w", err)
	}
	return CheckFacts(f)
}

// CheckFacts checks facts that came in another document.
func CheckFacts(f *Facts) (*Facts, error) {
	if err := checkFormat("facts", f.Format); err != nil {
		return nil, err
	}
	if f.Manifest != nil {
		if err := f.Manifest.Validate(); err != nil {
			return nil, err
		}
	}
	for _, k := range f.DKIM {
		if !ValidDomain(k.Domain) || !ValidSelector(k.Selector) {
			return nil, fmt.Errorf("facts: bad signing key name %q %q", k.Domain, k.Selector)
		}
	}
	return f, nil
}

func decodeAll(b []byte, v any) error {
	if len(b) > MaxDocument {
		return fmt.Errorf("larger than %d bytes", MaxDocument)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return fmt.Errorf("something follows the document")
	}
	return nil
}

func checkFormat(what string, format int) error {
	switch {
	case format > Format:
		return fmt.Errorf("%s has format %d, this mailformd knows up to %d: a newer version wrote it", what, format, Format)
	case format < 1:
		return fmt.Errorf("%s has no format", what)
	}
	return nil
}

// Validate checks what paths and look-ups on the host depend on. It does not
// repeat the spec's validation.
func (m *Manifest) Validate() error {
	if err := checkFormat("manifest", m.Format); err != nil {
		return err
	}
	if !ValidName(m.Host) {
		return fmt.Errorf("manifest: bad host name %q", m.Host)
	}
	if !ValidName(m.Stack) {
		return fmt.Errorf("manifest: bad stack name %q", m.Stack)
	}
	if !ValidDomain(m.Hostname) {
		return fmt.Errorf("manifest: bad hostname %q", m.Hostname)
	}
	if f := m.Filter; f != nil {
		for _, zone := range f.DNSBL {
			if !ValidDomain(zone) {
				return fmt.Errorf("manifest: bad blocklist zone %q", zone)
			}
		}
	}
	for _, o := range m.Firewall {
		if err := o.validate(); err != nil {
			return err
		}
	}
	if err := m.Tuning.validate(); err != nil {
		return err
	}
	seen := make(map[string]bool)
	for _, d := range m.Domains {
		if !ValidDomain(d.Name) {
			return fmt.Errorf("manifest: bad domain %q", d.Name)
		}
		if seen[d.Name] {
			return fmt.Errorf("manifest: domain %s stands twice", d.Name)
		}
		seen[d.Name] = true
		if p := d.MTASTS; p != nil && !slices.Contains([]string{"testing", "enforce", "none"}, p.Mode) {
			return fmt.Errorf("manifest: bad MTA-STS mode %q of %s", p.Mode, d.Name)
		}
		for _, r := range d.Retention {
			// What would be deleted for the want of a number must not be.
			if r.Mailbox == "" || r.AfterSeconds < MinRetention {
				return fmt.Errorf("manifest: bad retention rule %q of %s", r.Name, d.Name)
			}
		}
		for _, k := range d.DKIM {
			if !ValidSelector(k.Selector) {
				return fmt.Errorf("manifest: bad selector %q of %s", k.Selector, d.Name)
			}
		}
		for _, b := range d.Mailboxes {
			if !validLocal(b.Local) {
				return fmt.Errorf("manifest: bad mailbox %q of %s", b.Local, d.Name)
			}
			addr := b.Local + "@" + d.Name
			if seen[addr] {
				return fmt.Errorf("manifest: mailbox %s stands twice", addr)
			}
			seen[addr] = true
		}
	}
	return nil
}

// ValidDomain reports whether s is a lower-case DNS name that is safe as a
// folder's name.
func ValidDomain(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if !validLabel(label) {
			return false
		}
	}
	return true
}

// ValidSelector reports whether s is a DKIM selector that is safe as a file's
// name: labels joined by dots.
func ValidSelector(s string) bool { return ValidDomain(s) }

// ValidName reports whether s may name a host, stack or certificate.
func ValidName(s string) bool { return validLabel(s) }

func validLabel(s string) bool {
	if s == "" || len(s) > 63 {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_' || c == '-' && i > 0 {
			continue
		}
		return false
	}
	return true
}

func validLocal(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r == 0x7f || r == '@' || r == '/' || r == '\\'
	})
}
