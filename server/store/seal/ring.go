package seal

import (
	"bytes"
	"cmp"
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Server is the name under which the store's own key is in the ring: messages that
// wait to be sent are sealed with it.
const Server = ""

// Ring holds the keys of a store's accounts. It is safe for many goroutines; those
// that change it take turns.
type Ring struct {
	rand io.Reader

	mu    sync.RWMutex
	root  Key
	gen   uint64 // grows with each change
	names map[string]*member
	ids   map[uint64]*member
	fresh []*member // made, and not to be used before they are written
}

// member is one key of the ring.
type member struct {
	name   string
	id     uint64 // random; says in a slot whose it is
	key    Key
	bodies cipher.AEAD // wraps the keys of bodies
	octets cipher.AEAD // seals what is short and stands in the log
}

func newMember(name string, id uint64, key Key) (*member, error) {
	m := &member{name: name, id: id, key: key}
	var err error
	if m.bodies, err = key.forUse("body keys 1"); err != nil {
		return nil, err
	}
	m.octets, err = key.forUse("octets 1")
	return m, err
}

func (k Key) forUse(use string) (cipher.AEAD, error) {
	d, err := k.derive(use)
	if err != nil {
		return nil, err
	}
	return d.wrapping()
}

// New makes an empty ring. rand gives random octets.
func New(root Key, rand io.Reader) *Ring {
	return &Ring{rand: rand, root: root, names: map[string]*member{}, ids: map[uint64]*member{}}
}

// Fingerprint is that of the root key.
func (r *Ring) Fingerprint() string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.root.Fingerprint()
}

// Has says whether the name has a key.
func (r *Ring) Has(name string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.names[name] != nil
}

// Names returns who has a key, sorted.
func (r *Ring) Names() []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Sorted(maps.Keys(r.names))
}

// Make makes a key for each name that has none, and says whether it made one. Encode
// has them at once, and nothing else has before Keep: what is sealed with a key that
// is on no disk yet may be on one before the key is.
func (r *Ring) Make(names ...string) (made bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range names {
		if r.names[name] != nil || slices.ContainsFunc(r.fresh, func(m *member) bool { return m.name == name }) {
			continue
		}
		m, err := r.newKey(name)
		if err != nil {
			r.fresh = nil
			return false, err
		}
		r.fresh = append(r.fresh, m)
	}
	if len(r.fresh) > 0 {
		r.gen++
	}
	return len(r.fresh) > 0, nil
}

func (r *Ring) newKey(name string) (*member, error) {
	key, err := NewKey(r.rand)
	if err != nil {
		return nil, err
	}
	for {
		var b [8]byte
		if _, err := io.ReadFull(r.rand, b[:]); err != nil {
			return nil, err
		}
		id := binary.LittleEndian.Uint64(b[:])
		if r.ids[id] == nil && !slices.ContainsFunc(r.fresh, func(m *member) bool { return m.id == id }) {
			return newMember(name, id, key)
		}
	}
}

// Keep has the keys that were made used from now on: the ring is written.
func (r *Ring) Keep() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.fresh {
		r.names[m.name], r.ids[m.id] = m, m
	}
	r.fresh = nil
}

// Discard forgets the keys that were made: the ring could not be written.
func (r *Ring) Discard() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fresh = nil
}

// Drop forgets the name's key, and says whether there was one. Once the ring is
// written, what was sealed for that name alone cannot be read by anyone.
func (r *Ring) Drop(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.names[name] == nil {
		return false
	}
	delete(r.names, name)
	maps.DeleteFunc(r.ids, func(_ uint64, m *member) bool { return m.name == name })
	r.gen++
	return true
}

// Rewrap has the ring wrapped by another root key from the next Encode on.
func (r *Ring) Rewrap(root Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.root = root
	r.gen++
}

// Cipher is the name's key for one use, with a nonce that its user chooses and must
// not choose twice. A name without a key is ErrNoKey.
func (r *Ring) Cipher(name, use string) (cipher.AEAD, error) {
	r.mu.RLock()
	m := r.names[name]
	r.mu.RUnlock()
	if m == nil {
		return nil, ErrNoKey
	}
	k, err := m.key.derive("use " + use)
	if err != nil {
		return nil, err
	}
	return k.aead()
}

// octetsContext is what sealed octets are.
const octetsContext = "mailform octets 1\x00"

// SealOctets seals a few octets with the name's key. They open as the same use only.
func (r *Ring) SealOctets(name, use string, p []byte) ([]byte, error) {
	r.mu.RLock()
	m := r.names[name]
	r.mu.RUnlock()
	if m == nil {
		return nil, ErrNoKey
	}
	return m.octets.Seal(nil, nil, p, []byte(octetsContext+use)), nil
}

// OpenOctets is the other way.
func (r *Ring) OpenOctets(name, use string, sealed []byte) ([]byte, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.names[name] == nil {
		return nil, ErrNoKey
	}
	for _, m := range r.ids {
		if m.name != name {
			continue
		}
		if p, err := m.octets.Open(nil, nil, sealed, []byte(octetsContext+use)); err == nil {
			return p, nil
		}
	}
	return nil, ErrTampered
}

// A ring is written as text: a line that says which root key it needs and how often
// it was changed, and one for each key, each with its checksum. Two copies are kept,
// so that octets that go bad cost no account its mail.
//
//	mailform-keyring 1 FINGERPRINT GENERATION KEYS *CHECKSUM
//	"NAME" ID WRAPPED *CHECKSUM
const ringMagic = "mailform-keyring 1 "

// maxRing bounds what is read of a ring, in octets.
const maxRing = 64 << 20

func keyContext(name string, id uint64) []byte {
	return fmt.Appendf(nil, "mailform account key 1\x00%016x%s", id, name)
}

// Encode returns the ring as it is written.
func (r *Ring) Encode() ([]byte, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	w, err := r.root.wrapping()
	if err != nil {
		return nil, err
	}
	var b []byte
	line := func(text string) {
		b = fmt.Appendf(b, "%s *%08x\n", text, crc32.Checksum([]byte(text), crc32.MakeTable(crc32.Castagnoli)))
	}
	all := append(slices.Collect(maps.Values(r.ids)), r.fresh...)
	slices.SortFunc(all, func(x, y *member) int {
		switch c := cmp.Or(strings.Compare(x.name, y.name), cmp.Compare(x.id, y.id)); {
		case x.name != y.name:
			return c
		case r.names[x.name] == x: // the last is the one that is used
			return 1
		case r.names[y.name] == y:
			return -1
		default:
			return c
		}
	})
	line(fmt.Sprintf("%s%s %d %d", ringMagic, r.root.Fingerprint(), r.gen, len(all)))
	for _, m := range all {
		sealed := w.Seal(nil, nil, m.key.octets[:], keyContext(m.name, m.id))
		line(fmt.Sprintf("%s %016x %s", strconv.QuoteToASCII(m.name), m.id, base64.RawStdEncoding.EncodeToString(sealed)))
	}
	return b, nil
}

// LineOf is how the line of a name's key begins, in a ring as it is written.
func LineOf(name string) []byte { return []byte("\n" + strconv.QuoteToASCII(name) + " ") }

// Format tells the root key's fingerprint only, whatever the verb.
func (r *Ring) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "keyring of storage key %s", r.Fingerprint())
}

// wrapped is a ring as it was written, before it is opened.
type wrapped struct {
	fingerprint string
	gen         uint64
	keys        []wrappedKey
	n           int  // how many keys it says that it has
	damaged     bool // lines are missing, or are not what was written
}

type wrappedKey struct {
	name   string
	id     uint64
	sealed []byte
}

func (w *wrapped) has(id uint64) bool {
	return slices.ContainsFunc(w.keys, func(k wrappedKey) bool { return k.id == id })
}

// ErrRing says that a keyring is damaged beyond use.
var ErrRing = errors.New("the keyring is damaged")

// parse reads one copy. What it can read of a damaged one it returns.
func parse(b []byte) (*wrapped, error) {
	if len(b) > maxRing {
		return nil, fmt.Errorf("%w: it has %d octets", ErrRing, len(b))
	}
	w := &wrapped{}
	lines := bytes.Split(b, []byte("\n"))
	head, ok := strings.CutPrefix(checkLine(lines[0]), ringMagic)
	f := strings.Fields(head)
	if !ok || len(f) != 3 {
		return nil, fmt.Errorf("%w: its first line", ErrRing)
	}
	w.fingerprint = f[0]
	gen, err := strconv.ParseUint(f[1], 10, 64)
	n, nerr := strconv.Atoi(f[2])
	if err := errors.Join(err, nerr); err != nil {
		return nil, fmt.Errorf("%w: its first line", ErrRing)
	}
	w.gen = gen
	seen := map[uint64]bool{}
	for _, l := range lines[1:] {
		if k, ok := parseKey(checkLine(l)); ok && !seen[k.id] {
			seen[k.id] = true
			w.keys = append(w.keys, k)
		}
	}
	w.n, w.damaged = n, len(w.keys) != n
	return w, nil
}

// checkLine returns a line without its checksum, "" when it does not match.
func checkLine(line []byte) string {
	i := bytes.LastIndex(line, []byte(" *"))
	if i < 0 || string(line[i+2:]) != fmt.Sprintf("%08x", crc32.Checksum(line[:i], crc32.MakeTable(crc32.Castagnoli))) {
		return ""
	}
	return string(line[:i])
}

func parseKey(line string) (k wrappedKey, ok bool) {
	quoted, err := strconv.QuotedPrefix(line)
	if err != nil {
		return k, false
	}
	if k.name, err = strconv.Unquote(quoted); err != nil {
		return k, false
	}
	f := strings.Fields(line[len(quoted):])
	if len(f) != 2 {
		return k, false
	}
	if k.id, err = strconv.ParseUint(f[0], 16, 64); err != nil {
		return k, false
	}
	k.sealed, err = base64.RawStdEncoding.DecodeString(f[1])
	return k, err == nil
}

// RootError says that a keyring needs another root key than the one at hand.
type RootError struct {
	Want string // fingerprint
	Have string // "" when there is no key
}

func (e *RootError) Error() string {
	have := "there is no storage key here"
	if e.Have != "" {
		have = "the storage key here is " + e.Have
	}
	return fmt.Sprintf("the stored mail is encrypted with the storage key %s, and %s; nothing was changed. "+
		"Put that key in its place: mailform storage-key import, or mailformd store key import on the host, with what was exported", e.Want, have)
}

// Needs returns the fingerprint of the root key that the copies of a ring need.
func Needs(copies ...[]byte) (string, error) {
	w, err := newest(copies)
	if err != nil {
		return "", err
	}
	return w.fingerprint, nil
}

// open unwraps a key.
func (k *wrappedKey) open(root cipher.AEAD) (*member, error) {
	b, err := root.Open(nil, nil, k.sealed, keyContext(k.name, k.id))
	if err != nil || len(b) != KeySize {
		return nil, fmt.Errorf("%w: the key of %q does not open", ErrRing, k.name)
	}
	key, err := KeyOf(b)
	if err != nil {
		return nil, err
	}
	return newMember(k.name, k.id, key)
}

// Knows says whether the ring has the key with that id.
func (r *Ring) Knows(id uint64) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.ids[id] != nil
}

// Merge takes keys over from a copy of the ring, of before or mended by hand: those that
// are wanted and that the ring does not have. A name may have several then; what it had
// before is used from then on as well. It returns whose they are.
func (r *Ring) Merge(text []byte, wanted func(name string, id uint64) bool) (names []string, err error) {
	w, err := parse(text)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if have := r.root.Fingerprint(); have != w.fingerprint {
		return nil, fmt.Errorf("that keyring is wrapped by the storage key %s, and the store's by %s", w.fingerprint, have)
	}
	aead, err := r.root.wrapping()
	if err != nil {
		return nil, err
	}
	var found []*member
	for _, k := range w.keys {
		if r.ids[k.id] != nil || !wanted(k.name, k.id) {
			continue
		}
		m, err := k.open(aead)
		if err != nil {
			return nil, err
		}
		found = append(found, m)
	}
	for _, m := range found {
		r.ids[m.id] = m
		if r.names[m.name] == nil {
			r.names[m.name] = m
		}
		names = append(names, m.name)
	}
	if len(found) > 0 {
		r.gen++
	}
	return names, nil
}

// Missing returns how many keys a ring has that none of its copies can say.
func Missing(copies ...[]byte) (int, error) {
	w, err := newest(copies)
	if err != nil {
		return 0, err
	}
	return max(0, w.n-len(w.keys)), nil
}

// newest puts the copies together: the newer one counts, and where it is damaged
// what the other has.
func newest(copies [][]byte) (*wrapped, error) {
	var best *wrapped
	var all []*wrapped
	var errs []error
	for _, c := range copies {
		w, err := parse(c)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, w)
		if best == nil || w.gen > best.gen || w.gen == best.gen && best.damaged && !w.damaged {
			best = w
		}
	}
	if best == nil {
		return nil, errors.Join(append(errs, ErrRing)...)
	}
	if best.damaged {
		for _, w := range all {
			for _, k := range w.keys {
				if w.fingerprint == best.fingerprint && !best.has(k.id) {
					best.keys = slices.Insert(best.keys, 0, k) // ahead of one that came in its place
				}
			}
		}
		best.damaged = len(best.keys) != best.n
	}
	return best, nil
}

// Decode opens a ring from its copies. root nil, or another than the ring's, is a
// *RootError. whole is false when keys are missing that no copy has.
func Decode(root *Key, rand io.Reader, copies ...[]byte) (_ *Ring, whole bool, err error) {
	w, err := newest(copies)
	if err != nil {
		return nil, false, err
	}
	if root == nil {
		return nil, false, &RootError{Want: w.fingerprint}
	}
	if have := root.Fingerprint(); have != w.fingerprint {
		return nil, false, &RootError{Want: w.fingerprint, Have: have}
	}
	aead, err := root.wrapping()
	if err != nil {
		return nil, false, err
	}
	r := New(*root, rand)
	r.gen, whole = w.gen, !w.damaged
	for _, k := range w.keys {
		m, err := k.open(aead)
		if err != nil {
			return nil, false, err
		}
		r.names[k.name], r.ids[k.id] = m, m
	}
	return r, whole, nil
}
