package agent

import (
	"slices"
	"testing"

	"mailform/server/manifest"
)

// Keys for SCRAM live and die with the password they were made of, and are nowhere
// when the spec says no.
func TestSCRAMKeysGoWithThePassword(t *testing.T) {
	m := newMachine(t)
	m.install()
	const bob = "bob@acme.example"
	keys := func() string {
		t.Helper()
		c, err := m.agent().readCredentials()
		if err != nil {
			t.Fatal(err)
		}
		if len(c.SCRAM) > 1 || len(c.SCRAM) == 1 && c.SCRAM[bob] == "" {
			t.Errorf("keys: %v", c.SCRAM)
		}
		return c.SCRAM[bob]
	}
	of := func(text string) string { return "SCRAM-SHA-256$" + manifest.SHA256([]byte(text)) }
	first := m.mustConverge(wanted()).Passwords[bob]
	if got := keys(); got != of(first) {
		t.Errorf("keys %q of the first password %q", got, first)
	}
	text, err := m.agent().Password(t.Context(), bob)
	if err != nil {
		t.Fatal(err)
	}
	if got := keys(); got != of(text) {
		t.Errorf("keys %q of the new password %q", got, text)
	}
	without := wanted()
	without.Manifest.NoSCRAM = true
	m.mustConverge(without)
	if got := keys(); got != "" || !slices.Contains(m.calls, "reload") {
		t.Errorf("keys %q although the spec says no; the daemon was told: %q", got, m.calls)
	}
	if _, err := m.agent().Password(t.Context(), bob); err != nil || keys() != "" {
		t.Errorf("keys %q of a new password: %v", keys(), err)
	}
	m.mustConverge(wanted())
	if _, err := m.agent().Password(t.Context(), bob); err != nil || keys() == "" {
		t.Errorf("keys %q: %v", keys(), err)
	}
	spec := wanted()
	spec.Manifest.Domains[0].Mailboxes[1].PasswordHash = "$argon2id$of-the-spec"
	m.mustConverge(spec)
	if got := keys(); got != "" {
		t.Errorf("keys %q outlive the host's password", got)
	}
}
