package agent

import (
	"slices"
	"strings"
	"testing"

	"mailform/server/manifest"
)

// A dry run says each field that would change, and no secret.
func TestDryRunFieldByField(t *testing.T) {
	m := newMachine(t)
	m.install()
	m.mustConverge(wanted())
	req := wanted()
	req.DryRun = true
	req.Manifest.MaxMessageBytes = 1 << 20
	req.Manifest.Relay.Password = "canary-other"
	req.Manifest.Domains[0].Mailboxes = []manifest.Mailbox{{Local: "aaron", Name: "Aaron", PasswordHash: "$argon2id$canary-aaron"}, req.Manifest.Domains[0].Mailboxes[0]}
	delete(m.active, ServiceUnit)
	_, events, err := m.converge(req)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range events {
		if e.Status == "would change" {
			got = append(got, e.Step+": "+e.Detail)
		}
	}
	want := []string{
		`manifest: domains[acme.example].mailboxes[aaron].local + "aaron"`,
		`manifest: domains[acme.example].mailboxes[aaron].name + "Aaron"`,
		`manifest: domains[acme.example].mailboxes[aaron].password_hash + (secret)`,
		`manifest: domains[acme.example].mailboxes[bob].local - "bob"`,
		`manifest: max_message_bytes 52428800 → 1048576`,
		`manifest: relay.password changes`,
		`service: mailformd.service is inactive`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if strings.Contains(strings.Join(got, "\n"), "canary") {
		t.Error("a secret is shown")
	}
	if len(m.calls) > 0 {
		t.Errorf("systemd was asked for %q", m.calls)
	}
}
