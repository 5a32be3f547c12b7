package host

import (
	"context"
	"encoding/json"
	"strings"

	"mailform/server/manifest"
)

// NewPassword gives a mailbox a new password, made on its host, and returns it.
// The host must have been observed.
func (p *Provider) NewPassword(ctx context.Context, host, mailbox string) (string, error) {
	t, err := p.target(host)
	if err != nil {
		return "", err
	}
	b, err := p.command(ctx, t, "make a password for "+mailbox, "new-password", func(c manifest.Claim) any {
		return manifest.PasswordRequest{Claim: c, Address: mailbox}
	})
	if err != nil {
		return "", err
	}
	text := strings.TrimSpace(string(b))
	if text == "" {
		return "", badAnswer(t, "new-password", nil)
	}
	return text, nil
}

// EraseMailbox erases the mail of a removed mailbox on the host that keeps it. Like
// NewPassword it needs an observation first.
func (p *Provider) EraseMailbox(ctx context.Context, host, mailbox string) (manifest.Erased, error) {
	var out manifest.Erased
	t, err := p.target(host)
	if err != nil {
		return out, err
	}
	b, err := p.command(ctx, t, "erase "+mailbox, "erase-mailbox", func(c manifest.Claim) any {
		return manifest.EraseRequest{Claim: c, Address: mailbox}
	})
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(b, &out); err != nil || out.Account != mailbox {
		return out, badAnswer(t, "erase-mailbox", err)
	}
	return out, nil
}

// RestoreMailbox puts a removed mailbox back on the host that keeps its mail. Like
// NewPassword it needs an observation first.
func (p *Provider) RestoreMailbox(ctx context.Context, host, mailbox string) (manifest.Restored, error) {
	var out manifest.Restored
	t, err := p.target(host)
	if err != nil {
		return out, err
	}
	b, err := p.command(ctx, t, "restore "+mailbox, "restore-mailbox", func(c manifest.Claim) any {
		return manifest.RestoreRequest{Claim: c, Address: mailbox}
	})
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(b, &out); err != nil || out.Mailbox.Local == "" {
		return out, badAnswer(t, "restore-mailbox", err)
	}
	return out, nil
}

// Retained are the removed mailboxes whose mail the hosts keep, by host, as last
// observed.
func (p *Provider) Retained() map[string][]manifest.Retained {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[string][]manifest.Retained{}
	for host, f := range p.facts {
		if f.Owner != nil && f.Owner.Stack == p.Stack {
			out[host] = f.Retained
		}
	}
	return out
}
