package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// letters are messages of about size bytes for a measured time, in which making
// them should take none: their headers differ, and there are a few texts. No two
// of the benchmark have the same Message-ID.
type letters struct {
	texts [][]byte
	first int
}

func newLetters(size int, first int) *letters {
	l := &letters{first: first}
	for i := range 16 {
		_, text, _ := strings.Cut(letter(1000+i, size), "\r\n\r\n")
		l.texts = append(l.texts, []byte(text))
	}
	return l
}

// at is one of them, in parts: its header, its text, and the line that ends it in DATA.
func (l *letters) at(i int) net.Buffers {
	return net.Buffers{[]byte(head(l.first+i) + "\r\n"), l.texts[i%len(l.texts)], []byte(".\r\n")}
}

// letter is a message of about size bytes; no two have the same header.
func letter(i, size int) string {
	var b strings.Builder
	b.WriteString(head(i) + "\r\n")
	for n := 0; b.Len() < size; n++ {
		fmt.Fprintf(&b, "Line %d of message %d: the quick brown fox jumps over the lazy dog number %d.\r\n", n, i, (i*31+n)%1000)
	}
	return b.String()
}

// head is the header of letter i.
func head(i int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "From: Sender %d <sender%d@sender.example>\r\nTo: User <user@example.com>\r\nSubject: message %d of topic %d\r\nDate: %s\r\nMessage-ID: <%d.bench@sender.example>\r\n",
		i%50, i%50, i, i%500, time.Unix(1_700_000_000+int64(i)*37, 0).UTC().Format(time.RFC1123Z), i)
	if i%4 != 0 {
		fmt.Fprintf(&b, "In-Reply-To: <%d.bench@sender.example>\r\nReferences: <%[1]d.bench@sender.example>\r\n", i-i%4)
	}
	b.WriteString("MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n")
	return b.String()
}

// smtpSession sends messages one after the other, without pipelining.
type smtpSession struct {
	c net.Conn
	r *bufio.Reader
}

func dialSMTP(p *peer) (*smtpSession, error) {
	c, err := net.Dial("tcp", p.smtp)
	if err != nil {
		return nil, err
	}
	s := &smtpSession{c, bufio.NewReader(c)}
	if err := s.do("", "220"); err != nil {
		return nil, err
	}
	return s, s.do("EHLO client.sender.example\r\n", "250")
}

func (s *smtpSession) do(send, want string) error {
	_ = s.c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(s.c, send); err != nil {
		return err
	}
	return s.answer(send, want)
}

func (s *smtpSession) answer(send, want string) error {
	for {
		line, err := s.r.ReadString('\n')
		if err != nil {
			return err
		}
		if len(line) > 3 && line[3] == '-' {
			continue
		}
		if !strings.HasPrefix(line, want) {
			return fmt.Errorf("%.40q was answered with %q", send, line)
		}
		return nil
	}
}

func (s *smtpSession) message(to string, text net.Buffers) error {
	for _, step := range [][2]string{{"MAIL FROM:<sender@sender.example>\r\n", "250"}, {"RCPT TO:<" + to + ">\r\n", "250"}, {"DATA\r\n", "354"}} {
		if err := s.do(step[0], step[1]); err != nil {
			return err
		}
	}
	if _, err := text.WriteTo(s.c); err != nil {
		return err
	}
	return s.answer("a message", "250")
}

// imapSession sends commands and counts what it gets.
type imapSession struct {
	c   net.Conn
	r   *bufio.Reader
	tag int
}

func dialIMAP(p *peer, account string) (*imapSession, error) {
	c, err := tls.Dial("tcp", p.imaps, &tls.Config{ServerName: "mail.example.com", RootCAs: p.id.roots})
	if err != nil {
		return nil, err
	}
	s := &imapSession{c: c, r: bufio.NewReaderSize(c, 64<<10)}
	if _, err := s.r.ReadString('\n'); err != nil {
		return nil, err
	}
	_, err = s.do(`LOGIN "` + account + `" "` + password + `"`)
	return s, err
}

// do sends a command and returns the last untagged line. Lines of literals are
// not told apart from others: no message here has one that begins with a tag.
func (s *imapSession) do(command string) (last string, err error) {
	s.tag++
	tag := "t" + strconv.Itoa(s.tag) + " "
	_ = s.c.SetDeadline(time.Now().Add(20 * time.Minute))
	if _, err := io.WriteString(s.c, tag+command+"\r\n"); err != nil {
		return "", err
	}
	for {
		line, err := s.r.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull {
			return "", err
		}
		switch {
		case strings.HasPrefix(string(line[:min(len(line), len(tag))]), tag):
			if !strings.HasPrefix(string(line[len(tag):]), "OK") {
				return "", refusal{command, string(line)}
			}
			return last, nil
		case len(line) < 200 && line[0] == '*':
			last = string(line)
		}
	}
}

// refusal is a command that a server does not have or does not carry out.
type refusal struct{ command, answer string }

func (r refusal) Error() string {
	return fmt.Sprintf("%.60q was answered with %q", r.command, r.answer)
}

// messages is how many an account's INBOX has.
func (s *imapSession) messages() (int, error) {
	line, err := s.do("STATUS INBOX (MESSAGES)")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(line, "(MESSAGES ")
	digits, _, _ := strings.Cut(rest, ")")
	return strconv.Atoi(digits)
}

// appendMany appends the messages from..to of size bytes, in one command for each hundred.
func (s *imapSession) appendMany(mailbox string, from, to, size int) error {
	for from < to {
		var b strings.Builder
		b.WriteString("APPEND " + mailbox)
		for range min(100, to-from) {
			text := letter(from, size)
			fmt.Fprintf(&b, " {%d+}\r\n%s", len(text), text)
			from++
		}
		if _, err := s.do(b.String()); err != nil {
			return err
		}
	}
	return nil
}
