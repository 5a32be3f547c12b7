package host

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"mailform/plan"
)

// keyFamilies are the kinds of host key in the order they are asked for. A
// server has one key of each kind and shows the one that is asked for first, so
// that a pinned fingerprint may need more than one try.
var keyFamilies = [][]string{
	{ssh.KeyAlgoED25519},
	{ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521},
	{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256},
}

// trust decides which host key a machine must show.
type trust struct {
	t       target
	where   string            // who says so, for people
	print   string            // the fingerprint, when only that is known
	keys    []ssh.PublicKey   // the keys, when they are known
	revoked []ssh.PublicKey   // keys that known_hosts says must never be accepted
	confirm func(string) bool // asked about an unknown key; nil when there is an expectation
	learned func(ssh.PublicKey) error
	shown   []string // fingerprints seen so far
}

// errHostKey stops a handshake; the trust knows why.
var errHostKey = errors.New("the host key is not accepted")

// trustFor collects what is known about a host's key: what the spec or the
// instance pins, else the person's known_hosts, else the person.
func (p *Provider) trustFor(t target) (*trust, error) {
	tr := &trust{t: t}
	switch {
	case strings.HasPrefix(t.hostKey, "SHA256:"):
		tr.where, tr.print = "pinned for this host", t.hostKey
		return tr, nil
	case t.hostKey != "":
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(t.hostKey))
		if err != nil {
			return nil, &plan.Error{Class: plan.ErrSpec, Code: "MF5402", Step: "read the host key pinned for host " + t.host,
				Got: "neither a SHA256: fingerprint nor a public key line", Fix: "Take it from the machine: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub"}
		}
		tr.where, tr.keys = "pinned for this host", []ssh.PublicKey{key}
		return tr, nil
	}
	if p.KnownHosts != "" {
		keys, revoked, err := knownKeys(p.KnownHosts, t.addr())
		if err != nil {
			return nil, &plan.Error{Code: "MF5403", Step: "read " + p.KnownHosts, Err: err, Fix: "Mend or move away the file."}
		}
		tr.revoked = revoked
		if len(keys) > 0 {
			tr.where, tr.keys = "in "+p.KnownHosts, keys
			return tr, nil
		}
	}
	tr.confirm = func(print string) bool { return p.Confirm != nil && p.Confirm(t.host+" ("+t.addr()+")", print) }
	tr.learned = func(key ssh.PublicKey) error {
		if p.KnownHosts == "" {
			return nil
		}
		return addKnownHost(p.KnownHosts, t.addr(), key)
	}
	return tr, nil
}

// families are the sets of algorithms to try, in order.
func (tr *trust) families() [][]string {
	if tr.keys == nil {
		return keyFamilies
	}
	var out [][]string
	for _, f := range keyFamilies {
		if slices.ContainsFunc(tr.keys, func(k ssh.PublicKey) bool { return slices.Contains(f, algorithmOf(k)) }) {
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
func (tr *trust) check(_ string, _ net.Addr, key ssh.PublicKey) error {
	print := ssh.FingerprintSHA256(key)
	if !slices.Contains(tr.shown, key.Type()+" "+print) {
		tr.shown = append(tr.shown, key.Type()+" "+print)
	}
	same := func(k ssh.PublicKey) bool { return bytes.Equal(k.Marshal(), key.Marshal()) }
	switch {
	case slices.ContainsFunc(tr.revoked, same):
		return errHostKey
	case tr.print != "":
		if print == tr.print {
			return nil
		}
	case tr.keys != nil:
		if slices.ContainsFunc(tr.keys, same) {
			return nil
		}
	case tr.confirm(print):
		if err := tr.learned(key); err != nil {
			return err
		}
		tr.print = print // the next connection of this run does not ask again
		return nil
	}
	return errHostKey
}

// refused says what was expected, what came, and what to do.
func (tr *trust) refused() error {
	e := &plan.Error{Class: plan.ErrBlocked, Code: "MF5404", Step: "connect to " + tr.t.String()}
	shown := strings.Join(tr.shown, ", ")
	if shown == "" {
		shown = "no key of the expected kind"
	}
	if tr.print == "" && tr.keys == nil {
		e.Got = "the machine shows the host key " + shown + ", and nothing says whether that is right"
		e.Fix = fmt.Sprintf("Compare it with the machine's own (on its console: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), then pin it in the spec: host %q { ssh { host_key = \"SHA256:…\" } }", tr.t.host)
		return e
	}
	want := tr.print
	for _, k := range tr.keys {
		want = strings.TrimPrefix(want+", "+k.Type()+" "+ssh.FingerprintSHA256(k), ", ")
	}
	e.Got = fmt.Sprintf("wrong host key: the machine shows %s; %s is %s", shown, tr.where, want)
	if tr.t.created {
		e.Fix = "Someone may be in between, or the machine was set up anew outside mailform. If you did that, replace the instance; do not connect before you know."
	} else {
		e.Fix = "Someone may be in between, or the machine was set up anew. If it was, compare the key on its console and correct ssh { host_key } in the spec or the line in known_hosts; do not connect before you know."
	}
	return e
}

// knownKeys returns the keys that a known_hosts file has for an address.
func knownKeys(file, addr string) (keys, revoked []ssh.PublicKey, err error) {
	check, err := knownhosts.New(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	// Ask about a key that cannot be there: the answer lists those that are.
	remote, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, nil, err
	}
	var known *knownhosts.KeyError
	if err := check(addr, remote, nobodysKey{}); errors.As(err, &known) {
		for _, k := range known.Want {
			keys = append(keys, k.Key)
		}
	}
	revoked, err = revokedKeys(file)
	return keys, revoked, err
}

// revokedKeys are the keys of @revoked lines, sshd(8).
func revokedKeys(file string) ([]ssh.PublicKey, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var out []ssh.PublicKey
	for len(b) > 0 {
		marker, _, key, _, rest, err := ssh.ParseKnownHosts(b)
		if err != nil {
			break // the end; knownhosts.New has read the file already
		}
		if marker == "revoked" {
			out = append(out, key)
		}
		b = rest
	}
	return out, nil
}

// nobodysKey is a public key that equals no other.
type nobodysKey struct{}

func (nobodysKey) Type() string                        { return "nobody" }
func (nobodysKey) Marshal() []byte                     { return []byte("nobody") }
func (nobodysKey) Verify([]byte, *ssh.Signature) error { return errHostKey }

// addKnownHost records a key that the person has confirmed, as ssh does.
func addKnownHost(file, addr string, key ssh.PublicKey) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	line := knownhosts.Line([]string{knownhosts.Normalize(addr)}, key) + "\n"
	if fi, err := f.Stat(); err == nil && fi.Size() > 0 {
		last := make([]byte, 1)
		if _, err := f.ReadAt(last, fi.Size()-1); err == nil && last[0] != '\n' {
			line = "\n" + line
		}
	}
	_, err = f.WriteString(line)
	return err
}
