package search

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// spelled is what a text has of words, by the letter: for each its places.
func spelled(text string) map[string][]string {
	words := map[string][]string{}
	index := 1
	add := func(w string, g gap) {
		at := fmt.Sprintf("%d:%d", index, g)
		if list := words[w]; len(list) == 0 || list[len(list)-1] != at {
			words[w] = append(words[w], at)
		}
	}
	eachRun(text, apart, func(r run) {
		w, g := text[r.from:r.to], r.gap
		switch {
		case r.kind == dense:
			eachPair(w, func(pair string) {
				index++
				add(pair, g)
				g = joined
			})
		case r.chars <= maxWord:
			index++
			add(w, g)
		default:
			index++
			eachPiece(w, func(piece string) { add(piece, g) })
		}
	})
	return words
}

// indexedWords is what a builder has of its last body.
func indexedWords(t *testing.T, b *builder) map[string][]string {
	words := map[string][]string{}
	for n := range b.terms {
		l := b.terms[n].list
		c := newCursor(b.postings.read(nil, l), len(b.bodies))
		for c.next(); c.body < len(b.bodies); c.next() {
			if c.body != len(b.bodies)-1 {
				continue
			}
			w := string(b.textOf(n))
			if b.find(w) != n {
				t.Fatalf("%q is not found", w)
			}
			p := places{rest: c.positions}
			for p.next(); p.index != math.MaxInt; p.next() {
				words[w] = append(words[w], fmt.Sprintf("%d:%d", p.index, p.gap))
			}
		}
		if c.broken {
			t.Fatalf("the list of %q is broken", b.textOf(n))
		}
	}
	return words
}

// FuzzWords compares the quick way of taking text apart with the plain one.
func FuzzWords(f *testing.F) {
	for _, s := range []string{
		"", "ONE TWO  THREE", "A,B. C\r\nD", "EIGHTCHR NINECHARS ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", "CAFE\u0301 NAI\u0308VE ABCDEFGHe\u0301 X",
		"中文 MAIL 号1A中 THE ONE", strings.Repeat("A", 63) + " " + strings.Repeat("B", 64) + " " + strings.Repeat("C", 65) + " " + strings.Repeat("D", 300) + "; END",
		"\x00\x01\x7f\x80 \xff A_B-C @[`{/:", " A B C D E F G H I J K L ",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b := newBuilder(&workspace{})
		for _, text := range []string{s, Fold(s), "ONE " + Fold(s) + " ONE"} {
			b.begin()
			if text == "" {
				continue
			}
			b.text(Body, text, false)
			b.end(ref(len(b.bodies)))
			if b.bodies[len(b.bodies)-1].flags != 0 {
				continue // too much of it
			}
			if got, want := indexedWords(t, b), spelled(text); !maps.EqualFunc(got, want, slices.Equal) {
				t.Fatalf("%q:\n%v, want\n%v", text, got, want)
			}
		}
	})
}

// Lists of all lengths, growing at the same time, come out as they went in.
func TestChains(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	var c chains
	lists, want := make([]chain, 50), make([][]byte, 50)
	for range 20_000 {
		i := int(rng.ExpFloat64()*5) % len(lists)
		b := make([]byte, rng.IntN(9))
		if rng.IntN(500) == 0 {
			b = make([]byte, rng.IntN(10_000))
		}
		for k := range b {
			b[k] = byte(rng.Uint32())
		}
		c.append(&lists[i], b)
		want[i] = append(want[i], b...)
	}
	total := 0
	for i, l := range lists {
		if got := c.read(nil, l); !bytes.Equal(got, want[i]) || int(l.size) != len(got) {
			t.Fatalf("list %d of %d octets came out with %d", i, len(want[i]), len(got))
		}
		total += len(want[i])
	}
	if c.octets() > 2*total {
		t.Errorf("%d octets take %d", total, c.octets())
	}
}

// A phrase that stands where a long line was cut is found by reading.
func TestContainsAcrossPieces(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("x", piece-6) + " one two three " + strings.Repeat("y", 2*piece)
	for _, c := range []struct {
		needle string
		want   bool
	}{{"x one two three y", true}, {"e two thre", true}, {"one three", false}} {
		if got, err := Contains(message("Subject: s", text), Body, Fold(c.needle)); err != nil || got != c.want {
			t.Errorf("%q: %v, %v", c.needle, got, err)
		}
	}
}
