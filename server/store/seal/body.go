package seal

import (
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// SlotSize is how many octets the key of a body takes for each that can read it:
// the id of the key that wraps it u64, a nonce, the wrapped key and its tag.
const SlotSize = 8 + nonceSize + KeySize + Overhead

const (
	bodyContext  = "mailform body 1\x00" // of bodies that are bound to nothing
	boundContext = "mailform body 2\x00"
	slotContext  = "mailform body key 1\x00"

	flagLast   = 1
	flagPacked = 2
)

// Part is which part of a message a body is.
type Part byte

// The parts of a message.
const (
	PartHead Part = 1 // header lines that were added at delivery
	PartBody Part = 2
	// PartIndex is no part of one: a file of the search index.
	PartIndex Part = 3
)

// IDSize is the length of a binding's ID, in octets.
const IDSize = 16

// Binding is what a body is sealed as: with another it does not open.
type Binding struct {
	Part Part
	// ID is the message that the body is of, all zero when it is of none in particular.
	ID [IDSize]byte
}

// BindingOf is the binding of a part of what is called so; "" is nothing in particular.
func BindingOf(part Part, name string) Binding {
	b := Binding{Part: part}
	if name != "" {
		sum := sha256.Sum256([]byte("mailform message 1\x00" + name))
		copy(b.ID[:], sum[:])
	}
	return b
}

// Fits says whether a body that is bound so may stand where b is expected.
func (b Binding) Fits(body Binding) bool {
	return b.Part == body.Part && (b.ID == body.ID || body.ID == [IDSize]byte{})
}

// Body seals or opens the blocks of one body. It is not for two goroutines at once.
type Body struct {
	aead  cipher.AEAD
	slots []byte
	bound Binding
	at    int // where in aad the number of the block is
	aad   []byte
}

// newBody is a body with that key; bound nil is of those that are bound to nothing.
func newBody(key Key, slots []byte, bound *Binding) (*Body, error) {
	aead, err := key.aead()
	if err != nil {
		return nil, err
	}
	b := &Body{aead: aead, slots: slots, aad: []byte(bodyContext)}
	if bound != nil {
		b.bound = *bound
		b.aad = append(append([]byte(boundContext), byte(bound.Part)), bound.ID[:]...)
	}
	b.at = len(b.aad)
	b.aad = append(b.aad, make([]byte, 9)...)
	return b, nil
}

// NewBody makes a key for a body that these can read, as what bound says. All of them
// have keys, or it is ErrNoKey.
func (r *Ring) NewBody(bound Binding, names ...string) (*Body, error) {
	if len(names) == 0 {
		return nil, fmt.Errorf("%w: nobody could read it", ErrNoKey)
	}
	key, err := NewKey(r.rand)
	if err != nil {
		return nil, err
	}
	slots := make([]byte, 0, len(names)*SlotSize)
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, name := range names {
		m := r.names[name]
		if m == nil {
			return nil, fmt.Errorf("%w: %q", ErrNoKey, name)
		}
		slots = binary.LittleEndian.AppendUint64(slots, m.id)
		slots = m.bodies.Seal(slots, nil, key.octets[:], []byte(slotContext))
	}
	return newBody(key, slots, &bound)
}

// OpenBody is the body with these slots, by any of the keys that it is sealed for;
// bound nil is of those that are bound to nothing.
func (r *Ring) OpenBody(slots []byte, bound *Binding) (*Body, error) {
	err := ErrNoKey
	for rest := slots; len(rest) >= SlotSize; rest = rest[SlotSize:] {
		m := r.member(rest)
		if m == nil {
			continue
		}
		b, oerr := m.open(rest, slots, bound)
		if oerr == nil {
			return b, nil
		}
		err = oerr
	}
	return nil, err
}

// OpenBodyAs is the body by the key of that name alone. One that was sealed for others
// is ErrTampered: whoever had it for theirs has been shown what is not.
func (r *Ring) OpenBodyAs(name string, slots []byte, bound *Binding) (*Body, error) {
	if !r.Has(name) {
		return nil, ErrNoKey
	}
	others := false
	for rest := slots; len(rest) >= SlotSize; rest = rest[SlotSize:] {
		switch m := r.member(rest); {
		case m == nil:
		case m.name == name:
			return m.open(rest, slots, bound)
		default:
			others = true
		}
	}
	if others {
		return nil, fmt.Errorf("it was sealed for another account: %w", ErrTampered)
	}
	return nil, ErrNoKey
}

// member is whose key the first of the slots is, nil when the ring has it not.
func (r *Ring) member(slots []byte) *member {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.ids[binary.LittleEndian.Uint64(slots)]
}

// open is the body by the first slot of rest.
func (m *member) open(rest, slots []byte, bound *Binding) (*Body, error) {
	b, err := m.bodies.Open(nil, nil, rest[8:SlotSize], []byte(slotContext))
	if err != nil {
		return nil, ErrTampered
	}
	key, err := KeyOf(b)
	if err != nil {
		return nil, err
	}
	return newBody(key, slots, bound)
}

// Unknown returns the ids of the slots that are of keys the ring does not have.
func (r *Ring) Unknown(slots []byte) (ids []uint64) {
	for ; len(slots) >= SlotSize; slots = slots[SlotSize:] {
		if id := binary.LittleEndian.Uint64(slots); !r.Knows(id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// Readable says whether each of the slots is of a key that the ring has.
func (r *Ring) Readable(slots []byte) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for ; len(slots) >= SlotSize; slots = slots[SlotSize:] {
		if r.ids[binary.LittleEndian.Uint64(slots)] == nil {
			return false
		}
	}
	return true
}

// Slots is the body's key, wrapped for each that can read it.
func (b *Body) Slots() []byte { return b.slots }

// Binding is what the body is sealed as.
func (b *Body) Binding() Binding { return b.bound }

// Seal appends block n to dst, sealed. Blocks are sealed once each.
func (b *Body) Seal(dst, block []byte, n int64, packed, last bool) []byte {
	nonce, aad := b.context(n, packed, last)
	return b.aead.Seal(dst, nonce[:], block, aad)
}

// Open appends what is in block n to dst.
func (b *Body) Open(dst, sealed []byte, n int64, packed, last bool) ([]byte, error) {
	nonce, aad := b.context(n, packed, last)
	out, err := b.aead.Open(dst, nonce[:], sealed, aad)
	if err != nil {
		return nil, ErrTampered
	}
	return out, nil
}

func (b *Body) context(n int64, packed, last bool) (nonce [nonceSize]byte, aad []byte) {
	binary.LittleEndian.PutUint64(nonce[:], uint64(n))
	binary.LittleEndian.PutUint64(b.aad[b.at:], uint64(n))
	flags := byte(0)
	if last {
		flags |= flagLast
	}
	if packed {
		flags |= flagPacked
	}
	b.aad[b.at+8] = flags
	return nonce, b.aad
}
