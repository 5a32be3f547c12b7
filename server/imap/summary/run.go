package summary

import (
	"cmp"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"mailform/server/store"
)

// A run is one file, never changed once it is there:
//
//	head      magic (8), version, mailbox, messages, blocks (4 each), flags (4),
//	          CRC32C of the head up to here and of the directory (4)
//	directory for each block: the UID of its first message and how many it has (4
//	          each); then for each column and each block: where it stands (8), how
//	          many octets it takes (4), their CRC32C (4)
//	blocks    column after column
//
// A block of a column whose values vary is for each value the offset of its end
// (4 each), and the values. With a cipher each block is a nonce and what it seals
// instead. All numbers are little-endian.
const (
	magic     = "MFSUMRY\n"
	headSize  = 32
	perBlock  = 8
	perPlace  = 16
	sealed    = 1 // flag
	suffix    = ".run"
	nonceSize = 12
	// blockLen is the messages of a block, but of a run's last.
	blockLen = 256
	// A run ends with so many messages or octets.
	maxRun    = 4096
	maxOctets = 8 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errRun = errors.New("a run of summaries is damaged")

// runName is what a run's file name says.
type runName struct {
	first, last store.UID
	count       uint32
	number      uint32 // higher ones replace lower ones
}

func (n runName) String() string {
	return fmt.Sprintf("%08x-%08x-%x-%x%s", n.first, n.last, n.count, n.number, suffix)
}

func parseRunName(s string) (n runName, ok bool) {
	if _, err := fmt.Sscanf(s, "%08x-%08x-%x-%x"+suffix, &n.first, &n.last, &n.count, &n.number); err != nil {
		return n, false
	}
	return n, n.String() == s && n.first <= n.last && n.count > 0
}

// listRuns returns the runs in a folder by UID. Of two that overlap, which a
// crash may leave, the newer one counts; the others come second.
func listRuns(dir string) (runs []runName, stray []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		if n, ok := parseRunName(e.Name()); ok {
			runs = append(runs, n)
		} else {
			stray = append(stray, e.Name())
		}
	}
	slices.SortFunc(runs, func(a, b runName) int { return cmp.Compare(b.number, a.number) })
	var good []runName
	for _, n := range runs {
		i := sort.Search(len(good), func(i int) bool { return good[i].last >= n.first })
		if i < len(good) && good[i].first <= n.last {
			stray = append(stray, n.String())
			continue
		}
		good = slices.Insert(good, i, n)
	}
	return good, stray, nil
}

// builder gathers the entries of a run.
type builder struct {
	box    uint32
	count  int
	octets int
	firsts []uint32 // of each block
	counts []uint32
	blocks [columns][][]byte // that are complete
	ends   [columns][]uint32 // of the block being filled
	data   [columns][]byte
	first  store.UID
	last   store.UID
}

func (b *builder) full() bool { return b.count >= maxRun || b.octets >= maxOctets }

// add adds an entry whose UID is higher than those before.
func (b *builder) add(e *entry) {
	if b.count == 0 {
		b.first = e.uid
	}
	if b.count%blockLen == 0 {
		b.close()
		b.firsts, b.counts = append(b.firsts, uint32(e.uid)), append(b.counts, 0)
	}
	b.counts[len(b.counts)-1]++
	b.count++
	b.last = e.uid
	le := binary.LittleEndian
	b.data[colKeys] = le.AppendUint64(le.AppendUint32(b.data[colKeys], uint32(e.uid)), e.guard)
	b.data[colSent] = le.AppendUint32(le.AppendUint64(b.data[colSent], uint64(e.sent.Unix)), uint32(e.sent.Offset))
	b.octets += keySize + sentSize
	for c, v := range e.values {
		if column(c).fixed() > 0 {
			continue
		}
		b.data[c] = append(b.data[c], v...)
		b.ends[c] = append(b.ends[c], uint32(len(b.data[c])))
		b.octets += len(v) + 4
	}
}

// close completes a block.
func (b *builder) close() {
	if b.count == 0 {
		return
	}
	for c := range columns {
		block := make([]byte, 0, 4*len(b.ends[c])+len(b.data[c]))
		for _, end := range b.ends[c] {
			block = binary.LittleEndian.AppendUint32(block, end)
		}
		b.blocks[c] = append(b.blocks[c], append(block, b.data[c]...))
		b.ends[c], b.data[c] = b.ends[c][:0], b.data[c][:0]
	}
}

// write makes the file in dir. It is not synced: one that a loss of power leaves
// damaged is noticed by its checksums.
func (b *builder) write(dir string, number uint32, key cipher.AEAD) (n runName, err error) {
	b.close()
	n = runName{b.first, b.last, uint32(b.count), number}
	le := binary.LittleEndian
	count := len(b.firsts)
	head := append(make([]byte, 0, headSize+count*(perBlock+int(columns)*perPlace)), magic...)
	flags := uint32(0)
	if key != nil {
		flags = sealed
	}
	for _, v := range []uint32{Version, b.box, uint32(b.count), uint32(count), flags} {
		head = le.AppendUint32(head, v)
	}
	head = append(head, 0, 0, 0, 0)
	for i := range count {
		head = le.AppendUint32(le.AppendUint32(head, b.firsts[i]), b.counts[i])
	}
	at := uint64(cap(head))
	for c := range columns {
		for i, block := range b.blocks[c] {
			if key != nil {
				nonce := make([]byte, nonceSize, nonceSize+len(block)+key.Overhead())
				if _, err := rand.Read(nonce); err != nil {
					return n, err
				}
				block = key.Seal(nonce, nonce, block, label(b.box, number, c, i))
				b.blocks[c][i] = block
			}
			head = le.AppendUint64(head, at)
			head = le.AppendUint32(head, uint32(len(block)))
			head = le.AppendUint32(head, crc32.Checksum(block, castagnoli))
			at += uint64(len(block))
		}
	}
	le.PutUint32(head[headSize-4:], headSum(head))
	tmp := filepath.Join(dir, strings.TrimSuffix(n.String(), suffix)+".new")
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return n, err
	}
	_, err = f.Write(head)
	for c := range columns {
		for _, block := range b.blocks[c] {
			if err == nil {
				_, err = f.Write(block)
			}
		}
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(tmp, filepath.Join(dir, n.String()))
	}
	if err != nil {
		return n, errors.Join(err, os.Remove(tmp))
	}
	return n, nil
}

func headSum(head []byte) uint32 {
	return crc32.Update(crc32.Checksum(head[:headSize-4], castagnoli), castagnoli, head[headSize:])
}

// label binds a sealed block to its place.
func label(box, number uint32, c column, block int) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(le.AppendUint32(make([]byte, 0, 16), box), number)
	return le.AppendUint32(le.AppendUint32(b, uint32(c)), uint32(block))
}

// run is an open one.
type run struct {
	runName
	file readCloser
	box  uint32
	key  cipher.AEAD
	head []byte // all of it and the directory
	n    int    // blocks
}

type readCloser interface {
	io.ReaderAt
	io.Closer
}

// openRun opens a run and checks its head; errRun when it cannot be used.
func openRun(dir string, name runName, box uint32, key cipher.AEAD) (*run, error) {
	f, err := os.Open(filepath.Join(dir, name.String()))
	if err != nil {
		return nil, err
	}
	r, err := newRun(f, name, box, key)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", f.Name(), err), f.Close())
	}
	return r, nil
}

func newRun(f readCloser, name runName, box uint32, key cipher.AEAD) (*run, error) {
	r := &run{runName: name, file: f, box: box, key: key}
	return r, r.readHead()
}

func (r *run) readHead() error {
	// As many as there will be, mostly.
	guess := (int(r.count) + blockLen - 1) / blockLen
	if guess > 2*maxRun/blockLen {
		return errRun
	}
	size := headSize + guess*(perBlock+int(columns)*perPlace)
	r.head = make([]byte, size)
	if _, err := r.file.ReadAt(r.head, 0); errors.Is(err, io.EOF) {
		return errRun
	} else if err != nil {
		return err
	}
	le := binary.LittleEndian
	field := func(i int) uint32 { return le.Uint32(r.head[len(magic)+4*i:]) }
	flags := uint32(0)
	if r.key != nil {
		flags = sealed
	}
	if string(r.head[:len(magic)]) != magic || le.Uint32(r.head[headSize-4:]) != headSum(r.head) ||
		field(0) != Version || field(1) != r.box || field(2) != r.count || field(3) != uint32(guess) || field(4) != flags {
		return errRun
	}
	r.n = guess
	var count, last uint32
	for i := range r.n {
		first, n := r.blockAt(i)
		if uint32(first) < last || n == 0 || n > blockLen {
			return errRun
		}
		last, count = uint32(first), count+uint32(n)
	}
	if count != r.count {
		return errRun
	}
	return nil
}

// blockAt returns the first UID of a block and how many messages it has.
func (r *run) blockAt(i int) (store.UID, int) {
	b := r.head[headSize+i*perBlock:]
	return store.UID(binary.LittleEndian.Uint32(b)), int(binary.LittleEndian.Uint32(b[4:]))
}

// find returns the block in which a message is if it is in the run.
func (r *run) find(uid store.UID) int {
	return sort.Search(r.n, func(i int) bool {
		first, _ := r.blockAt(i)
		return first > uid
	}) - 1
}

// block is the values of one column of a block.
type block struct {
	n     int // values
	fixed int
	data  []byte
	buf   []byte
}

// read reads a block and checks it; errRun when it is damaged.
func (r *run) read(c column, i int, b *block) error {
	p := r.head[headSize+r.n*perBlock+(int(c)*r.n+i)*perPlace:]
	le := binary.LittleEndian
	size := int(le.Uint32(p[8:]))
	if size > 64<<20 {
		return errRun
	}
	b.n, b.data = 0, nil
	if cap(b.buf) < size {
		b.buf = make([]byte, size+size/4)
	}
	data := b.buf[:size]
	if _, err := r.file.ReadAt(data, int64(le.Uint64(p))); errors.Is(err, io.EOF) {
		return errRun
	} else if err != nil {
		return err
	}
	if crc32.Checksum(data, castagnoli) != le.Uint32(p[12:]) {
		return errRun
	}
	if r.key != nil {
		if len(data) < nonceSize {
			return errRun
		}
		var err error
		if data, err = r.key.Open(data[nonceSize:nonceSize], data[:nonceSize], data[nonceSize:], label(r.box, r.number, c, i)); err != nil {
			return errRun
		}
	}
	_, n := r.blockAt(i)
	if b.fixed = c.fixed(); b.fixed > 0 && len(data) != n*b.fixed || b.fixed == 0 && len(data) < 4*n {
		return errRun
	}
	b.n, b.data = n, data
	return nil
}

// value returns the i-th value of a block; nil when it makes no sense.
func (b *block) value(i int) []byte {
	if i >= b.n {
		return nil
	}
	if b.fixed > 0 {
		return b.data[i*b.fixed : (i+1)*b.fixed]
	}
	from, values := uint32(0), b.data[4*b.n:]
	if i > 0 {
		from = binary.LittleEndian.Uint32(b.data[4*(i-1):])
	}
	to := binary.LittleEndian.Uint32(b.data[4*i:])
	if from > to || uint64(to) > uint64(len(values)) {
		return nil
	}
	return values[from:to:to]
}

// key returns the UID and the guard of the i-th message.
func (b *block) key(i int) (store.UID, uint64) {
	v := b.data[i*keySize:]
	return store.UID(binary.LittleEndian.Uint32(v)), binary.LittleEndian.Uint64(v[4:])
}

func (r *run) close() {
	_ = r.file.Close() // it was only read
}
