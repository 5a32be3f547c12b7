package sshconn

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// Bounds of key files and agents.
const (
	maxKeyFile      = 1 << 20 // bytes
	agentTimeout    = 10 * time.Second
	passphraseTries = 3
)

// Keys are the SSH keys of the person who runs mailform: those in agents and
// those in files. Everything is read once. Close when done.
type Keys struct {
	// Passphrase asks the person at the terminal for a key file's passphrase; wrong
	// says that the one before was. nil: there is nobody to ask, and encrypted keys
	// that no agent has are not used. A passphrase is never taken from elsewhere.
	Passphrase func(file string, wrong bool) ([]byte, error)
	// Given are offered as if an agent had them.
	Given []ssh.Signer

	mu     sync.Mutex
	agents map[string]*agentKeys // by socket
	files  map[string]*keyFile   // by name
	notes  []string
}

type agentKeys struct {
	conn    net.Conn
	signers []ssh.Signer
}

// keyFile is what one key file holds.
type keyFile struct {
	signer ssh.Signer    // nil when it cannot be used
	public ssh.PublicKey // nil when not even that is known
	locked bool          // encrypted, with nobody to ask
	err    error
}

// Notes are keys and agents that were found and cannot be used, and why.
func (k *Keys) Notes() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.notes)
}

// Close ends the connections to agents.
func (k *Keys) Close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, a := range k.agents {
		if a.conn != nil {
			a.conn.Close()
		}
	}
	k.agents = nil
}

func (k *Keys) note(format string, args ...any) {
	k.notes = append(k.notes, fmt.Sprintf(format, args...))
}

// agent lists the keys of the agent at a socket.
func (k *Keys) agent(socket string) []ssh.Signer {
	if socket == "" {
		return nil
	}
	if a := k.agents[socket]; a != nil {
		return a.signers
	}
	a := &agentKeys{}
	if k.agents == nil {
		k.agents = map[string]*agentKeys{}
	}
	k.agents[socket] = a
	conn, err := net.DialTimeout("unix", socket, agentTimeout)
	if err == nil {
		conn.SetDeadline(time.Now().Add(agentTimeout))
		if a.signers, err = agent.NewClient(conn).Signers(); err != nil {
			conn.Close()
		} else {
			conn.SetDeadline(time.Time{}) // signing may wait for a touch
			a.conn = conn
		}
	}
	if err != nil {
		k.note("the SSH agent at %s does not answer: %v", socket, rootCause(err))
	}
	return a.signers
}

// file reads a key file once.
func (k *Keys) file(name string) *keyFile {
	if f := k.files[name]; f != nil {
		return f
	}
	f := k.read(name)
	if k.files == nil {
		k.files = map[string]*keyFile{}
	}
	k.files[name] = f
	if f.err != nil && !errors.Is(f.err, fs.ErrNotExist) {
		k.note("%v", f.err)
	}
	return f
}

func (k *Keys) read(name string) *keyFile {
	f := &keyFile{public: readPublic(name + ".pub")}
	text, err := readBounded(name)
	if err != nil {
		f.err = err
		return f
	}
	signer, err := ssh.ParsePrivateKey(text)
	var encrypted *ssh.PassphraseMissingError
	switch {
	case err == nil:
		f.signer, f.public = signer, signer.PublicKey()
	case errors.As(err, &encrypted):
		if encrypted.PublicKey != nil {
			f.public = encrypted.PublicKey
		}
		switch {
		case f.public == nil:
			f.err = fmt.Errorf("%s is encrypted, and without %s.pub beside it nothing says which key it is: load it into an SSH agent (ssh-add %s)", name, name, name)
		case k.Passphrase == nil:
			f.locked = true
		default:
			f.signer = &lockedKey{file: name, public: f.public, text: text, ask: k.Passphrase}
		}
	default:
		if public := parsePublic(text); public != nil {
			f.public = public // the agent has the other half
			break
		}
		f.err = fmt.Errorf("%s is not a private key that can be used: %w", name, err)
	}
	return f
}

func readBounded(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err == nil && len(text) > maxKeyFile {
		err = fmt.Errorf("%s is too long for a key", name)
	}
	return text, err
}

func readPublic(name string) ssh.PublicKey {
	text, err := readBounded(name)
	if err != nil {
		return nil
	}
	return parsePublic(text)
}

func parsePublic(text []byte) ssh.PublicKey {
	key, _, _, _, err := ssh.ParseAuthorizedKey(text)
	if err != nil {
		return nil
	}
	return key
}

// Check says why a key file that a person has named cannot be used; agent is
// where its private half may be, too.
func (k *Keys) Check(file, agent string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	signers, f := slices.Concat(k.Given, k.agent(agent)), k.file(file)
	if f.signer != nil || f.public != nil && find(signers, f.public) != nil {
		return nil
	}
	if f.locked {
		return fmt.Errorf("%s is encrypted, and there is nobody at a terminal to ask for its passphrase: load it into an SSH agent (ssh-add %s)", file, file)
	}
	if f.err != nil {
		return f.err
	}
	return fmt.Errorf("%s is a public key, and no agent has its private half", file)
}

// offer is what is offered to one machine, in order.
type offer struct {
	signers []ssh.Signer
	locked  []string // files that would be, were there somebody to ask
}

func (o offer) fingerprints() []string {
	var out []string
	for _, s := range o.signers {
		print := ssh.FingerprintSHA256(s.PublicKey())
		if cert, ok := s.PublicKey().(*ssh.Certificate); ok {
			print = "certificate of " + ssh.FingerprintSHA256(cert.Key)
		}
		out = append(out, print)
	}
	return out
}

// offer are the keys to offer to a machine: first those that somebody has named,
// whether an agent or a file has them, then the agent's others, then the usual files. Whoever has to wait for a person does so inside person.
func (k *Keys) offer(s Settings, person func(wait func())) offer {
	k.mu.Lock()
	defer k.mu.Unlock()
	var o offer
	agent := slices.Concat(k.Given, k.agent(s.Agent))
	certs := k.certificates(s)
	add := func(signer ssh.Signer) {
		if find(o.signers, signer.PublicKey()) != nil {
			return
		}
		for _, cert := range certs {
			if bytes.Equal(cert.Key.Marshal(), signer.PublicKey().Marshal()) {
				if with, err := ssh.NewCertSigner(cert, signer); err == nil {
					o.signers = append(o.signers, with)
				}
			}
		}
		o.signers = append(o.signers, signer)
	}
	identity := func(name string) {
		f := k.file(name)
		if f.public != nil {
			if signer := find(agent, f.public); signer != nil {
				add(signer)
				return
			}
		}
		switch {
		case f.signer != nil:
			signer := f.signer
			if locked, ok := signer.(*lockedKey); ok {
				signer = waitingKey{locked, person}
			}
			add(signer)
		case f.locked:
			o.locked = append(o.locked, name)
		}
	}
	for _, name := range s.Named {
		identity(name)
	}
	if !s.IdentitiesOnly {
		for _, signer := range agent {
			add(signer)
		}
	}
	for _, name := range s.Identities {
		if !slices.Contains(s.Named, name) {
			identity(name)
		}
	}
	return o
}

// certificates are those that belong to a machine's keys.
func (k *Keys) certificates(s Settings) []*ssh.Certificate {
	var out []*ssh.Certificate
	files := slices.Clone(s.Certificates)
	for _, name := range s.Identities {
		files = append(files, strings.TrimSuffix(name, ".pub")+"-cert.pub")
	}
	for _, name := range files {
		if cert, ok := readPublic(name).(*ssh.Certificate); ok && cert.CertType == ssh.UserCert {
			out = append(out, cert)
		}
	}
	return out
}

func find(signers []ssh.Signer, key ssh.PublicKey) ssh.Signer {
	for _, s := range signers {
		if bytes.Equal(s.PublicKey().Marshal(), key.Marshal()) {
			return s
		}
	}
	return nil
}

// Public returns the public keys that would be offered, in authorized_keys format
// and without certificates: the agent's, then those of files, also of encrypted ones.
func (k *Keys) Public(s Settings) []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []string
	add := func(key ssh.PublicKey) {
		if _, cert := key.(*ssh.Certificate); cert {
			return
		}
		if line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))); !slices.Contains(out, line) {
			out = append(out, line)
		}
	}
	var files []ssh.PublicKey
	for _, name := range s.Identities {
		if f := k.file(name); f.public != nil && (f.signer != nil || f.locked) {
			files = append(files, f.public)
		}
	}
	for _, signer := range slices.Concat(k.Given, k.agent(s.Agent)) {
		key := signer.PublicKey()
		if !s.IdentitiesOnly || slices.ContainsFunc(files, func(f ssh.PublicKey) bool { return bytes.Equal(f.Marshal(), key.Marshal()) }) {
			add(key)
		}
	}
	for _, key := range files {
		add(key)
	}
	return out
}

// lockedKey is a key file whose passphrase is asked for when a machine has said
// that it would accept the key, and then never again.
type lockedKey struct {
	file   string
	public ssh.PublicKey
	text   []byte
	ask    func(file string, wrong bool) ([]byte, error)

	mu     sync.Mutex
	signer ssh.Signer
	err    error
}

// PublicKey implements ssh.Signer.
func (k *lockedKey) PublicKey() ssh.PublicKey { return k.public }

// Sign implements ssh.Signer.
func (k *lockedKey) Sign(random io.Reader, data []byte) (*ssh.Signature, error) {
	return waitingKey{k, func(wait func()) { wait() }}.SignWithAlgorithm(random, data, "")
}

// waitingKey is a lockedKey in one attempt to connect.
type waitingKey struct {
	*lockedKey
	person func(wait func())
}

// SignWithAlgorithm implements ssh.AlgorithmSigner.
func (k waitingKey) SignWithAlgorithm(random io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	var signer ssh.Signer
	var err error
	k.person(func() { signer, err = k.unlock() })
	if err != nil {
		return nil, err
	}
	if with, ok := signer.(ssh.AlgorithmSigner); ok {
		return with.SignWithAlgorithm(random, data, algorithm)
	}
	return signer.Sign(random, data)
}

// errLocked says that a person could not, or did not want to, give a passphrase.
var errLocked = errors.New("the key stays locked")

func (k *lockedKey) unlock() (ssh.Signer, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for try := 0; k.signer == nil && k.err == nil; try++ {
		if try == passphraseTries {
			k.err = fmt.Errorf("%w: the passphrase of %s was wrong %d times", errLocked, k.file, try)
			break
		}
		passphrase, err := k.ask(k.file, try > 0)
		if err != nil {
			k.err = fmt.Errorf("%w: no passphrase for %s: %w", errLocked, k.file, err)
			break
		}
		signer, err := ssh.ParsePrivateKeyWithPassphrase(k.text, passphrase)
		clear(passphrase)
		switch {
		case err == nil:
			k.signer = signer
		case !errors.Is(err, x509.IncorrectPasswordError):
			k.err = fmt.Errorf("%w: %s: %w", errLocked, k.file, err)
		}
	}
	return k.signer, k.err
}
