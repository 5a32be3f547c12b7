package daemon

import (
	"io"
	"net/netip"
	"strings"
	"testing"

	"mailform/server/manifest"
)

// nobody is a prefix that no client of a test is in: its clients are strangers.
func nobody() []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix("127.255.255.255/32")} }

// Limits on connections are exchanged by a reload; connections that are open
// stay open and count.
func TestConnectionLimits(t *testing.T) {
	h := newHost(t)
	h.writeCertificate(1)
	h.local = nobody()
	h.manifest.Limits = &manifest.Limits{ConnectionsPerClient: 2}
	h.writeManifest()
	h.start()
	first := h.dialService("smtp")
	first.do("", "220")
	second := h.dialService("submission")
	second.do("", "220")
	h.dialService("smtp").do("", "421 4.7.0 Too many connections")
	if greeting, err := io.ReadAll(h.dialService("imap").conn); err != nil || !strings.HasPrefix(string(greeting), "* BYE [UNAVAILABLE]") {
		t.Errorf("IMAP says %q, %v", greeting, err)
	}

	h.manifest.Limits = &manifest.Limits{ConnectionsPerClient: 5, Connections: 4}
	h.writeManifest()
	st, err := h.control.Reload(t.Context())
	h.must(err)
	if st.Connections != 2 || st.Refused != 2 {
		t.Errorf("status: %d connections, %d refused; want 2 and 2", st.Connections, st.Refused)
	}
	first.do("NOOP", "250")
	second.do("NOOP", "250")
	for range 2 {
		h.dialService("smtp").do("", "220")
	}
	h.dialService("submission").do("", "421 4.7.0 Too many connections")

	h.manifest.Limits = nil
	h.writeManifest()
	_, err = h.control.Reload(t.Context())
	h.must(err)
	h.dialService("submission").do("", "220")
	first.do("NOOP", "250")
}

// A quarter of all connections is kept for users.
func TestUsersKeepConnections(t *testing.T) {
	h := newHost(t)
	h.manifest.Limits = &manifest.Limits{Connections: 4}
	h.writeManifest()
	h.start()
	for range 3 {
		h.dialService("smtp").do("", "220")
	}
	h.dialService("smtp").do("", "421")
	h.dialService("submission").do("", "220")
}

// The sending limit outlives a reload and is changed by it.
func TestSendingLimit(t *testing.T) {
	h := newHost(t)
	roots := h.writeCertificate(1)
	h.manifest.Limits = &manifest.Limits{MessagesPerHour: 1, RecipientsPerMessage: 7}
	h.writeManifest()
	h.start()
	k := h.dialService("submissions")
	k.startTLS(roots)
	k.do("", "220")
	if caps := k.do("EHLO laptop", "250"); !strings.Contains(caps, "LIMITS RCPTMAX=7") {
		t.Errorf("capabilities: %s", caps)
	}
	k.do(plain("alice@example.com", "alice's secret"), "235")
	k.message("alice@example.com", "From: alice@example.com\r\n\r\nhi", "bob@example.com")
	k.do("MAIL FROM:<alice@example.com>", "450 4.7.1 You have reached your limit of messages per hour (1)")
	_, err := h.control.Reload(t.Context())
	h.must(err)
	k.do("MAIL FROM:<alice@example.com>", "450")
	h.manifest.Limits.MessagesPerHour = 2
	h.writeManifest()
	_, err = h.control.Reload(t.Context())
	h.must(err)
	k.message("alice@example.com", "From: alice@example.com\r\n\r\nhi", "bob@example.com")
	k.do("MAIL FROM:<alice@example.com>", "450 4.7.1 You have reached your limit of messages per hour (2)")
}
