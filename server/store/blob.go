package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"mailform/server/store/seal"
)

// blob is an open run of octets with its checksums.
type blob struct {
	seg   *segment
	ref   BodyRef
	table []byte       // of octets that are stored as they are
	coded *codedBlocks // of others
	pack  *packer
	keys  *seal.Ring // nil: there are none
	open  *seal.Body // once it was needed
	as    *reading   // who reads it as what; nil: whoever may read anything
	raw   []byte     // a block as it is stored
	clear []byte     // and as it was before it was encrypted
}

// reading is what somebody expects of octets. Those that are encrypted for others, or
// as something else, are damage.
type reading struct {
	account string // seal.Server: the queue
	part    seal.Part
	object  string // the message's object id; a queue entry has none
}

// of is what is expected of a part of a message.
func (m *Message) reading(account string, part seal.Part) *reading {
	return &reading{account, part, m.ObjectID}
}

// bound is what octets are sealed as that belong to a message with an object id. What
// a delivery, or one that was made from it, has in common is ahead of the first hyphen.
func bound(part seal.Part, object string) seal.Binding {
	name, _, _ := strings.Cut(object, "-")
	return seal.BindingOf(part, name)
}

// fits says whether what is sealed so may be what is read.
func (r *reading) fits(have *seal.Binding) bool {
	switch {
	case have == nil: // from before
		return true
	case r.account == seal.Server: // an entry of the queue shares what mailboxes have
		return have.Part == r.part
	}
	return bound(r.part, r.object).Fits(*have)
}

func (l *Log) openBlob(ref BodyRef, as *reading) (*blob, error) {
	seg, err := l.seg.acquire(ref.Segment)
	if now := l.forward.of(ref); errors.Is(err, ErrNoMessage) && now != ref {
		return l.openBlob(now, as) // it has moved since it was handed out
	}
	if err != nil {
		return nil, err
	}
	b, err := l.newBlob(seg, ref)
	if err != nil {
		return nil, errors.Join(err, l.seg.release(seg))
	}
	b.as = as
	return b, nil
}

func (l *Log) newBlob(seg *segment, ref BodyRef) (*blob, error) {
	b, err := newBlob(seg, ref)
	if b != nil {
		b.pack, b.keys = &l.pack, l.vault.ring.Load()
	}
	return b, err
}

// newBlob checks the record's header and table; blocks are checked as they are
// read. What is read of a coded one is what is stored until it has a packer.
func newBlob(seg *segment, ref BodyRef) (*blob, error) {
	b := &blob{seg: seg, ref: ref}
	var head [recordHeader]byte
	if _, err := seg.file.ReadAt(head[:], ref.Offset); err != nil {
		return nil, b.damaged(err)
	}
	rec, err := decodeRecord(head[:], seg.info.Marker)
	if err != nil {
		return nil, b.damaged(err)
	}
	tail := tableSize(ref.Size)
	at := ref.Offset + recordHeader + ref.Size
	switch {
	case rec.Type == recordBlob && rec.Len == ref.Size:
	case rec.Type.coded() && rec.Len >= blocks(ref.Size)*codedEntry+codedTrailer:
		var end [codedTrailer]byte
		if rec.Type == recordSealed {
			if _, err := seg.file.ReadAt(end[:], ref.Offset+recordHeader+rec.Len-codedTrailer); err != nil {
				return nil, b.damaged(err)
			}
		}
		if tail = tailSize(rec.Type, end[:], ref.Size); tail > rec.Len {
			return nil, b.damaged(errors.New("table of blocks does not fit the record"))
		}
		at = ref.Offset + recordHeader + rec.Len - tail
	default:
		return nil, b.damaged(errors.New("the record is not the one referred to"))
	}
	table := make([]byte, tail)
	if _, err := seg.file.ReadAt(table, at); err != nil {
		return nil, b.damaged(err)
	}
	if checksum(table) != rec.Sum {
		return nil, b.damaged(errors.New("table of checksums does not match"))
	}
	if rec.Type == recordBlob {
		b.table = table
	} else if b.coded, err = decodeTail(rec.Type, table, rec.Len, ref.Size); err != nil {
		return nil, b.damaged(err)
	}
	return b, nil
}

// refOf is the reference to a record that was scanned and holds octets.
func refOf(seg *segment, it scanned) (BodyRef, error) {
	ref := BodyRef{Segment: seg.info.ID, Offset: it.off, Size: it.Len}
	if it.Type == recordBlob {
		return ref, nil
	}
	ref.Stored = it.Len
	var end [8]byte
	if it.Len < codedTrailer {
		return ref, errors.New("a coded record without its end")
	}
	if _, err := seg.file.ReadAt(end[:], it.off+recordHeader+it.Len-int64(len(end))); err != nil {
		return ref, err
	}
	size := binary.LittleEndian.Uint64(end[:])
	// Each block has an entry in the table: a false size asks for no more memory
	// than the record has.
	if size == 0 || size > 1<<40 || blocks(int64(size))*codedEntry+codedTrailer > it.Len {
		return ref, fmt.Errorf("a coded record for %d octets", size)
	}
	ref.Size = int64(size)
	return ref, nil
}

func (b *blob) damaged(err error) error {
	return fmt.Errorf("segment %x, offset %d: %w: %w", b.ref.Segment, b.ref.Offset, ErrDamaged, err)
}

// stored reads block i as it is stored and checks it. buf has room for storedBlock
// octets, or for as many as the block has.
func (b *blob) stored(i int64, buf []byte) ([]byte, error) {
	at, n, sum := i*blobBlock, blockLen(b.ref.Size, i), uint32(0)
	if b.coded != nil {
		at, n, sum = b.coded.at[i], b.coded.at[i+1]-b.coded.at[i], b.coded.sums[i]
	} else {
		sum = binary.LittleEndian.Uint32(b.table[4*i:])
	}
	buf = buf[:n]
	if _, err := b.seg.file.ReadAt(buf, b.ref.Offset+recordHeader+at); err != nil {
		return nil, b.damaged(err)
	}
	if checksum(buf) != sum {
		return nil, b.damagedBlock(i, errors.New("they do not match their checksum"))
	}
	return buf, nil
}

func (b *blob) damagedBlock(i int64, err error) error {
	return b.damaged(fmt.Errorf("octets %d to %d of the message: %w", i*blobBlock, i*blobBlock+blockLen(b.ref.Size, i), err))
}

// block reads and checks block i into buf, which has room for one.
func (b *blob) block(i int64, buf []byte) ([]byte, error) {
	if b.coded == nil || b.coded.kind == recordCoded && b.coded.plain[i] {
		return b.stored(i, buf)
	}
	if b.raw == nil {
		b.raw = make([]byte, min(b.ref.Size, blobBlock)+seal.Overhead)
	}
	raw, err := b.stored(i, b.raw)
	if err != nil {
		return nil, err
	}
	buf = buf[:blockLen(b.ref.Size, i)]
	if b.coded.kind == recordSealed {
		if raw, err = b.unseal(i, raw, buf); err != nil || b.coded.plain[i] {
			return raw, err
		}
	}
	if err := b.pack.unpack(buf, raw); err != nil {
		return nil, b.damagedBlock(i, err)
	}
	return buf, nil
}

// unseal opens block i: into buf when that is all there is to do.
func (b *blob) unseal(i int64, raw, buf []byte) ([]byte, error) {
	if err := b.unlock(); err != nil {
		return nil, err
	}
	dst := buf[:0]
	if !b.coded.plain[i] {
		if b.clear == nil {
			b.clear = make([]byte, 0, min(b.ref.Size, blobBlock))
		}
		dst = b.clear
	}
	out, err := b.open.Open(dst, raw, i, !b.coded.plain[i], i == blocks(b.ref.Size)-1)
	if err != nil {
		return nil, b.damagedBlock(i, err)
	}
	return out, nil
}

// unlock opens the key of a sealed body, once.
func (b *blob) unlock() error {
	if b.open != nil {
		return nil
	}
	nokey := func(err error) error {
		return fmt.Errorf("segment %x, offset %d: it is encrypted: %w", b.ref.Segment, b.ref.Offset, err)
	}
	if b.keys == nil {
		return nokey(ErrNoKey)
	}
	var open *seal.Body
	var err error
	if b.as == nil {
		open, err = b.keys.OpenBody(b.coded.slots, b.coded.bound)
	} else {
		open, err = b.keys.OpenBodyAs(b.as.account, b.coded.slots, b.coded.bound)
		if err == nil && !b.as.fits(b.coded.bound) {
			err = errors.New("it was sealed as another message's")
		}
	}
	if errors.Is(err, ErrNoKey) {
		return nokey(err)
	}
	if err != nil {
		return b.damaged(err)
	}
	b.open = open
	return nil
}

// verify compares what is stored with its checksums; it needs no key. buf has room
// for storedBlock octets.
func (b *blob) verify(buf []byte) error {
	for i := range blocks(b.ref.Size) {
		if _, err := b.stored(i, buf); err != nil {
			return err
		}
	}
	return nil
}

// verifyBlob reads a record's octets and compares them with their checksums.
func verifyBlob(seg *segment, it scanned, buf []byte) error {
	ref, err := refOf(seg, it)
	if err != nil {
		return fmt.Errorf("segment %x, offset %d: %w: %w", seg.info.ID, it.off, ErrDamaged, err)
	}
	b, err := newBlob(seg, ref)
	if err != nil {
		return err
	}
	return b.verify(buf)
}

// octets reads all of a stored run of octets, checking it.
func (b *blob) octets() ([]byte, error) {
	data := make([]byte, b.ref.Size)
	for i := range blocks(b.ref.Size) {
		if _, err := b.block(i, data[i*blobBlock:]); err != nil {
			return nil, err
		}
	}
	return data, nil
}

// body reads a stored run of octets for another place in the log, for those that
// refer to it: as it is stored when it is coded as well as it would be now, else
// anew.
func (b *blob) body(l *Log, to belonging) (*body, error) {
	if b.coded == nil {
		data, err := b.octets()
		if err != nil {
			return nil, err
		}
		return l.shortBody(data, to)
	}
	buf := make([]byte, storedBlock)
	if b.coded.kind == recordCoded {
		s, err := l.sealFor(to)
		if err != nil {
			return nil, err
		}
		if s != nil {
			return b.sealed(&coder{seal: s}, buf)
		}
	}
	rec := record{Type: b.coded.kind, Len: b.coded.length}
	data := make([]byte, 0, rec.Len)
	for i := range blocks(b.ref.Size) {
		stored, err := b.stored(i, buf)
		if err != nil {
			return nil, err
		}
		data = append(data, stored...)
	}
	data = append(data, b.coded.tail...)
	rec.Sum = checksum(b.coded.tail)
	return &body{n: b.ref.Size, rec: rec, data: data}, nil
}

// sealed encrypts the blocks of a compressed body as they are.
func (b *blob) sealed(c *coder, buf []byte) (*body, error) {
	n := blocks(b.ref.Size)
	data := make([]byte, 0, b.coded.length+n*seal.Overhead+int64(len(c.seal.Slots())))
	for i := range n {
		stored, err := b.stored(i, buf)
		if err != nil {
			return nil, err
		}
		data = c.add(data, stored, blockLen(b.ref.Size, i), !b.coded.plain[i], i == n-1)
	}
	return c.body(data), nil
}
