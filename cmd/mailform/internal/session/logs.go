package session

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"mailform/apply"
	"mailform/server/manifest"
)

// Logs reads the journals of some hosts of the spec, of all when none is named, at
// the same time. each is called for one entry at a time.
func (s *Session) Logs(ctx context.Context, hosts []string, q manifest.LogQuery, sink apply.Sink, each func(host string, e manifest.LogEntry) error) error {
	for _, h := range hosts {
		if err := s.checkHost(h); err != nil {
			return err
		}
	}
	if len(hosts) == 0 {
		for _, h := range s.Spec.Hosts {
			hosts = append(hosts, h.Name)
		}
	}
	agents, known, err := s.agents(ctx, sink)
	if err != nil {
		return err
	}
	var (
		mu   sync.Mutex
		wg   sync.WaitGroup
		errs = make([]error, len(hosts))
	)
	for i, h := range hosts {
		wg.Go(func() {
			errs[i] = s.hosts.Logs(ctx, agents[h], known, q, func(e manifest.LogEntry) error {
				mu.Lock()
				defer mu.Unlock()
				return each(h, e)
			})
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// checkHost wants the name of a host of the spec.
func (s *Session) checkHost(name string) error {
	var known []string
	for _, h := range s.Spec.Hosts {
		if h.Name == name {
			return nil
		}
		known = append(known, h.Name)
	}
	return fmt.Errorf("the spec has no host %q; it has: %s", name, strings.Join(known, ", "))
}
