package apply

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mailform/plan"
)

// The journal is a file of lines, each the CRC-32C of a JSON record in eight
// hex digits, a space and the record. It is appended to and fsynced before and
// after every outside effect, so that after a crash one can tell what was
// certainly done, what was certainly not begun, and what has to be asked about.

// Bounds of the journal. A host's manifest with 5,000 mailboxes takes about 2 MiB.
const (
	maxRecordBytes  = 64 << 20
	maxJournalBytes = 256 << 20
	maxDepth        = 64 // of nested JSON; plan values are a few levels deep
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// recordKind says what a record reports.
type recordKind string

const (
	recBegin   recordKind = "begin"   // an effect is about to be tried
	recDone    recordKind = "done"    // it took effect; Outputs are its result
	recFailed  recordKind = "failed"  // it was refused for good, in a way that may have had an effect
	recAborted recordKind = "aborted" // it certainly had no effect
	recStep    recordKind = "step"    // what is left of a begin, and a done, under a saved plan once the journal is compacted
)

// record is one line of the journal.
type record struct {
	Kind       recordKind                  `json:"kind"`
	Time       time.Time                   `json:"time"`
	ID         string                      `json:"id"` // of the operation
	Token      plan.Token                  `json:"token"`
	Generation int                         `json:"generation"`
	Plan       string                      `json:"plan,omitempty"`    // with begin and step: the hash of the saved plan it belongs to
	Op         *plan.Op                    `json:"op,omitempty"`      // with begin: inputs resolved, secrets as fingerprints
	Outputs    map[plan.Address]plan.Attrs `json:"outputs,omitempty"` // with done and step
	Done       bool                        `json:"done,omitempty"`    // with step
	Spent      bool                        `json:"spent,omitempty"`   // with aborted: never use the token again
}

// intent is an operation that was begun.
type intent struct {
	op         plan.Op
	token      plan.Token
	generation int
	plan       string // see record.Plan
	failed     bool   // it was refused for good; see recFailed
	order      int    // of the record that ended it
}

func (i intent) is(id string, token plan.Token) bool { return i.op.ID == id && i.token == token }

// contents is what a journal's records add up to.
type contents struct {
	records     int
	open        []intent                // begun and not ended, in the order of their begin
	latest      map[plan.Address]intent // the last effect at an address
	generations map[plan.Address]int
	steps       map[string]map[string]planStep // by the saved plan's hash and the operation's id
}

// planStep is how far a saved plan came with one of its operations.
type planStep struct {
	done    bool
	outputs map[plan.Address]plan.Attrs
}

func newContents() contents {
	return contents{latest: map[plan.Address]intent{}, generations: map[plan.Address]int{}, steps: map[string]map[string]planStep{}}
}

// step notes how far a saved plan came with an operation.
func (c *contents) step(hash, op string, s planStep) {
	if hash == "" {
		return
	}
	if c.steps[hash] == nil {
		c.steps[hash] = map[string]planStep{}
	}
	c.steps[hash][op] = s
}

// damage is a stretch of bytes that is no record.
type damage struct{ offset, length int64 }

// journal is an open journal. Its user serialises calls.
type journal struct {
	contents
	dir    *Dir
	file   File
	broken error // the first failed write; nothing may follow what may be half a record
}

// openJournal reads the journal, cuts a torn tail, sets a damaged file aside and
// leaves the journal open at its end. The second result describes damage.
func (d *Dir) openJournal() (*journal, error, error) {
	name := filepath.Join(d.path, journalName)
	data, err := readBounded(d.fs, name, maxJournalBytes)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, d.journalError("read the journal", err)
	}
	found, kept, damaged, err := parseJournal(data)
	if err != nil {
		return nil, nil, d.journalError("read the journal", err)
	}
	j := &journal{contents: found, dir: d}
	var warning error
	if len(damaged) > 0 {
		warning = damageWarning(name, damaged, found.records)
		aside, err := replaceFile(d.fs, name+damagedSuffix, data)
		if err != nil {
			return nil, nil, d.failure("set the damaged journal aside", err)
		}
		aside.Close()
	}
	if len(data) == 0 || len(damaged) > 0 {
		j.file, err = replaceFile(d.fs, name, kept)
		if err != nil {
			return nil, nil, d.failure("write the journal", err)
		}
		return j, warning, nil
	}
	j.file, err = d.fs.OpenFile(name, os.O_RDWR, 0o600)
	if err != nil {
		return nil, nil, d.failure("open the journal", err)
	}
	// Without damage in the middle the records are a prefix of the file: what follows is a torn tail.
	if len(kept) < len(data) {
		err = errors.Join(j.file.Truncate(int64(len(kept))), j.file.Sync())
	}
	if err == nil {
		_, err = j.file.Seek(int64(len(kept)), io.SeekStart)
	}
	if err != nil {
		j.file.Close()
		return nil, nil, d.failure("cut the journal's torn tail", err)
	}
	return j, nil, nil
}

// parseJournal reads every record. kept is the concatenation of the intact
// lines, in order; damaged names the stretches between them that are none. Bytes
// after the last intact line that look like the beginning of a record are a torn
// tail, the trace of a write that was never acknowledged, and simply not in kept;
// any others are damage, because they may have been records. An error means that the journal
// was written by a version that knows more than this one.
func parseJournal(data []byte) (found contents, kept []byte, damaged []damage, err error) {
	found = newContents()
	var bad damage
	intact := 0 // where the last intact line ends
	kept = data[:0:0]
	start, copied := 0, false // until damage is met, kept is a prefix of data and costs nothing
	for start < len(data) {
		end := bytes.IndexByte(data[start:], '\n')
		if end < 0 {
			break
		}
		line := data[start : start+end]
		next := start + end + 1
		payload, ok := checkLine(line)
		if !ok {
			if bad.length == 0 {
				bad.offset = int64(start)
			}
			bad.length = int64(next) - bad.offset
			start = next
			continue
		}
		r, err := decodeRecord(payload)
		if err != nil {
			return contents{}, nil, nil, fmt.Errorf("record at byte %d: %w", start, err)
		}
		if bad.length > 0 {
			damaged = append(damaged, bad)
			bad = damage{}
			if !copied {
				kept, copied = bytes.Clone(kept), true
			}
		}
		if copied {
			kept = append(kept, data[start:next]...)
		} else {
			kept = data[:next:next]
		}
		found.add(r)
		start, intact = next, next
	}
	if tail := data[intact:]; !torn(tail) {
		damaged = append(damaged, damage{offset: int64(intact), length: int64(len(tail))})
	}
	return found, kept, damaged, nil
}

// torn reports whether bytes can be what is left of one write that did not come
// to its end: the beginning of a line, or nothing, and zeros where the file system
// had made room.
func torn(tail []byte) bool {
	tail = bytes.TrimRight(tail, "\x00")
	for i, b := range tail {
		switch {
		case i < 8 && !('0' <= b && b <= '9' || 'a' <= b && b <= 'f'),
			i == 8 && b != ' ', i == 9 && b != '{', b < ' ':
			return false
		}
	}
	return true
}

// checkLine returns the record in a line whose checksum holds.
func checkLine(line []byte) ([]byte, bool) {
	if len(line) < 9 || line[8] != ' ' || len(line) > maxRecordBytes {
		return nil, false
	}
	var sum [4]byte
	if _, err := hex.Decode(sum[:], line[:8]); err != nil {
		return nil, false
	}
	payload := line[9:]
	return payload, binary.BigEndian.Uint32(sum[:]) == crc32.Checksum(payload, castagnoli)
}

func decodeRecord(payload []byte) (record, error) {
	var r record
	if err := decodeStrict(payload, &r); err != nil {
		return r, err
	}
	switch {
	case r.ID == "" || r.Token == "":
		return r, errors.New("an operation's id or token is missing")
	case r.Kind == recBegin && (r.Op == nil || r.Op.ID != r.ID):
		return r, errors.New("a begin without its operation")
	}
	switch r.Kind {
	case recBegin, recDone, recFailed, recAborted, recStep:
		return r, nil
	}
	return r, fmt.Errorf("unknown kind %q", r.Kind)
}

func encodeRecord(r record) ([]byte, error) {
	payload, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	if len(payload)+9 > maxRecordBytes {
		return nil, fmt.Errorf("the record of %s has %d MiB, at most %d MiB are allowed", r.ID, len(payload)>>20, maxRecordBytes>>20)
	}
	return seal(payload), nil
}

// seal makes the line of a record.
func seal(payload []byte) []byte {
	line := make([]byte, 0, len(payload)+10)
	line = hex.AppendEncode(line, binary.BigEndian.AppendUint32(nil, crc32.Checksum(payload, castagnoli)))
	line = append(line, ' ')
	line = append(line, payload...)
	return append(line, '\n')
}

// add folds one record into what is known.
func (c *contents) add(r record) {
	c.records++
	at := slices.IndexFunc(c.open, func(i intent) bool { return i.is(r.ID, r.Token) })
	switch {
	case r.Kind == recStep:
		c.step(r.Plan, r.ID, planStep{r.Done, r.Outputs})
	case r.Kind == recBegin && at < 0:
		c.open = append(c.open, intent{op: *r.Op, token: r.Token, generation: r.Generation, plan: r.Plan})
		c.step(r.Plan, r.ID, planStep{})
	case r.Kind == recBegin:
		c.open[at].failed, c.open[at].plan = false, r.Plan
		c.step(r.Plan, r.ID, planStep{})
	case at < 0:
		// Its begin was lost to damage.
	case r.Kind == recFailed:
		c.open[at].failed = true
	default:
		ended := c.open[at]
		ended.order = c.records
		c.open = slices.Delete(c.open, at, at+1)
		if r.Kind == recDone {
			for _, a := range ended.op.Addresses {
				c.latest[a] = ended
			}
			c.step(ended.plan, ended.op.ID, planStep{true, r.Outputs})
		}
		if r.Kind == recDone || r.Spent {
			c.use(ended)
		}
	}
}

// use notes that an operation's token has done its work: the next wish at these
// addresses belongs to a later generation.
func (c *contents) use(i intent) {
	for _, a := range i.op.Addresses {
		c.generations[a] = max(c.generations[a], i.generation+1)
	}
}

// again returns the generation under which the very same intent was begun
// before, when asking for it again must use the same token: because nobody knows
// how it ended, or because it was the last thing that was done at its addresses
// and the run that did it was cut short. In the second case an observation that
// lags behind the world may not show the result yet; a vendor that honours
// tokens then answers with what was made, or says that the token is spent.
func (c *contents) again(stack string, op plan.Op) (int, bool) {
	same := func(i intent) bool { return i.op.ID == op.ID && i.token == Token(stack, op, i.generation) }
	if at := slices.IndexFunc(c.open, same); at >= 0 {
		return c.open[at].generation, true
	}
	if len(op.Addresses) == 0 {
		return 0, false
	}
	last, ok := c.latest[op.Addresses[0]]
	for _, a := range op.Addresses {
		ok = ok && c.latest[a].order == last.order
	}
	if !ok || !same(last) {
		return 0, false
	}
	return last.generation, true
}

// append makes one record durable.
func (j *journal) append(r record) error {
	if j.broken != nil {
		return j.broken
	}
	line, err := encodeRecord(r)
	if err != nil {
		return j.dir.journalError("write the journal", err)
	}
	if _, err = j.file.Write(line); err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		j.broken = j.dir.failure("write the journal", err)
		return j.broken
	}
	j.add(r)
	return nil
}

// compact replaces the journal by what the next run must know: nothing after a
// complete run, otherwise the open begins, the last effect at each address, and
// how far the saved plan with that hash came. Its caller has made everything else
// durable in the ledger.
func (j *journal) compact(complete bool, now time.Time, hash string) error {
	if j.broken != nil {
		return j.broken
	}
	keep := newContents()
	keep.generations = j.generations
	var data []byte
	if !complete {
		var err error
		if data, err = j.carryOver(&keep, now, hash); err != nil {
			return j.dir.journalError("compact the journal", err)
		}
	}
	f, err := replaceFile(j.dir.fs, filepath.Join(j.dir.path, journalName), data)
	if err != nil {
		// Whether the old or the new file is in place is not known: append to neither.
		j.broken = j.dir.failure("compact the journal", err)
		return j.broken
	}
	j.file.Close() // the old file, fsynced long ago and no longer reachable
	j.file, j.contents = f, keep
	return nil
}

// carryOver writes the records that an incomplete run leaves to the next.
func (j *journal) carryOver(keep *contents, now time.Time, hash string) ([]byte, error) {
	var data []byte
	write := func(i intent, kinds ...recordKind) error {
		for _, kind := range kinds {
			r := record{Kind: kind, Time: now, ID: i.op.ID, Token: i.token, Generation: i.generation}
			if kind == recBegin {
				r.Op = &i.op
				if i.plan == hash {
					r.Plan = hash
				}
			}
			line, err := encodeRecord(r)
			if err != nil {
				return err
			}
			data = append(data, line...)
			keep.add(r)
		}
		return nil
	}
	last := slices.Collect(maps.Values(j.latest))
	slices.SortFunc(last, func(a, b intent) int { return a.order - b.order })
	// One operation may be the last at many addresses.
	last = slices.CompactFunc(last, func(a, b intent) bool { return a.order == b.order })
	for _, i := range last {
		if err := write(i, recBegin, recDone); err != nil {
			return nil, err
		}
	}
	for _, i := range j.open {
		kinds := []recordKind{recBegin}
		if i.failed {
			kinds = append(kinds, recFailed)
		}
		if err := write(i, kinds...); err != nil {
			return nil, err
		}
	}
	for _, id := range slices.Sorted(maps.Keys(j.steps[hash])) {
		s := j.steps[hash][id]
		r := record{Kind: recStep, Time: now, ID: id, Token: "-", Plan: hash, Done: s.done, Outputs: s.outputs}
		line, err := encodeRecord(r)
		if err != nil {
			return nil, err
		}
		data = append(data, line...)
		keep.add(r)
	}
	return data, nil
}

func (j *journal) close() error { return j.file.Close() }

func (d *Dir) journalError(step string, err error) *plan.Error {
	return &plan.Error{
		Code: codeJournal,
		Step: step,
		Got:  err.Error(),
		Fix: fmt.Sprintf("use the version of mailform that wrote %s; if that is impossible, move the file away: mailform then finds out from the world itself what was done",
			filepath.Join(d.path, journalName)),
		Err: err,
	}
}

func damageWarning(name string, damaged []damage, kept int) error {
	var where []string
	for _, b := range damaged {
		where = append(where, fmt.Sprintf("at byte %d (%d bytes)", b.offset, b.length))
	}
	return fmt.Errorf("the journal %s is damaged %s; the %d intact records were kept, the damaged file is now %s; what the lost records said is found out from the world itself",
		name, strings.Join(where, ", "), kept, name+damagedSuffix)
}

// decodeStrict decodes one JSON document and nothing else: known fields only, no
// deep nesting, nothing behind it.
func decodeStrict(data []byte, into any) error {
	if err := checkDepth(data); err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("more than one JSON document")
	}
	return nil
}

// checkDepth bounds the nesting, because values are decoded recursively.
func checkDepth(data []byte) error {
	depth, quoted, escaped := 0, false, false
	for _, b := range data {
		switch {
		case escaped:
			escaped = false
		case quoted:
			escaped, quoted = b == '\\', b != '"'
		case b == '"':
			quoted = true
		case b == '[' || b == '{':
			if depth++; depth > maxDepth {
				return fmt.Errorf("nested deeper than %d levels", maxDepth)
			}
		case b == ']' || b == '}':
			depth--
		}
	}
	return nil
}
