package imap

import (
	"bytes"
	"io"

	"mailform/server/imap/mimetree"
	"mailform/server/store"
)

// inMemory is the largest message that is read whole, in octets. Its checksums
// are then known to be right before the first octet goes to a client.
const inMemory = 1 << 20

// content is a message's octets and what was found out about them.
type content struct {
	key  [2]store.BodyRef
	size int64
	at   io.ReaderAt
	from io.Closer // nil for a message in memory
	tree *mimetree.Part
}

// load returns the content of a message. The last one is kept: clients fetch
// a large message in pieces.
func (s *session) load(m *store.Message) (*content, error) {
	key := [2]store.BodyRef{m.Head, m.Body}
	if s.content != nil && s.content.key == key && m.Size > 0 {
		return s.content, nil
	}
	if err := s.forget(); err != nil {
		return nil, err
	}
	r, err := s.store.Read(s.ctx, *m)
	if err != nil {
		return nil, err
	}
	c := &content{key: key, size: m.Size}
	at, ok := r.(io.ReaderAt)
	if m.Size > inMemory && ok {
		c.at, c.from = at, r
	} else {
		data := make([]byte, m.Size)
		_, err := io.ReadFull(r, data)
		if cerr := r.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return nil, err
		}
		c.at = bytes.NewReader(data)
	}
	s.content = c
	return c, nil
}

// forget lets go of the message read last.
func (s *session) forget() error {
	c := s.content
	s.content = nil
	if c == nil || c.from == nil {
		return nil
	}
	return c.from.Close()
}

// reader reads a part of the message.
func (c *content) reader(s mimetree.Span) *io.SectionReader {
	return io.NewSectionReader(c.at, s.Start, s.Len())
}

// structure finds the message's parts.
func (c *content) structure() (*mimetree.Part, error) {
	if c.tree == nil {
		tree, err := mimetree.Parse(c.reader(mimetree.Span{End: c.size}))
		if err != nil {
			return nil, err
		}
		c.tree = tree
	}
	return c.tree, nil
}

// header returns the message's own header.
func (c *content) header() (mimetree.Header, error) {
	if c.tree != nil {
		return c.tree.Fields, nil
	}
	return mimetree.ParseHeader(c.reader(mimetree.Span{End: c.size}))
}
