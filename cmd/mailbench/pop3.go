package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// pop3Session sends commands and passes over what they answer.
type pop3Session struct {
	c net.Conn
	r *bufio.Reader
}

func dialPOP3(p *peer, account string) (*pop3Session, error) {
	c, err := tls.Dial("tcp", p.pop3s, &tls.Config{ServerName: "mail.example.com", RootCAs: p.id.roots})
	if err != nil {
		return nil, err
	}
	s := &pop3Session{c, bufio.NewReaderSize(c, 64<<10)}
	for _, command := range []string{"", "USER " + account + "\r\n", "PASS " + password + "\r\n"} {
		if err := s.do(command, false); err != nil {
			c.Close()
			return nil, err
		}
	}
	return s, nil
}

func (s *pop3Session) do(command string, lines bool) error {
	_ = s.c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(s.c, command); err != nil {
		return err
	}
	line, err := s.r.ReadString('\n')
	if err == nil && !strings.HasPrefix(line, "+OK") {
		err = refusal{command, line}
	}
	for err == nil && lines {
		line, err = s.r.ReadString('\n')
		lines = line != ".\r\n"
	}
	return err
}

// collecting is 20 clients with POP3, each of which fetches its mail again and
// leaves it there.
func collecting(o options, peers []*peer, t *table, _ string) error {
	const name, each = "POP3, 20 clients: log in, UIDL, RETR of 50 × 4 KiB, per message", 50
	if !o.cases.MatchString(name) {
		return nil
	}
	var able []*peer
	for _, p := range peers {
		if p.pop3s == "" {
			continue
		}
		able = append(able, p)
		for i := range accounts {
			s, err := dialIMAP(p, user(i))
			if err != nil {
				return err
			}
			n, err := s.messages()
			if err == nil && n < each {
				err = s.appendMany("INBOX", n, each, 4<<10)
			}
			s.c.Close()
			if err != nil {
				return err
			}
		}
	}
	return t.of(able).measure(name, o.rounds, func(p *peer, _ int) (int, error) {
		var g errgroup.Group
		for i := range accounts {
			g.Go(func() error {
				for range 5 {
					s, err := dialPOP3(p, user(i))
					if err == nil {
						err = s.do("UIDL\r\n", true)
					}
					for n := 1; n <= each && err == nil; n++ {
						err = s.do(fmt.Sprintf("RETR %d\r\n", n), true)
					}
					if err == nil {
						err = s.do("QUIT\r\n", false)
					}
					if s != nil {
						s.c.Close()
					}
					if err != nil {
						return err
					}
				}
				return nil
			})
		}
		return accounts * 5 * each, g.Wait()
	})
}
