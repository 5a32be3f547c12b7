package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"mailform/server/account"
	"mailform/server/manifest"
)

const (
	accounts = 20 // user0@example.com to user19@example.com, and big@example.com
	password = "a password of the benchmark"
)

func user(i int) string { return fmt.Sprintf("user%d@example.com", i) }

func users() []string {
	list := []string{"big@example.com"}
	for i := range accounts {
		list = append(list, user(i))
	}
	return list
}

// identity is the certificate that all peers have.
type identity struct {
	chain, key string // PEM files
	roots      *x509.CertPool
}

func newIdentity(dir string) (*identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mail.example.com"}, DNSNames: []string{"mail.example.com"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	id := &identity{chain: filepath.Join(dir, "chain.pem"), key: filepath.Join(dir, "key.pem"), roots: x509.NewCertPool()}
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	id.roots.AppendCertsFromPEM(chain)
	if err := write(id.chain, string(chain)); err != nil {
		return nil, err
	}
	return id, write(id.key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})))
}

func write(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

// startMailformd runs ours, without filters, as the peers are.
func startMailformd(dir, bin, names string, id *identity, encrypt bool) (*peer, error) {
	hash, err := account.HashPassword(password)
	if err != nil {
		return nil, err
	}
	m := &manifest.Manifest{Format: manifest.Format, Stack: "bench", Host: "mx1", Hostname: "mail.example.com", MaxMessageBytes: 50 << 20,
		POP3: &manifest.POP3{}, Limits: &manifest.Limits{Connections: 4000, ConnectionsPerClient: 2000},
		Domains: []manifest.Domain{{Name: "example.com"}}}
	if encrypt {
		m.Store = &manifest.Store{Encrypt: true}
	}
	for _, u := range users() {
		local, _, _ := strings.Cut(u, "@")
		m.Domains[0].Mailboxes = append(m.Domains[0].Mailboxes, manifest.Mailbox{Local: local, PasswordHash: hash})
	}
	text, err := manifest.Encode(m)
	if err != nil {
		return nil, err
	}
	l := manifest.Layout{Root: dir}
	files := map[string]string{l.ManifestFile(): string(text)}
	for from, to := range map[string]string{id.chain: l.CertChain("mx1"), id.key: l.CertKey("mx1")} {
		pem, err := os.ReadFile(from)
		if err != nil {
			return nil, err
		}
		files[to] = string(pem)
	}
	if encrypt {
		key := make([]byte, 32)
		if _, err := rand.Read(key); err != nil {
			return nil, err
		}
		files[l.StoreKeyFile()] = string(key)
	}
	for path, text := range files {
		if err := write(path, text); err != nil {
			return nil, err
		}
	}
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	version, err := output(bin, "--version")
	if err != nil {
		return nil, err
	}
	p := &peer{name: "mailformd", version: version, smtp: "127.0.0.1:" + ports[0], imaps: "127.0.0.1:" + ports[1], pop3s: "127.0.0.1:" + ports[2], id: id}
	env := []string{"MAILFORM_ROOT=" + dir, "MAILFORM_RESOLVER=" + names}
	serve := func() error {
		begun := time.Now()
		err := p.start(dir, env, bin, "serve", "--log-level", "warn", "--listen", "smtp="+p.smtp, "--listen", "imaps="+p.imaps, "--listen", "pop3s="+p.pop3s)
		if err == nil {
			err = p.answers(dir)
		}
		p.started = time.Since(begun)
		return err
	}
	if err := serve(); err != nil {
		p.stop()
		return nil, err
	}
	p.restart = func(between func() error) error {
		p.stop()
		p.masters = nil
		if err := between(); err != nil {
			return err
		}
		return serve()
	}
	p.search = l.SearchDir()
	p.importer = func(account, from string) *exec.Cmd {
		cmd := exec.Command(bin, "import", account, from)
		cmd.Env = append(os.Environ(), env...)
		return cmd
	}
	p.fill = func(account, maildir string) error {
		if out, err := p.importer(account, "maildir:"+maildir).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	return p, nil
}

// startDovecot runs Postfix, which hands mail to Dovecot by LMTP; mail is in
// maildirs. What is not written here is at Debian's default. Neither logs
// deliveries to anything but a file that is never synced. With Debian's limit of 256 MB
// for each process Dovecot does not open a Maildir of a million messages.
func startDovecot(dir string, id *identity) (*peer, error) {
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	p := &peer{name: "Postfix + Dovecot", smtp: "127.0.0.1:" + ports[0], imaps: "127.0.0.1:" + ports[1], pop3s: "127.0.0.1:" + ports[2], id: id, maildirs: filepath.Join(dir, "mail")}
	dovecot, err := output("dovecot", "--version")
	if err != nil {
		return nil, fmt.Errorf("the peers are missing: apt-get install postfix dovecot-imapd dovecot-lmtpd dovecot-pop3d: %w", err)
	}
	postfix, err := output("postconf", "-dh", "mail_version")
	if err != nil {
		return nil, err
	}
	p.version = "Postfix " + postfix + " with Dovecot " + dovecot
	hash, err := output("doveadm", "pw", "-s", "SHA512-CRYPT", "-p", password)
	if err != nil {
		return nil, err
	}
	var passwd, recipients strings.Builder
	for _, u := range users() {
		fmt.Fprintf(&passwd, "%s:%s\n", u, hash)
		fmt.Fprintf(&recipients, "%s x\n", u)
	}
	for path, text := range map[string]string{
		"users": passwd.String(), "postfix/recipients": recipients.String(),
		"dovecot.conf":      fmt.Sprintf(dovecotConf, dir, ports[1], id.chain, id.key, ports[2]),
		"postfix/main.cf":   fmt.Sprintf(mainCF, dir),
		"postfix/master.cf": fmt.Sprintf(masterCF, p.smtp),
	} {
		if err := write(filepath.Join(dir, path), text); err != nil {
			return nil, err
		}
	}
	for path, owner := range map[string]string{"mail": "nobody:nogroup", "data": "postfix:postfix", "queue": "root:root"} {
		if err := os.MkdirAll(filepath.Join(dir, path), 0o755); err != nil {
			return nil, err
		}
		if _, err := output("chown", owner, filepath.Join(dir, path)); err != nil {
			return nil, err
		}
	}
	conf := filepath.Join(dir, "postfix")
	if _, err := output("postfix", "-c", conf, "check"); err != nil {
		return nil, err
	}
	daemons, err := output("postconf", "-c", conf, "-h", "daemon_directory")
	if err != nil {
		return nil, err
	}
	err = p.start(dir, nil, "/usr/sbin/dovecot", "-F", "-c", filepath.Join(dir, "dovecot.conf"))
	if err == nil {
		err = p.start(dir, nil, filepath.Join(daemons, "master"), "-c", conf, "-d")
	}
	if err == nil {
		err = p.answers(dir)
	}
	if err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// dovecotConf takes the directory, IMAP's port, the certificate's files, and POP3's port.
const dovecotConf = `base_dir = %[1]s/run
state_dir = %[1]s/run
log_path = %[1]s/dovecot.log
listen = 127.0.0.1
protocols = imap lmtp pop3
default_vsz_limit = 4G
ssl = required
ssl_cert = <%[3]s
ssl_key = <%[4]s
mail_location = maildir:%[1]s/mail/%%u
mail_max_userip_connections = 0
passdb {
  driver = passwd-file
  args = username_format=%%u %[1]s/users
}
userdb {
  driver = static
  args = uid=nobody gid=nogroup home=%[1]s/mail/%%u
}
service imap-login {
  inet_listener imap {
    port = 0
  }
  inet_listener imaps {
    port = %[2]s
  }
}
service pop3-login {
  inet_listener pop3 {
    port = 0
  }
  inet_listener pop3s {
    port = %[5]s
  }
}
service lmtp {
  unix_listener lmtp {
    mode = 0666
  }
}
`

// mainCF takes the directory.
const mainCF = `compatibility_level = 3.6
queue_directory = %[1]s/queue
data_directory = %[1]s/data
myhostname = mail.example.com
mydestination =
mynetworks = 192.0.2.0/24
inet_interfaces = loopback-only
inet_protocols = ipv4
virtual_mailbox_domains = example.com
virtual_mailbox_maps = texthash:%[1]s/postfix/recipients
virtual_transport = lmtp:unix:%[1]s/run/lmtp
smtpd_client_connection_count_limit = 0
smtpd_peername_lookup = no
maillog_file = /dev/null
maillog_file_prefixes = /dev
`

// masterCF takes the address of SMTP.
const masterCF = `%s inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
`
