package monitor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Metrics writes numbers in Prometheus's text format, version 0.0.4:
// https://prometheus.io/docs/instrumenting/exposition_formats/
type Metrics struct{ b bytes.Buffer }

// Kind is a metric's type.
type Kind string

// The kinds of metric.
const (
	Counter Kind = "counter" // only grows; its name ends in _total
	Gauge   Kind = "gauge"
)

// Family begins a metric. Its values follow.
func (m *Metrics) Family(name string, kind Kind, help string) {
	fmt.Fprintf(&m.b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

// Value adds a value. labels are names and values in turn.
func (m *Metrics) Value(name string, value float64, labels ...string) {
	m.b.WriteString(name)
	for i := 0; i+1 < len(labels); i += 2 {
		sep := byte(',')
		if i == 0 {
			sep = '{'
		}
		m.b.WriteByte(sep)
		m.b.WriteString(labels[i] + `="` + labelEscapes.Replace(strings.ToValidUTF8(labels[i+1], "?")) + `"`)
	}
	if len(labels) > 1 {
		m.b.WriteByte('}')
	}
	m.b.WriteString(" " + strconv.FormatFloat(value, 'g', -1, 64) + "\n")
}

// One is a metric with one value.
func (m *Metrics) One(name string, kind Kind, help string, value float64) {
	m.Family(name, kind, help)
	m.Value(name, value)
}

var labelEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// Exporter answers GET /metrics on a loopback address, which Set may change.
type Exporter struct {
	log     *slog.Logger
	collect func(context.Context, *Metrics) error

	mu     sync.Mutex
	addr   string
	server *http.Server
	done   chan struct{}
	closed bool
}

// NewExporter returns an exporter that listens nowhere yet.
func NewExporter(log *slog.Logger, collect func(context.Context, *Metrics) error) *Exporter {
	return &Exporter{log: log, collect: collect}
}

// maxScrapes bounds the connections that are served at a time.
const maxScrapes = 8

// Set listens on addr, "127.0.0.1:9100" or "[::1]:9100"; "" is nowhere. An
// address that is not this machine's own alone is refused. When it fails nothing
// is served, and Set may be called again.
func (e *Exporter) Set(addr string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || addr == e.addr {
		return nil
	}
	e.stop()
	if addr == "" {
		return nil
	}
	l, err := listen(addr)
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/metrics", e.answer)
	e.server = &http.Server{Handler: mux, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 8 << 10,
		ErrorLog: slog.NewLogLogger(e.log.Handler(), slog.LevelDebug)}
	e.done = make(chan struct{})
	go func(s *http.Server, done chan struct{}) {
		defer close(done)
		if err := s.Serve(&few{Listener: l, free: make(chan struct{}, maxScrapes)}); !errors.Is(err, http.ErrServerClosed) {
			e.log.Error("metrics", "err", err)
		}
	}(e.server, e.done)
	e.addr = addr
	e.log.Info("metrics", "addr", l.Addr().String())
	return nil
}

// listen opens a port of this machine alone.
func listen(addr string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	if ip, err := netip.ParseAddr(host); err != nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("%s is not an address of this machine alone: write 127.0.0.1:%s", addr, port)
	}
	return net.Listen("tcp", net.JoinHostPort(host, port))
}

func (e *Exporter) answer(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "only GET", http.StatusMethodNotAllowed)
		return
	}
	var m Metrics
	if err := e.collect(r.Context(), &m); err != nil {
		e.log.Error("metrics", "err", err)
		http.Error(w, "the numbers cannot be had, the log says why", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = io.Copy(w, &m.b)
}

// stop ends what is served. Called with the lock held.
func (e *Exporter) stop() {
	e.addr = ""
	if e.server == nil {
		return
	}
	if err := e.server.Close(); err != nil {
		e.log.Warn("metrics", "err", err)
	}
	<-e.done
	e.server = nil
}

// Close ends what is served, for good.
func (e *Exporter) Close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	e.stop()
}

// few is a listener that closes connections beyond a number of them.
type few struct {
	net.Listener
	free chan struct{}
}

func (l *few) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.free <- struct{}{}:
			return &counted{Conn: c, leave: sync.OnceFunc(func() { <-l.free })}, nil
		default:
			_ = c.Close()
		}
	}
}

type counted struct {
	net.Conn
	leave func()
}

func (c *counted) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
