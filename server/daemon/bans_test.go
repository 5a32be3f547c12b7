package daemon

import (
	"context"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mailform/server/account"
	"mailform/server/limits"
)

// Whoever guesses until nobody listens to him any more is banned, whoever guesses
// on after that for longer; lifting forgets both.
func TestGuessersAreBanned(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	accounts, err := account.NewAuthenticator(&account.Directory{}, account.Options{Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	var asked []string
	var said strings.Builder
	b := newBanner(clock, "", slog.New(slog.NewTextHandler(&said, nil)))
	b.ask = func(ban limits.Ban) error { asked = append(asked, string(ban.Request())); return nil }
	a := &authenticator{accounts: accounts, penalties: limits.NewPenalties(limits.PenaltyOptions{Now: clock, BlockAt: 3}), banner: b,
		sleep: func(context.Context, time.Duration) error { return nil }}
	guess := func(from string) {
		_, _ = a.login(t.Context(), "nobody@example.com", "guess", netip.MustParseAddr(from))
	}
	for _, from := range []string{"192.0.2.1", "10.0.0.1", "127.0.0.1"} {
		for range 5 {
			guess(from)
		}
	}
	if !slices.Equal(asked, []string{"ban 192.0.2.1 600"}) {
		t.Fatalf("asked %q", asked)
	}
	now = now.Add(11 * time.Minute)
	for range 3 {
		guess("192.0.2.1")
	}
	if !slices.Equal(asked, []string{"ban 192.0.2.1 600", "ban 192.0.2.1 1200"}) {
		t.Fatalf("asked %q", asked)
	}
	a.lift(netip.MustParseAddr("192.0.2.1"))
	if a.penalties.Blocked(netip.MustParseAddr("192.0.2.1")) {
		t.Error("still not listened to")
	}
	asked = nil
	for range floodAt {
		b.refused(netip.MustParseAddr("2001:db8::7"))
	}
	if !slices.Equal(asked, []string{"ban 2001:db8:: 600"}) {
		t.Errorf("a flood: %q", asked)
	}
}

func TestAskBan(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	b := limits.Ban{Client: netip.MustParsePrefix("192.0.2.1/32"), For: limits.MinBan}
	if err := askBan(path, b); err == nil || !isNotExist(err) {
		t.Errorf("without a helper: %v", err)
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := askBan(path, b); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 100)
	n, err := conn.Read(line)
	if got, parse := limits.ParseBan(line[:n]); err != nil || parse != nil || got != b {
		t.Errorf("%q %v %v", line[:n], err, parse)
	}
	// One that does not read keeps nobody waiting.
	for range 2000 {
		if err = askBan(path, b); err != nil {
			break
		}
	}
	if err == nil {
		t.Error("a helper that does not read takes everything")
	}
}

func isNotExist(err error) bool {
	return strings.Contains(err.Error(), fs.ErrNotExist.Error()) || strings.Contains(err.Error(), "no such file")
}
