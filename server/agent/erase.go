package agent

import (
	"context"
	"slices"

	"mailform/server/manifest"
)

// EraseMailbox has the daemon erase the mail of a retained mailbox now, and forgets
// the mailbox with its password when nothing of it was left.
func (a *Agent) EraseMailbox(ctx context.Context, req manifest.EraseRequest) (manifest.Erased, error) {
	var out manifest.Erased
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
	if _, ok := kept[req.Address]; !ok {
		return out, failf(manifest.ExitRequest, "the mail of %s is not kept on this host", req.Address)
	}
	if out, err = a.Daemon.Erase(ctx, req.Address); err != nil {
		return out, failf(manifest.ExitRequest, "%s is not erased: %v", req.Address, err)
	}
	if !out.Clean {
		return out, nil // it stays known, so that it can be done again
	}
	creds, err := a.readCredentials()
	if err != nil {
		return out, err
	}
	delete(creds.Hashes, req.Address)
	delete(creds.SCRAM, req.Address)
	creds.Unseen = slices.DeleteFunc(creds.Unseen, func(addr string) bool { return addr == req.Address })
	if err := a.writeCredentials(creds); err != nil {
		return out, err
	}
	delete(kept, req.Address)
	if err := a.writeRetained(kept); err != nil {
		return out, err
	}
	return out, a.reloadIfRunning(ctx)
}
