package account

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"mailform/server/manifest"
)

func mustHash(t testing.TB, password string) string {
	t.Helper()
	h, err := HashPassword(password)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestHashAndVerify(t *testing.T) {
	h := mustHash(t, "correct horse")
	if !strings.HasPrefix(h, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("hash %q does not say its parameters", h)
	}
	if h == mustHash(t, "correct horse") {
		t.Error("two hashes of one password are equal: no salt")
	}
	for password, want := range map[string]bool{"correct horse": true, "Correct horse": false, "": false, "correct horse ": false} {
		got, err := Verify(h, password)
		if err != nil || got != want {
			t.Errorf("Verify(%q) = %v, %v; want %v", password, got, err, want)
		}
	}
}

// From the test vectors of the reference implementation (test.c): argon2id, t=2, m=2^16, p=1.
func TestVerifyReferenceHash(t *testing.T) {
	const ref = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	if ok, err := Verify(ref, "password"); err != nil || !ok {
		t.Errorf("Verify = %v, %v; want true", ok, err)
	}
}

func TestParsePHCRefuses(t *testing.T) {
	good := phc{time: 2, memory: 19456, threads: 1, salt: make([]byte, 16), key: make([]byte, 32)}.String()
	if err := CheckHash(good); err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]string{
		"empty":              "",
		"bcrypt":             "$2y$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy",
		"argon2i":            strings.Replace(good, "argon2id", "argon2i", 1),
		"old version":        strings.Replace(good, "v=19", "v=16", 1),
		"memory bomb":        strings.Replace(good, "m=19456", "m=4194304", 1),
		"time bomb":          strings.Replace(good, "t=2", "t=4294967295", 1),
		"zero lanes":         strings.Replace(good, "p=1", "p=0", 1),
		"signed":             strings.Replace(good, "t=2", "t=+2", 1),
		"wrong order":        strings.Replace(good, "m=19456,t=2", "t=2,m=19456", 1),
		"memory below lanes": strings.Replace(good, "m=19456,t=2,p=1", "m=8,t=2,p=2", 1),
		"padding":            good + "=",
		"short hash":         good[:len(good)-40],
		"extra field":        good + "$x",
		"long":               good + strings.Repeat("A", 600),
	} {
		if err := CheckHash(s); !errors.Is(err, ErrHash) {
			t.Errorf("%s: error %v, want ErrHash", name, err)
		}
	}
}

func FuzzParsePHC(f *testing.F) {
	f.Add("$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g")
	f.Add("$argon2id$v=19$m=,t=,p=$$")
	f.Add("$$$$$")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parsePHC(s)
		if err != nil {
			if !errors.Is(err, ErrHash) {
				t.Fatalf("error %v is not ErrHash", err)
			}
			return
		}
		if p.memory > maxMemory || p.time > maxTime || p.threads > maxThreads || p.time == 0 || p.threads == 0 {
			t.Fatalf("%q passed with costs out of bounds: %+v", s, p)
		}
		again, err := parsePHC(p.String())
		if err != nil || again.String() != p.String() {
			t.Fatalf("%q does not survive a round trip: %v", s, err)
		}
	})
}

func TestGeneratePassword(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		p, err := GeneratePassword()
		if err != nil {
			t.Fatal(err)
		}
		if len(p) != 24 || strings.Trim(p, passwordAlphabet+"-") != "" || seen[p] {
			t.Fatalf("password %q (repeated: %v)", p, seen[p])
		}
		seen[p] = true
	}
}

func testDirectory(t testing.TB) *Directory {
	t.Helper()
	d, err := NewDirectory(&manifest.Manifest{Domains: []manifest.Domain{{
		Name: "example.com",
		Mailboxes: []manifest.Mailbox{
			{Local: "alice", PasswordHash: mustHash(t, "alice's"), Aliases: []string{"a"}},
			{Local: "bob"},
			{Local: "carol"},
		},
	}}}, &manifest.Credentials{Hashes: map[string]string{"bob@example.com": mustHash(t, "bob's")}})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestAuthenticate(t *testing.T) {
	a, err := NewAuthenticator(testDirectory(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ login, password, want string }{
		{"alice@example.com", "alice's", "alice@example.com"},
		{"Alice@EXAMPLE.com", "alice's", "alice@example.com"},
		{"bob@example.com", "bob's", "bob@example.com"}, // from the credentials file
		{"alice@example.com", "bob's", ""},
		{"alice@example.com", "", ""},
		{"a@example.com", "alice's", ""}, // an alias is no login
		{"alice", "alice's", ""},
		{"carol@example.com", "", ""}, // no password yet
		{"carol@example.com", "x", ""},
		{"nobody@example.com", "x", ""},
		{"alice@example.com", strings.Repeat("x", MaxPassword+1), ""},
	} {
		got, err := a.Authenticate(context.Background(), tc.login, tc.password)
		if got != tc.want || (tc.want == "") != errors.Is(err, ErrCredentials) {
			t.Errorf("Authenticate(%q, %.20q) = %q, %v; want %q", tc.login, tc.password, got, err, tc.want)
		}
	}
}

func TestVerificationCache(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	d := testDirectory(t)
	a, err := NewAuthenticator(d, Options{Parallel: 1, Now: func() time.Time { return now }, CacheFor: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	if _, err := a.Authenticate(ctx, "alice@example.com", "alice's"); err != nil {
		t.Fatal(err)
	}
	a.slots <- struct{}{} // whoever needs a hash now would wait for ever
	short, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := a.Authenticate(short, "alice@example.com", "alice's"); err != nil {
		t.Errorf("a known password was hashed again: %v", err)
	}
	if _, err := a.Authenticate(short, "alice@example.com", "wrong"); !errors.Is(err, context.Canceled) {
		t.Errorf("a wrong password was answered from the cache: %v", err)
	}
	now = now.Add(time.Minute)
	if _, err := a.Authenticate(short, "alice@example.com", "alice's"); !errors.Is(err, context.Canceled) {
		t.Errorf("the cache outlived its time: %v", err)
	}
	<-a.slots

	if _, err := a.Authenticate(ctx, "alice@example.com", "alice's"); err != nil {
		t.Fatal(err)
	}
	changed, err := NewDirectory(&manifest.Manifest{Domains: []manifest.Domain{{Name: "example.com",
		Mailboxes: []manifest.Mailbox{{Local: "alice", PasswordHash: mustHash(t, "new")}}}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	a.SetDirectory(changed)
	if _, err := a.Authenticate(ctx, "alice@example.com", "alice's"); !errors.Is(err, ErrCredentials) {
		t.Errorf("the old password works after a change: %v", err)
	}
	if _, err := a.Authenticate(ctx, "alice@example.com", "new"); err != nil {
		t.Fatal(err)
	}
	removed, err := NewDirectory(&manifest.Manifest{Domains: []manifest.Domain{{Name: "example.com"}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	a.SetDirectory(removed)
	if _, err := a.Authenticate(ctx, "alice@example.com", "new"); !errors.Is(err, ErrCredentials) {
		t.Errorf("who was removed logs in: %v", err)
	}
}

// A crowd of guesses computes no more than Parallel hashes at once and the cache stays bounded.
func TestAuthenticateCrowd(t *testing.T) {
	a, err := NewAuthenticator(testDirectory(t), Options{Parallel: 2, CacheSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			user, password := "alice@example.com", "alice's"
			if i%3 == 0 {
				user, password = "bob@example.com", "bob's"
			} else if i%3 == 1 {
				password = fmt.Sprint(i)
			}
			_, _ = a.Authenticate(context.Background(), user, password)
		}()
	}
	wg.Wait()
	if len(a.cache) > 1 {
		t.Errorf("the cache holds %d entries, limit 1", len(a.cache))
	}
}

func TestNewDirectoryRefuses(t *testing.T) {
	for name, boxes := range map[string][]manifest.Mailbox{
		"a bad hash":  {{Local: "a", PasswordHash: "plain"}},
		"a duplicate": {{Local: "a"}, {Local: "A"}},
	} {
		if _, err := NewDirectory(&manifest.Manifest{Domains: []manifest.Domain{{Name: "d", Mailboxes: boxes}}}, nil); err == nil {
			t.Errorf("%s was accepted", name)
		} else if strings.Contains(err.Error(), "plain") {
			t.Errorf("the error shows the hash: %v", err)
		}
	}
}
