package daemon

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"

	"mailform/server/manifest"
	"mailform/server/queue"
)

// From the outside in: a message from another server, one from a user to a
// colleague and to a stranger, signed, and what the log does not say.
func TestMailFlows(t *testing.T) {
	h := newHost(t)
	roots := h.writeCertificate(1)
	mx, err := net.Listen("tcp", "127.0.0.1:0")
	h.must(err)
	defer mx.Close()
	h.dns.mx["elsewhere.example"] = []queue.MX{{Host: "mx.elsewhere.example", Preference: 1}}
	h.dns.addr["mx.elsewhere.example"] = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	h.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if address != "192.0.2.1:25" {
			t.Errorf("connection to %s", address)
		}
		var d net.Dialer
		return d.DialContext(ctx, network, mx.Addr().String())
	}
	arrived := make(chan string, 1)
	go receiveOne(mx, arrived)
	h.start()

	k := h.dialService("smtp")
	k.do("", "220 mail.example.com ")
	k.do("EHLO mx.sender.example", "250")
	k.do("STARTTLS", "220")
	k.startTLS(roots)
	k.do("EHLO mx.sender.example", "250")
	k.message("carol@sender.example", "Subject: hello alice\r\n\r\nthe text of a private letter", "alice@example.com")
	if got := h.inbox("alice@example.com"); len(got) != 1 || !strings.HasSuffix(got[0], "Subject: hello alice\r\n\r\nthe text of a private letter\r\n") {
		t.Errorf("alice has %q", got)
	}

	k = h.dialService("submissions")
	k.startTLS(roots)
	k.do("", "220")
	k.do("EHLO laptop", "250")
	k.do(plain("alice@example.com", "wrong secret"), "535")
	k.do(plain("alice@example.com", "alice's secret"), "235")
	k.message("alice@example.com", "From: alice@example.com\r\nSubject: to both\r\n\r\nhi", "bob@example.com", "x@elsewhere.example")
	k.do("QUIT", "221")
	for who, message := range map[string]string{"bob": h.inbox("bob@example.com")[0], "the other server": <-arrived} {
		results, err := dkim.VerifyWithOptions(strings.NewReader(message), &dkim.VerifyOptions{LookupTXT: func(name string) ([]string, error) { return []string{h.dkim[name]}, nil }})
		if err != nil || len(results) != 2 || results[0].Err != nil || results[1].Err != nil {
			t.Errorf("%s: DKIM %v %+v of\n%s", who, err, results, message)
		}
	}
	h.must(h.stop())
	for _, secret := range []string{"alice's secret", "wrong secret", "private letter", "hello alice", "argon2id", "PRIVATE KEY"} {
		if strings.Contains(h.logs.String(), secret) {
			t.Errorf("the log has %q", secret)
		}
	}
}

// receiveOne is the stranger's server.
func receiveOne(l net.Listener, arrived chan<- string) {
	c, err := l.Accept()
	if err != nil {
		return
	}
	defer c.Close()
	r := bufio.NewReader(c)
	_, _ = io.WriteString(c, "220 mx\r\n")
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		if line != "DATA\r\n" {
			_, _ = io.WriteString(c, "250 ok\r\n")
			continue
		}
		_, _ = io.WriteString(c, "354 go\r\n")
		var b strings.Builder
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			if line == ".\r\n" {
				break
			}
			b.WriteString(strings.TrimPrefix(line, "."))
		}
		arrived <- b.String()
		_, _ = io.WriteString(c, "250 ok\r\n")
	}
}

func TestReloadKeepsConnections(t *testing.T) {
	h := newHost(t)
	h.writeCertificate(1)
	h.start()
	k := h.dialService("smtp")
	k.do("", "220")
	k.do("EHLO x", "250")
	k.do("MAIL FROM:<x@sender.example>", "250")
	k.do("RCPT TO:<carol@example.com>", "550")
	old := h.dialService("submissions")
	before := old.startTLS(nil)
	old.do("", "220")

	first, err := h.control.Status(t.Context())
	h.must(err)
	h.manifest.Domains[0].Mailboxes = append(h.manifest.Domains[0].Mailboxes, manifest.Mailbox{Local: "carol", PasswordHash: hash(t, "bob's secret")})
	h.writeManifest()
	roots := h.writeCertificate(2)
	second, err := h.control.Reload(t.Context())
	h.must(err)
	h.awaitNotice("RELOADING=1\nMONOTONIC_USEC=")
	h.awaitNotice("READY=1")
	text, err := os.ReadFile(h.layout.ManifestFile())
	h.must(err)
	if second.ManifestSHA256 != manifest.SHA256(text) || second.ManifestSHA256 == first.ManifestSHA256 || !second.CertNotAfter.After(first.CertNotAfter) {
		t.Errorf("status before %+v and after %+v", first, second)
	}
	k.do("RSET", "250")
	k.message("x@sender.example", "Subject: x\r\n", "carol@example.com")
	if n := len(h.inbox("carol@example.com")); n != 1 {
		t.Errorf("carol has %d messages", n)
	}
	old.do("EHLO x", "250")
	old.do(plain("carol@example.com", "bob's secret"), "235")
	next := h.dialService("submissions")
	if after := next.startTLS(roots); after.SerialNumber.Cmp(before.SerialNumber) == 0 {
		t.Error("a new connection has the old certificate")
	}

	// A mailbox leaves: it gets no mail and nobody can log in.
	h.manifest.Domains[0].Mailboxes = h.manifest.Domains[0].Mailboxes[:2]
	h.manifest.Domains[0].CatchAll = "alice"
	h.write(h.layout.RetainedFile(), []manifest.Retained{{Address: "carol@example.com"}})
	h.writeManifest()
	h.hangup <- os.Interrupt
	h.awaitNotice("RELOADING=1\nMONOTONIC_USEC=")
	h.awaitNotice("READY=1")
	k.do("MAIL FROM:<x@sender.example>", "250")
	k.do("RCPT TO:<carol@example.com>", "550 5.2.1")
	k.do("RCPT TO:<anything@example.com>", "250")
	next.do("", "220")
	next.do("EHLO x", "250")
	next.do(plain("carol@example.com", "bob's secret"), "535")
}

func TestBrokenReloadChangesNothing(t *testing.T) {
	h := newHost(t)
	h.writeCertificate(1)
	h.start()
	before, err := h.control.Status(t.Context())
	h.must(err)
	good, err := os.ReadFile(h.layout.ManifestFile())
	h.must(err)
	for name, breakIt := range map[string]func() (repair func()){
		"not JSON":       func() func() { h.write(h.layout.ManifestFile(), []byte("{")); return nil },
		"a newer format": func() func() { h.write(h.layout.ManifestFile(), []byte(`{"format": 99}`)); return nil },
		"no manifest":    func() func() { h.must(os.Remove(h.layout.ManifestFile())); return nil },
		"bad hash": func() func() {
			h.write(h.layout.ManifestFile(), []byte(strings.Replace(string(good), "$argon2id$v=19", "$argon2id$v=1", 1)))
			return nil
		},
		"bad certificate": func() func() { h.write(h.layout.CertKey("mx1"), []byte("x")); return func() { h.writeCertificate(1) } },
		"no signing key": func() func() {
			path := h.layout.DKIMKey("example.com", "m-ed")
			h.must(os.Rename(path, path+"~"))
			return func() { h.must(os.Rename(path+"~", path)) }
		},
	} {
		repair := breakIt()
		if _, err := h.control.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "reload: ") {
			t.Errorf("%s: reload says %v", name, err)
		}
		after, err := h.control.Status(t.Context())
		h.must(err)
		if after.ManifestSHA256 != before.ManifestSHA256 || !after.CertNotAfter.Equal(before.CertNotAfter) {
			t.Errorf("%s: status changed from %+v to %+v", name, before, after)
		}
		k := h.dialService("submissions")
		k.startTLS(nil)
		k.do("", "220")
		k.do("EHLO x", "250")
		k.do(plain("alice@example.com", "alice's secret"), "235")
		h.write(h.layout.ManifestFile(), good)
		if repair != nil {
			repair()
		}
	}
	if _, err := h.control.Reload(t.Context()); err != nil {
		t.Errorf("after the repair: %v", err)
	}
}

// The daemon serves before there is a certificate, and offers TLS once there is one.
func TestCertificateComesLater(t *testing.T) {
	h := newHost(t)
	h.start()
	k := h.dialService("smtp")
	k.do("", "220")
	if got := k.do("EHLO x", "250"); strings.Contains(got, "STARTTLS") {
		t.Errorf("offers %q without a certificate", got)
	}
	k.message("x@sender.example", "Subject: x\r\n", "alice@example.com")
	if n, err := h.dialService("submissions").conn.Read(make([]byte, 1)); err == nil {
		t.Errorf("a port with implicit TLS said something (%d octets) without a certificate", n)
	}
	st, err := h.control.Status(t.Context())
	h.must(err)
	if !st.CertNotAfter.IsZero() || !slices.Equal(st.Listening, []string{"smtp", "imap", "submissions", "submission", "imaps"}) {
		t.Errorf("status %+v", st)
	}
	roots := h.writeCertificate(1)
	_, err = h.control.Reload(t.Context())
	h.must(err)
	h.dialService("submissions").startTLS(roots)
	k = h.dialService("submission")
	k.do("", "220")
	if got := k.do("EHLO x", "250"); !strings.Contains(got, "STARTTLS") {
		t.Errorf("offers %q with a certificate", got)
	}
}

// Missing keys do not keep mail out when the daemon starts.
func TestStartsWithoutSigningKeys(t *testing.T) {
	h := newHost(t)
	h.must(os.Remove(h.layout.DKIMKey("example.com", "m-rsa")))
	h.start()
	if !strings.Contains(h.logs.String(), "DKIM key m-rsa of example.com") {
		t.Error("the log does not speak of the missing key")
	}
	h.dialService("smtp").do("", "220")
}

func TestShutdownEndsTransactions(t *testing.T) {
	h := newHost(t)
	h.start()
	k := h.dialService("smtp")
	k.do("", "220")
	k.do("EHLO x", "250")
	k.do("MAIL FROM:<x@sender.example>", "250")
	k.do("RCPT TO:<alice@example.com>", "250")
	stopped := make(chan error, 1)
	go func() { stopped <- h.stop() }()
	h.awaitNotice("STOPPING=1")
	k.do("DATA", "354")
	k.do("Subject: last\r\n\r\n.", "250 2.0.0")
	k.do("", "421")
	h.must(<-stopped)
	h.start() // and the message is there
	if n := len(h.inbox("alice@example.com")); n != 1 {
		t.Errorf("alice has %d messages", n)
	}
}

func TestQueueIsShown(t *testing.T) {
	h := newHost(t)
	h.writeCertificate(1)
	h.dns.mx["elsewhere.example"] = []queue.MX{{Host: "mx.elsewhere.example"}}
	h.dns.addr["mx.elsewhere.example"] = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	h.dial = func(context.Context, string, string) (net.Conn, error) { return nil, errTest }
	h.start()
	k := h.dialService("submissions")
	k.startTLS(nil)
	k.do("", "220")
	k.do("EHLO x", "250")
	k.do(plain("alice@example.com", "alice's secret"), "235")
	k.message("alice@example.com", "From: alice@example.com\r\n\r\nx", "x@elsewhere.example")
	entries, err := h.store.Queue(t.Context())
	h.must(err)
	items := queueItems(entries)
	if len(items) != 1 || items[0].Domain != "elsewhere.example" || items[0].Account != "alice@example.com" {
		t.Errorf("queue %+v", items)
	}
	st, err := h.control.Status(t.Context())
	h.must(err)
	if st.Queue != 1 {
		t.Errorf("status says %d", st.Queue)
	}
}

func TestSecondDaemonLeavesTheFirstAlone(t *testing.T) {
	h := newHost(t)
	h.start()
	l, err := Listen([]string{"smtp=127.0.0.1:0"})
	h.must(err)
	cfg := Config{Layout: h.layout, Logger: testLogger(), Listeners: l, Resolver: h.dns}
	if err := Run(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second daemon says %v", err)
	}
	if _, err := h.control.Status(t.Context()); err != nil {
		t.Errorf("the first: %v", err)
	}
}

func TestBadStart(t *testing.T) {
	for name, breakIt := range map[string]func(h *host){
		"manifest": func(h *host) { h.write(h.layout.ManifestFile(), []byte("[]")) },
		"missing":  func(h *host) { h.must(os.Remove(h.layout.ManifestFile())) },
	} {
		h := newHost(t)
		breakIt(h)
		l, err := Listen([]string{"smtp=127.0.0.1:0"})
		h.must(err)
		if err := Run(t.Context(), Config{Layout: h.layout, Logger: testLogger(), Listeners: l, Resolver: h.dns}); err == nil {
			t.Errorf("%s: it ran", name)
		}
		if _, err := net.DialTimeout("tcp", l["smtp"][0].Addr().String(), time.Second); err == nil {
			t.Errorf("%s: the socket is still open", name)
		}
	}
}

func TestControlSocketPathTooLong(t *testing.T) {
	if _, err := listenControl("/" + strings.Repeat("x", 107)); err == nil || !strings.Contains(err.Error(), "MAILFORM_ROOT") {
		t.Errorf("error %v", err)
	}
}

// mailformd must not carry what only the other binary needs: the size of what
// is uploaded to hosts depends on it.
func TestDependencies(t *testing.T) {
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("the go command is not here")
	}
	out, err := exec.Command(goTool, "list", "-deps", "mailform/cmd/mailformd").Output()
	if err != nil {
		t.Fatal(err)
	}
	for dep := range strings.SplitSeq(string(out), "\n") {
		for _, unwanted := range []string{"aliyun", "cloudflare", "go-acme", "hashicorp/hcl", "zclconf", "pebble",
			"mailform/plan", "mailform/specs", "mailform/apply", "mailform/providers", "html/template"} {
			if strings.Contains(dep, unwanted) {
				t.Errorf("mailformd depends on %s", dep)
			}
		}
	}
}
