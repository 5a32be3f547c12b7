package smtp

import (
	"fmt"
	"io"
	"os"
	"sync"

	"mailform/server/store"
)

// spool holds one message while it arrives: the store is not kept waiting for a
// slow client, a signature can be made before delivery begins, and a message
// that breaks off leaves no trace. What does not fit into memory goes to a file
// without a name, which is gone when the process is.
//
// What is in memory stays where it is: the beginning in a part of about the size
// that the message is said to have, what goes beyond it in large ones, which are
// given back.
type spool struct {
	dir    string
	memory int
	pool   *sync.Pool // of *[largeBuffer]byte
	parts  [][]byte   // each but the last is full
	owned  int        // of these, the first that is the pool's
	file   *os.File
	size   int64
}

// smallPart is how much is made room for without a word about a message's size, and
// what its sender may be wrong by.
const smallPart = 4 << 10

// grow makes room for a message of the size that its sender says it has.
func (s *spool) grow(size int64) {
	if size += smallPart; size <= largeBuffer/2 && size <= int64(s.memory) {
		s.parts, s.owned = append(s.parts, make([]byte, 0, size)), 1
	}
}

// Write fails with store.ErrFull when the disk does not take the message.
func (s *spool) Write(b []byte) (int, error) {
	if s.file == nil && s.size+int64(len(b)) > int64(s.memory) {
		if err := s.spill(); err != nil {
			return 0, fmt.Errorf("%w: %w", store.ErrFull, err)
		}
	}
	if s.file != nil {
		n, err := s.file.Write(b)
		s.size += int64(n)
		if err != nil {
			err = fmt.Errorf("%w: %w", store.ErrFull, err)
		}
		return n, err
	}
	for rest := b; len(rest) > 0; {
		last := len(s.parts) - 1
		if last < 0 || len(s.parts[last]) == cap(s.parts[last]) {
			s.parts = append(s.parts, s.pool.Get().(*[largeBuffer]byte)[:0])
			last++
		}
		part := s.parts[last]
		n := min(len(rest), cap(part)-len(part))
		s.parts[last] = append(part, rest[:n]...)
		rest = rest[n:]
	}
	s.size += int64(len(b))
	return len(b), nil
}

// spill moves the message to a file.
func (s *spool) spill() error {
	f, err := os.CreateTemp(s.dir, "incoming-*")
	if err != nil {
		return err
	}
	s.file = f
	if err := os.Remove(f.Name()); err != nil {
		return err
	}
	for _, part := range s.parts {
		if _, err := f.Write(part); err != nil {
			return err
		}
	}
	s.release()
	return nil
}

// release gives back the parts in memory.
func (s *spool) release() {
	for _, part := range s.parts[min(s.owned, len(s.parts)):] {
		s.pool.Put((*[largeBuffer]byte)(part[:largeBuffer]))
	}
	s.parts = nil
}

// content is a message, or the rest of one.
type content interface {
	io.Reader
	io.ReaderAt
}

// reader reads the message from its beginning. Several may be used, until the
// spool is closed.
func (s *spool) reader() content { return s.from(0) }

// from reads the message from an offset on.
func (s *spool) from(offset int64) content {
	var at io.ReaderAt = parts(s.parts)
	if s.file != nil {
		at = s.file
	}
	return io.NewSectionReader(at, offset, s.size-offset)
}

func (s *spool) close() {
	s.release()
	if s.file != nil {
		_ = s.file.Close()
	}
}

// parts is a message in memory.
type parts [][]byte

// ReadAt implements io.ReaderAt.
func (p parts) ReadAt(b []byte, offset int64) (n int, err error) {
	for _, part := range p {
		if offset >= int64(len(part)) {
			offset -= int64(len(part))
			continue
		}
		n += copy(b[n:], part[offset:])
		if offset = 0; n == len(b) {
			return n, nil
		}
	}
	if n < len(b) {
		err = io.EOF
	}
	return n, err
}
