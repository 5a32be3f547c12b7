package agent

import (
	"context"

	"mailform/server/manifest"
)

// Mount makes a data disk the place of the mail and the keys. It is for a machine on
// which nothing serves yet: the keys that the disk brings are in use before anybody
// asks for new ones. Where a server is at work, Converge does the same. Like Converge
// it can be cut off at any point and begun again; a server that ran stays stopped
// until the Converge that follows.
func (a *Agent) Mount(ctx context.Context, req manifest.MountRequest) (manifest.Mounted, error) {
	var out manifest.Mounted
	if req.Serial == "" {
		return out, failf(manifest.ExitRequest, "no data disk is named")
	}
	unlock, err := a.lock(ctx)
	if err != nil {
		return out, err
	}
	defer unlock()
	if err := a.Systemd.Available(ctx); err != nil {
		return out, err
	}
	if err := a.claim(req.Claim, false); err != nil {
		return out, err
	}
	c := &converge{
		a: a, emit: func(manifest.AgentEvent) {},
		req: manifest.ConvergeRequest{Claim: req.Claim, Manifest: manifest.Manifest{DataDisk: req.Serial}},
	}
	if _, err := c.storage(ctx); err != nil {
		return out, err
	}
	if _, err := a.settle(ctx, a.baseItems(), c.emit, false); err != nil {
		return out, err
	}
	if err := a.noteKept(); err != nil {
		return out, err
	}
	facts, err := a.storageFacts(&manifest.Manifest{DataDisk: req.Serial})
	if err != nil {
		return out, err
	}
	found, err := a.keysFound()
	return manifest.Mounted{Storage: *facts, DKIM: found.DKIM, Certificates: found.Certificates}, err
}
