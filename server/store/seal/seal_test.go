package seal

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func testRing(t testing.TB, names ...string) (*Ring, Key) {
	t.Helper()
	root, err := NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r := New(root, rand.Reader)
	if _, err := r.Make(names...); err != nil {
		t.Fatal(err)
	}
	r.Keep()
	return r, root
}

func encoded(t testing.TB, r *Ring) []byte {
	t.Helper()
	b, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// anyBody is bound to no message in particular.
var anyBody = BindingOf(PartBody, "")

// A body is read by each that it was sealed for, and by nobody when their keys have gone.
func TestBody(t *testing.T) {
	r, _ := testRing(t, "a@x", "b@x", Server)
	body, err := r.NewBody(anyBody, "a@x", "b@x")
	if err != nil {
		t.Fatal(err)
	}
	sealed := body.Seal(nil, []byte("one"), 0, false, false)
	last := body.Seal(nil, []byte("two"), 1, true, true)
	read := func() error {
		o, err := r.OpenBody(body.Slots(), &anyBody)
		if err != nil {
			return err
		}
		p, err := o.Open(nil, sealed, 0, false, false)
		if err == nil && string(p) != "one" {
			t.Errorf("%q", p)
		}
		return err
	}
	for _, drop := range []string{Server, "a@x"} {
		r.Drop(drop)
		if err := read(); err != nil {
			t.Errorf("without the key of %q: %v", drop, err)
		}
	}
	o, err := r.OpenBody(body.Slots(), &anyBody)
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		p            []byte
		n            int64
		packed, last bool
	}{
		"another place":          {sealed, 1, false, false},
		"cut off":                {sealed, 0, false, true},
		"taken for packed":       {sealed, 0, true, false},
		"the last taken for not": {last, 1, true, false},
		"a bit":                  {append([]byte{sealed[0] ^ 1}, sealed[1:]...), 0, false, false},
		"an octet less":          {sealed[:len(sealed)-1], 0, false, false},
		"nothing":                {nil, 0, false, false},
	} {
		if _, err := o.Open(nil, c.p, c.n, c.packed, c.last); !errors.Is(err, ErrTampered) {
			t.Errorf("%s: %v", what, err)
		}
	}
	r.Drop("b@x")
	if err := read(); !errors.Is(err, ErrNoKey) {
		t.Errorf("without any key: %v", err)
	}
	if _, err := r.NewBody(anyBody, "a@x"); !errors.Is(err, ErrNoKey) {
		t.Errorf("for one without a key: %v", err)
	}
	// Whoever comes by that name later has another key.
	if _, err := r.Make("a@x", "b@x"); err != nil {
		t.Fatal(err)
	}
	if r.Has("a@x") {
		t.Error("a key that is not written is used")
	}
	r.Keep()
	if err := read(); !errors.Is(err, ErrNoKey) {
		t.Errorf("with new keys of the same names: %v", err)
	}
}

// No two bodies have the same key, and no block the nonce of another.
func TestNonces(t *testing.T) {
	r, _ := testRing(t, "a@x")
	seen := map[string]bool{}
	for range 100 {
		b, err := r.NewBody(anyBody, "a@x")
		if err != nil {
			t.Fatal(err)
		}
		// The same block comes out as other octets whenever key or nonce differ.
		for n := range int64(10) {
			c := string(b.Seal(nil, make([]byte, 16), n, false, false)[:16])
			if seen[c] {
				t.Fatal("a key and a nonce were used twice")
			}
			seen[c] = true
		}
		if seen[string(b.Slots())] {
			t.Fatal("a slot came twice")
		}
		seen[string(b.Slots())] = true
	}
}

func TestRing(t *testing.T) {
	r, root := testRing(t, "a@x", `odd "name" with * and ü@x`, Server)
	b := encoded(t, r)
	if bytes.Contains(b, root.Octets()) {
		t.Error("the root key is in the ring")
	}
	again, whole, err := Decode(&root, rand.Reader, b)
	if err != nil || !whole || !slices.Equal(again.Names(), r.Names()) {
		t.Fatalf("%v, %t, %v", again, whole, err)
	}
	body, err := r.NewBody(anyBody, "a@x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.OpenBody(body.Slots(), &anyBody); err != nil {
		t.Error(err)
	}
	other, _ := testRing(t)
	var wrong *RootError
	if _, _, err := Decode(&other.root, rand.Reader, b); !errors.As(err, &wrong) || wrong.Want != root.Fingerprint() || wrong.Have != other.root.Fingerprint() {
		t.Errorf("with another root key: %v", err)
	}
	if _, _, err := Decode(nil, rand.Reader, b); !errors.As(err, &wrong) || wrong.Have != "" {
		t.Errorf("without a root key: %v", err)
	}
	again.Rewrap(other.root)
	if again, _, err = Decode(&other.root, rand.Reader, encoded(t, again)); err != nil {
		t.Fatal(err)
	}
	if _, err := again.OpenBody(body.Slots(), &anyBody); err != nil {
		t.Errorf("after another root key: %v", err)
	}
}

// Whatever octet of one copy goes bad, all keys are there.
func TestRingDamage(t *testing.T) {
	r, root := testRing(t, "a@x", "b@x", Server)
	good := encoded(t, r)
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x10
		again, _, err := Decode(&root, rand.Reader, bad, good)
		if err != nil || !slices.Equal(again.Names(), r.Names()) {
			t.Fatalf("octet %d: %v", i, err)
		}
		if again, whole, err := Decode(&root, rand.Reader, bad); err == nil && whole && !slices.Equal(again.Names(), r.Names()) {
			t.Fatalf("octet %d: a damaged copy alone passes for whole", i)
		}
	}
	if _, _, err := Decode(&root, rand.Reader, nil, []byte("x")); !errors.Is(err, ErrRing) {
		t.Errorf("no copy: %v", err)
	}
	// A copy from before does not bring back what was dropped.
	r.Drop("b@x")
	again, _, err := Decode(&root, rand.Reader, good, encoded(t, r))
	if err != nil || again.Has("b@x") {
		t.Errorf("a dropped key is back: %v", err)
	}
}

func TestOctets(t *testing.T) {
	r, _ := testRing(t, "a@x", Server)
	sealed, err := r.SealOctets(Server, "prefix", []byte("Received: x"))
	if err != nil || bytes.Contains(sealed, []byte("Received")) {
		t.Fatalf("%q, %v", sealed, err)
	}
	if p, err := r.OpenOctets(Server, "prefix", sealed); err != nil || string(p) != "Received: x" {
		t.Errorf("%q, %v", p, err)
	}
	for _, c := range [][2]string{{"a@x", "prefix"}, {Server, "other"}} {
		if _, err := r.OpenOctets(c[0], c[1], sealed); !errors.Is(err, ErrTampered) {
			t.Errorf("%q: %v", c, err)
		}
	}
	if _, err := r.Cipher("nobody@x", "search"); !errors.Is(err, ErrNoKey) {
		t.Error(err)
	}
	a, err := r.Cipher("a@x", "search")
	if err != nil {
		t.Fatal(err)
	}
	b, err := r.Cipher("a@x", "summary")
	if err != nil {
		t.Fatal(err)
	}
	nonce := make([]byte, a.NonceSize())
	if bytes.Equal(a.Seal(nil, nonce, []byte("x"), nil), b.Seal(nil, nonce, []byte("x"), nil)) {
		t.Error("two uses have one key")
	}
}

func TestKeyText(t *testing.T) {
	_, root := testRing(t)
	text := root.Text()
	if k, err := ParseText(" " + text[:40] + "\n" + text[40:] + "\n"); err != nil || k != root {
		t.Errorf("%v", err)
	}
	for i := range text {
		c := byte('A')
		if text[i] == c {
			c = 'B'
		}
		if _, err := ParseText(text[:i] + string(c) + text[i+1:]); err == nil {
			t.Errorf("with another character %d it passes", i)
		}
	}
	for _, s := range []string{fmt.Sprint(root), fmt.Sprintf("%v %+v %#v %s", root, root, root, &root)} {
		if strings.Contains(s, text[30:40]) || strings.Contains(s, fmt.Sprint(root.octets[0])+" "+fmt.Sprint(root.octets[1])) || !strings.Contains(s, root.Fingerprint()) {
			t.Errorf("a key prints as %s", s)
		}
	}
}

// FuzzRing reads arbitrary octets as a keyring.
func FuzzRing(f *testing.F) {
	r, root := testRing(f, "a@x", Server)
	f.Add(encoded(f, r))
	f.Add([]byte(ringMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		ring, _, err := Decode(&root, rand.Reader, b)
		if err != nil {
			return
		}
		if _, _, err := Decode(&root, rand.Reader, encoded(t, ring)); err != nil {
			t.Fatal(err)
		}
	})
}

// Neither a key nor a keyring shows an octet of a key, whatever the verb.
func TestNothingIsShown(t *testing.T) {
	key, err := KeyOf(bytes.Repeat([]byte{0xab}, KeySize))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{key, &key, New(key, rand.Reader)} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			if text := fmt.Sprintf(verb, v); strings.Contains(text, "171") || strings.Contains(strings.ToLower(text), "abab") {
				t.Errorf("%T with %s: %s", v, verb, text)
			}
		}
	}
}
