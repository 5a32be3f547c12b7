package filter

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"mailform/server/limits"
)

// How long greylisting waits and remembers.
const (
	greyDelay  = 5 * time.Minute     // before a suspicious client may come back
	greyWindow = 48 * time.Hour      // within which it must
	greyKnown  = 36 * 24 * time.Hour // that its network is trusted, from the last time it came
)

// maxGrey bounds the attempts, and the networks, that are remembered: about
// 10 MB when both are full.
const maxGrey = 100_000

// greylist remembers first attempts of suspicious clients, and the networks
// that came back as mail servers do. Addresses are kept as hashes only.
//
// It is saved now and then, not with each attempt: after a crash the attempts
// of the last minutes count as first ones again, which delays that mail by
// another 5 minutes.
type greylist struct {
	max int

	mu      sync.Mutex
	waiting map[greyKey]int64 // attempt -> first time, in seconds since 1970
	known   map[greyKey]int64 // network -> last time
	changed bool
}

type greyKey [16]byte

func newGreylist(limit int) *greylist {
	return &greylist{max: limit, waiting: map[greyKey]int64{}, known: map[greyKey]int64{}}
}

func keyOf(parts ...string) (k greyKey) {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	copy(k[:], sum[:])
	return k
}

// check says whether mail of a suspicious client may come in, and if not, how
// long it is to wait. Senders with many machines come back from another one
// nearby, so the network is what counts: IPv4 /24, IPv6 /48.
func (g *greylist) check(addr netip.Addr, from, to string, now time.Time) (wait time.Duration) {
	_, network := limits.Prefixes(addr)
	net := keyOf(network.String())
	attempt := keyOf(network.String(), strings.ToLower(from), strings.ToLower(to))
	g.mu.Lock()
	defer g.mu.Unlock()
	if last, ok := g.known[net]; ok && now.Unix()-last < int64(greyKnown/time.Second) {
		g.known[net], g.changed = now.Unix(), true
		return 0
	}
	first, ok := g.waiting[attempt]
	age := time.Duration(now.Unix()-first) * time.Second
	switch {
	case !ok || age >= greyWindow || age < 0:
		g.put(g.waiting, attempt, now, greyWindow)
		return greyDelay
	case age < greyDelay:
		return greyDelay - age
	}
	delete(g.waiting, attempt)
	g.put(g.known, net, now, greyKnown)
	return 0
}

// put remembers k. When there is no room, what is too old goes, and then any:
// those who wait are asked to wait once more.
func (g *greylist) put(m map[greyKey]int64, k greyKey, now time.Time, keep time.Duration) {
	g.changed = true
	if len(m) >= g.max {
		for old, at := range m {
			if now.Unix()-at >= int64(keep/time.Second) {
				delete(m, old)
			}
		}
		for old := range m {
			if len(m) < g.max-g.max/8 {
				break
			}
			delete(m, old)
		}
	}
	m[k] = now.Unix()
}

// The greylist's file: a magic line, the two tables as their length and their
// entries, and a CRC-32C of it all.
const greyMagic = "mailform greylist 1\n"

const greyEntry = len(greyKey{}) + 8

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (g *greylist) encode(now time.Time) []byte {
	b := []byte(greyMagic)
	for _, t := range []struct {
		m    map[greyKey]int64
		keep time.Duration
	}{{g.waiting, greyWindow}, {g.known, greyKnown}} {
		at := len(b)
		n := 0
		b = append(b, 0, 0, 0, 0)
		for k, v := range t.m {
			if now.Unix()-v < int64(t.keep/time.Second) {
				b = binary.LittleEndian.AppendUint64(append(b, k[:]...), uint64(v))
				n++
			}
		}
		binary.LittleEndian.PutUint32(b[at:], uint32(n))
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

var errGreyFile = errors.New("not a whole greylist file")

func (g *greylist) decode(b []byte) error {
	if len(b) < len(greyMagic)+12 || !bytes.HasPrefix(b, []byte(greyMagic)) {
		return errGreyFile
	}
	body, sum := b[:len(b)-4], binary.LittleEndian.Uint32(b[len(b)-4:])
	if crc32.Checksum(body, castagnoli) != sum {
		return errGreyFile
	}
	body = body[len(greyMagic):]
	tables := [2]map[greyKey]int64{}
	for i := range tables {
		if len(body) < 4 {
			return errGreyFile
		}
		n := int(binary.LittleEndian.Uint32(body))
		body = body[4:]
		if n > g.max || n*greyEntry > len(body) {
			return errGreyFile
		}
		tables[i] = make(map[greyKey]int64, n)
		for range n {
			tables[i][greyKey(body)] = int64(binary.LittleEndian.Uint64(body[len(greyKey{}):]))
			body = body[greyEntry:]
		}
	}
	if len(body) != 0 {
		return errGreyFile
	}
	g.waiting, g.known = tables[0], tables[1]
	return nil
}

// load reads the file, if there is one.
func (g *greylist) load(path string) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := g.decode(b); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// save replaces the file if anything has changed.
func (g *greylist) save(path string, now time.Time) error {
	g.mu.Lock()
	if !g.changed {
		g.mu.Unlock()
		return nil
	}
	b := g.encode(now)
	g.changed = false
	g.mu.Unlock()
	err := replace(path, b)
	if err != nil {
		g.mu.Lock()
		g.changed = true
		g.mu.Unlock()
	}
	return err
}

// replace writes a file beside path and puts it in its place. What a crash
// leaves of it is written over the next time.
func replace(path string, b []byte) error {
	next := path + ".new"
	if err := os.WriteFile(next, b, 0o600); err != nil {
		return err
	}
	return os.Rename(next, path)
}
