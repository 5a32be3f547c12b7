package kv_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"mailform/server/store/kv"
)

func open(t testing.TB, path string) *kv.DB {
	t.Helper()
	d, err := kv.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// content reads all of a bucket.
func content(d *kv.DB, bucket string) (map[string]string, error) {
	all := map[string]string{}
	last := ""
	err := d.View(func(tx *kv.Tx) error {
		return tx.Scan(bucket, nil, func(k, v []byte) error {
			if string(k) <= last && last != "" {
				return fmt.Errorf("%q comes after %q", k, last)
			}
			last = string(k)
			all[string(k)] = string(v)
			return nil
		})
	})
	return all, err
}

// TestModel compares with a map, over transactions that fail and reopened files.
func TestModel(t *testing.T) {
	n := 0
	rapid.Check(t, func(r *rapid.T) {
		n++
		path := filepath.Join(t.TempDir(), fmt.Sprint(n))
		d := open(t, path)
		model := map[string]string{}
		key := rapid.StringMatching(`[ab]{1,3}`)
		for range rapid.IntRange(1, 20).Draw(r, "transactions") {
			next := maps.Clone(model)
			fail := rapid.IntRange(0, 4).Draw(r, "fail") == 0
			err := d.Update(func(tx *kv.Tx) error {
				for range rapid.IntRange(0, 5).Draw(r, "changes") {
					k := key.Draw(r, "key")
					switch rapid.IntRange(0, 3).Draw(r, "kind") {
					case 0:
						delete(next, k)
						if err := tx.Delete("b", []byte(k)); err != nil {
							return err
						}
					case 1:
						maps.DeleteFunc(next, func(have, _ string) bool { return strings.HasPrefix(have, k) })
						if err := tx.DeletePrefix("b", []byte(k)); err != nil {
							return err
						}
					default:
						v := strings.Repeat("v", rapid.IntRange(0, 9000).Draw(r, "length"))
						next[k] = v
						if err := tx.Put("b", []byte(k), []byte(v)); err != nil {
							return err
						}
					}
				}
				if fail {
					return os.ErrInvalid
				}
				return nil
			})
			if fail != errors.Is(err, os.ErrInvalid) || !fail && err != nil {
				r.Fatal(err)
			}
			if !fail {
				model = next
			}
			if rapid.IntRange(0, 3).Draw(r, "reopen") == 0 {
				if err := d.Close(); err != nil {
					r.Fatal(err)
				}
				d = open(t, path)
			}
			got, err := content(d, "b")
			if err != nil || !maps.Equal(got, model) {
				r.Fatalf("%d pairs, want %d: %v", len(got), len(model), err)
			}
			probe(r, d, model, key.Draw(r, "probe"))
		}
		if err := d.Close(); err != nil {
			r.Fatal(err)
		}
	})
}

// probe compares the ways to look for one key.
func probe(r *rapid.T, d *kv.DB, model map[string]string, key string) {
	var under []string
	for _, k := range slices.Sorted(maps.Keys(model)) {
		if strings.HasPrefix(k, key) {
			under = append(under, k)
		}
	}
	err := d.View(func(tx *kv.Tx) error {
		v, err := tx.Get("b", []byte(key))
		if want, ok := model[key]; err != nil || (v != nil) != ok || string(v) != want {
			r.Errorf("get %q: %d octets, want %d: %v", key, len(v), len(want), err)
		}
		var got []string
		if err := tx.Scan("b", []byte(key), func(k, _ []byte) error { got = append(got, string(k)); return nil }); err != nil || !slices.Equal(got, under) {
			r.Errorf("scan %q: %q, want %q: %v", key, got, under, err)
		}
		k, _, err := tx.Last("b", []byte(key))
		if want := strings.Join(under[max(len(under)-1, 0):], ""); err != nil || string(k) != want {
			r.Errorf("last below %q: %q, want %q: %v", key, k, want, err)
		}
		got = nil
		if err := tx.Range("b", []byte(key), []byte("b"), func(k, _ []byte) error { got = append(got, string(k)); return nil }); err != nil {
			r.Error(err)
		}
		for _, k := range got {
			if k < key || k >= "b" {
				r.Errorf("range from %q: %q", key, k)
			}
		}
		return nil
	})
	if err != nil {
		r.Fatal(err)
	}
}

// sample makes a file with a tree of some depth, free pages and large values.
func sample(t testing.TB, path string) map[string]map[string]string {
	d := open(t, path)
	want := map[string]map[string]string{"many": {}, "large": {}, "small": {}}
	put := func(bucket, key, value string) {
		want[bucket][key] = value
	}
	for i := range 3000 {
		put("many", fmt.Sprintf("user%d@example.org/%06d", i%7, i), strings.Repeat(fmt.Sprint(i), 10))
	}
	for i := range 8 {
		put("large", fmt.Sprint(i), strings.Repeat(fmt.Sprint(i), 20_000))
	}
	put("small", "k", "v")
	for range 2 { // the second time leaves free pages
		if err := d.Update(func(tx *kv.Tx) error {
			for bucket, pairs := range want {
				for _, k := range slices.Sorted(maps.Keys(pairs)) {
					if err := tx.Put(bucket, []byte(k), []byte(pairs[k])); err != nil {
						return err
					}
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	return want
}

// TestDamage flips bits, cuts the file off and mixes it with an older state: what
// is read is what was written, or ErrDamaged.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "db")
	want := sample(t, path)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	damaged, lost := 0, 0
	for i := range 600 {
		b := bytes.Clone(whole)
		switch i % 6 {
		case 0:
			b = b[:rng.IntN(len(b))]
		case 1: // a page in the place of another
			to, from := rng.IntN(len(b)/4096)*4096, rng.IntN(len(b)/4096)*4096
			copy(b[to:to+4096], whole[from:])
		case 2: // in the headers and elements of pages, where the tree is
			at := rng.IntN(len(b)/4096)*4096 + rng.IntN(200)
			b[at] ^= 1 << rng.IntN(8)
		default:
			b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
		}
		broken := filepath.Join(dir, "broken")
		if err := os.WriteFile(broken, b, 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := kv.Open(broken)
		if err != nil {
			if !errors.Is(err, kv.ErrDamaged) {
				t.Fatalf("round %d: %v", i, err)
			}
			damaged++
			continue
		}
		for bucket, pairs := range want {
			got, err := content(d, bucket)
			if err != nil {
				if !errors.Is(err, kv.ErrDamaged) {
					t.Errorf("round %d: %v", i, err)
				}
				damaged++
				break
			}
			for k, v := range got {
				if pairs[k] != v {
					t.Errorf("round %d: %s has another value", i, k)
				}
			}
			if len(got) < len(pairs) {
				lost++
			}
		}
		if err := d.Close(); err != nil && !errors.Is(err, kv.ErrDamaged) {
			t.Error(err)
		}
	}
	if damaged < 100 {
		t.Errorf("only %d damaged files were found out", damaged)
	}
	if lost > 30 {
		t.Errorf("%d damaged files had lost keys and did not say so", lost)
	}
	t.Logf("%d found out, %d had lost keys", damaged, lost)
}

// TestDamageStays has a file that was found damaged fail from then on.
func TestDamageStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	sample(t, path)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(b, bytes.Repeat([]byte("7"), 5000))
	b[at+3]++
	copy(b[bytes.LastIndex(b, bytes.Repeat([]byte("7"), 5000)):], "6")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	d := open(t, path)
	get := func(key string) error {
		return d.View(func(tx *kv.Tx) error {
			_, err := tx.Get("large", []byte(key))
			return err
		})
	}
	if err := get("6"); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"7", "6"} {
		if err := get(key); !errors.Is(err, kv.ErrDamaged) {
			t.Errorf("after the damage was met, %s: %v", key, err)
		}
	}
	if err := d.Update(func(*kv.Tx) error { return nil }); !errors.Is(err, kv.ErrDamaged) {
		t.Error(err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// TestTruncatedWhileOpen reads beyond the end of a file that somebody cut off.
func TestTruncatedWhileOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	sample(t, path)
	d := open(t, path)
	if err := os.Truncate(path, 8192); err != nil {
		t.Fatal(err)
	}
	if _, err := content(d, "large"); !errors.Is(err, kv.ErrDamaged) {
		t.Errorf("read a file that was cut off: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

func TestTrim(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	want := sample(t, path)
	d := open(t, path)
	for range 2 {
		got, err := content(d, "many")
		if err != nil || !maps.Equal(got, want["many"]) {
			t.Fatal(err)
		}
		if err := d.Trim(); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := d.Size(); err != nil || n < 100_000 {
		t.Errorf("%d octets: %v", n, err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if err := kv.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := kv.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// FuzzOpen opens arbitrary files: it ends, with the truth or with ErrDamaged.
func FuzzOpen(f *testing.F) {
	path := filepath.Join(f.TempDir(), "db")
	d := open(f, path)
	if err := d.Update(func(tx *kv.Tx) error {
		for i := range 200 {
			if err := tx.Put("b", fmt.Appendf(nil, "%05d", i), bytes.Repeat([]byte{'x'}, 100)); err != nil {
				return err
			}
		}
		return tx.Put("c", []byte("k"), []byte("v"))
	}); err != nil {
		f.Fatal(err)
	}
	if err := d.Close(); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(0), []byte{})
	f.Add(uint32(16), []byte{0xff})
	f.Add(uint32(8192+24), []byte{3})
	f.Fuzz(func(t *testing.T, at uint32, patch []byte) {
		b := bytes.Clone(whole)
		copy(b[int(at)%len(b):], patch)
		path := filepath.Join(t.TempDir(), "db")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := kv.Open(path)
		if err != nil {
			return
		}
		for _, bucket := range []string{"b", "c"} {
			if _, err := content(d, bucket); err != nil && !errors.Is(err, kv.ErrDamaged) {
				t.Error(err)
			}
		}
		if err := d.Close(); err != nil && !errors.Is(err, kv.ErrDamaged) {
			t.Error(err)
		}
	})
}

// TestRewrite: what was deleted is in no page of the file any more, what is there is
// as it was, also for who reads meanwhile and after the file was opened again.
func TestRewrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kv")
	d := open(t, path)
	put := func(n int, value string) {
		t.Helper()
		if err := d.Update(func(tx *kv.Tx) error {
			for i := range n {
				if err := tx.Put("b", fmt.Appendf(nil, "%s%04d", value, i), []byte(strings.Repeat(value, 10))); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	put(500, "secret")
	put(500, "public")
	if err := d.Update(func(tx *kv.Tx) error { return tx.DeletePrefix("b", []byte("secret")) }); err != nil {
		t.Fatal(err)
	}
	has := func(text string) bool {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(b), text)
	}
	if !has("secretsecret") {
		t.Fatal("nothing is left of what was deleted: the test shows nothing")
	}
	done := make(chan error)
	go func() {
		var err error
		for range 50 {
			if all, verr := content(d, "b"); verr != nil || len(all) != 500 {
				err = fmt.Errorf("%d pairs, %w", len(all), verr)
			}
		}
		done <- err
	}()
	if err := d.Rewrite(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if has("secret") || !has("publicpublic") {
		t.Errorf("secret %t, public %t", has("secret"), has("publicpublic"))
	}
	put(1, "later")
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = open(t, path)
	if all, err := content(d, "b"); err != nil || len(all) != 501 {
		t.Errorf("%d pairs, %v", len(all), err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}
