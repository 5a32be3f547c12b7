// Package mailauth says who a message is from: it signs outgoing mail (DKIM with
// RSA and Ed25519 side by side, RFC 6376 and RFC 8463), verifies incoming mail
// (SPF, DKIM and DMARC: RFC 7208, 6376, 7489), and writes what it found out as
// Authentication-Results (RFC 8601). What it makes are header lines to put ahead
// of a message; the message itself is read as a stream and never changed. It
// decides nothing: that is server/filter's.
//
// It imports server/manifest and nothing else of mailform.
package mailauth

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/emersion/go-msgauth/dkim"

	"mailform/server/manifest"
)

// ErrHeader says that a message's header is too long or malformed to be signed.
var ErrHeader = errors.New("header cannot be signed")

// maxHeader is the longest header that is signed, in octets.
const maxHeader = 256 << 10

// Keys are the signing keys of a host. They do not change once loaded.
type Keys struct {
	byDomain map[string][]key
}

type key struct {
	selector string
	signer   crypto.Signer
}

// Load reads the signing keys that m names, but for idle ones: a key that is coming
// up may not be seen by every resolver yet, and one that was retired soon will not be. With an error it still returns the
// keys that could be read, so that a starting server can choose to work with them.
func Load(layout manifest.Layout, m *manifest.Manifest) (*Keys, error) {
	k := &Keys{byDomain: map[string][]key{}}
	var errs []error
	for _, d := range m.Domains {
		for _, dk := range d.DKIM {
			if dk.Idle {
				continue
			}
			signer, err := readKey(layout.DKIMKey(d.Name, dk.Selector), dk.Algorithm)
			if err != nil {
				errs = append(errs, fmt.Errorf("DKIM key %s of %s: %w", dk.Selector, d.Name, err))
				continue
			}
			name := strings.ToLower(d.Name)
			k.byDomain[name] = append(k.byDomain[name], key{selector: dk.Selector, signer: signer})
		}
	}
	return k, errors.Join(errs...)
}

func readKey(path, algorithm string) (crypto.Signer, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errors.New("not a PKCS #8 PEM file")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("not a PKCS #8 private key") // the parser's words may quote the file
	}
	switch k := parsed.(type) {
	case *rsa.PrivateKey:
		if !strings.HasPrefix(algorithm, "rsa") {
			return nil, fmt.Errorf("is an RSA key, want %s", algorithm)
		}
		return k, nil
	case ed25519.PrivateKey:
		if algorithm != "ed25519" {
			return nil, fmt.Errorf("is an Ed25519 key, want %s", algorithm)
		}
		return k, nil
	}
	return nil, fmt.Errorf("is a %T, want %s", parsed, algorithm)
}

// Has says whether mail from domain is signed.
func (k *Keys) Has(domain string) bool {
	return k != nil && len(k.byDomain[strings.ToLower(domain)]) > 0
}

// oversigned header fields are in the signature once more than they are in the
// message, so that none can be added later; RFC 6376 8.15. Those after the
// first group are oversigned only if present, and the last group is signed as
// often as it is present: mailing lists add them.
var (
	oversignedAlways  = []string{"From", "Reply-To", "Subject", "Date", "To", "Cc", "Message-ID"}
	oversignedPresent = []string{"MIME-Version", "Content-Type", "Content-Transfer-Encoding", "In-Reply-To", "References"}
	signedPresent     = []string{"Sender", "Content-Disposition", "Content-ID", "Content-Language", "Resent-From", "Resent-To",
		"Resent-Cc", "Resent-Date", "Resent-Message-ID", "List-Id", "List-Unsubscribe", "List-Unsubscribe-Post", "Auto-Submitted"}
)

// headerKeys is the h= list for a header in which each name occurs count times.
func headerKeys(count map[string]int) []string {
	var keys []string
	add := func(name string, n int) {
		for range n {
			keys = append(keys, name)
		}
	}
	for _, name := range oversignedAlways {
		add(name, count[strings.ToLower(name)]+1)
	}
	for _, name := range oversignedPresent {
		if n := count[strings.ToLower(name)]; n > 0 {
			add(name, n+1)
		}
	}
	for _, name := range signedPresent {
		add(name, count[strings.ToLower(name)])
	}
	return keys
}

// Sign reads a message with CRLF line ends and returns the DKIM-Signature lines
// to put ahead of it, one for each key of domain; none when there is no key.
// It holds the message's header in memory, never its body.
func (k *Keys) Sign(domain string, message io.Reader) ([]byte, error) {
	domain = strings.ToLower(domain)
	if !k.Has(domain) {
		return nil, nil
	}
	header, rest, err := readHeader(message)
	if err != nil {
		return nil, err
	}
	options := dkim.SignOptions{
		Domain:                 domain,
		HeaderCanonicalization: dkim.CanonicalizationRelaxed,
		BodyCanonicalization:   dkim.CanonicalizationRelaxed,
		HeaderKeys:             headerKeys(countFields(header)),
		Hash:                   crypto.SHA256,
	}
	var signers []*dkim.Signer
	var writers []io.Writer
	defer func() {
		for _, s := range signers { // ends the goroutine of a signer that was not finished
			_ = s.Close()
		}
	}()
	for _, key := range k.byDomain[domain] {
		o := options
		o.Selector, o.Signer = key.selector, key.signer
		s, err := dkim.NewSigner(&o)
		if err != nil {
			return nil, fmt.Errorf("sign with %s of %s: %w", key.selector, domain, err)
		}
		signers = append(signers, s)
		writers = append(writers, s)
	}
	if _, err := io.Copy(io.MultiWriter(writers...), io.MultiReader(bytes.NewReader(header), rest)); err != nil {
		return nil, fmt.Errorf("sign for %s: %w", domain, err)
	}
	var lines bytes.Buffer
	for len(signers) > 0 {
		s := signers[0]
		signers = signers[1:]
		if err := s.Close(); err != nil {
			return nil, fmt.Errorf("sign for %s: %w", domain, err)
		}
		lines.WriteString(s.Signature())
	}
	return lines.Bytes(), nil
}

// readHeader takes the header off r, its empty last line included.
func readHeader(r io.Reader) (header []byte, rest io.Reader, err error) {
	buf := make([]byte, 0, 4096)
	for {
		if len(buf) == cap(buf) {
			if len(buf) >= maxHeader {
				return nil, nil, fmt.Errorf("%w: longer than %d octets", ErrHeader, maxHeader)
			}
			buf = append(make([]byte, 0, 2*cap(buf)), buf...)
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		from := max(len(buf)-3, 0)
		buf = buf[:len(buf)+n]
		if i := bytes.Index(buf[from:], []byte("\r\n\r\n")); i >= 0 {
			end := from + i + 4
			return buf[:end:end], io.MultiReader(bytes.NewReader(buf[end:]), r), nil
		}
		if err == io.EOF {
			return nil, nil, fmt.Errorf("%w: it does not end", ErrHeader)
		}
		if err != nil {
			return nil, nil, err
		}
	}
}

// countFields counts the header's fields by lower-case name.
func countFields(header []byte) map[string]int {
	count := map[string]int{}
	for line := range bytes.SplitSeq(header, []byte("\r\n")) {
		if name, _, ok := bytes.Cut(line, []byte(":")); ok && line[0] != ' ' && line[0] != '\t' {
			count[string(bytes.ToLower(bytes.TrimSpace(name)))]++
		}
	}
	return count
}
