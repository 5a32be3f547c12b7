package monitor

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
)

// port finds a free one.
func port(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestExporter(t *testing.T) {
	var failing bool
	e := NewExporter(slog.New(slog.DiscardHandler), func(_ context.Context, m *Metrics) error {
		if failing {
			return errors.New("a secret reason")
		}
		m.One("mailform_queue_messages", Gauge, "Messages.", 3)
		m.Family("mailform_x_total", Counter, "Things.")
		m.Value("mailform_x_total", 1e9, "service", "a\"b\\c\nd\xff", "other", "")
		return nil
	})
	defer e.Close()
	for _, addr := range []string{"0.0.0.0:9100", "192.0.2.1:9100", "[::]:9100", ":9100", "mail.example.com:9100", "9100"} {
		if err := e.Set(addr); err == nil {
			t.Errorf("%s was taken", addr)
		}
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	do := func(method, addr, path string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+addr+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(req)
		if err != nil {
			return 0, err.Error()
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(text)
	}
	addr := port(t)
	if err := e.Set(addr); err != nil {
		t.Fatal(err)
	}
	want := "# HELP mailform_queue_messages Messages.\n# TYPE mailform_queue_messages gauge\nmailform_queue_messages 3\n" +
		"# HELP mailform_x_total Things.\n# TYPE mailform_x_total counter\nmailform_x_total{service=\"a\\\"b\\\\c\\nd?\",other=\"\"} 1e+09\n"
	if code, text := do("GET", addr, "/metrics"); code != 200 || text != want {
		t.Errorf("%d\n%s\nwant\n%s", code, text, want)
	}
	for _, c := range []struct {
		method, path string
		code         int
	}{{"POST", "/metrics", 405}, {"HEAD", "/metrics", 405}, {"GET", "/", 404}, {"GET", "/debug/pprof/", 404}} {
		if code, _ := do(c.method, addr, c.path); code != c.code {
			t.Errorf("%s %s: %d, want %d", c.method, c.path, code, c.code)
		}
	}
	failing = true
	if code, text := do("GET", addr, "/metrics"); code != 500 || strings.Contains(text, "secret") {
		t.Errorf("%d %s", code, text)
	}
	failing = false
	other := port(t)
	if err := e.Set(other); err != nil {
		t.Fatal(err)
	}
	if code, _ := do("GET", addr, "/metrics"); code != 0 {
		t.Error("the old address still answers")
	}
	if code, _ := do("GET", other, "/metrics"); code != 200 {
		t.Errorf("the new address answers %d", code)
	}
	if err := e.Set(""); err != nil {
		t.Fatal(err)
	}
	if code, _ := do("GET", other, "/metrics"); code != 0 {
		t.Error("it still answers")
	}
}
