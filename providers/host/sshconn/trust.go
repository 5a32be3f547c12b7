package sshconn

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// keyFamilies are the kinds of host key in the order they are asked for. A
// server has one key of each kind and shows the one that is asked for first, so
// that a pinned fingerprint may need more than one try.
var keyFamilies = [][]string{
	{ssh.KeyAlgoED25519},
	{ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521},
	{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256},
}

// certificates are the kinds of host certificate.
var certificates = []string{
	ssh.CertAlgoED25519v01, ssh.CertAlgoECDSA256v01, ssh.CertAlgoECDSA384v01, ssh.CertAlgoECDSA521v01,
	ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01,
}

// Trust decides which host key a machine must show. One is kept for a run, so
// that a person is asked once.
type Trust struct {
	s       Settings
	where   string          // who says so, for people
	prints  []string        // fingerprints, when only those are known
	keys    []ssh.PublicKey // keys, when they are known
	known   known
	confirm func(fingerprint string) bool // asked about an unknown key; nil when there is an expectation
	learned func(ssh.PublicKey) error
	shown   []string // "kind fingerprint" seen so far
	reason  string   // why a key was refused, when that is not its being another
	fix     string   // what to do about that

	Key ssh.PublicKey // what the machine has shown and was accepted
}

// errHostKey stops a handshake; the Trust knows why.
var errHostKey = errors.New("the host key is not accepted")

// Trust collects what is known about a machine's key: what the target pins, else
// known_hosts, else the person.
func (e *Env) Trust(s Settings) (*Trust, error) {
	t := &Trust{s: s}
	var err error
	if t.known, err = readKnownHosts(s.KnownHosts, s.Names, s.Port); err != nil {
		if s.hostKey == "" {
			return nil, &Error{Kind: BadKnownHosts, At: s, Err: err, Got: err.Error(), Fix: "Mend or move away the file."}
		}
		t.known = known{} // the pin decides
	}
	switch pin := s.hostKey; {
	case strings.HasPrefix(pin, "SHA256:"):
		t.where, t.prints = "pinned for this host", strings.Fields(pin)
	case pin != "":
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(pin))
		if err != nil {
			return nil, &Error{Kind: BadPin, At: s, Err: err, Got: "the host key pinned for " + s.Label + " is neither a SHA256: fingerprint nor a public key line",
				Fix: "Take it from the machine: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub"}
		}
		t.where, t.keys = "pinned for this host", []ssh.PublicKey{key}
	case len(t.known.keys)+len(t.known.authorities) > 0:
		var where []string
		for _, k := range append(slices.Clip(t.known.keys), t.known.authorities...) {
			where = append(where, k.where)
		}
		t.where = "in " + strings.Join(where, ", ")
		for _, k := range t.known.keys {
			t.keys = append(t.keys, k.key)
		}
	default:
		t.confirm = func(print string) bool { return e.Confirm != nil && e.Confirm(s.Label+" ("+s.Addr()+")", print) }
		t.learned = func(key ssh.PublicKey) error {
			if len(s.KnownHosts) == 0 {
				return nil
			}
			return addKnownHost(s.KnownHosts[0], s.Host, s.Port, key)
		}
	}
	if s.hostKey != "" {
		t.known.authorities = nil // a pin names one key, whoever else vouches for others
	}
	return t, nil
}

// families are the sets of algorithms to try, in order.
func (t *Trust) families() [][]string {
	var out [][]string
	if len(t.known.authorities) > 0 {
		out = append(out, certificates)
		if t.keys == nil {
			return append(out, keyFamilies...)
		}
	}
	if t.keys == nil {
		return keyFamilies
	}
	for _, f := range keyFamilies {
		if slices.ContainsFunc(t.keys, func(k ssh.PublicKey) bool { return slices.Contains(f, algorithmOf(k)) }) {
			out = append(out, f)
		}
	}
	if out == nil {
		return keyFamilies
	}
	return out
}

// algorithmOf is the host key algorithm that shows a key.
func algorithmOf(k ssh.PublicKey) string {
	if k.Type() == ssh.KeyAlgoRSA {
		return ssh.KeyAlgoRSASHA512
	}
	return k.Type()
}

// check is the ssh.HostKeyCallback.
func (t *Trust) check(_ string, _ net.Addr, key ssh.PublicKey) error {
	if cert, ok := key.(*ssh.Certificate); ok {
		return t.checkCertificate(cert)
	}
	print := ssh.FingerprintSHA256(key)
	if !slices.Contains(t.shown, key.Type()+" "+print) {
		t.shown = append(t.shown, key.Type()+" "+print)
	}
	if where, revoked := has(t.known.revoked, key); revoked {
		t.reason = where + " says that this key is revoked"
		t.fix = "A machine whose key got out needs a new one: ssh-keygen -A on its console, after the old was taken away."
		return errHostKey
	}
	accepted := false
	switch {
	case t.prints != nil:
		accepted = slices.Contains(t.prints, print)
	case t.expects():
		accepted = slices.ContainsFunc(t.keys, func(k ssh.PublicKey) bool { return string(k.Marshal()) == string(key.Marshal()) })
	case t.confirm(print):
		if err := t.learned(key); err != nil {
			return err
		}
		t.prints = []string{print} // the next connection of this run does not ask again
		accepted = true
	}
	if !accepted {
		return errHostKey
	}
	t.Key = key
	return nil
}

// checkCertificate accepts a certificate of an authority that known_hosts names.
func (t *Trust) checkCertificate(cert *ssh.Certificate) error {
	t.shown = append(t.shown, "a certificate of "+ssh.FingerprintSHA256(cert.SignatureKey))
	if _, ok := has(t.known.authorities, cert.SignatureKey); !ok || cert.CertType != ssh.HostCert {
		return errHostKey
	}
	checker := &ssh.CertChecker{IsRevoked: func(c *ssh.Certificate) bool {
		_, key := has(t.known.revoked, c.Key)
		_, authority := has(t.known.revoked, c.SignatureKey)
		return key || authority
	}}
	var err error
	for _, name := range t.s.Names {
		// As in ssh, what it is for may be patterns.
		i := slices.IndexFunc(cert.ValidPrincipals, func(p string) bool { return matchPattern(strings.ToLower(p), strings.ToLower(name)) })
		if i >= 0 {
			name = cert.ValidPrincipals[i]
		}
		if err = checker.CheckCert(name, cert); err == nil {
			t.Key = cert
			return nil
		}
		if i >= 0 {
			break
		}
	}
	t.reason = "its certificate is refused: " + strings.TrimPrefix(err.Error(), "ssh: ")
	t.fix = fmt.Sprintf("If it is the right machine, let the authority certify its key once more (ssh-keygen -s CA -h -n %s); ssh-keygen -Lf shows what a certificate says.", t.s.Names[len(t.s.Names)-1])
	return errHostKey
}

// expects is whether anything but a person says which key is right.
func (t *Trust) expects() bool {
	return t.prints != nil || t.keys != nil || len(t.known.authorities) > 0
}

// refused says what was expected, what came, and what to do.
func (t *Trust) refused() *Error {
	e := &Error{Kind: HostKey, At: t.s, Err: errHostKey}
	shown := strings.Join(t.shown, ", ")
	if shown == "" {
		shown = "no key of the expected kind"
	}
	switch {
	case t.reason != "":
		e.Got = "the machine shows " + shown + "; " + t.reason
		e.Fix = "Do not connect before you know why. " + t.fix
		return e
	case !t.expects():
		e.Got = "the machine shows the host key " + shown + ", and nothing says whether that is right"
		e.Fix = "Compare it with the machine's own (on its console: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), then pin it in the spec, ssh { host_key = \"SHA256:…\" }, or let ssh record it in known_hosts."
		return e
	}
	want := slices.Clone(t.prints)
	for _, k := range t.keys {
		want = append(want, k.Type()+" "+ssh.FingerprintSHA256(k))
	}
	for _, k := range t.known.authorities {
		want = append(want, "a certificate of "+ssh.FingerprintSHA256(k.key))
	}
	e.Got = fmt.Sprintf("wrong host key: the machine shows %s; %s is %s", shown, t.where, strings.Join(want, ", "))
	e.Fix = "Someone may be in between, or the machine was set up anew. If it was, compare the key on its console and correct ssh { host_key } in the spec or the line in known_hosts (ssh-keygen -R " +
		knownName(t.s.Host, t.s.Port) + "); do not connect before you know."
	return e
}
