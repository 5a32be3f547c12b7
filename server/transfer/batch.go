package transfer

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// A batch, and an export, is a sequence of frames: the length of a header as
// four octets, big-endian; the header as JSON; and as many octets as it says. A
// length of 0 ends it, so that one that was cut short is noticed.

// header is a frame's.
type header struct {
	Mailbox    string    `json:"mailbox"`
	SpecialUse string    `json:"special_use,omitempty"`
	Flags      []string  `json:"flags,omitempty"`
	Date       time.Time `json:"date,omitzero"`
	ID         string    `json:"id,omitempty"` // object id; "" is only a mailbox
	UID        uint32    `json:"uid,omitempty"`
	Size       int64     `json:"size,omitempty"` // octets that follow
}

const (
	maxHeader = 64 << 10
	maxFrame  = 4 << 30
)

func appendHeader(to []byte, h header) ([]byte, error) {
	text, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	if len(text) > maxHeader {
		return nil, fmt.Errorf("a message of %s has flags of %d octets", h.Mailbox, len(text))
	}
	return append(binary.BigEndian.AppendUint32(to, uint32(len(text))), text...), nil
}

// end is the frame that says there are no more.
var end = []byte{0, 0, 0, 0}

// readFrame returns the next header; io.EOF behind the last. Its octets are the
// next Size ones of r.
func readFrame(r io.Reader) (h header, err error) {
	var n [4]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return h, fmt.Errorf("the frames end before their end: %w", io.ErrUnexpectedEOF)
	}
	length := binary.BigEndian.Uint32(n[:])
	switch {
	case length == 0:
		return h, io.EOF
	case length > maxHeader:
		return h, fmt.Errorf("a frame's header has %d octets", length)
	}
	text := make([]byte, length)
	if _, err := io.ReadFull(r, text); err != nil {
		return h, fmt.Errorf("the frames end within one: %w", io.ErrUnexpectedEOF)
	}
	if err := json.Unmarshal(text, &h); err != nil {
		return h, fmt.Errorf("a frame's header: %w", err)
	}
	if h.Size < 0 || h.Size > maxFrame || h.Size > 0 && h.ID == "" {
		return h, fmt.Errorf("a frame of %d octets is for no message", h.Size)
	}
	return h, nil
}

// batch is what one request carries: headers and messages in turn.
type batch struct {
	parts    []*taken
	bytes    int64 // of messages
	length   int64 // of all
	messages int
	folders  map[string]Folder
}

func (b *batch) add(h header, body *taken) error {
	text, err := appendHeader(nil, h)
	if err != nil {
		return err
	}
	b.parts = append(b.parts, &taken{data: text, size: int64(len(text))})
	b.length += int64(len(text))
	if body != nil {
		b.parts = append(b.parts, body)
		b.bytes += body.size
		b.length += body.size
		b.messages++
		if b.folders == nil {
			b.folders = map[string]Folder{}
		}
		b.folders[h.Mailbox] = b.folders[h.Mailbox].plus(Folder{1, body.size})
	}
	return nil
}

func (b *batch) reader() io.Reader {
	list := make([]io.Reader, 0, len(b.parts)+1)
	for _, p := range b.parts {
		list = append(list, p.reader())
	}
	return io.MultiReader(append(list, bytes.NewReader(end))...)
}

func (b *batch) close() error {
	var err error
	for _, p := range b.parts {
		err = errors.Join(err, p.Close())
	}
	return err
}

// sender sends batches in their order, one while the next is read.
type sender struct {
	queue  chan sending
	done   chan struct{}
	counts Counts
	err    error
}

type sending struct {
	batch  *batch
	counts Counts // of the walk, when the batch was full
}

func startSender(ctx context.Context, cancel context.CancelCauseFunc, im *Importer) *sender {
	s := &sender{queue: make(chan sending), done: make(chan struct{})}
	go func() {
		defer close(s.done)
		for job := range s.queue {
			if s.err == nil && !im.DryRun {
				s.err = im.Server.Import(ctx, im.Account, job.batch.reader(), job.batch.length+int64(len(end)))
			}
			s.err = errors.Join(s.err, job.batch.close())
			if s.err != nil {
				cancel(s.err)
				continue
			}
			for name, f := range job.batch.folders {
				if s.counts.Folders == nil {
					s.counts.Folders = map[string]Folder{}
				}
				s.counts.Folders[name] = s.counts.Folders[name].plus(f)
			}
			s.counts.Imported += job.batch.messages
			s.counts.Bytes += job.batch.bytes
			if im.Progress != nil {
				job.counts.Imported, job.counts.Bytes = s.counts.Imported, s.counts.Bytes
				im.Progress(job.counts)
			}
		}
	}()
	return s
}

func (s *sender) send(ctx context.Context, b *batch, counts Counts) error {
	select {
	case s.queue <- sending{b, counts}:
		return nil
	case <-ctx.Done():
		return errors.Join(context.Cause(ctx), b.close())
	}
}

// close waits for the last batch.
func (s *sender) close() (Counts, error) {
	close(s.queue)
	<-s.done
	return s.counts, s.err
}
