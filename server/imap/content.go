package imap

import (
	"bytes"
	"container/list"
	"io"
	"sync"

	"mailform/server/imap/mimetree"
	"mailform/server/store"
)

const (
	// inMemory is the largest message that is read whole, in octets. Its checksums
	// are then known to be right before the first octet goes to a client.
	inMemory = 1 << 20
	// smallMessage is read whole also when only its header is asked for.
	smallMessage = 64 << 10
)

// content is a message's octets and what was found out about them, for one command.
type content struct {
	srv  *Server
	key  contentKey
	size int64
	at   io.ReaderAt
	from io.Closer
	buf  *[]byte // borrowed for data
	data []byte  // all of it, once it was read
	tree *mimetree.Part
	head mimetree.Header
}

// contentKey says which octets; they never change.
type contentKey struct{ head, body store.BodyRef }

// load opens a message. The caller releases it.
func (s *session) load(m *store.Message) (*content, error) {
	c := &content{srv: s.srv, key: contentKey{m.Head, m.Body}, size: m.Size}
	if m.Size > smallMessage {
		if k := s.srv.known.get(c.key); k != nil {
			c.tree = k.tree
			if k.data != nil {
				c.data, c.at = k.data, bytes.NewReader(k.data)
				return c, nil
			}
		}
	}
	r, err := s.store.Read(s.ctx, s.account, *m)
	if err != nil {
		return nil, err
	}
	at, ok := r.(io.ReaderAt)
	if ok {
		c.at, c.from = at, r
		if m.Size <= smallMessage {
			err = c.all()
		}
	} else {
		c.from = r
		c.at, err = readerAt(r, m.Size)
	}
	if err != nil {
		c.release()
		return nil, err
	}
	return c, nil
}

// readerAt reads all of a reader that can only be read in order.
func readerAt(r io.Reader, size int64) (io.ReaderAt, error) {
	data := make([]byte, size)
	_, err := io.ReadFull(r, data)
	return bytes.NewReader(data), err
}

// release lets go of what was opened and borrowed.
func (c *content) release() {
	if c.from != nil {
		_ = c.from.Close()
	}
	if c.buf != nil {
		c.srv.contents.Put(c.buf)
	}
	*c = content{}
}

// all reads the whole message, unless it is large.
func (c *content) all() error {
	if c.data != nil || c.size > inMemory {
		return nil
	}
	var data []byte
	if c.size <= smallMessage {
		buf, ok := c.srv.contents.Get().(*[]byte)
		if !ok {
			b := make([]byte, smallMessage)
			buf = &b
		}
		c.buf, data = buf, (*buf)[:c.size]
	} else {
		data = make([]byte, c.size)
	}
	if n, err := c.at.ReadAt(data, 0); n < len(data) {
		return err
	}
	c.data, c.at = data, bytes.NewReader(data)
	if c.buf == nil {
		c.srv.known.put(c.key, &knownContent{data: data, tree: c.tree})
	}
	return nil
}

// reader reads a part of the message.
func (c *content) reader(s mimetree.Span) *io.SectionReader {
	return io.NewSectionReader(c.at, s.Start, s.Len())
}

// structure finds the message's parts.
func (c *content) structure() (*mimetree.Part, error) {
	if c.tree == nil {
		if err := c.all(); err != nil {
			return nil, err
		}
		tree, err := mimetree.Parse(c.reader(mimetree.Span{End: c.size}))
		if err != nil {
			return nil, err
		}
		c.tree = tree
		if c.size > smallMessage {
			c.srv.known.put(c.key, &knownContent{data: c.data, tree: tree})
		}
	}
	return c.tree, nil
}

// header returns the message's own header.
func (c *content) header() (mimetree.Header, error) {
	if c.tree != nil {
		return c.tree.Fields, nil
	}
	if c.head == nil && c.data != nil {
		c.head = mimetree.HeaderOf(c.data)
	} else if c.head == nil {
		h, err := mimetree.ParseHeader(c.reader(mimetree.Span{End: c.size}))
		if err != nil {
			return nil, err
		}
		c.head = h
	}
	return c.head, nil
}

// knownContents keeps what was found out about the larger messages that were
// read last: clients fetch them in pieces, one command for each.
type knownContents struct {
	mu    sync.Mutex
	octet int64
	byKey map[contentKey]*list.Element
	order list.List // newest first
}

// maxKnown bounds what knownContents holds, in octets.
const maxKnown = 16 << 20

// knownContent does not change once it is kept.
type knownContent struct {
	key  contentKey
	data []byte // nil for a message too large to be kept
	tree *mimetree.Part
	cost int64
}

// octets is about how many it takes.
func (k *knownContent) octets() int64 {
	n := int64(len(k.data)) + 512
	if k.tree != nil {
		k.tree.Walk(func(p *mimetree.Part) {
			n += 512
			for _, f := range p.Fields {
				n += int64(len(f.Raw)) + 64
			}
		})
	}
	return n
}

func (c *knownContents) get(key contentKey) *knownContent {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.byKey[key]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*knownContent)
}

func (c *knownContents) put(key contentKey, k *knownContent) {
	k.key, k.cost = key, k.octets()
	if k.cost > maxKnown/4 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byKey == nil {
		c.byKey = map[contentKey]*list.Element{}
	}
	if e := c.byKey[key]; e != nil {
		c.octet -= e.Value.(*knownContent).cost
		e.Value = k
		c.order.MoveToFront(e)
	} else {
		c.byKey[key] = c.order.PushFront(k)
	}
	for c.octet += k.cost; c.octet > maxKnown; {
		e := c.order.Back()
		old := e.Value.(*knownContent)
		c.octet -= old.cost
		delete(c.byKey, old.key)
		c.order.Remove(e)
	}
}
