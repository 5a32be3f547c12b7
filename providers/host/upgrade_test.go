package host

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mailform/plan"
	"mailform/providers/host/hostsim"
	"mailform/specs"
)

// How many clients are at work and how often the server changes below them.
const (
	smtpClients = 12
	imapClients = 8
	upgrades    = 10
)

// tally is what became of the clients' transactions.
type tally struct {
	mu     sync.Mutex
	kept   int      // messages that the server has taken
	again  int      // it said 421 or BYE between two transactions; the client came back
	failed []string // refused, cut off or lost
}

func (t *tally) count(kept int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept += kept
	switch {
	case errors.Is(err, errComeBack):
		t.again++
	case err != nil:
		t.failed = append(t.failed, err.Error())
	}
}

// errComeBack is a proper end of a connection between two transactions.
var errComeBack = errors.New("the server says good-bye")

// wire is one connection of a client.
type wire struct {
	net.Conn
	r *bufio.Reader
}

func (w *wire) line() (string, error) {
	text, err := w.r.ReadString('\n')
	return strings.TrimRight(text, "\r\n"), err
}

// smtp sends a line, unless it is empty, and wants an answer. A 421 is proper only
// while boundary.
func (w *wire) smtp(line, want string, boundary bool) error {
	if line != "" {
		if _, err := w.Write([]byte(line)); err != nil && !boundary {
			return fmt.Errorf("SMTP: %.20q: %w", line, err)
		} // at a boundary the 421 may wait to be read
	}
	for {
		got, err := w.line()
		switch {
		case err != nil:
			return fmt.Errorf("SMTP: no answer to %.20q: %w", line, err)
		case boundary && strings.HasPrefix(got, "421"):
			return errComeBack
		case !strings.HasPrefix(got, want):
			return fmt.Errorf("SMTP: %q in answer to %.20q", got, line)
		case !strings.HasPrefix(got, want+"-"):
			return nil
		}
	}
}

// deliver sends one message in a connection of its own.
func (l *lab) deliver(ctx context.Context) (kept int, err error) {
	conn, err := l.dial(ctx, "tcp", net.JoinHostPort(l.address, "25"))
	if err != nil {
		return 0, fmt.Errorf("SMTP: refused: %w", err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	w := &wire{conn, bufio.NewReader(conn)}
	for _, step := range []struct {
		line, want string
		boundary   bool
	}{
		{"", "220", true},
		{"EHLO client.example\r\n", "250", true},
		{"MAIL FROM:<someone@client.example>\r\n", "250", true},
		{"RCPT TO:<bob@acme.example>\r\n", "250", false},
		{"DATA\r\n", "354", false},
		{"Subject: under load\r\n\r\n" + strings.Repeat("A line of the message.\r\n", 200) + ".\r\n", "250", false},
	} {
		if err := w.smtp(step.line, step.want, step.boundary); err != nil {
			return 0, err
		}
	}
	return 1, w.smtp("QUIT\r\n", "221", true)
}

// imap sends a command and wants OK for it.
func (w *wire) imap(tag, command string, boundary bool) error {
	if _, err := fmt.Fprintf(w, "%s %s\r\n", tag, command); err != nil && !boundary {
		return fmt.Errorf("IMAP: %.20q: %w", command, err)
	}
	return w.imapAnswer(tag, command, boundary)
}

func (w *wire) imapAnswer(tag, command string, boundary bool) error {
	for {
		got, err := w.line()
		switch {
		case err != nil:
			return fmt.Errorf("IMAP: no answer to %.20q: %w", command, err)
		case strings.HasPrefix(got, "* BYE") && boundary:
			return errComeBack
		case strings.HasPrefix(got, "+") && tag == "+", strings.HasPrefix(got, tag+" OK"):
			return nil
		case strings.HasPrefix(got, "* ") && !strings.HasPrefix(got, "* BYE"):
		default:
			return fmt.Errorf("IMAP: %q in answer to %.20q", got, command)
		}
	}
}

// mailbox is a session of a mail program: it logs in, and stores messages and reads until told to end.
func (l *lab) mailbox(ctx context.Context, password string, pace func() bool, count func(int, error)) error {
	raw, err := l.dial(ctx, "tcp", net.JoinHostPort(l.address, "993"))
	if err != nil {
		return fmt.Errorf("IMAP: refused: %w", err)
	}
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(2 * time.Minute))
	conn := tls.Client(raw, &tls.Config{ServerName: "mail.acme.example", RootCAs: l.ca.pool()})
	if err := conn.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("IMAP: handshake: %w", err)
	}
	w := &wire{conn, bufio.NewReader(conn)}
	if err := w.imapAnswer("*", "its greeting", true); err != nil {
		return err
	}
	for i, command := range []string{`LOGIN bob@acme.example "` + password + `"`, "SELECT INBOX"} {
		if err := w.imap(fmt.Sprint("l", i), command, true); err != nil {
			return err
		}
	}
	for i := 0; pace(); i++ {
		if err := w.imap(fmt.Sprint("n", i), "NOOP", true); err != nil {
			return err
		}
		text := "Subject: a draft\r\n\r\nunder load\r\n"
		fmt.Fprintf(w, "a%d APPEND INBOX {%d}\r\n", i, len(text))
		if err := w.imapAnswer("+", "APPEND", true); err != nil {
			return err
		}
		if err := w.imapFinish(fmt.Sprint("a", i), text); err != nil {
			return err
		}
		count(1, nil)
	}
	return w.imap("z", "LOGOUT", true)
}

func (w *wire) imapFinish(tag, literal string) error {
	if _, err := w.Write([]byte(literal + "\r\n")); err != nil {
		return fmt.Errorf("IMAP: the message: %w", err)
	}
	return w.imapAnswer(tag, "the message of APPEND", false)
}

// underLoad lets clients work while change is at work, and fails for every
// transaction that was refused or lost.
func (l *lab) underLoad(password string, change func()) {
	t := l.t
	t.Helper()
	var sum tally
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	done := make(chan struct{})
	pace := func() bool {
		select {
		case <-done:
			return false
		case <-time.After(20 * time.Millisecond): // what a server is loaded with, not what is waited for
			return true
		}
	}
	var clients sync.WaitGroup
	for range smtpClients {
		clients.Go(func() {
			for pace() {
				sum.count(l.deliver(ctx))
			}
		})
	}
	for range imapClients {
		clients.Go(func() {
			for pace() {
				sum.count(0, l.mailbox(ctx, password, pace, sum.count))
			}
		})
	}
	change()
	close(done)
	clients.Wait()
	t.Logf("%d messages taken, %d times a client was asked to come back, %d failures", sum.kept, sum.again, len(sum.failed))
	slices.Sort(sum.failed)
	for text, n := range countEqual(sum.failed) {
		t.Errorf("%d × %s", n, text)
	}
	if got := l.messagesIn(ctx, password); got != sum.kept {
		t.Errorf("%d messages are in the mailbox, %d were taken", got, sum.kept)
	}
}

func countEqual(texts []string) map[string]int {
	n := map[string]int{}
	for _, t := range texts {
		n[t]++
	}
	return n
}

// messagesIn counts what is in bob's mailbox.
func (l *lab) messagesIn(ctx context.Context, password string) int {
	l.t.Helper()
	raw, err := l.dial(ctx, "tcp", net.JoinHostPort(l.address, "993"))
	if err != nil {
		l.t.Fatal(err)
	}
	defer raw.Close()
	conn := tls.Client(raw, &tls.Config{ServerName: "mail.acme.example", RootCAs: l.ca.pool()})
	w := &wire{conn, bufio.NewReader(conn)}
	if err := w.imapAnswer("*", "its greeting", false); err != nil {
		l.t.Fatal(err)
	}
	if err := w.imap("a", `LOGIN bob@acme.example "`+password+`"`, false); err != nil {
		l.t.Fatal(err)
	}
	fmt.Fprint(w, "b STATUS INBOX (MESSAGES)\r\n")
	for {
		line, err := w.line()
		if err != nil {
			l.t.Fatal(err)
		}
		var n int
		if _, after, ok := strings.Cut(line, "(MESSAGES "); ok {
			if _, err := fmt.Sscanf(after, "%d)", &n); err != nil {
				l.t.Fatalf("%q: %v", line, err)
			}
			return n
		}
	}
}

// upgradeOften lets the server change between two versions, each time with
// everything that an upgrade has: the check of the ports and the confirmation.
func (l *lab) upgradeOften(spec *specs.Spec) {
	t := l.t
	first, err := l.upgrade(spec, "1.1", variant(t, "next"))
	if err != nil {
		t.Error(err)
		return
	}
	desired, _ := first.p.Declare(spec)
	agent := desired[slices.IndexFunc(desired, IsAgent)]
	for range upgrades - 1 {
		versions, err := first.p.Versions(t.Context(), agent, func(plan.Ref) (plan.Value, bool) { return plan.Value{}, false })
		if err != nil {
			t.Error(err)
			return
		}
		for _, v := range versions {
			if !v.Active {
				err = first.p.Rollback(t.Context(), "mx1", v.SHA256, nil)
			}
		}
		if err != nil {
			t.Error(err)
			return
		}
	}
}

// Nobody who sends or reads mail notices an upgrade, but by having to connect anew.
func TestUpgradesUnderLoad(t *testing.T) {
	l := newLab(t, hostsim.Config{})
	spec := l.spec()
	r := l.converge(spec)
	l.underLoad(r.secrets[mailboxAddr("bob", "acme.example")], func() { l.upgradeOften(spec) })
}
