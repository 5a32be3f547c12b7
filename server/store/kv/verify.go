package kv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"slices"
)

// bbolt trusts what it maps: a page that points to one above it would have it
// descend for ever. verify walks the tree with its own eyes before bbolt sees it.
// The format is bbolt's, version 2, in the machine's order of octets, which is
// little-endian on all that mailformd is built for.

const (
	boltMagic   = 0xED0CDAED
	boltVersion = 2

	pageHeader  = 16
	pageElement = 16
	metaSize    = 64
	bucketSize  = 16 // root page and sequence

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagFreelist = 0x10

	elementBucket = 0x01
	// maxDepth bounds the tree: each level holds at least twice what is below.
	maxDepth = 64
)

// verifier reads a file page by page.
type verifier struct {
	r        io.ReaderAt
	pageSize int64
	pages    uint64 // of the file that count
	seen     []bool
}

// verify checks that the file's newest state is a tree whose pages are where and
// what their parents say, each once, and that all others are in its list of free
// pages. Values are not read: they have checksums. What it cannot see is a leaf
// that has lost its last keys: who must know counts what he stores.
func verify(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || st.Size() == 0 { // bbolt begins an empty one
		return err
	}
	if err := verifyTree(f, st.Size()); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}

func verifyTree(r io.ReaderAt, size int64) error {
	root, freelist, v, err := readMeta(r, size)
	if err != nil {
		return err
	}
	v.seen[0], v.seen[1] = true, true
	if err := v.tree(root, 0, true); err != nil {
		return err
	}
	if err := v.free(freelist); err != nil {
		return err
	}
	if i := slices.Index(v.seen, false); i >= 0 {
		return fmt.Errorf("nothing leads to page %d", i)
	}
	return nil
}

// readMeta returns what the newer of the two first pages says that is whole.
func readMeta(r io.ReaderAt, size int64) (root, freelist uint64, v *verifier, err error) {
	var txid uint64
	// The second one is a page further on; how long those are the first one says,
	// or else it is one of the sizes there are.
	for _, at := range []int64{0, 4096, 8192, 16384, 65536} {
		b := make([]byte, pageHeader+metaSize)
		if _, err := r.ReadAt(b, at); err != nil {
			continue
		}
		m := b[pageHeader:]
		sum := fnv.New64a()
		sum.Write(m[:56])
		pageSize := int64(binary.LittleEndian.Uint32(m[8:]))
		if binary.LittleEndian.Uint32(m) != boltMagic || binary.LittleEndian.Uint32(m[4:]) != boltVersion || sum.Sum64() != binary.LittleEndian.Uint64(m[56:]) ||
			at != 0 && at != pageSize || pageSize < 512 || pageSize > 1<<16 {
			continue
		}
		if id := binary.LittleEndian.Uint64(m[48:]); v != nil && id < txid {
			continue
		} else {
			txid = id
		}
		root, freelist = binary.LittleEndian.Uint64(m[16:]), binary.LittleEndian.Uint64(m[32:])
		v = &verifier{r: r, pageSize: pageSize, pages: binary.LittleEndian.Uint64(m[40:])}
	}
	if v == nil {
		return 0, 0, nil, errors.New("neither of its first pages is whole")
	}
	if v.pages < 4 || v.pages > uint64(size/v.pageSize) {
		return 0, 0, nil, fmt.Errorf("it should have %d pages of %d octets and has %d octets", v.pages, v.pageSize, size)
	}
	v.seen = make([]bool, v.pages)
	return root, freelist, v, nil
}

// page reads the beginning of a page that nothing has pointed to before, and its
// elements. extent is its octets with those of the pages that continue it.
func (v *verifier) page(id uint64) (b []byte, flags uint16, extent int64, err error) {
	if id >= v.pages {
		return nil, 0, 0, fmt.Errorf("there is no page %d", id)
	}
	b = make([]byte, v.pageSize)
	if _, err := v.r.ReadAt(b, int64(id)*v.pageSize); err != nil {
		return nil, 0, 0, err
	}
	overflow := uint64(binary.LittleEndian.Uint32(b[12:]))
	if binary.LittleEndian.Uint64(b) != id || overflow >= v.pages-id {
		return nil, 0, 0, fmt.Errorf("page %d is another's", id)
	}
	for i := id; i <= id+overflow; i++ {
		if v.seen[i] {
			return nil, 0, 0, fmt.Errorf("page %d is used twice", i)
		}
		v.seen[i] = true
	}
	return b, binary.LittleEndian.Uint16(b[8:]), int64(overflow+1) * v.pageSize, nil
}

// more has b reach to n octets of the page.
func (v *verifier) more(b []byte, id uint64, n, extent int64) ([]byte, error) {
	if n > extent {
		return nil, fmt.Errorf("page %d has more than it has room for", id)
	}
	if n <= int64(len(b)) {
		return b, nil
	}
	b = make([]byte, n)
	_, err := v.r.ReadAt(b, int64(id)*v.pageSize)
	return b, err
}

// tree walks the tree below a page; top is that of the buckets.
func (v *verifier) tree(id uint64, depth int, top bool) error {
	if depth > maxDepth {
		return errors.New("the tree is too deep")
	}
	b, flags, extent, err := v.page(id)
	if err != nil {
		return err
	}
	count := int64(binary.LittleEndian.Uint16(b[10:]))
	if b, err = v.more(b, id, pageHeader+count*pageElement, extent); err != nil {
		return err
	}
	switch flags {
	case flagBranch:
		if count == 0 {
			return fmt.Errorf("page %d has no branches", id)
		}
		for i := range count {
			at := pageHeader + i*pageElement
			e := b[at:]
			if err := within(id, at, extent, binary.LittleEndian.Uint32(e), binary.LittleEndian.Uint32(e[4:]), 0); err != nil {
				return err
			}
			if err := v.tree(binary.LittleEndian.Uint64(e[8:]), depth+1, top); err != nil {
				return err
			}
		}
		return nil
	case flagLeaf:
		for i := range count {
			at := pageHeader + i*pageElement
			e := b[at:]
			flags, pos, klen, vlen := binary.LittleEndian.Uint32(e), binary.LittleEndian.Uint32(e[4:]), binary.LittleEndian.Uint32(e[8:]), binary.LittleEndian.Uint32(e[12:])
			if err := within(id, at, extent, pos, klen, vlen); err != nil {
				return err
			}
			if top != (flags == elementBucket) {
				return fmt.Errorf("page %d has a value where a bucket belongs, or the other way round", id)
			}
			if !top {
				continue
			}
			start := at + int64(pos) + int64(klen)
			if b, err = v.more(b, id, start+int64(vlen), extent); err != nil {
				return err
			}
			if err := v.bucket(b[start:start+int64(vlen)], depth); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("page %d is no part of a tree", id)
}

// bucket walks the tree of a bucket, or checks the one leaf that a small one has
// within its own value.
func (v *verifier) bucket(b []byte, depth int) error {
	if len(b) < bucketSize {
		return errors.New("a bucket is cut off")
	}
	if root := binary.LittleEndian.Uint64(b); root != 0 {
		return v.tree(root, depth+1, false)
	}
	b = b[bucketSize:]
	if len(b) < pageHeader || binary.LittleEndian.Uint16(b[8:]) != flagLeaf {
		return errors.New("a small bucket is damaged")
	}
	count, extent := int64(binary.LittleEndian.Uint16(b[10:])), int64(len(b))
	if pageHeader+count*pageElement > extent {
		return errors.New("a small bucket is cut off")
	}
	for i := range count {
		at := pageHeader + i*pageElement
		e := b[at:]
		if err := within(0, at, extent, binary.LittleEndian.Uint32(e[4:]), binary.LittleEndian.Uint32(e[8:]), binary.LittleEndian.Uint32(e[12:])); err != nil {
			return err
		}
	}
	return nil
}

// within says whether an element's key and value are within its page.
func within(id uint64, at, extent int64, pos, klen, vlen uint32) error {
	if at+int64(pos)+int64(klen)+int64(vlen) > extent {
		return fmt.Errorf("page %d has a key or a value beyond its end", id)
	}
	return nil
}

// free checks the list of free pages.
func (v *verifier) free(id uint64) error {
	b, flags, extent, err := v.page(id)
	if err != nil {
		return err
	}
	if flags != flagFreelist {
		return fmt.Errorf("page %d is no list of free pages", id)
	}
	count, start := int64(binary.LittleEndian.Uint16(b[10:])), int64(pageHeader)
	if count == 0xFFFF {
		count, start = int64(binary.LittleEndian.Uint64(b[pageHeader:])), pageHeader+8
	}
	if count < 0 || count > int64(v.pages) {
		return errors.New("the list of free pages is too long")
	}
	if b, err = v.more(b, id, start+8*count, extent); err != nil {
		return err
	}
	for i := range count {
		p := binary.LittleEndian.Uint64(b[start+8*i:])
		if p >= v.pages || v.seen[p] {
			return fmt.Errorf("page %d is in use and said to be free", p)
		}
		v.seen[p] = true
	}
	return nil
}
