package smtp

import (
	"bytes"
	"io"
	"os"
)

// spool holds one message while it arrives: the store is not kept waiting for a
// slow client, a signature can be made before delivery begins, and a message
// that breaks off leaves no trace. What does not fit into memory goes to a file
// without a name, which is gone when the process is.
type spool struct {
	dir    string
	memory int
	buf    bytes.Buffer
	file   *os.File
	size   int64
}

// grow makes room for a message of the size that its sender says it has.
func (s *spool) grow(size int64) {
	const own = 4 << 10 // without a word, and what the sender may be wrong by
	s.buf.Grow(int(min(size+own, int64(s.memory))))
}

func (s *spool) Write(b []byte) (int, error) {
	if s.file == nil && s.buf.Len()+len(b) > s.memory {
		f, err := os.CreateTemp(s.dir, "incoming-*")
		if err != nil {
			return 0, err
		}
		s.file = f
		if err := os.Remove(f.Name()); err != nil {
			return 0, err
		}
		if _, err := f.Write(s.buf.Bytes()); err != nil {
			return 0, err
		}
		s.buf = bytes.Buffer{}
	}
	var n int
	var err error
	if s.file != nil {
		n, err = s.file.Write(b)
	} else {
		n, err = s.buf.Write(b)
	}
	s.size += int64(n)
	return n, err
}

// content is a message, or the rest of one.
type content interface {
	io.Reader
	io.ReaderAt
}

// reader reads the message from its beginning. Several may be used.
func (s *spool) reader() content { return s.from(0) }

// from reads the message from an offset on.
func (s *spool) from(offset int64) content {
	if s.file != nil {
		return io.NewSectionReader(s.file, offset, s.size-offset)
	}
	return bytes.NewReader(s.buf.Bytes()[offset:])
}

func (s *spool) close() {
	if s.file != nil {
		_ = s.file.Close()
	}
}
