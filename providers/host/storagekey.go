package host

import (
	"bytes"
	"context"

	"mailform/plan"
	"mailform/server/manifest"
)

// StorageKey asks a host for the key of its stored mail. The
// answer is in no error, event or ledger. agent and known are as in Inspect.
func (p *Provider) StorageKey(ctx context.Context, agent plan.Resource, known func(plan.Ref) (plan.Value, bool)) (manifest.StorageKey, error) {
	var got manifest.StorageKey
	b, t, err := p.storageKey(ctx, agent, known, "ask for the storage key", "export-storage-key", manifest.StorageKeyRequest{})
	if err != nil {
		return got, err
	}
	// What is wrong with the answer is not told with any of it.
	if err := manifest.Decode(bytes.NewReader(b), &got); err != nil || got.Key == "" || got.Fingerprint == "" {
		return got, badAnswer(t, "export-storage-key", nil)
	}
	return got, nil
}

// NoteStorageKey tells a host that somebody has a copy of its storage key.
func (p *Provider) NoteStorageKey(ctx context.Context, agent plan.Resource, known func(plan.Ref) (plan.Value, bool), fingerprint string) error {
	_, _, err := p.storageKey(ctx, agent, known, "note that the storage key was exported", "note-storage-key", manifest.StorageKeyRequest{Fingerprint: fingerprint})
	return err
}

// ImportStorageKey puts an exported storage key in its place on a host.
func (p *Provider) ImportStorageKey(ctx context.Context, agent plan.Resource, known func(plan.Ref) (plan.Value, bool), text string) (manifest.StoreKey, error) {
	var got manifest.StoreKey
	b, t, err := p.storageKey(ctx, agent, known, "put the storage key in its place", "import-storage-key", manifest.StorageKeyRequest{Key: text})
	if err != nil {
		return got, err
	}
	if err := manifest.Decode(bytes.NewReader(b), &got); err != nil {
		return got, badAnswer(t, "import-storage-key", err)
	}
	return got, nil
}

func (p *Provider) storageKey(ctx context.Context, agent plan.Resource, known func(plan.Ref) (plan.Value, bool), step, command string, req manifest.StorageKeyRequest) ([]byte, target, error) {
	t, ok := p.reach(agent, known)
	if !ok {
		return nil, t, noAddress(agent.Address.Segments()[1])
	}
	req.Claim = p.claim(t.host)
	b, err := p.agent(ctx, t, step, paths.Binary(), command, req, nil)
	return b, t, err
}
