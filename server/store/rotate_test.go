package store_test

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"testing"

	"mailform/server/store"
	"mailform/server/store/keyfile"
	"mailform/server/store/seal"
)

// simKeys is a keyfile.FS whose power can be cut together with the store's.
type simKeys struct{ *store.SimFS }

func (s simKeys) Read(name string, limit int) ([]byte, error) {
	f, err := s.Open(name)
	if err != nil {
		return nil, err
	}
	n, err := f.Size()
	if err != nil {
		return nil, err
	}
	b := make([]byte, min(n, int64(limit)))
	if len(b) > 0 {
		_, err = f.ReadAt(b, 0)
	}
	return b, err
}

func (s simKeys) Write(name string, b []byte, _ fs.FileMode, _ int) error {
	f, err := s.Create(name)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	return errors.Join(err, f.Sync())
}

func (s simKeys) Link(from, to string) error {
	if _, err := s.Open(to); err == nil {
		return fs.ErrExist
	}
	return s.Rename(from, to)
}

func (s simKeys) Hold(name string) (func(bool) error, error) {
	f, err := s.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return func(bool) error { return nil }, nil
	}
	return func(overwrite bool) error {
		if !overwrite {
			return nil
		}
		_, err := f.WriteAt(make([]byte, seal.KeySize), 0)
		return errors.Join(err, f.Sync())
	}, err
}

func (s simKeys) MkdirAll(string, int) error  { return nil }
func (s simKeys) Lock(string) (func(), error) { return func() {}, nil }

// place is the place of the key of the store in /s.
func (s simKeys) place() keyfile.Place {
	return keyfile.Place{Path: "/k/root.key", Saved: "/k/saved", Store: "/s", GID: -1, FS: s, Needed: func() (string, error) {
		var copies [][]byte
		for _, name := range s.Names("/s/keyring") {
			if name == "/s/keyring" || name == "/s/keyring.copy" {
				copies = append(copies, s.Content(name))
			}
		}
		if len(copies) == 0 {
			return "", nil
		}
		return seal.Needs(copies...)
	}}
}

// The power is cut at every step of a rotation, of one that follows a rotation that was
// cut, and of the making of a key and of the first keyring: each time what is left of
// the two files opens the store, and no mail is lost.
func TestRotatePowerCuts(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	options := func(sim *store.SimFS, key *seal.Key) store.Options {
		return store.Options{FS: sim, ReserveBytes: -1, Root: key, Encrypt: true}
	}
	cuts, old, fresh := 0, 0, 0
	for n := 1; ; n++ {
		whole := true
		for try := range uint64(6) {
			rng := rand.New(rand.NewPCG(uint64(n), try))
			sim := store.NewSimFS(rng)
			source := rand.NewChaCha8([32]byte{byte(n), byte(try)})
			first, err := simKeys{sim}.place().Make(source)
			if err != nil {
				t.Fatal(err)
			}
			l, err := store.Open("/s", options(sim, &first))
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(l.EnsureAccount(ctx, "a@b", 0), perform(ctx, l, "a@b", action{Kind: "deliver", Box: "INBOX", Text: "kept"})); err != nil {
				t.Fatal(err)
			}
			for life := range 2 { // the second rotates what the first left
				if life == 0 {
					sim.CutAfter(n)
				} else {
					sim.CutAfter(1 + rng.IntN(n))
				}
				_, err = simKeys{sim}.place().Rotate(l, source)
				if err != nil && !errors.Is(err, store.ErrPower) {
					t.Fatalf("cut %d: %v", n, err)
				}
				_ = l.Close() // with the power gone
				if life == 0 && err != nil {
					whole = false
				}
				sim = sim.Survivors()
				key, err := simKeys{sim}.place().Key()
				if err != nil || key == nil {
					t.Fatalf("cut %d, life %d: the key is lost: %v, %v", n, life, key, err)
				}
				if *key == first {
					old++
				} else {
					fresh++
				}
				if l, err = store.Open("/s", options(sim, key)); err != nil {
					t.Fatalf("cut %d, life %d: %v", n, life, err)
				}
				if got := inbox(t, l); !slices.Equal(got, []string{"kept"}) {
					t.Fatalf("cut %d, life %d: %q", n, life, got)
				}
				cuts++
			}
			closeLog(t, l)
		}
		if whole {
			break
		}
	}
	if old == 0 || fresh == 0 {
		t.Errorf("%d cuts left the old key and %d a new one: not all steps were cut", old, fresh)
	}
	t.Logf("%d power cuts: %d left the old key, %d a new one", cuts, old, fresh)
}

// inbox returns the messages of a@b.
func inbox(t *testing.T, l *store.Log) (texts []string) {
	t.Helper()
	box, w, err := l.Open(t.Context(), "a@b", "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for _, m := range box.Messages.All() {
		r, err := l.Read(t.Context(), "a@b", *m)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(b))
	}
	return texts
}

// A key that was made is there after a power cut or is not, and a store that was
// encrypted with it never is without it.
func TestMakeKeyPowerCuts(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	cuts := 0
	for n := 1; ; n++ {
		whole := true
		for try := range uint64(6) {
			sim := store.NewSimFS(rand.New(rand.NewPCG(uint64(n), try)))
			source := rand.NewChaCha8([32]byte{byte(n), byte(try), 1})
			l, err := store.Open("/s", store.Options{FS: sim, ReserveBytes: -1})
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(l.EnsureAccount(ctx, "a@b", 0), perform(ctx, l, "a@b", action{Kind: "deliver", Box: "INBOX", Text: "clear"})); err != nil {
				t.Fatal(err)
			}
			sim.CutAfter(n)
			key, err := simKeys{sim}.place().Make(source)
			acknowledged := 1
			if err == nil {
				l.GiveRoot(&key)
				err = l.SetEncrypt(true)
			}
			if err == nil {
				if err = perform(ctx, l, "a@b", action{Kind: "deliver", Box: "INBOX", Text: "sealed"}); err == nil {
					acknowledged++
				}
			}
			if err != nil {
				whole = false
			}
			_ = l.Close()
			sim = sim.Survivors()
			have, err := simKeys{sim}.place().Key()
			if err != nil {
				t.Fatalf("cut %d: %v", n, err)
			}
			if l, err = store.Open("/s", store.Options{FS: sim, ReserveBytes: -1, Root: have, Encrypt: have != nil}); err != nil {
				t.Fatalf("cut %d: %v", n, err)
			}
			all := []string{"clear", "sealed"}
			if got := inbox(t, l); len(got) < acknowledged || !slices.Equal(got, all[:len(got)]) {
				t.Fatalf("cut %d: %q", n, got)
			}
			closeLog(t, l)
			cuts++
		}
		if whole {
			break
		}
	}
	t.Logf("%d power cuts", cuts)
}
