package seal

import (
	"crypto/cipher"
	"encoding/binary"
	"fmt"
)

// SlotSize is how many octets the key of a body takes for each that can read it:
// the id of the key that wraps it u64, a nonce, the wrapped key and its tag.
const SlotSize = 8 + nonceSize + KeySize + Overhead

const (
	bodyContext = "mailform body 1\x00"
	slotContext = "mailform body key 1\x00"

	flagLast   = 1
	flagPacked = 2
)

// Body seals or opens the blocks of one body. It is not for two goroutines at once.
type Body struct {
	aead  cipher.AEAD
	slots []byte
	aad   []byte
}

func newBody(key Key, slots []byte) (*Body, error) {
	aead, err := key.aead()
	if err != nil {
		return nil, err
	}
	return &Body{aead: aead, slots: slots, aad: make([]byte, len(bodyContext)+9)}, nil
}

// NewBody makes a key for a body that these can read. All of them have keys, or it
// is ErrNoKey.
func (r *Ring) NewBody(names ...string) (*Body, error) {
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
	return newBody(key, slots)
}

// OpenBody is the body with these slots, by any of the keys that it is sealed for.
func (r *Ring) OpenBody(slots []byte) (*Body, error) {
	err := ErrNoKey
	for rest := slots; len(rest) >= SlotSize; rest = rest[SlotSize:] {
		r.mu.RLock()
		m := r.ids[binary.LittleEndian.Uint64(rest)]
		r.mu.RUnlock()
		if m == nil {
			continue
		}
		b, oerr := m.bodies.Open(nil, nil, rest[8:SlotSize], []byte(slotContext))
		if oerr != nil {
			err = ErrTampered
			continue
		}
		key, kerr := KeyOf(b)
		if kerr != nil {
			return nil, kerr
		}
		return newBody(key, slots)
	}
	return nil, err
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
	copy(b.aad, bodyContext)
	binary.LittleEndian.PutUint64(b.aad[len(bodyContext):], uint64(n))
	flags := byte(0)
	if last {
		flags |= flagLast
	}
	if packed {
		flags |= flagPacked
	}
	b.aad[len(bodyContext)+8] = flags
	return nonce, b.aad
}
