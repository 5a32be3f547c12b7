package search

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"math/bits"
)

// vocabulary numbers the words of a builder as they come. It has no pointers but
// those to its few large parts, so that the garbage collector has nothing to do
// with the words.
type vocabulary struct {
	terms []term
	texts []byte // of all, one behind the other
	seed  maphash.Seed
	mix   uint64
	// Words of up to eight octets, which are most, are their own keys; the others are
	// found by their hashes. Both are open tables of which at most half is in use.
	short    []shortSlot
	shorts   int
	long     []uint32 // the number of a term, plus one
	longs    int
	postings chains
}

type shortSlot struct {
	key  uint64 // the octets, 0 behind them; no word has an octet 0
	term uint32
}

// term is one word.
type term struct {
	text uint32 // where it begins in texts
	hash uint32 // of a long one
	size uint16
	last int32 // body of the last of its postings
	list chain
}

// maxShort is the most octets of a word that is its own key.
const maxShort = 8

func newVocabulary() vocabulary {
	seed := maphash.MakeSeed()
	return vocabulary{seed: seed, mix: maphash.String(seed, "mix") | 1, short: make([]shortSlot, 1<<8), long: make([]uint32, 1<<8)}
}

// octets is about what it takes of memory.
func (v *vocabulary) octets() int {
	return len(v.texts) + 32*len(v.terms) + 16*len(v.short) + 4*len(v.long) + v.postings.octets()
}

func (v *vocabulary) textOf(n int) []byte {
	t := &v.terms[n]
	return v.texts[t.text:][:t.size]
}

// shortKey is the key of a word of up to maxShort octets.
func shortKey(w string) uint64 {
	var b [maxShort]byte
	copy(b[:], w)
	return binary.LittleEndian.Uint64(b[:])
}

func (v *vocabulary) slotOf(key uint64) int {
	hi, lo := bits.Mul64(key^v.mix, 0x9e3779b97f4a7c15)
	return int(hi^lo) & (len(v.short) - 1)
}

// find returns the number of a word, or -1.
func (v *vocabulary) find(w string) int {
	if len(w) <= maxShort {
		return v.findShort(shortKey(w))
	}
	h := uint32(maphash.String(v.seed, w))
	for i := int(h) & (len(v.long) - 1); ; i = (i + 1) & (len(v.long) - 1) {
		n := int(v.long[i]) - 1
		if n < 0 || v.terms[n].hash == h && string(v.textOf(n)) == w {
			return n
		}
	}
}

func (v *vocabulary) findShort(key uint64) int {
	for i := v.slotOf(key); ; i = (i + 1) & (len(v.short) - 1) {
		switch s := &v.short[i]; s.key {
		case key:
			return int(s.term)
		case 0:
			return -1
		}
	}
}

// number is find, and makes the word one of the vocabulary if it is none.
func (v *vocabulary) number(w string) uint32 {
	if len(w) <= maxShort {
		return v.numberShort(shortKey(w), len(w))
	}
	if n := v.find(w); n >= 0 {
		return uint32(n)
	}
	if 2*v.longs >= len(v.long) {
		v.long = make([]uint32, 4*len(v.long))
		for n := range v.terms {
			if v.terms[n].size > maxShort {
				v.placeLong(uint32(n))
			}
		}
	}
	v.longs++
	n := v.insert(w)
	v.terms[n].hash = uint32(maphash.String(v.seed, w))
	v.placeLong(n)
	return n
}

func (v *vocabulary) placeLong(n uint32) {
	i := int(v.terms[n].hash) & (len(v.long) - 1)
	for v.long[i] != 0 {
		i = (i + 1) & (len(v.long) - 1)
	}
	v.long[i] = n + 1
}

// numberShort is number for a word of size octets by its key.
func (v *vocabulary) numberShort(key uint64, size int) uint32 {
	i := v.slotOf(key)
	for v.short[i].key != 0 {
		if v.short[i].key == key {
			return v.short[i].term
		}
		i = (i + 1) & (len(v.short) - 1)
	}
	var b [maxShort]byte
	binary.LittleEndian.PutUint64(b[:], key)
	n := v.insert(string(b[:size]))
	v.short[i] = shortSlot{key, n}
	if v.shorts++; 2*v.shorts >= len(v.short) {
		old := v.short
		v.short = make([]shortSlot, 2*len(old))
		for _, s := range old {
			if s.key == 0 {
				continue
			}
			i := v.slotOf(s.key)
			for v.short[i].key != 0 {
				i = (i + 1) & (len(v.short) - 1)
			}
			v.short[i] = s
		}
	}
	return n
}

func (v *vocabulary) insert(w string) uint32 {
	v.terms = append(v.terms, term{text: uint32(len(v.texts)), size: uint16(len(w)), last: -1})
	v.texts = append(v.texts, w...)
	return uint32(len(v.terms) - 1)
}

// each calls f for the terms that a word of a query means.
func (v *vocabulary) each(w word, f func(n int)) {
	if !w.first && !w.last {
		if n := v.find(w.text); n >= 0 {
			f(n)
		}
		return
	}
	text := []byte(w.text)
	means := bytes.Contains
	switch {
	case !w.last:
		means = bytes.HasSuffix
	case !w.first:
		means = bytes.HasPrefix
	}
	for n := range v.terms {
		if means(v.textOf(n), text) {
			f(n)
		}
	}
}
