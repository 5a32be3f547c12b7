package search

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"mailform/server/store/seal"
)

// A segment of an account whose mail is encrypted is encrypted, too, with a key of
// its own that the account's wraps:
//
//	magic   8 octets
//	slot    seal.SlotSize octets
//	blocks  of 64 KiB and seal.Overhead, sealed one by one
//
// It is opened as a whole, into memory that no file backs, for as long as the index
// is in use.
const (
	sealedMagic = "MFSRCHE2"
	sealedBlock = 64 << 10
	sealedHead  = len(sealedMagic) + seal.SlotSize
)

// keysOf returns what an account's index is encrypted with; nil when it is not.
type keysOf func() *seal.Ring

// sealWriter encrypts what is written to it. close writes the last block.
type sealWriter struct {
	w     io.Writer
	body  *seal.Body
	block []byte
	out   []byte
	n     int64
}

func newSealWriter(w io.Writer, body *seal.Body) (*sealWriter, error) {
	_, err := w.Write(append([]byte(sealedMagic), body.Slots()...))
	return &sealWriter{w: w, body: body, block: make([]byte, 0, sealedBlock)}, err
}

func (s *sealWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if len(s.block) == sealedBlock {
			if err := s.put(false); err != nil {
				return n - len(p), err
			}
		}
		k := min(len(p), sealedBlock-len(s.block))
		s.block = append(s.block, p[:k]...)
		p = p[k:]
	}
	return n, nil
}

func (s *sealWriter) put(last bool) error {
	s.out = s.body.Seal(s.out[:0], s.block, s.n, false, last)
	s.n++
	s.block = s.block[:0]
	_, err := s.w.Write(s.out)
	return err
}

func (s *sealWriter) close() error { return s.put(true) }

// openSealed reads an account's encrypted file of size octets into memory of its own. Without
// its key it is of no more use than a damaged one: it is a cache.
func openSealed(f *os.File, size int64, account string, ring *seal.Ring) (_ []byte, err error) {
	head := make([]byte, sealedHead)
	if size < int64(sealedHead+seal.Overhead) || ring == nil {
		return nil, errSegment
	}
	if _, err := f.ReadAt(head, 0); err != nil {
		return nil, err
	}
	bound := seal.BindingOf(seal.PartIndex, account)
	body, err := ring.OpenBodyAs(account, head[len(sealedMagic):], &bound)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errSegment, err)
	}
	left := size - int64(sealedHead)
	blocks := (left + sealedBlock + seal.Overhead - 1) / (sealedBlock + seal.Overhead)
	plain := left - blocks*seal.Overhead
	if plain <= (blocks-1)*sealedBlock {
		return nil, errSegment
	}
	data, err := unix.Mmap(-1, 0, int(plain), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("memory for the index: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, unix.Munmap(data))
		}
	}()
	buf := make([]byte, sealedBlock+seal.Overhead)
	for i := range blocks {
		n := min(left, int64(len(buf)))
		if _, err := f.ReadAt(buf[:n], size-left); err != nil {
			return nil, err
		}
		left -= n
		at := i * sealedBlock
		if _, err := body.Open(data[at:at:at+n-seal.Overhead], buf[:n], i, false, i == blocks-1); err != nil {
			return nil, fmt.Errorf("%w: %w", errSegment, err)
		}
	}
	return data, nil
}
