package daemon

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"mailform/server/filter"
	"mailform/server/manifest"
	"mailform/server/queue"
)

// DefaultReach are the domains whose mail servers are tried to find out whether
// port 25 is open to the outside. One that answers is enough; not all are reachable
// from everywhere.
func DefaultReach() []string { return []string{"qq.com", "gmail.com", "outlook.com"} }

// How often the way to others is looked at, and how long one look may take.
const (
	reachEvery  = 6 * time.Hour
	reachSoon   = 10 * time.Minute // after a look that found out nothing, or trouble that may be mended by now
	reachTarget = 5 * time.Second  // for one mail server or blocklist
	reachBound  = 30 * time.Second
)

// reach looks at the way to other servers and keeps what it has found.
type reach struct {
	domains  []string
	resolver Resolver
	dial     Dial
	now      func() time.Time
	changed  chan struct{} // asks for a look: there are new settings
	looking  chan struct{} // held by the one who looks, so that what is kept is the newest

	mu       sync.Mutex
	settings reachSettings
	found    *manifest.Reach
}

// reachSettings are what a manifest says about it.
type reachSettings struct {
	hostname string
	relay    bool
	lists    string // the blocklists, with spaces between
}

func newReach(cfg Config) *reach {
	return &reach{domains: cfg.Reach, resolver: cfg.Resolver, dial: cfg.Dial, now: cfg.Now, changed: make(chan struct{}, 1), looking: make(chan struct{}, 1)}
}

// set takes over what a manifest says; a change makes what was found void.
func (r *reach) set(m *manifest.Manifest) {
	s := reachSettings{hostname: m.Hostname, relay: m.Relay != nil}
	if m.Monitor != nil {
		s.lists = strings.Join(m.Monitor.Blocklists, " ")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.settings == s {
		return
	}
	r.settings, r.found = s, nil
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// last is what was found, nil before there is anything.
func (r *reach) last() *manifest.Reach {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.found
}

// run looks again and again until the context ends.
func (r *reach) run(ctx context.Context) error {
	timer := time.NewTimer(reachEvery) // the first look is that of the first settings
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-r.changed:
		}
		well, err := r.again(ctx)
		if err != nil {
			return nil
		}
		wait := reachEvery
		if !well {
			wait = reachSoon
		}
		timer.Reset(wait)
	}
}

// again looks now and keeps what it finds. well says that all is as it should be; the
// error is the context's.
func (r *reach) again(ctx context.Context) (well bool, err error) {
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case r.looking <- struct{}{}:
	}
	defer func() { <-r.looking }()
	r.mu.Lock()
	s := r.settings
	r.mu.Unlock()
	found := r.look(ctx, s)
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.settings == s {
		r.found = found
	}
	return settled(found, s.hostname), nil
}

// settled reports whether all that was looked for is known and as it should be.
func settled(f *manifest.Reach, hostname string) bool {
	if f.Port25 != manifest.Port25Open && f.Port25 != manifest.Port25Relay || len(f.Addresses) == 0 {
		return false
	}
	return !slices.ContainsFunc(f.Addresses, func(a manifest.ReachAddress) bool {
		return len(a.Listed) > 0 || !slices.Contains(a.Names, strings.ToLower(hostname))
	})
}

// look finds out how things are now.
func (r *reach) look(ctx context.Context, s reachSettings) *manifest.Reach {
	ctx, cancel := context.WithTimeout(queue.Anew(ctx), reachBound)
	defer cancel()
	f := &manifest.Reach{Checked: r.now().UTC().Truncate(time.Second)}
	var wg sync.WaitGroup
	wg.Go(func() {
		if f.Port25 = manifest.Port25Relay; !s.relay {
			f.Port25, f.Tried = r.port25(ctx)
		}
	})
	wg.Go(func() { f.Addresses = r.addresses(ctx, s.hostname, strings.Fields(s.lists)) })
	wg.Wait()
	return f
}

// port25 connects to a mail server of each domain, all at the same time. Without
// one to try nothing is known: DNS is what does not work.
func (r *reach) port25(ctx context.Context) (verdict string, tried []string) {
	type try struct {
		server string
		err    error
	}
	tries := make([]try, len(r.domains))
	var wg sync.WaitGroup
	for i, domain := range r.domains {
		wg.Go(func() {
			mx, err := r.resolver.LookupMX(ctx, domain)
			if err != nil || len(mx) == 0 {
				return
			}
			best := slices.MinFunc(mx, func(a, b queue.MX) int { return int(a.Preference) - int(b.Preference) })
			host := strings.TrimSuffix(best.Host, ".")
			ips, err := r.resolver.LookupAddr(ctx, host)
			if err != nil || len(ips) == 0 {
				return
			}
			ip := ips[0]
			if four := slices.IndexFunc(ips, netip.Addr.Is4); four >= 0 { // public addresses of clouds are
				ip = ips[four]
			}
			tries[i] = try{host + ":25", r.knock(ctx, netip.AddrPortFrom(ip, 25).String())}
		})
	}
	wg.Wait()
	for _, t := range tries {
		switch {
		case t.server == "":
		case t.err == nil:
			return manifest.Port25Open, nil
		default:
			tried = append(tried, fmt.Sprintf("%s: %v", t.server, t.err))
			verdict = manifest.Port25Closed
		}
	}
	return verdict, tried
}

// knock connects to a mail server, waits for its greeting and takes its leave.
func (r *reach) knock(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, reachTarget)
	defer cancel()
	c, err := r.dial(ctx, "tcp", addr)
	if err != nil {
		return shortly(err)
	}
	defer c.Close()
	// It has answered; the rest is politeness.
	if deadline, ok := ctx.Deadline(); ok && c.SetDeadline(deadline) == nil {
		if _, err := bufio.NewReaderSize(c, 512).ReadSlice('\n'); err == nil {
			_, _ = c.Write([]byte("QUIT\r\n"))
		}
	}
	return nil
}

// shortly is a failed connection in a few words, without the address once more.
func shortly(err error) error {
	for {
		op, ok := err.(*net.OpError)
		if !ok || op.Err == nil {
			return err
		}
		err = op.Err
	}
}

// addresses are the hostname's, with their names and the lists that they are on.
func (r *reach) addresses(ctx context.Context, hostname string, lists []string) []manifest.ReachAddress {
	ips, err := r.resolver.LookupAddr(ctx, hostname)
	if err != nil {
		return nil
	}
	out := make([]manifest.ReachAddress, len(ips))
	var wg sync.WaitGroup
	for i, ip := range ips {
		wg.Go(func() {
			a := manifest.ReachAddress{Address: ip.String()}
			names, err := r.resolver.LookupPTR(ctx, ip)
			a.Known = err == nil || errors.Is(err, queue.ErrNoDomain)
			for _, n := range names {
				a.Names = append(a.Names, strings.ToLower(strings.TrimSuffix(n, ".")))
			}
			slices.Sort(a.Names)
			out[i] = a
		})
	}
	found := make([][]filter.Listing, len(ips))
	for i, ip := range ips {
		if !ip.Is4() || ip.IsPrivate() { // lists of IPv6 addresses are few, and of networks
			continue
		}
		found[i] = make([]filter.Listing, len(lists))
		for j, zone := range lists {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, reachTarget)
				defer cancel()
				found[i][j] = filter.LookUpListing(ctx, lookups{r.resolver}, zone, ip)
			})
		}
	}
	wg.Wait()
	for i, answers := range found {
		for j, answer := range answers {
			switch answer {
			case filter.Listed:
				out[i].Listed = append(out[i].Listed, lists[j])
			case filter.NotListed:
				out[i].NotListed = append(out[i].NotListed, lists[j])
			}
		}
	}
	slices.SortFunc(out, func(a, b manifest.ReachAddress) int { return strings.Compare(a.Address, b.Address) })
	return out
}
