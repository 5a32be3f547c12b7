package world

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"mailform/providers/host/hostsim"
)

// Snapshot is what a world had come to: every call that its vendors had answered,
// and the hosts' files. A world made from it lets the vendors answer the same calls
// again, in the same order, so that all ids are the same too.
type Snapshot struct {
	cfg      Config
	calls    []recorded
	images   []image
	disks    map[string]*hostsim.Disk // by serial number
	roots    []byte                   // PEM
	operator map[string][]byte
}

// image is a host's root folder as it was.
type image struct {
	root     string
	instance string     // the cloud's id; "" for a machine without the cloud
	ip       netip.Addr // public
	key      ssh.Signer // the host key of a machine without the cloud
	disks    []string   // serial numbers of the data disks in it
}

// recorded is one call to a vendor.
type recorded struct {
	vendor, method string
	host, uri      string
	header         http.Header
	body           []byte
	at             time.Time
}

// tape records calls. A nil tape records nothing.
type tape struct {
	now   func() time.Time
	mu    sync.Mutex
	calls []recorded
}

// maxRecorded bounds a call's body; the vendors' own bounds are lower.
const maxRecorded = 32 << 20

func (t *tape) record(vendor string, api http.Handler) http.Handler {
	if t == nil {
		return api
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRecorded))
		if err != nil {
			return // the client went away or sends too much
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		t.mu.Lock()
		defer t.mu.Unlock()
		t.calls = append(t.calls, recorded{vendor, r.Method, r.Host, r.URL.RequestURI(), r.Header.Clone(), body, t.now()})
		api.ServeHTTP(w, r)
	})
}

// Snapshot switches the hosts off and copies everything into a folder, which must
// stay for as long as worlds are made from it. The world is of no use afterwards
// but to be closed.
func (w *World) Snapshot(dir string) (*Snapshot, error) {
	if w.tape == nil {
		return nil, errors.New("world: Snapshot without Config.Record")
	}
	s := &Snapshot{cfg: w.cfg, operator: map[string][]byte{}}
	var err error
	if s.roots, err = os.ReadFile(w.CABundle()); err != nil {
		return nil, err
	}
	for _, suffix := range []string{"", ".pub"} {
		if s.operator[suffix], err = os.ReadFile(w.OperatorKey() + suffix); err != nil {
			return nil, err
		}
	}
	for n, m := range w.living() {
		m.Host.Stop()
		m.mu.Lock()
		i := image{root: filepath.Join(dir, fmt.Sprintf("host-%d", n)), instance: m.instance, ip: m.ip, key: m.key, disks: m.Disks()}
		m.mu.Unlock()
		if err := copyTree(m.Root(), i.root); err != nil {
			return nil, err
		}
		s.images = append(s.images, i)
	}
	if s.disks, err = w.copyDisks(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	w.tape.mu.Lock()
	defer w.tape.mu.Unlock()
	s.calls = append(s.calls, w.tape.calls...)
	if from := w.cfg.From; from != nil {
		s.calls = append(append([]recorded(nil), from.calls...), s.calls...)
	}
	return s, nil
}

// living are the machines that have not been destroyed.
func (w *World) living() []*machine {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []*machine
	for _, m := range w.booted {
		m.mu.Lock()
		if !m.gone {
			out = append(out, m)
		}
		m.mu.Unlock()
	}
	return out
}

func (s *Snapshot) writeOperatorKey(path string) error {
	for suffix, text := range s.operator {
		if err := os.WriteFile(path+suffix, text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// unheard is where answers go that nobody waits for.
type unheard struct{}

func (unheard) Header() http.Header         { return http.Header{} }
func (unheard) Write(b []byte) (int, error) { return len(b), nil }
func (unheard) WriteHeader(int)             {}

// replay lets the vendors answer the recorded calls again, at the time at which they came:
// a signature is good for some minutes only.
func (w *World) replay(s *Snapshot) error {
	defer w.replayed.Store(nil)
	for _, c := range s.calls {
		r, err := http.NewRequest(c.method, c.uri, bytes.NewReader(c.body))
		if err != nil {
			return err
		}
		r.Host, r.RequestURI, r.Header = c.host, c.uri, c.header.Clone() // all of it is signed
		w.replayed.Store(&c.at)
		var api http.Handler = w.cloud
		if c.vendor == "dns" {
			api = w.dns
		}
		api.ServeHTTP(unheard{}, r)
	}
	return nil
}

// image is a root folder for a machine as the snapshot has it, and the disks in it; ""
// for a new one.
func (w *World) image(is func(image) bool) (root string, disks []*hostsim.Disk, err error) {
	if w.cfg.From == nil {
		return "", nil, nil
	}
	for n, i := range w.cfg.From.images {
		if !is(i) {
			continue
		}
		for _, serial := range i.disks {
			d, err := w.disk(serial)
			if err != nil {
				return "", nil, err
			}
			disks = append(disks, d)
		}
		root := filepath.Join(w.cfg.Dir, fmt.Sprintf("host-%d", n))
		return root, disks, copyTree(i.root, root)
	}
	return "", nil, nil
}

// machineKey is the host key for a machine without the cloud.
func (w *World) machineKey(ip netip.Addr) (ssh.Signer, error) {
	if w.cfg.From != nil {
		for _, i := range w.cfg.From.images {
			if i.ip == ip && i.key != nil {
				return i.key, nil
			}
		}
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return ssh.NewSignerFromKey(key)
}

// sharedFrom is the size in bytes from which a copied file shares its content with the
// original: such are programs, which are replaced and never written to.
const sharedFrom = 4 << 20

// copyTree copies folders, files and links; a host that is off has nothing else
// that would outlive its boot.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			return os.MkdirAll(target, info.Mode().Perm())
		case info.Mode()&fs.ModeSymlink != 0:
			link, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return os.Symlink(link, target)
		case !info.Mode().IsRegular():
			return nil
		case info.Size() >= sharedFrom:
			if os.Link(path, target) == nil { // not to another file system
				return nil
			}
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, text, info.Mode().Perm())
	})
}
