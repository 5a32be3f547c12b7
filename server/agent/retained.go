package agent

import (
	"context"
	"maps"
	"slices"
	"sort"
	"strings"

	"mailform/server/manifest"
)

// retained records the mailboxes that leave, with how they were, and forgets those
// that are back and those whose mail the daemon has deleted after their time.
func (c *converge) retained(ctx context.Context, old, want *manifest.Manifest) error {
	a := c.a
	kept, err := a.readRetained()
	if err != nil {
		return err
	}
	var added, back, purged []string
	if old != nil {
		for _, d := range old.Domains {
			for _, b := range d.Mailboxes {
				addr := b.Local + "@" + d.Name
				if _, known := kept[addr]; !known && findMailbox(want, addr) == nil {
					kept[addr] = manifest.Retained{Address: addr, Since: a.Now().UTC(), Mailbox: &b}
					added = append(added, addr)
				}
			}
		}
	}
	gone := a.purged(ctx)
	for addr, r := range kept {
		switch {
		case findMailbox(want, addr) != nil:
			back = append(back, addr)
		case r.Expired(a.Now()) && slices.Contains(gone, addr):
			purged = append(purged, addr)
		default:
			continue
		}
		delete(kept, addr)
	}
	if len(added)+len(back)+len(purged) == 0 {
		return nil
	}
	if err := a.writeRetained(kept); err != nil {
		return err
	}
	var words []string
	for _, w := range []struct {
		addrs []string
		text  func(string) string
	}{
		{added, func(s string) string { return "mail of " + s + " is kept for 30 days" }},
		{back, func(s string) string { return s + " is back with its mail" }},
		{purged, func(s string) string { return "mail of " + s + " is gone after 30 days" }},
	} {
		if len(w.addrs) > 0 {
			sort.Strings(w.addrs)
			words = append(words, w.text(strings.Join(w.addrs, ", ")))
		}
	}
	c.reload = true
	c.step("retained mailboxes", "changed", strings.Join(words, "; "))
	return nil
}

// purged asks the running daemon whose mail it has deleted.
func (a *Agent) purged(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	st, err := a.Daemon.Status(ctx)
	if err != nil {
		return nil // it is told another time
	}
	return st.Purged
}

// readRetained is the file of the mailboxes whose mail is kept, by address.
func (a *Agent) readRetained() (map[string]manifest.Retained, error) {
	var list []manifest.Retained
	_, err := readJSON(a.Layout.RetainedFile(), &list)
	kept := make(map[string]manifest.Retained, len(list))
	for _, r := range list {
		kept[r.Address] = r
	}
	return kept, err
}

func (a *Agent) writeRetained(kept map[string]manifest.Retained) error {
	b, err := manifest.Encode(retainedList(kept))
	if err != nil {
		return err
	}
	return writeFile(a.Layout.RetainedFile(), b, secretMode, a.gid())
}

// retainedList is in the order of the addresses.
func retainedList(kept map[string]manifest.Retained) []manifest.Retained {
	return slices.SortedFunc(maps.Values(kept), func(x, y manifest.Retained) int { return strings.Compare(x.Address, y.Address) })
}

// retainedFacts are the retained mailboxes without their password hashes and
// without those whose mail is gone.
func retainedFacts(kept map[string]manifest.Retained, purged []string) []manifest.Retained {
	var out []manifest.Retained
	for _, r := range retainedList(kept) {
		if slices.Contains(purged, r.Address) {
			continue
		}
		if r.Mailbox != nil {
			b := *r.Mailbox
			if b.PasswordHash != "" {
				b.PasswordHash = manifest.Fingerprint(b.PasswordHash)
			}
			r.Mailbox = &b
		}
		out = append(out, r)
	}
	return out
}

// RestoreMailbox puts a retained mailbox back: it can log in and receives mail as
// before, and its messages have the UIDs they had. The spec has to follow.
func (a *Agent) RestoreMailbox(ctx context.Context, req manifest.RestoreRequest) (manifest.Restored, error) {
	var out manifest.Restored
	unlock, err := a.lock(ctx)
	if err != nil {
		return out, err
	}
	defer unlock()
	if err := a.claim(req.Claim, false); err != nil {
		return out, err
	}
	kept, err := a.readRetained()
	if err != nil {
		return out, err
	}
	r, ok := kept[req.Address]
	if !ok || slices.Contains(a.purged(ctx), req.Address) {
		return out, failf(manifest.ExitRequest, "the mail of %s is not kept on this host", req.Address)
	}
	m, _, err := a.readManifest()
	if err != nil {
		return out, err
	}
	local, domain, _ := strings.Cut(req.Address, "@")
	i := -1
	if m != nil {
		i = slices.IndexFunc(m.Domains, func(d manifest.Domain) bool { return d.Name == domain })
	}
	if i < 0 {
		return out, failf(manifest.ExitRequest, "this host does not serve %s any more: put the domain back into the spec and apply", domain)
	}
	b := manifest.Mailbox{Local: local}
	if r.Mailbox != nil {
		b = *r.Mailbox
	}
	d := &m.Domains[i]
	// An alias that was made since keeps its name.
	b.Aliases = slices.DeleteFunc(slices.Clone(b.Aliases), func(name string) bool { return taken(d, name) })
	if taken(d, local) {
		return out, failf(manifest.ExitRequest, "%s is another mailbox or alias by now", req.Address)
	}
	d.Mailboxes = append(d.Mailboxes, b)
	slices.SortFunc(d.Mailboxes, func(x, y manifest.Mailbox) int { return strings.Compare(x.Local, y.Local) })
	if err := m.Validate(); err != nil {
		return out, failf(manifest.ExitRequest, "it cannot be put back: %v", err)
	}
	text, err := manifest.Encode(m)
	if err != nil {
		return out, err
	}
	if err := writeFile(a.Layout.ManifestFile(), text, secretMode, a.gid()); err != nil {
		return out, err
	}
	delete(kept, req.Address)
	if err := a.writeRetained(kept); err != nil {
		return out, err
	}
	out.Mailbox, out.Password = b, "host"
	if b.PasswordHash != "" {
		out.Mailbox.PasswordHash, out.Password = "", "spec"
	}
	return out, a.reloadIfRunning(ctx)
}

// taken reports whether somebody else has a local part of a domain.
func taken(d *manifest.Domain, local string) bool {
	return slices.ContainsFunc(d.Mailboxes, func(b manifest.Mailbox) bool { return b.Local == local || slices.Contains(b.Aliases, local) }) ||
		slices.ContainsFunc(d.Aliases, func(a manifest.Alias) bool { return a.Local == local })
}
