package main

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
)

// What the index stores: a block for each 256 messages of a mailbox, 45 octets
// each, and a header for each mailbox.
const (
	mailboxes    = 20
	blockLen     = 256
	messageBytes = 45
	headerBytes  = 300
)

func octets(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := 0; i+8 <= n; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], rng.Uint64())
	}
	return b
}

func blockKey(box, block int) []byte {
	return fmt.Appendf(nil, "m/user%02d@example.org/%08x", box, block*blockLen)
}

func headerKey(box int) []byte { return fmt.Appendf(nil, "b/user%02d@example.org", box) }

// index measures the index: messages of mailboxes in blocks.
func (r *run) index(messages int) (err error) {
	rng := rand.New(rand.NewPCG(1, 1))
	if r.e, err = r.open(r.dir); err != nil {
		return err
	}
	blocks := messages / mailboxes / blockLen
	castagnoli, sum := crc32.MakeTable(crc32.Castagnoli), uint32(0) // who reads checks
	if err := r.timed("rebuild the index of 1 M messages", 1, func() error {
		for box := range mailboxes {
			pairs := []pair{{headerKey(box), octets(rng, headerBytes)}}
			for b := range blocks {
				pairs = append(pairs, pair{blockKey(box, b), octets(rng, blockLen*messageBytes)})
			}
			if err := r.e.write(pairs); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	if err := r.size("index on disk"); err != nil {
		return err
	}
	if err := r.reopen("open and read all mailboxes' headers", []byte("b/")); err != nil {
		return err
	}
	r.memory("after that")
	if err := r.timed("load a mailbox of 50,000", mailboxes, func() error {
		for box := range mailboxes {
			n := 0
			if err := r.e.scan(fmt.Appendf(nil, "m/user%02d@example.org/", box), func(_, v []byte) { n += len(v); sum ^= crc32.Checksum(v, castagnoli) }); err != nil {
				return err
			}
			if n != blocks*blockLen*messageBytes {
				return fmt.Errorf("%d octets were read", n)
			}
		}
		return nil
	}); err != nil {
		return err
	}
	const flushes = 100
	if err := r.timed("flush: deliveries to all 20 mailboxes", flushes, func() error {
		for range flushes {
			var pairs []pair
			for box := range mailboxes {
				pairs = append(pairs, pair{headerKey(box), octets(rng, headerBytes)}, pair{blockKey(box, blocks-1), octets(rng, blockLen*messageBytes)})
			}
			if err := r.e.write(pairs); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	if err := r.timed("flush: flags of 100 messages here and there", flushes, func() error {
		for range flushes {
			var pairs []pair
			for range 100 {
				pairs = append(pairs, pair{blockKey(rng.IntN(mailboxes), rng.IntN(blocks)), octets(rng, blockLen*messageBytes)})
			}
			if err := r.e.write(pairs); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	const stores = 10
	if err := r.timed("flush: flags of all 50,000 of a mailbox", stores, func() error {
		for box := range stores {
			var pairs []pair
			for b := range blocks {
				pairs = append(pairs, pair{blockKey(box, b), octets(rng, blockLen*messageBytes)})
			}
			if err := r.e.write(pairs); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	return r.size("index on disk after these")
}

// cache measures values of single messages.
func (r *run) cache(values int) error {
	rng := rand.New(rand.NewPCG(2, 2))
	castagnoli, sum := crc32.MakeTable(crc32.Castagnoli), uint32(0)
	key := func(i int) []byte {
		return binary.BigEndian.AppendUint32(fmt.Appendf(nil, "c/user%02d@example.org/", i%2), uint32(i/2+1))
	}
	const batch = 100
	if err := r.timed("write 100 cached values of 300 to 900 octets", values/batch, func() error {
		for i := 0; i < values; i += batch {
			var pairs []pair
			for j := range batch {
				pairs = append(pairs, pair{key(i + j), octets(rng, 300+rng.IntN(600))})
			}
			if err := r.e.write(pairs); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	if err := r.size("index and cache on disk"); err != nil {
		return err
	}
	if err := r.reopen("open with the cache", []byte("b/")); err != nil {
		return err
	}
	const scans = 5
	if err := r.timed("read the cached values of 100,000 messages in order", scans, func() error {
		for range scans {
			n := 0
			if err := r.e.scan([]byte("c/user00@example.org/"), func(_, v []byte) { n++; sum ^= crc32.Checksum(v, castagnoli) }); err != nil {
				return err
			}
			if n != values/2 {
				return fmt.Errorf("%d values were read", n)
			}
		}
		return nil
	}); err != nil {
		return err
	}
	r.memory("after that")
	return r.e.close()
}
