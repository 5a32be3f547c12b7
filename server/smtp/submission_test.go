package smtp

import (
	"bytes"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"

	"mailform/server/mailauth"
	"mailform/server/manifest"
	"mailform/server/store"
)

// withKeys makes the server sign for example.com; lookup answers for the DNS.
func withKeys(t testing.TB) (option, func(string) ([]string, error)) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	layout := manifest.Layout{Root: t.TempDir()}
	path := layout.DKIMKey("example.com", "s1")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	m := testManifest()
	m.Domains[0].DKIM = []manifest.DKIMKey{{Selector: "s1", Algorithm: "ed25519"}}
	keys, err := mailauth.Load(layout, m)
	if err != nil {
		t.Fatal(err)
	}
	lookup := func(name string) ([]string, error) {
		if name != "s1._domainkey.example.com" {
			return nil, fmt.Errorf("asked for %s", name)
		}
		return []string{"v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(public)}, nil
	}
	return func(_ *Config, st *Settings) { st.Signer = keys }, lookup
}

func TestSubmissionIsSignedAndRouted(t *testing.T) {
	keys, lookup := withKeys(t)
	r := start(t, keys)
	login(t, r).do(`
		C: MAIL FROM:<alice@example.com> BODY=8BITMIME
		S: 250 *
		C: RCPT TO:<bob@example.com>
		S: 250 *
		C: RCPT TO:<one@Elsewhere.example>
		S: 250 *
		C: RCPT TO:<two@elsewhere.example>
		S: 250 *
		C: RCPT TO:<three@third.example>
		S: 250 *
		C: RCPT TO:<all@example.com>
		S: 250 *
		C: RCPT TO:<nobody@example.com>
		S: 550 5.1.1 *
		C: DATA
		S: 354 *
		C: From: =?x-unknown?q?Alice?= <Sales@example.com>
		C: To: bob@example.com
		C: Subject: hello
		C:
		C: text
		C: .
		S: 250 2.0.0 OK: queued as *
		C: QUIT
		S: 221 *`)
	<-r.queued
	d := r.store.one(t)
	var accounts []string
	for _, target := range d.Targets {
		accounts = append(accounts, target.Account)
	}
	if got := strings.Join(accounts, " "); got != "bob@example.com alice@example.com" {
		t.Errorf("mailboxes %s", got)
	}
	var queue []string
	for _, e := range d.Queue {
		queue = append(queue, fmt.Sprintf("%s %s %s", e.Account, e.Domain, strings.Join(e.Recipients, ",")))
	}
	want := "alice@example.com elsewhere.example one@elsewhere.example,two@elsewhere.example\n" +
		"alice@example.com third.example three@third.example\n" +
		"alice@example.com elsewhere.example partner@elsewhere.example" // by the list, with its Delivered-To
	if got := strings.Join(queue, "\n"); got != want {
		t.Errorf("queue\n%s\nwant\n%s", got, want)
	}
	for _, prefix := range []string{string(d.Targets[0].Prefix), string(d.Queue[0].Prefix)} {
		message := prefix + d.body
		for _, want := range []string{"\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\n", "@mail.example.com>\r\n", "with ESMTPSA id "} {
			if !strings.Contains(message, want) {
				t.Errorf("no %q in\n%s", want, message)
			}
		}
		if strings.Contains(message, "127.0.0.1") || strings.Contains(message, "laptop") {
			t.Errorf("the message tells where its author is:\n%s", message)
		}
		results, err := dkim.VerifyWithOptions(strings.NewReader(message), &dkim.VerifyOptions{LookupTXT: lookup})
		if err != nil || len(results) != 1 || results[0].Err != nil || results[0].Domain != "example.com" {
			t.Errorf("DKIM: %v, %+v", err, results)
		}
	}
}

func TestSubmissionMendsLineEnds(t *testing.T) {
	keys, lookup := withKeys(t)
	r := start(t, keys)
	k := login(t, r)
	k.do(`
		C: MAIL FROM:<alice@example.com>
		S: 250 *
		C: RCPT TO:<bob@example.com>
		S: 250 *
		C: DATA
		S: 354 *`)
	k.write("From: alice@example.com\nMessage-ID: <x@y>\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\n\r\none\ntwo\rthree\r\r\nfour\n\r\n.\r\n")
	k.do(`S: 250 *`)
	d := r.store.one(t)
	if want := "From: alice@example.com\r\nMessage-ID: <x@y>\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\n\r\none\r\ntwo\r\nthree\r\n\r\nfour\r\n\r\n"; d.body != want {
		t.Errorf("body %q\nwant %q", d.body, want)
	}
	if p := string(d.Targets[0].Prefix); strings.Contains(p, "\r\nMessage-ID:") || strings.Contains(p, "\r\nDate:") {
		t.Errorf("fields that are there were added: %q", p)
	}
	results, err := dkim.VerifyWithOptions(strings.NewReader(string(d.Targets[0].Prefix)+d.body), &dkim.VerifyOptions{LookupTXT: lookup})
	if err != nil || len(results) != 1 || results[0].Err != nil {
		t.Errorf("DKIM: %v, %+v", err, results)
	}
}

func TestSubmissionChecksTheSender(t *testing.T) {
	keys, _ := withKeys(t)
	r := start(t, keys)
	k := login(t, r)
	k.do(`
		C: MAIL FROM:<bob@example.com>
		S: 550 5.7.1 <bob@example.com> is not an address of yours
		C: MAIL FROM:<alice@elsewhere.example>
		S: 550 5.7.1 *
		C: MAIL FROM:<all@example.com>
		S: 550 5.7.1 *`)
	for _, tc := range []struct{ from, header, want string }{
		{"alice+tag@example.com", "From: Alice <Alice@Example.com>", "250 *"},
		{"sales@example.com", "From: a, sales@example.com, alice@example.com", "550 5.6.0 *"},
		{"sales@example.com", "From: sales@example.com, alice@example.com", "250 *"},
		{"", "From: alice@example.com", "250 *"}, // a read receipt
		{"", "From: bob@example.com", "550 5.7.1 The From field has <bob@example.com>, which is not an address of yours"},
		{"alice@example.com", "From: alice@example.com, bob@example.com", "550 5.7.1 *"},
		{"alice@example.com", "From: alice@example.com\nC: From: bob@example.com", "550 5.6.0 *"},
		{"alice@example.com", "X: no from", "550 5.6.0 *"},
		{"alice@example.com", "From: undisclosed:;", "550 5.6.0 *"},
		{"alice@example.com", "no header", "550 5.6.0 *"},
	} {
		k.do(`
			C: MAIL FROM:<` + tc.from + `>
			S: 250 *
			C: RCPT TO:<bob@example.com>
			S: 250 *
			C: DATA
			S: 354 *
			C: ` + tc.header + `
			C:
			C: text
			C: .
			S: ` + tc.want)
	}
}

func TestSubmissionQuotaIsFinal(t *testing.T) {
	r := start(t)
	r.store.before = func() error { return store.ErrQuota }
	login(t, r).do(`
		C: MAIL FROM:<alice@example.com>
		S: 250 *
		C: RCPT TO:<bob@example.com>
		S: 250 *
		C: DATA
		S: 354 *
		C: From: alice@example.com
		C:
		C: .
		S: 552 5.2.2 *`)
}

func TestAuthentication(t *testing.T) {
	r := start(t)
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	begin := `
		S: 220 *
		C: EHLO x
		S: 250-mail.example.com Hello x
		S: 250-PIPELINING
		S: 250-8BITMIME
		S: 250-ENHANCEDSTATUSCODES
		S: 250-CHUNKING
		S: 250-STARTTLS
		S: 250-SIZE *
		S: 250 LIMITS *
		C: AUTH PLAIN ` + b64("\x00alice@example.com\x00pw") + `
		S: 523 5.7.10 *
		C: MAIL FROM:<alice@example.com>
		S: 530 5.7.0 *
		C: STARTTLS
		S: 220 *
		TLS
		C: HELO x
		S: 250 *`
	for name, script := range map[string]string{
		"PLAIN in one step":   "C: AUTH PLAIN " + b64("\x00Alice@Example.com\x00pw") + "\nS: 235 *\nC: MAIL FROM:<alice@example.com>\nS: 250 *",
		"PLAIN in two steps":  "C: AUTH PLAIN\nS: 334 *\nC: " + b64("alice@example.com\x00alice@example.com\x00pw") + "\nS: 235 *\nC: AUTH PLAIN x\nS: 503 *",
		"LOGIN":               "C: AUTH LOGIN\nS: 334 " + b64("Username:") + "\nC: " + b64("alice@example.com") + "\nS: 334 " + b64("Password:") + "\nC: " + b64("pw") + "\nS: 235 *",
		"LOGIN with a name":   "C: AUTH LOGIN " + b64("alice@example.com") + "\nS: 334 " + b64("Password:") + "\nC: " + b64("pw") + "\nS: 235 *",
		"cancelled":           "C: AUTH LOGIN\nS: 334 *\nC: *\nS: 501 *\nC: NOOP\nS: 250 *",
		"for another user":    "C: AUTH PLAIN " + b64("bob@example.com\x00alice@example.com\x00pw") + "\nS: 535 5.7.8 *",
		"malformed":           "C: AUTH PLAIN " + b64("alice") + "\nS: 501 5.5.2 *\nC: AUTH PLAIN !!!\nS: 501 5.5.2 *",
		"no such mechanism":   "C: AUTH CRAM-MD5\nS: 504 5.7.4 *",
		"trouble is not told": "C: AUTH PLAIN " + b64("\x00broken@example.com\x00pw") + "\nS: 454 4.7.0 Authentication is not possible now, try again later",
		"guessing": strings.Repeat("C: AUTH PLAIN "+b64("\x00alice@example.com\x00x")+"\nS: 535 5.7.8 Authentication failed\n", 2) +
			"C: AUTH PLAIN " + b64("\x00alice@example.com\x00y") + "\nS: 421 4.7.0 Too many failed logins\nS: EOF",
	} {
		t.Run(name, func(t *testing.T) {
			dialTo(t, r.sub).do(begin + "\n" + script)
		})
	}
}

func TestTicketsOnlyForOurUsers(t *testing.T) {
	r := start(t)
	for _, tc := range []struct {
		address  string
		implicit bool
		want     bool
	}{{r.mx, false, false}, {r.subs, true, true}} {
		cache := &countingCache{}
		k := dialTo(t, tc.address)
		if !tc.implicit {
			k.do("S: 220 *\nC: STARTTLS\nS: 220 *")
		}
		c := tls.Client(k.conn, &tls.Config{InsecureSkipVerify: true, ClientSessionCache: cache, ServerName: "x"})
		k = newTalk(t, c)
		if tc.implicit {
			k.do("S: 220 *")
		}
		k.do("C: HELO x\nS: 250 *\nC: QUIT\nS: 221 *")
		if got := cache.puts > 0; got != tc.want {
			t.Errorf("%s: session tickets: %v, want %v", tc.address, got, tc.want)
		}
	}
}

type countingCache struct{ puts int }

func (c *countingCache) Get(string) (*tls.ClientSessionState, bool) { return nil, false }
func (c *countingCache) Put(string, *tls.ClientSessionState)        { c.puts++ }

// CHUNKING, RFC 3030.
func TestBdat(t *testing.T) {
	r := start(t)
	envelope := `
		C: MAIL FROM:<alice@example.com>
		S: 250 *
		C: RCPT TO:<bob@example.com>
		S: 250 *`
	k := login(t, r)
	k.do(envelope)
	text := "From: alice@example.com\r\n\r\n.\r\nnot the end\r\n" + strings.Repeat("z", 300_000)
	k.write("BDAT 10\r\n" + text[:10])
	k.do("S: 250 *")
	k.write(fmt.Sprintf("BDAT %d\r\n%s", len(text)-10, text[10:]) + "BDAT 0 LAST\r\n")
	k.do("S: 250 *\nS: 250 2.0.0 OK: queued as *")
	if d := r.store.one(t); d.body != text+"\r\n" {
		t.Errorf("got %d octets, want %d and the line's end", len(d.body), len(text))
	}
	// The next message on the same connection.
	k.do(envelope + "\nC: DATA\nS: 354 *\nC: From: alice@example.com\nC:\nC: .\nS: 250 *")
	// RSET between chunks: what has come is forgotten.
	k.do(envelope)
	k.write("BDAT 10\r\n" + text[:10])
	k.do("S: 250 *\nC: DATA\nS: 503 *\nC: RCPT TO:<bob@example.com>\nS: 503 *\nC: RSET\nS: 250 *")
	k.write("BDAT 10 LAST\r\n" + text[:10])
	k.do("S: 503 *")
	if n := len(r.store.all()); n != 2 {
		t.Errorf("%d deliveries, want 2", n)
	}
	k.do(envelope)
	k.write(fmt.Sprintf("BDAT %d LAST\r\n%s", len(text), text))
	k.do("S: 250 *")
	// Too large, in one chunk and in two: the chunks are read, and are no commands.
	for _, chunks := range [][]int{{60 << 20}, {40 << 20, 20 << 20}} {
		k.do(envelope)
		for i, n := range chunks {
			k.write(fmt.Sprintf("BDAT %d\r\n%s", n, ("\r\n" + strings.Repeat("NOOP\r\n", n/6+1))[:n]))
			k.do("S: " + map[bool]string{true: "552 5.3.4 *", false: "250 *"}[i == len(chunks)-1])
		}
	}
	k.do("C: BDAT x\nS: 501 *\nS: EOF")
	if n := len(r.store.all()); n != 3 {
		t.Errorf("%d deliveries, want 3", n)
	}
}

// A connection that ends within the last chunk delivers nothing, however it ends.
func TestBdatBrokenOff(t *testing.T) {
	chunk := "From: alice@example.com\r\n\r\nhalf"
	for name, cut := range map[string]func(k *talk){
		"connection closed": func(k *talk) { _ = k.conn.(*tls.Conn).NetConn().Close() },
		"TLS ended properly": func(k *talk) {
			_ = k.conn.(*tls.Conn).CloseWrite()
			_, _ = io.Copy(io.Discard, k.conn)
		},
	} {
		r := start(t)
		k := login(t, r)
		k.do("C: MAIL FROM:<alice@example.com>\nS: 250 *\nC: RCPT TO:<bob@example.com>\nS: 250 *")
		k.write("BDAT 1000 LAST\r\n" + chunk)
		cut(k)
		ctx, cancel := contextWithTimeout(t)
		if err := r.Shutdown(ctx); err != nil { // the session has ended by itself
			t.Errorf("%s: %v", name, err)
		}
		cancel()
		if n := len(r.store.all()); n != 0 {
			t.Errorf("%s: half a message was delivered", name)
		}
	}
	r := start(t)
	k := dialTo(t, r.mx)
	k.do("S: 220 *\nC: HELO x\nS: 250 *\nC: MAIL FROM:<x@sender.example>\nS: 250 *\nC: RCPT TO:<bob@example.com>\nS: 250 *")
	k.write("BDAT 1000 LAST\r\n" + chunk)
	k.conn.Close()
	ctx, cancel := contextWithTimeout(t)
	defer cancel()
	if err := r.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if n := len(r.store.all()); n != 0 {
		t.Error("half a message was delivered over a plain connection")
	}
}

// Commands that are pipelined behind a chunk are either answered or lost with
// the connection after the message's reply, never misread.
func TestBdatPipelined(t *testing.T) {
	r := start(t)
	k := login(t, r)
	text := "From: alice@example.com\r\n\r\n" + strings.Repeat("y", 5000)
	k.write("MAIL FROM:<alice@example.com>\r\nRCPT TO:<bob@example.com>\r\n" + fmt.Sprintf("BDAT %d LAST\r\n%s", len(text), text) + "NOOP\r\nQUIT\r\n")
	k.do("S: 250 *\nS: 250 *\nS: 250 2.0.0 OK: queued as *")
	rest, _ := io.ReadAll(k.r)
	for line := range strings.SplitSeq(strings.TrimSpace(string(rest)), "\r\n") {
		if line != "" && line[:3] != "250" && line[:3] != "221" && line[:3] != "421" {
			t.Errorf("answer %q to a pipelined NOOP or QUIT", line)
		}
	}
	if d := r.store.one(t); d.body != text+"\r\n" {
		t.Errorf("got %d octets", len(d.body))
	}
}

func TestCurlSubmits(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("curl is not installed")
	}
	r := start(t)
	for _, url := range []string{"smtps://" + r.subs, "smtp://" + r.sub} {
		cmd := exec.Command(curl, "-sS", "--max-time", "20", "-k", "--ssl-reqd", "--url", url, "--user", "alice@example.com:pw",
			"--mail-from", "alice@example.com", "--mail-rcpt", "bob@example.com", "--upload-file", "-")
		cmd.Stdin = strings.NewReader("From: alice@example.com\r\nSubject: curl\r\n\r\nhi\r\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", url, err, out)
		}
	}
	if n := len(r.store.all()); n != 2 {
		t.Errorf("%d deliveries, want 2", n)
	}
}

func TestSwaksSubmits(t *testing.T) {
	swaks, err := exec.LookPath("swaks")
	if err != nil {
		t.Skip("swaks is not installed")
	}
	r := start(t)
	cmd := exec.Command(swaks, "--server", r.sub, "-tls", "--auth-user", "alice@example.com", "--auth-password", "pw",
		"--from", "alice@example.com", "--to", "bob@example.com,x@elsewhere.example", "--timeout", "20")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if d := r.store.one(t); len(d.Targets) != 1 || len(d.Queue) != 1 {
		t.Errorf("%d targets, %d queue entries", len(d.Targets), len(d.Queue))
	}
}

func TestParseHeader(t *testing.T) {
	fields := parseHeader([]byte("A: 1\r\nB :\r\n folded\r\n\tmore \r\na: 2\r\nno field\r\nC: 3\r\n\r\nD: 4\r\n"))
	var b bytes.Buffer
	for _, f := range fields {
		fmt.Fprintf(&b, "%s=%q ", f.name, f.value)
	}
	if got, want := b.String(), `a="1" b="folded more" a="2" `; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestAuthors(t *testing.T) {
	for from, want := range map[string]string{
		"x@a.example":                              "x@a.example",
		"X <x@a.example>, \"y@c\" <y@b.example>":   "x@a.example y@b.example",
		"Acme, Inc. <x@a.example>":                 "x@a.example",
		"=?utf-8?q?=40?= [at] home < x@a.example>": "x@a.example",
		"me@a.example <x@b.example, oops":          "",
		"y@b.example, Acme, <x@a.example>":         "",
		"<x@a.example> <y@b.example":               "",
		"nobody":                                   "",
	} {
		if got := strings.Join(authors([]field{{"from", from}}), " "); got != want {
			t.Errorf("%s: %q, want %q", from, got, want)
		}
	}
	if got := authors([]field{{"from", "x@a.example"}, {"from", "y@b.example"}}); got != nil {
		t.Errorf("two fields: %q", got)
	}
}

func FuzzAuthors(f *testing.F) {
	f.Add("Acme, Inc. <x@a.example>")
	f.Add("a@b, (c) <d@e> \"f")
	f.Fuzz(func(t *testing.T, from string) {
		if strings.ContainsAny(from, "\r\n") { // a message with bare ones was refused before
			return
		}
		for _, a := range authors(parseHeader([]byte("From: " + from + "\r\n\r\n"))) {
			if a == "" {
				t.Fatalf("author %q", a)
			}
		}
	})
}

func FuzzIntake(f *testing.F) {
	f.Add([]byte("A: b\r\n\r\ntext\r\n"), true)
	f.Add([]byte("\r\n\r\r\n\n"), true)
	f.Add([]byte("\r"), false)
	f.Fuzz(func(t *testing.T, b []byte, normalise bool) {
		var whole, bytewise bytes.Buffer
		in := &intake{w: &whole, normalise: normalise, maxHeader: 1000}
		_, err := in.Write(b)
		if err == nil {
			err = in.close()
		}
		in2 := &intake{w: &bytewise, normalise: normalise, maxHeader: 1000}
		var err2 error
		for i := range b {
			if _, err2 = in2.Write(b[i : i+1]); err2 != nil {
				break
			}
		}
		if err2 == nil {
			err2 = in2.close()
		}
		if (err == nil) != (err2 == nil) || err == nil && !bytes.Equal(whole.Bytes(), bytewise.Bytes()) {
			t.Fatalf("%q: whole %q (%v), byte by byte %q (%v)", b, whole.Bytes(), err, bytewise.Bytes(), err2)
		}
		if err != nil {
			return
		}
		out := whole.Bytes()
		for i, c := range out {
			if c == '\n' && (i == 0 || out[i-1] != '\r') || c == '\r' && (i+1 == len(out) || out[i+1] != '\n') {
				t.Fatalf("%q gave %q, with a bare line end at %d", b, out, i)
			}
		}
		if !in.body || !bytes.HasPrefix(out, in.header) || !bytes.HasSuffix(out, []byte("\r\n")) {
			t.Fatalf("%q gave %q with header %q", b, out, in.header)
		}
		parseHeader(in.header)
		fromAddresses(parseHeader(in.header))
	})
}

// However a message comes in pieces, the same of it arrives, and it ends at the
// first line with a dot.
func FuzzDots(f *testing.F) {
	f.Add([]byte("a\r\n..b\r\n.\r\nQUIT\r\n"), 3)
	f.Add([]byte("\r\n.\n\r.\r\r\n.\r\n"), 1)
	f.Add([]byte(".\rx\r\n.\r\n"), 2)
	f.Fuzz(func(t *testing.T, b []byte, step int) {
		if step < 1 {
			step = 1
		}
		feed := func(step int) (text []byte, used int, ended bool) {
			var d dots
			for have := 0; have < len(b) && !ended; {
				have = min(have+step, len(b))
				n, end, err := d.take(b[used:have], func(run []byte) error { text = append(text, run...); return nil })
				if err != nil {
					t.Fatal(err)
				}
				used, ended = used+n, end
			}
			return text, used, ended
		}
		text, used, ended := feed(step)
		whole, usedWhole, endedWhole := feed(len(b) + 1)
		if ended != endedWhole || ended && (used != usedWhole || !bytes.Equal(text, whole)) {
			t.Fatalf("%q in steps of %d: %q, %d, %v; at once %q, %d, %v", b, step, text, used, ended, whole, usedWhole, endedWhole)
		}
		// The rule, as RFC 5321 4.5.2 has it.
		end := -1
		if bytes.HasPrefix(b, []byte(".\r\n")) {
			end = 3
		} else if i := bytes.Index(b, []byte("\r\n.\r\n")); i >= 0 {
			end = i + 5
		}
		if ended != (end >= 0) || ended && used != end {
			t.Fatalf("%q: ended %v at %d, want %d", b, ended, used, end)
		}
		if ended {
			want := bytes.ReplaceAll(append([]byte("\r\n"), b[:end-3]...), []byte("\r\n."), []byte("\r\n"))[2:]
			if !bytes.Equal(text, want) {
				t.Fatalf("%q: %q, want %q", b, text, want)
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add(`<"a \" b"@x.example> SIZE=3 BODY=8BITMIME`)
	f.Add("<@a,@b:c@d>")
	f.Add("12 LAST")
	f.Fuzz(func(t *testing.T, s string) {
		address, rest, err := parsePath(s)
		if err == nil && (strings.Count(address, "@") == 0 && address != "" || !strings.HasSuffix(s, rest)) {
			t.Fatalf("%q: %q, %q", s, address, rest)
		}
		if err == nil {
			_, _ = parseParameters(rest)
		}
		if n, _, err := parseBdat(s); err == nil && n < 0 {
			t.Fatalf("%q: %d", s, n)
		}
	})
}

// Whatever comes is answered by the protocol's errors; nothing hangs or crashes.
func FuzzSession(f *testing.F) {
	f.Add([]byte("EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<alice@example.com>\r\nDATA\r\nX: y\r\n\r\n.\r\nQUIT\r\n"))
	f.Add([]byte("EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<alice@example.com>\r\nBDAT 5\r\nX: y\r\nRSET\r\nBDAT 3 LAST\r\nabcSTARTTLS\r\n"))
	f.Add([]byte("\x16\x03\x01\x00\x05hello\r\n\x00\xff"))
	f.Add([]byte("STARTTLS\r\n\x16\x03\x01"))
	r := start(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		client, server := pipe(t)
		done := make(chan struct{})
		go func() {
			defer close(done)
			r.newConn(server, MX, false).Serve()
		}()
		read := make(chan struct{})
		go func() {
			defer close(read)
			_, _ = io.Copy(io.Discard, client)
		}()
		_, _ = client.Write(b)
		_ = client.CloseWrite()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Fatal("the session does not end")
		}
		<-read
		client.Close()
	})
}
