package search

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"mailform/server/store"
)

// many begins an index of n segments, in which each message has a word of its own
// and words that all have.
func many(t *testing.T, dir string, n, each int, common string) *Index {
	t.Helper()
	x := open(t, dir)
	for i := range n * each {
		must(t, x.Add(ref(i+1), message(fmt.Sprintf("Subject: number %d", i), fmt.Sprintf("own%d %s", i, common))))
		if (i+1)%each == 0 {
			must(t, x.Flush())
		}
	}
	return x
}

// A merge takes memory for words and bodies; the postings, which are most of a large
// index, go from file to file.
func TestMergeStreams(t *testing.T) {
	var common strings.Builder
	for i := range 8000 {
		fmt.Fprintf(&common, "all%d ", i%500)
	}
	x := many(t, t.TempDir(), mergeAt, 100, common.String())
	size := 0
	for _, s := range x.segments {
		size += len(s.data)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := x.Tidy(func(store.BodyRef) bool { return true })
	must(t, err)
	runtime.ReadMemStats(&after)
	if len(x.segments) != 1 {
		t.Fatalf("%d segments after the merge", len(x.segments))
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > uint64(size)/2 {
		t.Errorf("a merge of %d octets has allocated %d", size, n)
	}
	for _, want := range []struct {
		text string
		at   int
	}{{"own77", 78}, {"own599", 600}} {
		h, err := x.Find(Body, Fold(want.text))
		must(t, err)
		for i := range x.segments[0].len() {
			if got := h.Of(ref(i+1)) == Yes; got != (i+1 == want.at) {
				t.Errorf("%s found in %d: %v", want.text, i+1, got)
			}
		}
		h.Close()
	}
	must(t, x.Close())
}

// An index that is closed while it merges loses nothing: the new file takes the place
// of those that it was made of.
func TestMergeOfClosedIndex(t *testing.T) {
	dir := t.TempDir()
	x := many(t, dir, mergeAt, 10, "common")
	asked := false
	_, err := x.Tidy(func(store.BodyRef) bool {
		if !asked {
			asked = true
			must(t, x.Close())
		}
		return true
	})
	must(t, err)
	x = open(t, dir)
	defer x.Close()
	if len(x.segments) != 1 || x.segments[0].len() != 10*mergeAt {
		t.Errorf("%d segments", len(x.segments))
	}
}

// Files that have the postings behind the words, as they were written before, are read.
func TestSegmentOfBefore(t *testing.T) {
	dir := t.TempDir()
	x := many(t, dir, 1, 50, "common")
	must(t, x.Close())
	files, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
	must(t, err)
	now, err := os.ReadFile(files[0])
	must(t, err)
	s, err := decodeSegment(now, false)
	must(t, err)
	was := []byte(magicBefore)
	var lengths []byte
	for _, part := range [][]byte{s.bodies, s.words, s.starts, s.places, s.postings} {
		was = append(was, part...)
		lengths = binary.LittleEndian.AppendUint64(lengths, uint64(len(part)))
	}
	was = append(was, lengths...)
	was = binary.LittleEndian.AppendUint32(was, crc32.Checksum(was, castagnoli))
	must(t, os.WriteFile(files[0], was, 0o600))
	x = open(t, dir)
	defer x.Close()
	h, err := x.Find(Body, Fold("own7"))
	must(t, err)
	defer h.Close()
	if h.Of(ref(8)) != Yes || h.Of(ref(9)) != No {
		t.Error("a word is not found in it")
	}
}
