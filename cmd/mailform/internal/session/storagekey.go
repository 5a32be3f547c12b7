package session

import (
	"context"

	"mailform/plan"
	"mailform/server/manifest"
)

// StorageKey asks a host for the key of its stored mail.
func (s *Session) StorageKey(ctx context.Context, host string) (key manifest.StorageKey, err error) {
	_, err = s.onHosts(ctx, []string{host}, func(_ string, agent plan.Resource, known func(plan.Ref) (plan.Value, bool)) (err error) {
		key, err = s.hosts.StorageKey(ctx, agent, known)
		return err
	})
	return key, err
}

// NoteStorageKey tells a host that somebody has a copy of the key with this fingerprint.
func (s *Session) NoteStorageKey(ctx context.Context, host, fingerprint string) error {
	_, err := s.onHosts(ctx, []string{host}, func(_ string, agent plan.Resource, known func(plan.Ref) (plan.Value, bool)) error {
		return s.hosts.NoteStorageKey(ctx, agent, known, fingerprint)
	})
	return err
}

// ImportStorageKey puts an exported key in its place on a host.
func (s *Session) ImportStorageKey(ctx context.Context, host, text string) (got manifest.StoreKey, err error) {
	_, err = s.onHosts(ctx, []string{host}, func(_ string, agent plan.Resource, known func(plan.Ref) (plan.Value, bool)) (err error) {
		got, err = s.hosts.ImportStorageKey(ctx, agent, known, text)
		return err
	})
	return got, err
}
