package agent

import (
	"context"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"mailform/server/manifest"
)

func (a *Agent) readCredentials() (manifest.Credentials, error) {
	c := manifest.Credentials{Format: manifest.Format}
	if _, err := readJSON(a.Layout.CredentialsFile(), &c); err != nil {
		return c, err
	}
	if c.Hashes == nil {
		c.Hashes = map[string]string{}
	}
	if c.SCRAM == nil {
		c.SCRAM = map[string]string{}
	}
	return c, nil
}

func (a *Agent) writeCredentials(c manifest.Credentials) error {
	slices.Sort(c.Unseen)
	c.Unseen = slices.Compact(c.Unseen)
	b, err := manifest.Encode(c)
	if err != nil {
		return err
	}
	return writeFile(a.Layout.CredentialsFile(), b, secretMode, a.gid())
}

// firstPasswords makes passwords for the mailboxes that have none, and new ones
// for those whose first password nobody has seen. It returns the texts.
func (a *Agent) firstPasswords(ctx context.Context, m *manifest.Manifest) (map[string]string, error) {
	creds, err := a.readCredentials()
	if err != nil {
		return nil, err
	}
	unseen := map[string]bool{}
	for _, addr := range creds.Unseen {
		unseen[addr] = true
	}
	var want []string
	changed := false
	for _, d := range m.Domains {
		for _, b := range d.Mailboxes {
			addr := b.Local + "@" + d.Name
			_, has := creds.Hashes[addr]
			switch {
			case b.PasswordHash != "" && has:
				// The spec has taken over: the host's password must not work again
				// when the spec lets go.
				delete(creds.Hashes, addr)
				delete(creds.SCRAM, addr)
				delete(unseen, addr)
				changed = true
			case b.PasswordHash == "" && (!has || unseen[addr]):
				want = append(want, addr)
			}
		}
	}
	if m.NoSCRAM && len(creds.SCRAM) > 0 {
		clear(creds.SCRAM)
		changed = true
	}
	if len(want) == 0 && !changed {
		return nil, nil
	}
	made, err := a.newPasswords(ctx, want, !m.NoSCRAM)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for i, addr := range want {
		out[addr] = made[i].text
		made[i].keep(&creds, addr)
		unseen[addr] = true
	}
	creds.Unseen = creds.Unseen[:0]
	for addr := range unseen {
		creds.Unseen = append(creds.Unseen, addr)
	}
	return out, a.writeCredentials(creds)
}

// newPassword is a password and what is kept of it.
type newPassword struct{ text, hash, scram string }

// keep makes it the password of a mailbox.
func (p newPassword) keep(creds *manifest.Credentials, addr string) {
	creds.Hashes[addr] = p.hash
	delete(creds.SCRAM, addr)
	if p.scram != "" {
		creds.SCRAM[addr] = p.scram
	}
}

// newPasswords makes and hashes passwords on all processors: hashing is slow on purpose.
func (a *Agent) newPasswords(ctx context.Context, addrs []string, scram bool) ([]newPassword, error) {
	made := make([]newPassword, len(addrs))
	for i := range made {
		var err error
		if made[i].text, err = a.NewPassword(); err != nil {
			return nil, err
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i := range made {
		g.Go(func() (err error) {
			if err := ctx.Err(); err != nil {
				return err
			}
			p := &made[i]
			if p.hash, err = a.HashPassword(p.text); err == nil && scram {
				p.scram, err = a.SCRAMKeys(p.text)
			}
			return err
		})
	}
	return made, g.Wait()
}

// PasswordsReceived records that the given first passwords have arrived.
func (a *Agent) PasswordsReceived(ctx context.Context, addrs map[string]string) error {
	unlock, err := a.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	creds, err := a.readCredentials()
	if err != nil {
		return err
	}
	creds.Unseen = slices.DeleteFunc(creds.Unseen, func(addr string) bool {
		_, seen := addrs[addr]
		return seen
	})
	return a.writeCredentials(creds)
}

// Password makes a new first password for a mailbox whose password is the
// host's, and returns it.
func (a *Agent) Password(ctx context.Context, addr string) (string, error) {
	unlock, err := a.lock(ctx)
	if err != nil {
		return "", err
	}
	defer unlock()
	return a.password(ctx, addr)
}

// password does it; the agent lock is held.
func (a *Agent) password(ctx context.Context, addr string) (string, error) {
	m, _, err := a.readManifest()
	if err != nil {
		return "", err
	}
	b := findMailbox(m, addr)
	if b == nil {
		return "", failf(manifest.ExitRequest, "there is no mailbox %s on this host", addr)
	}
	if b.PasswordHash != "" {
		return "", failf(manifest.ExitRequest, "the password of %s stands in the spec (password_hash): change it there", addr)
	}
	creds, err := a.readCredentials()
	if err != nil {
		return "", err
	}
	made, err := a.newPasswords(ctx, []string{addr}, !m.NoSCRAM)
	if err != nil {
		return "", err
	}
	made[0].keep(&creds, addr)
	creds.Unseen = slices.DeleteFunc(creds.Unseen, func(u string) bool { return u == addr })
	if err := a.writeCredentials(creds); err != nil {
		return "", err
	}
	return made[0].text, a.reloadIfRunning(ctx)
}

// LeasedPassword is Password on behalf of a run of mailform, under its lease.
func (a *Agent) LeasedPassword(ctx context.Context, req manifest.PasswordRequest) ([]byte, error) {
	unlock, err := a.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := a.claim(req.Claim, false); err != nil {
		return nil, err
	}
	text, err := a.password(ctx, req.Address)
	return []byte(text + "\n"), err
}

func findMailbox(m *manifest.Manifest, addr string) *manifest.Mailbox {
	if m == nil {
		return nil
	}
	for _, d := range m.Domains {
		for i, b := range d.Mailboxes {
			if b.Local+"@"+d.Name == addr {
				return &d.Mailboxes[i]
			}
		}
	}
	return nil
}
