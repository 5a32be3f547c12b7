package daemon

import (
	"cmp"
	"net/netip"
	"time"

	"mailform/server/limits"
	"mailform/server/manifest"
)

// conns counts the connections of all services together, and those of servers
// (port 25) and of users apart: a burst of mail does not keep people out.
type conns struct {
	local               []netip.Prefix
	now                 func() time.Time
	all, servers, users *limits.Conns
}

func newConns(l *manifest.Limits, local []netip.Prefix, now func() time.Time) *conns {
	c := &conns{local: local, now: now}
	all, servers, users := c.configs(l)
	c.all = limits.NewConns(nil, all)
	c.servers, c.users = limits.NewConns(c.all, servers), limits.NewConns(c.all, users)
	return c
}

// set exchanges the limits; open connections stay.
func (c *conns) set(l *manifest.Limits) {
	all, servers, users := c.configs(l)
	c.all.Set(all)
	c.servers.Set(servers)
	c.users.Set(users)
}

// configs are the limits for l, which may be nil. A limit that is set replaces
// the defaults of every group, so that none of them is lower.
func (c *conns) configs(l *manifest.Limits) (all, servers, users limits.Config) {
	if l == nil {
		l = &manifest.Limits{}
	}
	group := func(total, perClient, perNetwork, perMinute int) limits.Config {
		per := cmp.Or(l.ConnectionsPerClient, perClient)
		return limits.Config{
			Total: total, PerAddress: per, PerNetwork: max(perNetwork, 4*per), PerMinute: max(perMinute, 2*per),
			Exempt: c.local, Now: c.now,
		}
	}
	all = group(cmp.Or(l.Connections, 12_000), 350, 1200, 0)
	all.PerMinute = -1
	servers, users = group(2000, 50, 200, 120), group(10_000, 300, 1000, 600)
	if n := l.Connections; n > 0 {
		servers.Total, users.Total = max(n-n/4, 1), n
	}
	return all, servers, users
}

// refused counts the connections that any limit has refused. One that the
// limits on all refuse has been let in by its group before, so none counts twice.
func (c *conns) refused() int64 {
	return c.all.Refused() + c.servers.Refused() + c.users.Refused()
}
