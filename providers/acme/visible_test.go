package acme

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"mailform/providers/cloudflare/cloudflaresim"
)

func silently(string, int64, int64) {}

// nameServer serves one challenge record.
func nameServer(t *testing.T, value string) (host, port string) {
	t.Helper()
	sim := cloudflaresim.New(cloudflaresim.Config{Static: []cloudflaresim.StaticZone{
		{Origin: "acme.example", Records: []string{`_acme-challenge.mail 60 IN TXT "` + value + `"`}},
	}})
	d, err := sim.ListenDNS("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	host, port, err = net.SplitHostPort(d.Addr())
	if err != nil {
		t.Fatal(err)
	}
	return host, port
}

// Without a resolver the zone's own servers are asked.
func TestAuthoritativeServersAreAsked(t *testing.T) {
	host, port := nameServer(t, "value")
	var asked []string
	w := newWatcher("", noSleep)
	w.port = port
	w.lookupNS = func(_ context.Context, name string) ([]*net.NS, error) {
		asked = append(asked, name)
		if name != "acme.example." {
			return nil, errors.New("no such host")
		}
		return []*net.NS{{Host: "ada.ns.example."}, {Host: "bob.ns.example."}}, nil
	}
	w.lookupHost = func(context.Context, string) ([]string, error) { return []string{host}, nil }
	w.lookupTXT = func(context.Context, string) ([]string, error) {
		t.Error("the system's resolver was asked")
		return nil, errors.New("no")
	}
	if err := w.wait(t.Context(), "_acme-challenge.mail.acme.example", []string{"value"}, silently); err != nil {
		t.Error(err)
	}
	if want := []string{"_acme-challenge.mail.acme.example.", "mail.acme.example.", "acme.example."}; !slices.Equal(asked, want) {
		t.Errorf("looked for the zone at %v", asked)
	}
	err := w.wait(t.Context(), "_acme-challenge.mail.acme.example", []string{"another"}, silently)
	if err == nil || !strings.Contains(err.Error(), "other TXT records (1)") {
		t.Errorf("a record with another value: %v", err)
	}
}

// A network that closes port 53: the system's resolver is all there is.
func TestUnreachableServersFallBack(t *testing.T) {
	w := newWatcher("", noSleep)
	w.timeout = 50 * time.Millisecond
	w.port = "1" // nothing listens there
	w.lookupNS = func(context.Context, string) ([]*net.NS, error) { return []*net.NS{{Host: "ada.ns.example."}}, nil }
	w.lookupHost = func(context.Context, string) ([]string, error) { return []string{"127.0.0.1"}, nil }
	tries := 0
	w.lookupTXT = func(context.Context, string) ([]string, error) {
		if tries++; tries < 3 {
			return nil, errors.New("no such host")
		}
		return []string{"value"}, nil
	}
	if err := w.wait(t.Context(), "_acme-challenge.mail.acme.example", []string{"value"}, silently); err != nil || tries != 3 {
		t.Errorf("%d tries: %v", tries, err)
	}
}

// A resolver that was named is the only one that counts.
func TestNamedResolverThatIsDead(t *testing.T) {
	w := newWatcher("127.0.0.1:1", noSleep)
	w.timeout = 50 * time.Millisecond
	w.lookupTXT = func(context.Context, string) ([]string, error) { return []string{"value"}, nil }
	err := w.wait(t.Context(), "_acme-challenge.mail.acme.example", []string{"value"}, silently)
	if err == nil || !strings.Contains(err.Error(), "127.0.0.1:1 does not answer") {
		t.Errorf("got %v", err)
	}
}
