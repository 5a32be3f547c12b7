package hostsim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
)

// sshServer is the host's sshd.
type sshServer struct {
	host     *Host
	sup      *supervisor
	listener net.Listener
	config   *ssh.ServerConfig
	ctx      context.Context
	cancel   context.CancelFunc
	wg       sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool
	keys  []ssh.Signer // that it shows
	port  int          // where new connections find it
}

func newSSHServer(h *Host, sup *supervisor) (*sshServer, error) {
	authorized := map[string][]ssh.PublicKey{}
	for user, keys := range h.init.users {
		for _, line := range append(append([]string{}, keys...), h.cfg.AuthorizedKeys...) {
			key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
			if err != nil {
				return nil, fmt.Errorf("authorized key of %s: %w", user, err)
			}
			authorized[user] = append(authorized[user], key)
		}
	}
	l, err := h.listen()
	if err != nil {
		return nil, err
	}
	s := &sshServer{host: h, sup: sup, listener: l, conns: map[net.Conn]bool{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.config = &ssh.ServerConfig{
		ServerVersion: "SSH-2.0-OpenSSH_9.2p1 hostsim",
		MaxAuthTries:  6,
		PublicKeyCallback: func(c ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			for _, k := range authorized[c.User()] {
				if bytes.Equal(k.Marshal(), key.Marshal()) {
					return &ssh.Permissions{}, nil
				}
			}
			return nil, errors.New("this key is not authorized")
		},
	}
	if err := s.reload(); err != nil {
		l.Close()
		return nil, err
	}
	s.wg.Add(1)
	go s.accept()
	return s, nil
}

func (s *sshServer) accept() {
	defer s.wg.Done()
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns[c] = true
		s.mu.Unlock()
		s.wg.Add(1)
		go func() {
			defer s.wg.Done()
			s.serve(c)
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
		}()
	}
}

func (s *sshServer) close() {
	s.cancel()
	s.listener.Close()
	s.mu.Lock()
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

func (s *sshServer) serve(c net.Conn) {
	defer c.Close()
	s.mu.Lock()
	config := *s.config
	for _, k := range s.keys {
		config.AddHostKey(k)
	}
	s.mu.Unlock()
	conn, chans, reqs, err := ssh.NewServerConn(c, &config)
	if err != nil {
		return
	}
	defer conn.Close()
	go ssh.DiscardRequests(reqs)
	var wg sync.WaitGroup
	for ch := range chans {
		switch ch.ChannelType() {
		case "session":
			wg.Add(1)
			go func() {
				defer wg.Done()
				s.session(conn, ch)
			}()
		case "direct-tcpip":
			wg.Add(1)
			go func() {
				defer wg.Done()
				s.forward(ch)
			}()
		default:
			ch.Reject(ssh.UnknownChannelType, "not simulated")
		}
	}
	wg.Wait()
}

// session serves one session channel: a single exec request.
func (s *sshServer) session(conn *ssh.ServerConn, nc ssh.NewChannel) {
	ch, reqs, err := nc.Accept()
	if err != nil {
		return
	}
	defer ch.Close()
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	for req := range reqs {
		var payload struct{ Command string }
		if req.Type != "exec" || ssh.Unmarshal(req.Payload, &payload) != nil {
			req.Reply(false, nil)
			continue
		}
		req.Reply(true, nil)
		go ssh.DiscardRequests(reqs)
		run := &session{host: s.host, sup: s.sup, root: conn.User() == "root", stdin: ch, stdout: ch, stderr: ch.Stderr()}
		if s.host.cfg.Watch == nil {
			s.exit(ch, run.run(ctx, payload.Command))
			return
		}
		w := &watched{command: payload.Command, watch: s.host.cfg.Watch, cut: func() { conn.Close() }, stdin: ch, stdout: ch}
		run.stdin, run.stdout = w, w
		if !w.ask(Asked, 0) {
			return
		}
		status := run.run(ctx, payload.Command)
		w.flush()
		if w.ask(Ended, 0) {
			s.exit(ch, status)
		}
		return
	}
}

// exit tells the client how its command ended.
func (s *sshServer) exit(ch ssh.Channel, status int) {
	ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(status)}))
}

// forward connects a tunnel to one of the host's own ports.
func (s *sshServer) forward(nc ssh.NewChannel) {
	var to struct {
		Host       string
		Port       uint32
		Origin     string
		OriginPort uint32
	}
	if ssh.Unmarshal(nc.ExtraData(), &to) != nil {
		nc.Reject(ssh.ConnectionFailed, "malformed request")
		return
	}
	addr, ok := s.sup.addr(int(to.Port))
	if ip := net.ParseIP(to.Host); !ok || to.Host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		nc.Reject(ssh.ConnectionFailed, "connect to "+net.JoinHostPort(to.Host, strconv.Itoa(int(to.Port)))+": Connection refused")
		return
	}
	out, err := (&net.Dialer{}).DialContext(s.ctx, "tcp", addr)
	if err != nil {
		nc.Reject(ssh.ConnectionFailed, strings.TrimSpace(err.Error()))
		return
	}
	defer out.Close()
	stop := context.AfterFunc(s.ctx, func() { out.Close() })
	defer stop()
	ch, reqs, err := nc.Accept()
	if err != nil {
		return
	}
	defer ch.Close()
	go ssh.DiscardRequests(reqs)
	done := make(chan struct{})
	go func() {
		io.Copy(out, ch)
		if t, ok := out.(*net.TCPConn); ok {
			t.CloseWrite()
		}
		close(done)
	}()
	io.Copy(ch, out)
	ch.Close()
	out.Close()
	<-done
}
