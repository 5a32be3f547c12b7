package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mailform/providers/host/hostlab"
	"mailform/providers/world"
)

// real is a simulated world with one real machine in it, and the spec of a stack
// that is to be on that machine.
type real struct {
	shell
	w   *world.World
	lab *hostlab.Lab
	m   *hostlab.Machine
}

const realPassword = "correct horse battery staple"

// newReal boots the machine and starts its world: name servers and somebody else's
// mail server are reachable from the machine, too.
func newReal(t *testing.T) *real {
	t.Helper()
	lab := hostlab.New(t)
	m := lab.Boot("mx1")
	dir := t.TempDir()
	w, err := world.Start(t.Context(), world.Config{
		Dir: filepath.Join(dir, "world"), Zones: []string{"example.com"}, OutsideAddress: hostlab.Outside,
		Roads: map[netip.Addr]world.Road{m.Address: func(ctx context.Context, port int) (net.Conn, error) {
			return lab.Dial(ctx, "tcp", netip.AddrPortFrom(m.Address, uint16(port)).String())
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	r := &real{w: w, lab: lab, m: m}
	r.serveNames(t)
	r.forward(t, netip.AddrPortFrom(hostlab.Outside, 25).String(), func() (net.Conn, error) {
		return w.DialOutside(context.Background(), netip.AddrPortFrom(hostlab.Outside, 25).String())
	})

	r.shell = shell{dir: filepath.Join(dir, "stack"), env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "USER=tester"}}
	vars := w.Environment()
	vars["MAILFORM_SSH_KEY"] = lab.KeyFile()
	for name, value := range vars {
		r.env = append(r.env, name+"="+value)
	}
	if err := os.Mkdir(r.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r.write(t, "")
	return r
}

// write writes the spec; more goes into the domain.
func (r *real) write(t *testing.T, more string) {
	t.Helper()
	hash := exec.Command(filepath.Join(binaries, "mailform"), "hash-password")
	hash.Stdin = strings.NewReader(realPassword + "\n")
	out, err := hash.Output()
	if err != nil {
		t.Fatal(err)
	}
	spec := fmt.Sprintf(`stack "lab" {
  contact = "ops@example.com"
}

host "mx1" {
  hostname = "mail.example.com"
  address  = %q
  ssh {
    host_key = %q
  }
}

domain "example.com" {
  mailbox "alice" {
    password_hash = %q
  }
  mailbox "bob" {
    password_hash = %[3]q
  }
%s}
`, r.m.Address, r.m.Fingerprint(), strings.TrimSpace(string(out)), more)
	if err := os.WriteFile(filepath.Join(r.dir, "mail.hcl"), []byte(spec), 0o644); err != nil {
		t.Fatal(err)
	}
}

// serveNames answers the machine's questions with the world's answers.
func (r *real) serveNames(t *testing.T) {
	t.Helper()
	addr := netip.AddrPortFrom(hostlab.Resolver, 53).String()
	packets, err := r.lab.ListenPacket("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := r.lab.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(network string) dns.Handler {
		return dns.HandlerFunc(func(rw dns.ResponseWriter, q *dns.Msg) {
			answer, _, err := (&dns.Client{Net: network}).Exchange(q, r.w.Resolver())
			if err != nil {
				answer = new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
			}
			rw.WriteMsg(answer)
		})
	}
	for _, s := range []*dns.Server{{PacketConn: packets, Handler: ask("udp")}, {Listener: listener, Handler: ask("tcp")}} {
		go s.ActivateAndServe()
		t.Cleanup(func() { s.Shutdown() })
	}
}

// forward leads connections from the lab's network to somewhere in the world.
func (r *real) forward(t *testing.T, addr string, dial func() (net.Conn, error)) {
	t.Helper()
	l, err := r.lab.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer in.Close()
				out, err := dial()
				if err != nil {
					return
				}
				defer out.Close()
				go func() {
					io.Copy(out, in)
					out.(*net.TCPConn).CloseWrite()
				}()
				io.Copy(in, out)
			}()
		}
	}()
}

// file is what a listing says about one file of the machine: its kind, mode, owner,
// target or size, and what is in it.
type file struct{ about, sum string }

// listing is every file of the machine that outlives a reboot, but logs.
func (r *real) listing(t *testing.T) map[string]file {
	t.Helper()
	const all = `find / -xdev \( -path /proc -o -path /sys -o -path /run -o -path /dev -o -path /tmp -o -path /var/tmp -o -path /var/log \) -prune -o `
	// Directories' sizes and times are their file system's business.
	out := r.m.Sh(all + `-type f -printf '%p\t%y %m %U:%G %s\n' -o -printf '%p\t%y %m %U:%G %l\n'`)
	files := map[string]file{}
	for line := range strings.Lines(out) {
		path, about, _ := strings.Cut(strings.TrimRight(line, "\n"), "\t")
		files[path] = file{about: about}
	}
	out = r.m.Sh(all + `-type f -print0 | xargs -0 sha256sum`)
	for line := range strings.Lines(out) {
		sum, path, _ := strings.Cut(strings.TrimRight(line, "\n"), "  ")
		f := files[path]
		f.sum = sum
		files[path] = f
	}
	for _, path := range []string{"/usr/lib/systemd/systemd", "/usr/bin/bash", "/etc/passwd"} {
		if f := files[path]; len(f.sum) != 64 || len(strings.Fields(f.about)) != 4 {
			t.Fatalf("a listing says of %s: %+v", path, f)
		}
	}
	return files
}

// changed lists how two listings differ, but for the files that any change of users
// leaves behind (shadow's and systemd's backups) and what the machine's own services
// write by themselves.
func changed(before, after map[string]file) []string {
	own := []string{"/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-", "/etc/.pwd.lock", "/etc/subuid-", "/etc/subgid-",
		"/var/lib/systemd/random-seed", "/var/lib/systemd/timesync/clock", "/root/.bash_history"}
	var out []string
	for path, f := range after {
		if was, ok := before[path]; !ok {
			out = append(out, "+ "+path+" "+f.about)
		} else if was != f {
			out = append(out, "~ "+path+" "+was.about+" -> "+f.about)
		}
	}
	for path, f := range before {
		if _, ok := after[path]; !ok {
			out = append(out, "- "+path+" "+f.about)
		}
	}
	out = slices.DeleteFunc(out, func(s string) bool { return slices.Contains(own, strings.Fields(s)[1]) })
	slices.Sort(out)
	return out
}

// client runs a mail client beside the machine.
func (r *real) client(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+r.w.CABundle())
	out, err := r.lab.Command(cmd)
	if err != nil {
		t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestRealJourney is a stack's life on a real machine: made, used by other people's
// programs, changed, rebooted, and taken away without a trace.
func TestRealJourney(t *testing.T) {
	t.Parallel()
	r := newReal(t)
	found := r.listing(t)

	start := time.Now()
	r.must(t, 0, "apply", "--auto-approve")
	t.Logf("apply, from a bare machine to mail: %s", time.Since(start).Round(time.Millisecond))

	r.secondConverge(t)
	r.byHand(t)

	r.mail(t)

	// The service's own limits, as systemd rates them.
	rating := lastLine(r.m.Sh("systemd-analyze security --no-pager mailformd.service"))
	t.Log(rating)
	fields := strings.Fields(rating[strings.Index(rating, ":")+1:])
	if score, err := strconv.ParseFloat(fields[0], 64); err != nil || score > 2 {
		t.Errorf("hardening: %s", rating)
	}

	r.m.Reboot()
	r.client(t, "curl", "--silent", "--show-error", "--fail", "--retry", "20", "--retry-delay", "1", "--retry-connrefused", "--resolve", "mail.example.com:993:"+r.m.Address.String(),
		"--cacert", r.w.CABundle(), "--user", "bob@example.com:"+realPassword, "imaps://mail.example.com:993/INBOX?ALL")
	r.must(t, 0, "plan", "--detailed-exitcode")
	if state := r.m.Sh("systemctl is-system-running --wait || true"); state != "running" {
		t.Errorf("after a reboot the machine is %s: %s", state, r.m.Sh("systemctl list-units --failed --no-legend"))
	}

	// Away, but for the mail; back, with it; and away with all of it.
	r.must(t, 0, "destroy", "--auto-approve")
	for _, c := range changed(found, r.listing(t)) {
		if path := strings.Fields(c)[1]; path != "/var/lib/mailform" && !strings.HasPrefix(path, "/var/lib/mailform/") {
			t.Errorf("destroy: %s", c)
		}
	}
	if owner := r.m.Sh("find /var/lib/mailform ! -uid 0 -o ! -gid 0"); owner != "" {
		t.Errorf("mail that belongs to nobody:\n%s", owner)
	}
	r.must(t, 0, "apply", "--auto-approve")
	if got := r.inbox(t, "bob@example.com"); !strings.Contains(got, "SEARCH 1") {
		t.Errorf("after coming back bob has %q", got)
	}
	_, _, code := r.run(t, "destroy", "--auto-approve", "--delete-mail")
	if code != 0 {
		t.Fatalf("destroy --delete-mail ended with %d", code)
	}
	if diff := changed(found, r.listing(t)); len(diff) > 0 {
		t.Errorf("destroy --delete-mail leaves the machine otherwise than it was found:\n%s", strings.Join(diff, "\n"))
	}
	if units := r.m.Sh("systemctl list-units --all --no-legend 'mailform*'"); units != "" {
		t.Errorf("units: %s", units)
	}
	if left := r.w.Inventory(); len(left) > 0 {
		t.Errorf("left at the vendors: %q", left)
	}
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndex(s, "\n")+1:]
}

// inbox is what a search of all messages answers.
func (r *real) inbox(t *testing.T, user string) string {
	t.Helper()
	return r.client(t, "curl", "--silent", "--show-error", "--resolve", "mail.example.com:993:"+r.m.Address.String(), "--cacert", r.w.CABundle(),
		"--user", user+":"+realPassword, "imaps://mail.example.com:993/INBOX?ALL")
}

// mail goes in, around and out, by programs that know nothing of mailform.
func (r *real) mail(t *testing.T) {
	t.Helper()
	ip := r.m.Address.String()
	tls := []string{"--tls-verify", "--tls-ca-path", r.w.CABundle(), "--tls-sni", "mail.example.com"}
	if out := r.client(t, "swaks", append(tls, "--server", ip, "--port", "587", "--tls", "--auth", "PLAIN", "--auth-user", "alice@example.com", "--auth-password", realPassword,
		"--from", "alice@example.com", "--to", "bob@example.com,someone@elsewhere.example", "--header", "Subject: by swaks", "--ehlo", "laptop.test")...); !strings.Contains(out, "250 2") {
		t.Errorf("swaks: %s", out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	got, err := r.w.Outside().Wait(ctx, func(m world.Received) bool { return bytes.Contains(m.Data, []byte("Subject: by swaks")) })
	if err != nil {
		t.Errorf("nothing reaches the outside: %v", err)
	} else if n := bytes.Count(got.Data, []byte("DKIM-Signature:")); n != 2 || !got.TLS {
		t.Errorf("outside: %d signatures, TLS %v", n, got.TLS)
	}
	letter := filepath.Join(t.TempDir(), "letter")
	if err := os.WriteFile(letter, []byte("From: alice@example.com\r\nTo: bob@example.com\r\nSubject: by curl\r\nDate: "+time.Now().Format(time.RFC1123Z)+
		"\r\nMessage-ID: <curl@example.com>\r\n\r\nhello\r\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	resolve := func(port int) []string {
		return []string{"--silent", "--show-error", "--cacert", r.w.CABundle(), "--resolve", fmt.Sprintf("mail.example.com:%d:%s", port, ip)}
	}
	r.client(t, "curl", append(resolve(465), "--user", "alice@example.com:"+realPassword, "--mail-from", "alice@example.com", "--mail-rcpt", "bob@example.com",
		"--upload-file", letter, "smtps://mail.example.com:465")...)
	if out := r.inbox(t, "bob@example.com"); !strings.Contains(out, "SEARCH 1 2") {
		t.Errorf("bob has %q", out)
	}
	out := r.client(t, "curl", append(resolve(993), "--user", "bob@example.com:"+realPassword, "imaps://mail.example.com:993/INBOX;MAILINDEX=2")...)
	if !bytes.Contains([]byte(out), []byte("Subject: by curl")) {
		t.Errorf("bob reads: %s", out)
	}
	// Who does not know the password stays outside.
	cmd := exec.Command("curl", append(resolve(993), "--user", "bob@example.com:wrong", "imaps://mail.example.com:993/INBOX")...)
	if out, err := r.lab.Command(cmd); err == nil {
		t.Errorf("a wrong password reads mail: %s", out)
	}
}
