package account

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/xdg-go/scram"
	"github.com/xdg-go/stringprep"

	"mailform/server/manifest"
)

func mustKeys(t testing.TB, password string) string {
	t.Helper()
	k, err := SCRAMKeys(password)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// scramDirectory has alice with a hash only and bob with keys, too.
func scramDirectory(t testing.TB, alice string) *Directory {
	t.Helper()
	d, err := NewDirectory(&manifest.Manifest{Domains: []manifest.Domain{{Name: "example.com", Mailboxes: []manifest.Mailbox{
		{Local: "alice", PasswordHash: mustHash(t, alice)}, {Local: "bob"}, {Local: "a,b=c"},
	}}}}, &manifest.Credentials{
		Hashes: map[string]string{"bob@example.com": mustHash(t, "bob's"), "a,b=c@example.com": mustHash(t, "odd")},
		SCRAM:  map[string]string{"bob@example.com": mustKeys(t, "bob's"), "a,b=c@example.com": mustKeys(t, "odd")},
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func newAuthenticator(t testing.TB, d *Directory, file string) *Authenticator {
	t.Helper()
	a, err := NewAuthenticator(d, Options{KeyFile: file})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// talk lets a client of another make log in and returns the account.
func talk(t testing.TB, x Exchange, c *scram.ClientConversation) (string, error) {
	t.Helper()
	message, err := c.Step("")
	if err != nil {
		t.Fatal(err)
	}
	for {
		challenge, done, err := x.Next([]byte(message))
		if err != nil || done {
			if done && !c.Valid() {
				t.Error("the client does not believe that the server knows the password")
			}
			return x.Account(), err
		}
		if c.Done() {
			t.Fatalf("the server goes on: %q", challenge)
		}
		if message, err = c.Step(string(challenge)); err != nil {
			t.Fatal(err)
		}
	}
}

func peer(t testing.TB, user, password string) *scram.Client {
	t.Helper()
	c, err := scram.SHA256.NewClient(user, password, "")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSCRAM(t *testing.T) {
	t.Parallel()
	a := newAuthenticator(t, scramDirectory(t, "alice's"), "")
	try := func(login, password, want string) {
		t.Helper()
		got, err := talk(t, a.SCRAM(false, nil), peer(t, login, password).NewConversation())
		if got != want || (want == "") != errors.Is(err, ErrCredentials) {
			t.Errorf("%s with %q: %q, %v; want %q", login, password, got, err, want)
		}
	}
	try("bob@example.com", "bob's", "bob@example.com")
	try("BOB@example.com", "bob's", "bob@example.com")
	try("a,b=c@example.com", "odd", "a,b=c@example.com")
	try("bob@example.com", "alice's", "")
	try("nobody@example.com", "x", "")
	try("alice@example.com", "alice's", "") // nothing but her hash is known
	if _, err := a.Authenticate(t.Context(), "alice@example.com", "wrong"); !errors.Is(err, ErrCredentials) {
		t.Fatal(err)
	}
	try("alice@example.com", "wrong", "") // a wrong password teaches nothing
	if _, err := a.Authenticate(t.Context(), "alice@example.com", "alice's"); err != nil {
		t.Fatal(err)
	}
	try("alice@example.com", "alice's", "alice@example.com")
	try("alice@example.com", "wrong", "")
	if len(a.cache) != 1 {
		t.Errorf("the cache of passwords holds %d, a login by SCRAM has no place in it", len(a.cache))
	}
	a.SetDirectory(scramDirectory(t, "alice's new"))
	try("alice@example.com", "alice's", "")
	try("alice@example.com", "alice's new", "")
	if _, err := a.Authenticate(t.Context(), "alice@example.com", "alice's new"); err != nil {
		t.Fatal(err)
	}
	try("alice@example.com", "alice's", "")
	try("alice@example.com", "alice's new", "alice@example.com")
}

// The example of RFC 7677 3.
func TestSCRAMExample(t *testing.T) {
	salt, _ := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	salted, err := pbkdf2.Key(sha256.New, "pencil", salt, 4096, sha256.Size)
	if err != nil {
		t.Fatal(err)
	}
	const nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	x := &scramExchange{step: 1, known: true, account: "user", gs2: "n,,", nonce: nonce,
		first: "n=user,r=rOprNGfwEbeRWgbNEkqO,r=" + nonce + ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
		keys:  &scramKeys{stored: sha256.Sum256(hmacOf(salted, "Client Key")), server: [32]byte(hmacOf(salted, "Server Key"))}}
	challenge, done, err := x.Next([]byte("c=biws,r=" + nonce + ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="))
	if err != nil || done || string(challenge) != "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=" || x.Account() != "" {
		t.Errorf("server-final %q, %v, %v, account %q", challenge, done, err, x.Account())
	}
	if _, done, err := x.Next([]byte{}); !done || err != nil || x.Account() != "user" {
		t.Errorf("the end: %v, %v, account %q", done, err, x.Account())
	}
	if _, _, err := x.Next([]byte{}); !errors.Is(err, ErrExchange) || x.Account() != "" {
		t.Errorf("behind the end: %v, account %q", err, x.Account())
	}
}

// A login without keys is shown the same salt each time, after a restart too, like one that has some.
func TestSCRAMShowsNobody(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "keys")
	d := scramDirectory(t, "alice's")
	ask := func(a *Authenticator, login string) string {
		t.Helper()
		challenge, _, err := a.SCRAM(false, nil).Next([]byte("n,,n=" + login + ",r=abc"))
		if err != nil {
			t.Fatal(err)
		}
		parts := strings.Split(string(challenge), ",")
		if len(parts) != 3 || parts[2] != "i=50000" || len(parts[1]) != len("s=")+24 {
			t.Fatalf("server-first %q", challenge)
		}
		return parts[1]
	}
	first, second := newAuthenticator(t, d, file), newAuthenticator(t, d, file)
	seen := map[string]string{}
	for _, login := range []string{"nobody@example.com", "alice@example.com", "bob@example.com", "x"} {
		salt := ask(first, login)
		if salt != ask(first, strings.ToUpper(login)) || salt != ask(second, login) {
			t.Errorf("the salt of %s changes", login)
		}
		if other := seen[salt]; other != "" {
			t.Errorf("%s and %s have the same salt", login, other)
		}
		seen[salt] = login
	}
	if ask(newAuthenticator(t, d, ""), "x") == ask(first, "x") {
		t.Error("the salt of nobody is known to everybody")
	}
}

func TestSCRAMMalformed(t *testing.T) {
	t.Parallel()
	a := newAuthenticator(t, scramDirectory(t, "alice's"), "")
	bound := func(string) []byte { return []byte("data") }
	for _, tc := range []struct {
		message string
		plus    bool
		binding Binding
		want    error
	}{
		{"", false, nil, ErrExchange},
		{"n,,", false, nil, ErrExchange},
		{"n,,n=a", false, nil, ErrExchange},
		{"n,,r=b,n=a", false, nil, ErrExchange},
		{"n,,n=,r=b", false, nil, ErrExchange},
		{"n,,n=a=2,r=b", false, nil, ErrExchange},
		{"n,,n=a=2c,r=b", false, nil, ErrExchange},
		{"n,,n=a\x00b,r=b", false, nil, ErrExchange},
		{"n,,n=a,r=", false, nil, ErrExchange},
		{"n,,n=a,r=b c", false, nil, ErrExchange},
		{"n,,n=a,r=" + strings.Repeat("x", maxNonce+1), false, nil, ErrExchange},
		{"n,,n=" + strings.Repeat("x", maxLogin+1) + ",r=b", false, nil, ErrExchange},
		{"n,,n=a,r=b," + strings.Repeat("x", maxSCRAM), false, nil, ErrExchange},
		{"n,,m=ext,n=a,r=b", false, nil, ErrExchange}, // an extension that must be understood
		{"x,,n=a,r=b", false, nil, ErrExchange},
		{"n,b=x,n=a,r=b", false, nil, ErrExchange},
		{"p=tls-exporter,,n=a,r=b", false, bound, ErrExchange},
		{"n,,n=a,r=b", true, bound, ErrExchange},
		{"y,,n=a,r=b", true, bound, ErrExchange},
		{"p=tls-exporter,,n=a,r=b", true, nil, ErrExchange},
		{"p=,,n=a,r=b", true, bound, ErrExchange},
		{"p=tls_x,,n=a,r=b", true, bound, ErrExchange},
		{"p=tls-exporter,,n=a,r=b", true, func(string) []byte { return nil }, ErrExchange},
		{"y,,n=a,r=b", false, bound, ErrCredentials}, // somebody has hidden the offer
		{"n,a=eve,n=a,r=b", false, nil, ErrCredentials},
		{"y,,n=a,r=b", false, nil, nil},
		{"n,a=A,n=a,r=b,x=y", false, bound, nil},
		{"p=tls-exporter,,n=a,r=b", true, bound, nil},
	} {
		x := a.SCRAM(tc.plus, tc.binding)
		if _, _, err := x.Next([]byte(tc.message)); !errors.Is(err, tc.want) {
			t.Errorf("%.60q: %v, want %v", tc.message, err, tc.want)
		} else if err != nil {
			if _, done, err := x.Next([]byte("n,,n=a,r=b")); done || !errors.Is(err, ErrExchange) {
				t.Errorf("%.60q: the exchange goes on: %v", tc.message, err)
			}
		}
	}
	proof := base64.StdEncoding.EncodeToString(make([]byte, 32))
	for message, want := range map[string]error{
		"":                              ErrExchange,
		"c=biws,r=NONCE":                ErrExchange,
		"c=biws,r=NONCE,p=":             ErrExchange,
		"c=biws,r=NONCE,p=AAAA":         ErrExchange,
		"c=b,r=NONCE,p=" + proof:        ErrExchange,
		"r=NONCE,c=biws,p=" + proof:     ErrExchange,
		"c=biws,p=" + proof:             ErrExchange,
		"c=bi\r\nws,r=NONCE,p=" + proof: ErrExchange,
		"c=biws,r=NONCE,p=" + proof:     ErrCredentials,
		"c=biws,r=other,p=" + proof:     ErrCredentials,
		"c=eSws,r=NONCE,p=" + proof:     ErrCredentials, // not the header it began with
	} {
		x := a.SCRAM(false, nil)
		first, _, err := x.Next([]byte("n,,n=bob@example.com,r=abc"))
		if err != nil {
			t.Fatal(err)
		}
		nonce := strings.TrimPrefix(strings.Split(string(first), ",")[0], "r=")
		if _, _, err := x.Next([]byte(strings.ReplaceAll(message, "NONCE", nonce))); !errors.Is(err, want) || x.Account() != "" {
			t.Errorf("%q: %v, want %v", message, err, want)
		}
	}
}

// The right password with a nonce of another exchange, or bound to another channel, is of no use.
func TestSCRAMReplay(t *testing.T) {
	t.Parallel()
	a := newAuthenticator(t, scramDirectory(t, "alice's"), "")
	c := peer(t, "bob@example.com", "bob's").NewConversation()
	hello, _ := c.Step("")
	x := a.SCRAM(false, nil)
	first, _, err := x.Next([]byte(hello))
	if err != nil {
		t.Fatal(err)
	}
	final, err := c.Step(string(first))
	if err != nil {
		t.Fatal(err)
	}
	again := a.SCRAM(false, nil)
	if _, _, err := again.Next([]byte(hello)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := again.Next([]byte(final)); !errors.Is(err, ErrCredentials) {
		t.Errorf("a proof works twice: %v", err)
	}
	if _, _, err := x.Next([]byte(final)); err != nil {
		t.Errorf("and not where it belongs: %v", err)
	}
}

// connect returns both ends of a TLS connection and the server's configuration.
func connect(t *testing.T, version uint16) (client, server *tls.Conn, cfg *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"mail.example.com"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	if cert.Leaf, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert.Leaf)
	cfg = &tls.Config{MaxVersion: version, GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		return cert, hello.SupportsCertificate(cert)
	}}
	a, b := net.Pipe()
	client = tls.Client(a, &tls.Config{ServerName: "mail.example.com", RootCAs: roots})
	server = tls.Server(b, cfg)
	t.Cleanup(func() { a.Close(); b.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	failed := make(chan error, 1)
	go func() { failed <- server.HandshakeContext(ctx) }()
	if err := errors.Join(client.HandshakeContext(ctx), <-failed); err != nil {
		t.Fatal(err)
	}
	return client, server, cfg
}

func TestChannelBinding(t *testing.T) {
	t.Parallel()
	a := newAuthenticator(t, scramDirectory(t, "alice's"), "")
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		client, server, cfg := connect(t, version)
		_, stranger, other := connect(t, version)
		cs := client.ConnectionState()
		exporter, err := scram.NewTLSExporterBinding(&cs)
		if err != nil {
			t.Fatal(err)
		}
		endPoint, err := scram.NewTLSServerEndpointBinding(&cs)
		if err != nil {
			t.Fatal(err)
		}
		for name, binding := range map[string]scram.ChannelBinding{
			"tls-exporter": exporter, "tls-server-end-point": endPoint, "tls-unique": scram.NewTLSUniqueBinding(cs.TLSUnique),
		} {
			bob := peer(t, "bob@example.com", "bob's")
			if version == tls.VersionTLS13 && name == "tls-unique" { // RFC 9266 3: TLS 1.3 has none
				if got := BindingOf(server, cfg)(name); got != nil {
					t.Errorf("tls-unique with TLS 1.3: %x", got)
				}
				continue
			}
			if got, err := talk(t, a.SCRAM(true, BindingOf(server, cfg)), bob.NewConversationWithChannelBinding(binding)); got == "" {
				t.Errorf("%s, %x: %v", name, version, err)
			}
			if got, err := talk(t, a.SCRAM(true, BindingOf(stranger, other)), bob.NewConversationWithChannelBinding(binding)); got != "" || !errors.Is(err, ErrCredentials) {
				t.Errorf("%s, %x: somebody in between logs in as %q: %v", name, version, got, err)
			}
		}
		bob := peer(t, "bob@example.com", "bob's")
		x := a.SCRAM(false, BindingOf(server, cfg))
		if got, err := talk(t, x, bob.NewConversationAdvertisingChannelBinding()); got != "" || !errors.Is(err, ErrCredentials) {
			t.Errorf("a client that was not shown -PLUS logs in as %q: %v", got, err)
		}
	}
}

func TestKeyFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "keys")
	d := scramDirectory(t, "alice's")
	a := newAuthenticator(t, d, file)
	if _, err := a.Authenticate(t.Context(), "alice@example.com", "alice's"); err != nil {
		t.Fatal(err)
	}
	works := func(a *Authenticator) bool {
		_, _, known := a.keysOf("alice@example.com")
		return known
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file of keys: %v, %v", info.Mode(), err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "argon2id") || strings.Contains(string(text), "alice's") {
		t.Errorf("the file holds more than it should: %s", text)
	}
	if !works(newAuthenticator(t, d, file)) {
		t.Error("the keys are gone after a restart")
	}
	for name, damaged := range map[string]string{
		"cut":     string(text[:len(text)-3]),
		"changed": strings.Replace(string(text), "50000:", "4096:", 1),
		"long":    strings.Repeat("x", 1<<20) + "\n" + string(text),
		"empty":   "",
	} {
		if err := os.WriteFile(file, []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		if b := newAuthenticator(t, d, file); works(b) {
			t.Errorf("%s: keys out of a damaged line", name)
		} else if _, err := b.Authenticate(t.Context(), "alice@example.com", "alice's"); err != nil || !works(newAuthenticator(t, d, file)) {
			t.Errorf("%s: the keys are not learned again: %v", name, err)
		}
	}
	if works(newAuthenticator(t, scramDirectory(t, "alice's"), file)) { // the same password, another hash
		t.Error("keys work with another hash than theirs")
	}
	off, err := NewDirectory(&manifest.Manifest{NoSCRAM: true, Domains: []manifest.Domain{{Name: "example.com", Mailboxes: []manifest.Mailbox{{Local: "bob"}}}}},
		&manifest.Credentials{Hashes: map[string]string{"bob@example.com": mustHash(t, "bob's")}, SCRAM: map[string]string{"bob@example.com": mustKeys(t, "bob's")}})
	if err != nil {
		t.Fatal(err)
	}
	a.SetDirectory(off)
	if _, err := a.Authenticate(t.Context(), "bob@example.com", "bob's"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the keys are there although the spec says no: %v", err)
	}
	if _, _, known := a.keysOf("bob@example.com"); known {
		t.Error("keys are used although the spec says no")
	}
}

// A place that cannot be written costs the keys of this process' time only.
func TestKeyFileUnwritable(t *testing.T) {
	t.Parallel()
	a := newAuthenticator(t, scramDirectory(t, "alice's"), filepath.Join(t.TempDir(), "missing", "keys"))
	if _, err := a.Authenticate(t.Context(), "alice@example.com", "alice's"); err != nil {
		t.Fatal(err)
	}
	if _, _, known := a.keysOf("alice@example.com"); !known {
		t.Error("the keys are not learned")
	}
}

func FuzzExchange(f *testing.F) {
	f.Add("n,,n=bob@example.com,r=abc", "c=biws,r=abc,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
	f.Add("p=tls-exporter,a=b,n=b=2C=3D,r=x,y=z", "c=,r=,p=")
	f.Add("y,,", ",,,,p=")
	a := newAuthenticator(f, scramDirectory(f, "alice's"), "")
	f.Fuzz(func(t *testing.T, first, final string) {
		for _, plus := range []bool{false, true} {
			x := a.SCRAM(plus, func(string) []byte { return []byte("data") })
			for _, m := range []string{first, final, ""} {
				challenge, done, err := x.Next([]byte(m))
				if done || x.Account() != "" {
					t.Fatalf("%q, %q logs in", first, final)
				}
				if err != nil {
					if !errors.Is(err, ErrExchange) && !errors.Is(err, ErrCredentials) {
						t.Fatal(err)
					}
					break
				}
				if len(challenge) > maxSCRAM {
					t.Fatalf("%d octets of challenge", len(challenge))
				}
			}
		}
	})
}

func FuzzParseKeys(f *testing.F) {
	f.Add("SCRAM-SHA-256$50000:AAAAAAAAAAAAAAAAAAAAAA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
	f.Add("SCRAM-SHA-256$50000:$:")
	f.Fuzz(func(t *testing.T, s string) {
		if k, ok := parseKeys(s); ok && k.String() != s {
			t.Fatalf("%q is not what it was", s)
		}
	})
}

func FuzzPrepare(f *testing.F) {
	for _, s := range []string{"I\u00adX", "user", "\u00aa", "\u2168", "\u0007", "\u0627\u0031", "\u0627a\u0628", "a\u3000b", "密码", "\u00a0", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) > 200 {
			return
		}
		got, ok := prepare(s)
		want, err := stringprep.SASLprep.Prepare(s)
		if strings.ContainsFunc(s, func(r rune) bool { return r > 0xFFFF || r >= 0x0220 && r < 0x0250 }) {
			return // the reference knows the characters of Unicode 3.2 only
		}
		if err == nil && want != "" && (!ok || got != want) {
			t.Fatalf("%q is %q, %v; want %q", s, got, ok, want)
		}
	})
}

// The examples of RFC 4013 3, and some passwords that people have.
func TestPrepare(t *testing.T) {
	for in, want := range map[string]string{
		"I\u00adX": "IX", "user": "user", "USER": "USER", "\u00aa": "a", "\u2168": "IX", "\u0007": "", "\u0627\u0031": "",
		"grüße": "grüße", "gru\u0308\u00dfe": "grüße", "密码": "密码", "a\u3000b": "a b", "": "", "\xff": "", "🐴": "🐴", "\u0627\u0628": "\u0627\u0628", "\ue000": "",
	} {
		if got, ok := prepare(in); got != want && ok || ok != (want != "") {
			t.Errorf("prepare(%+q) = %+q, %v; want %+q", in, got, ok, want)
		}
	}
	if _, err := SCRAMKeys("\x00"); !errors.Is(err, ErrUnprepared) {
		t.Error(err)
	}
}
