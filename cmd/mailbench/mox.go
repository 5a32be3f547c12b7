package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// errMissing says that a peer is not installed.
var errMissing = errors.New("not installed")

// startMox runs mox, another mail server that is one Go program, with what its
// quickstart would set for receiving and reading: IMAP over TLS and SMTP. Its junk
// filter is off, as filters are here, and so is the delay for senders whom it does
// not know. It takes 30 connections and 500 messages a minute from one client, so
// that it gets fewer. It reads /etc/resolv.conf, and so gets one of its own.
func startMox(dir, bin, names string, id *identity) (*peer, error) {
	if _, err := os.Stat(bin); err != nil {
		return nil, fmt.Errorf("mox: %w", errMissing)
	}
	bin, err := filepath.Abs(bin)
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	p := &peer{name: "mox", smtp: "127.0.0.1:" + ports[0], imaps: "127.0.0.1:" + ports[1], id: id, connections: 25, messages: 480}
	if p.version, err = output(bin, "version"); err != nil {
		return nil, err
	}
	p.version, _, _ = strings.Cut("mox "+p.version, "\n")
	var accounts strings.Builder
	for _, u := range users() {
		fmt.Fprintf(&accounts, "\t%s:\n\t\tDomain: example.com\n\t\tDestinations:\n\t\t\t%s: nil\n\t\tNoFirstTimeSenderDelay: true\n", strings.TrimSuffix(u, "@example.com"), u)
	}
	host, _, _ := strings.Cut(names, ":")
	for path, text := range map[string]string{
		"config/mox.conf":     fmt.Sprintf(moxConf, id.chain, id.key, ports[0], ports[1]),
		"config/domains.conf": "Domains:\n\texample.com: nil\nAccounts:\n" + accounts.String(),
		"resolv.conf":         "nameserver " + host + "\n",
	} {
		if err := write(filepath.Join(dir, path), text); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "data"), 0o755); err != nil {
		return nil, err
	}
	if _, err := output("chown", "-R", "nobody:nogroup", dir); err != nil {
		return nil, err
	}
	conf := filepath.Join(dir, "config", "mox.conf")
	if err := p.start(dir, nil, "/usr/bin/unshare", "-m", "sh", "-c", `mount --bind "$1" /etc/resolv.conf && shift && exec "$@"`, "sh",
		filepath.Join(dir, "resolv.conf"), bin, "-config", conf, "serve"); err != nil {
		return nil, err
	}
	err = p.answers(dir)
	for _, u := range users() {
		if err == nil {
			err = moxPassword(bin, conf, strings.TrimSuffix(u, "@example.com"))
		}
	}
	if err != nil {
		p.stop()
		return nil, err
	}
	p.fill = func(account, maildir string) error {
		_, err := output(bin, "-config", conf, "import", "maildir", strings.TrimSuffix(account, "@example.com"), "Inbox", maildir)
		return err
	}
	return p, nil
}

// moxPassword sets an account's. The control socket may come after the ports.
func moxPassword(bin, conf, account string) error {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		_, err := outputOf(password+"\n"+password+"\n", bin, "-config", conf, "setaccountpassword", account)
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// moxConf takes the certificate's files and the ports of SMTP and IMAP.
const moxConf = `DataDir: ../data
LogLevel: error
User: nobody
Hostname: mail.example.com
Listeners:
	local:
		IPs:
			- 127.0.0.1
		TLS:
			KeyCerts:
				-
					CertFile: %s
					KeyFile: %s
		SMTP:
			Enabled: true
			Port: %s
		IMAPS:
			Enabled: true
			Port: %s
Postmaster:
	Account: user0
	Mailbox: Postmaster
`
