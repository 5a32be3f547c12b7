package session

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"

	"mailform/plan"
	"mailform/server/manifest"
)

// HostBans are whom one host bans.
type HostBans struct {
	Host string
	manifest.BanList
}

// HostLifted is a ban that ended on one host.
type HostLifted struct {
	Host   string
	Client string
}

// Bans asks some hosts of the spec whom they ban, all when none is named.
func (s *Session) Bans(ctx context.Context, hosts []string) ([]HostBans, error) {
	var mu sync.Mutex
	found := map[string]manifest.BanList{}
	names, err := s.onHosts(ctx, hosts, func(name string, agent plan.Resource, known func(plan.Ref) (plan.Value, bool)) error {
		list, err := s.hosts.Bans(ctx, agent, known)
		mu.Lock()
		defer mu.Unlock()
		found[name] = list
		return err
	})
	if err != nil {
		return nil, err
	}
	var out []HostBans
	for _, name := range names {
		out = append(out, HostBans{name, found[name]})
	}
	return out, nil
}

// LiftBan ends a client's ban on some hosts, on all when none is named. It is an
// error when there is no such ban.
func (s *Session) LiftBan(ctx context.Context, hosts []string, address string) ([]HostLifted, error) {
	if _, err := netip.ParseAddr(strings.TrimSuffix(address, "/64")); err != nil {
		return nil, fmt.Errorf("%q is not an IP address", address)
	}
	var mu sync.Mutex
	clients := map[string]string{}
	names, err := s.onHosts(ctx, hosts, func(name string, agent plan.Resource, known func(plan.Ref) (plan.Value, bool)) error {
		got, err := s.hosts.LiftBan(ctx, agent, known, address)
		if err == nil && got.Lifted {
			mu.Lock()
			defer mu.Unlock()
			clients[name] = got.Client
		}
		return err
	})
	var out []HostLifted
	for _, name := range names {
		if client, ok := clients[name]; ok {
			out = append(out, HostLifted{name, client})
		}
	}
	if err == nil && len(out) == 0 {
		err = fmt.Errorf("%s is not banned on %s", address, strings.Join(names, ", "))
	}
	return out, err
}

// onHosts does something on some hosts of the spec at the same time, on all when
// none is named, and returns which they were.
func (s *Session) onHosts(ctx context.Context, names []string, do func(name string, agent plan.Resource, known func(plan.Ref) (plan.Value, bool)) error) ([]string, error) {
	for _, name := range names {
		if err := s.checkHost(name); err != nil {
			return nil, err
		}
	}
	if len(names) == 0 {
		for _, h := range s.Spec.Hosts {
			names = append(names, h.Name)
		}
	}
	agents, known, err := s.agents(ctx, nil)
	if err != nil {
		return nil, err
	}
	var wg sync.WaitGroup
	errs := make([]error, len(names))
	for i, name := range names {
		wg.Go(func() { errs[i] = do(name, agents[name], known) })
	}
	wg.Wait()
	return names, errors.Join(errs...)
}
