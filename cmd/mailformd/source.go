package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"
	"golang.org/x/term"

	"mailform/server/daemon"
	"mailform/server/transfer"
)

// remembering returns what opens the source that a person named, and says how to let
// go of it. The password is read once, though a connection may have to be made anew.
func remembering(passwordFile string) func(context.Context, string, func(string)) (transfer.Source, func(), error) {
	var password *string
	return func(ctx context.Context, text string, warn func(string)) (transfer.Source, func(), error) {
		return openSource(ctx, text, warn, func(user, host string) (string, error) {
			if password == nil {
				text, err := readPassword(passwordFile, user, host)
				if err != nil {
					return "", err
				}
				password = &text
			}
			return *password, nil
		})
	}
}

func openSource(ctx context.Context, text string, warn func(string), ask func(user, host string) (string, error)) (transfer.Source, func(), error) {
	kind, rest, _ := strings.Cut(text, ":")
	switch {
	case rest == "":
	case kind == "maildir":
		return transfer.Maildir{Dir: rest, Warn: warn}, func() {}, nil
	case kind == "mbox":
		return transfer.Mbox{Path: rest, Warn: warn}, func() {}, nil
	case kind == "imap" || kind == "imaps":
		u, err := url.Parse(text)
		if err != nil || u.User == nil || u.User.Username() == "" || u.Hostname() == "" {
			return nil, nil, fmt.Errorf("%s://USER@HOST is expected, with %%40 for an @ in USER", kind)
		}
		if _, has := u.User.Password(); has {
			return nil, nil, errors.New("a password in the command line is there for everybody to see: leave it out, it is asked for, or give --password-file")
		}
		c, err := dialIMAP(ctx, u)
		if err != nil {
			return nil, nil, err
		}
		password, err := ask(u.User.Username(), u.Host)
		if err == nil {
			err = logIn(c, u.User.Username(), password)
		}
		if err != nil {
			_ = c.Close()
			return nil, nil, fmt.Errorf("log in to %s as %s: %w", u.Host, u.User.Username(), err)
		}
		return transfer.IMAP{Client: c, Host: u.Hostname(), User: u.User.Username(), Warn: warn}, func() { _ = c.Close() }, nil
	}
	return nil, nil, fmt.Errorf("%q is not maildir:DIR, mbox:FILE or imaps://USER@HOST", text)
}

func dialIMAP(ctx context.Context, u *url.URL) (*imapclient.Client, error) {
	dial, err := daemon.Dialer(os.Getenv)
	if err != nil {
		return nil, err
	}
	roots, err := daemon.Roots(os.Getenv("MAILFORM_CA_BUNDLE"))
	if err != nil {
		return nil, fmt.Errorf("MAILFORM_CA_BUNDLE: %w", err)
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"imap": "143", "imaps": "993"}[u.Scheme]
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	nc, err := dial(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return nil, &transfer.BrokenError{Err: err}
	}
	conf := &tls.Config{ServerName: u.Hostname(), RootCAs: roots, MinVersion: tls.VersionTLS12}
	if u.Scheme == "imap" {
		c, err := imapclient.NewStartTLS(nc, &imapclient.Options{TLSConfig: conf})
		if err != nil {
			return nil, explainTLS(err, u)
		}
		return c, nil
	}
	secure := tls.Client(nc, conf)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = nc.Close()
		return nil, explainTLS(err, u)
	}
	return imapclient.New(secure, nil), nil
}

// readPassword reads the first line of a file, or asks on the terminal.
func readPassword(file, user, host string) (string, error) {
	if file != "" {
		f, err := os.Open(file)
		if err != nil {
			return "", err
		}
		defer f.Close()
		text, err := io.ReadAll(io.LimitReader(f, 4096))
		line, _, _ := strings.Cut(string(text), "\n")
		return strings.TrimSuffix(line, "\r"), err
	}
	fd := int(os.Stdin.Fd())
	if !term.IsTerminal(fd) {
		return "", errors.New("there is no terminal to ask for the password: give --password-file")
	}
	fmt.Fprintf(os.Stderr, "Password of %s at %s: ", user, host)
	b, err := term.ReadPassword(fd)
	fmt.Fprintln(os.Stderr)
	return string(b), err
}

// logIn logs in by what the server lets people: many turn LOGIN off.
func logIn(c *imapclient.Client, user, password string) error {
	caps := c.Caps()
	var err error
	switch {
	case !caps.Has(imap.CapLoginDisabled):
		err = c.Login(user, password).Wait()
	case caps.Has(imap.AuthCap("PLAIN")):
		err = c.Authenticate(sasl.NewPlainClient("", user, password))
	default:
		return errors.New("the server lets nobody log in with a password; if it is Microsoft's, it takes OAuth only: have an administrator export the mailbox, or import the files of a mail program")
	}
	var no *imap.Error
	if errors.As(err, &no) {
		return fmt.Errorf("%w\n  Is the name the whole address? With two factors (Gmail, iCloud, Yahoo, Fastmail) it takes an app password, made on the provider's web pages; IMAP may have to be turned on there, too", err)
	}
	return err
}

// explainTLS says what to do about a connection that does not become secure.
func explainTLS(err error, u *url.URL) error {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var header tls.RecordHeaderError
	todo := ""
	switch {
	case errors.As(err, &unknown):
		todo = "its certificate is of no authority that this machine knows: put the authority's certificate (PEM) into a file and name it in MAILFORM_CA_BUNDLE"
	case errors.As(err, &name):
		todo = "name the server as its certificate does"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		todo = "have its certificate renewed, or, if it is the clock here that is wrong, set that"
	case errors.As(err, &header) && u.Scheme == "imaps":
		todo = "it does not speak TLS on that port: imap://… begins in the clear and turns TLS on"
	case u.Scheme == "imap":
		todo = "imaps://… is for servers that speak TLS from the first octet"
	default:
		return fmt.Errorf("TLS with %s: %w", u.Host, err)
	}
	return fmt.Errorf("TLS with %s: %w\n  %s", u.Host, err, todo)
}
