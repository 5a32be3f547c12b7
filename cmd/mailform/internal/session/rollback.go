package session

import (
	"context"
	"fmt"
	"strings"

	"mailform/apply"
	"mailform/plan"
	"mailform/server/manifest"
)

// OneHost is the host that a command is about: the one that is named, or the
// spec's only one.
func (s *Session) OneHost(named []string) (string, error) {
	if len(named) == 1 {
		return named[0], s.checkHost(named[0])
	}
	var names []string
	for _, h := range s.Spec.Hosts {
		names = append(names, h.Name)
	}
	if len(names) != 1 {
		return "", fmt.Errorf("name one of the spec's hosts: %s", strings.Join(names, ", "))
	}
	return names[0], nil
}

// Versions are the mailformds that a host keeps, the newest first.
func (s *Session) Versions(ctx context.Context, name string, sink apply.Sink) ([]manifest.Version, error) {
	agents, known, err := s.agents(ctx, sink)
	if err != nil {
		return nil, err
	}
	return s.hosts.Versions(ctx, agents[name], known)
}

// Rollback makes another version serve on a host whose versions were asked for.
// The lock must be held.
func (s *Session) Rollback(ctx context.Context, name, sha256 string, progress plan.Progress) error {
	return s.hosts.Rollback(ctx, name, sha256, progress)
}
