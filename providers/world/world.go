// Package world is a small Internet on loopback: the simulators of the cloud
// API, the DNS API with its name servers, the certificate authority and the
// hosts, wired together, with somebody else's mail server at the other end. It
// is what "mailform rehearse", "mailform simulate" and the tests run against.
//
// Everything listens on unprivileged loopback ports. Inside the simulated
// network hosts have public addresses (loopback ones too) and the real port
// numbers; Dial, or the SOCKS proxy for other programs, is the way in. It
// imports the providers' simulators only.
package world

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/net/publicsuffix"

	"mailform/providers/acme/acmesim"
	"mailform/providers/alicloud/alicloudsim"
	"mailform/providers/cloudflare/cloudflaresim"
	"mailform/providers/host/hostsim"
	"mailform/specs"
)

// Config describes a world. Dir is needed.
type Config struct {
	Dir    string    // private folder for keys, the CA bundle and env; made when missing
	Log    io.Writer // what the simulators say; nil discards it
	Region string    // of the cloud; "" is "cn-hongkong"
	Zones  []string  // zones of the DNS account
	Roles  []string  // RAM roles of the cloud account, for its instances
	// Machines are the addresses of machines that exist already, as a spec's
	// host.address names them.
	Machines []netip.Addr
	// Roads lead to machines that really are there, by address; this world does not
	// simulate them.
	Roads map[netip.Addr]Road
	// OutsideAddress is where somebody else's mail server is; the zero Addr is an
	// address of the world's own.
	OutsideAddress netip.Addr
	// Operator is the address that the person who applies comes from.
	Operator netip.Addr
	// CloudFault and DNSFault make the vendors misbehave; nil for good days.
	CloudFault func(alicloudsim.Call) alicloudsim.Fault
	DNSFault   func(*http.Request) cloudflaresim.Fault
	// Refuse lists names for which the certificate authority issues nothing.
	Refuse []string
	// AccountKeys has the CA insist on external account binding, with these keys by
	// their identifiers; nil wants none.
	AccountKeys map[string]string
	// Front stands before each vendor's API: "cloud", "dns" and, as far as it is called
	// at CADirectory, "ca".
	Front func(vendor string, api http.Handler) http.Handler
	// Watch is asked at every step of the commands that come to hosts over SSH.
	Watch func(hostsim.Step) bool
	// Now and Sleep are the vendors' clock; nil for the real one. The hosts and the CA
	// always have the real one.
	Now   func() time.Time
	Sleep func(time.Duration)
	// Latency is what each call to the cloud takes on its way; nil for nothing.
	Latency func() time.Duration
	// CloudLag and DNSLag are for how long a vendor's lists do not show what was written.
	CloudLag, DNSLag time.Duration
	// NoStock says what the cloud has sold out; nil for nothing.
	NoStock func(zone, instanceType string) bool
	// Shim stands in for the system programs of hosts, see hostsim.Config.
	Shim string
	// DiskFull reports whether nothing more can be uploaded to hosts; nil: there is room.
	DiskFull func() bool
	// NoBackups keeps hosts from OSS. When they write there depends on the moment, and a
	// bucket with something in it does not go: no two worlds would end alike.
	NoBackups bool
	// Record makes Snapshot possible: the vendors then answer one call at a time.
	Record bool
	// From makes the world as it was when the snapshot was taken, with its Zones, Roles,
	// Machines, Operator and Region. The CA is another one; the old one's
	// certificates are trusted too.
	From *Snapshot
}

// The world's fixed names. Keys and tokens protect nothing: they exist so that
// wrong ones can be refused as the vendors do.
const (
	AccessKeyID     = "LTAI-simulated"
	AccessKeySecret = "simulated-secret"
	APIToken        = "simulated-token"
	// CADirectory is the CA's directory on the listener of the other vendors' APIs:
	// for clients that find the way to any host there, a URL that is the same in
	// every world.
	CADirectory = "http://" + caHost + "/dir"

	envFile       = "env"
	caHost        = "ca.simulated"
	outsideDomain = "elsewhere.example"
	defaultRegion = "cn-hongkong"
)

// defaultOperator is a documentation address; it only ever stands in rules and logs.
var defaultOperator = netip.AddrFrom4([4]byte{198, 51, 100, 10})

// World is a running world.
type World struct {
	cfg     Config
	net     *network
	cloud   *alicloudsim.Sim
	dns     *cloudflaresim.Server
	names   *cloudflaresim.DNS
	ca      *acmesim.Server
	api     *http.Server
	apiAddr string
	proxy   *proxy
	exit    *proxy // the hosts' own way out
	inner   inside
	outside *Outside

	closed25 atomic.Bool
	mu       sync.Mutex
	machines map[netip.Addr]*machine // those that exist without the cloud
	booted   []*machine
	disks    map[string]*hostsim.Disk // data disks by serial number, attached or not
	hostKeys map[netip.Addr]string
	tape     *tape                     // nil unless Config.Record
	replayed atomic.Pointer[time.Time] // when the call came that is played again; nil when none is
	once     sync.Once
}

// ForSpec fills in what a spec needs of a world: zones for its domains, machines
// for the addresses and roles for the instances it names, and an operator its SSH rules let in.
func ForSpec(s *specs.Spec, c Config) Config {
	c.Region = s.AliCloud.Region
	for _, d := range s.Domains {
		zone, err := publicsuffix.EffectiveTLDPlusOne(d.Name)
		if err != nil {
			zone = d.Name
		}
		if !slices.Contains(c.Zones, zone) {
			c.Zones = append(c.Zones, zone)
		}
	}
	for _, h := range s.Hosts {
		if h.Address.IsValid() {
			c.Machines = append(c.Machines, h.Address)
		}
		if h.Instance != nil && h.Instance.RAMRole != "" && !slices.Contains(c.Roles, h.Instance.RAMRole) {
			c.Roles = append(c.Roles, h.Instance.RAMRole)
		}
	}
	if !c.Operator.IsValid() {
		c.Operator = operatorFor(s)
	}
	return c
}

// operatorFor picks an address from which every host of the spec takes SSH.
func operatorFor(s *specs.Spec) netip.Addr {
	allowed := func(ip netip.Addr) bool {
		for _, h := range s.Hosts {
			if !slices.ContainsFunc(h.SSH.From, func(p netip.Prefix) bool { return p.Contains(ip) }) {
				return false
			}
		}
		return true
	}
	candidates := []netip.Addr{defaultOperator}
	for _, h := range s.Hosts {
		for _, p := range h.SSH.From {
			candidates = append(candidates, p.Addr().Next(), p.Addr())
		}
	}
	for _, ip := range candidates {
		if allowed(ip) {
			return ip
		}
	}
	return defaultOperator
}

// Start brings a world up. It is ready when Start returns.
func Start(ctx context.Context, c Config) (_ *World, err error) {
	if c.Log == nil {
		c.Log = io.Discard
	}
	if c.Region == "" {
		c.Region = defaultRegion
	}
	if !c.Operator.IsValid() {
		c.Operator = defaultOperator
	}
	if c.From != nil {
		c.Zones, c.Roles, c.Machines, c.Operator, c.Region = c.From.cfg.Zones, c.From.cfg.Roles, c.From.cfg.Machines, c.From.cfg.Operator, c.From.cfg.Region
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, err
	}
	// Of an earlier world: who waits for env must not find that one's.
	if err := os.Remove(filepath.Join(c.Dir, envFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	w := &World{cfg: c, net: newNetwork(), machines: map[netip.Addr]*machine{}, hostKeys: map[netip.Addr]string{}, disks: map[string]*hostsim.Disk{}}
	defer func() {
		if err != nil {
			w.Close()
		}
	}()
	if w.outside, err = startOutside(outsideDomain, time.Now); err != nil {
		return nil, err
	}
	outsideIP := c.OutsideAddress
	if !outsideIP.IsValid() {
		outsideIP = w.net.allocate()
	}
	w.net.attach(outsideIP, w.outside)
	for ip, road := range c.Roads {
		w.net.open(ip, road)
	}

	if err := w.startDNS(outsideIP); err != nil {
		return nil, err
	}
	w.net.lookup = w.lookup
	w.startCloud(outsideIP)
	if err := w.startInside(); err != nil {
		return nil, err
	}
	if w.ca, err = acmesim.New(acmesim.Config{ResolverAddr: w.names.Addr(), Log: c.Log, Refuse: c.Refuse, AccountKeys: c.AccountKeys, Issuers: issuers()}); err != nil {
		return nil, err
	}
	if err := w.startAPI(); err != nil {
		return nil, err
	}
	if w.proxy, err = startProxy(w.Dial); err != nil {
		return nil, err
	}
	// Hosts leave through a proxy of their own: what they may reach does not
	// depend on where the operator sits.
	if w.exit, err = startProxy(w.dialHost); err != nil {
		return nil, err
	}
	if err := w.writeFiles(); err != nil {
		return nil, err
	}
	for _, ip := range c.Machines {
		if err := w.addMachine(ip); err != nil {
			return nil, err
		}
	}
	if c.From != nil {
		if err := w.replay(c.From); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// now is the vendors' time.
func (w *World) now() time.Time {
	if at := w.replayed.Load(); at != nil {
		return *at
	}
	if w.cfg.Now != nil {
		return w.cfg.Now()
	}
	return time.Now()
}

func (w *World) startDNS(outsideIP netip.Addr) error {
	cfg := cloudflaresim.Config{
		Tokens: []cloudflaresim.Token{{Value: APIToken}},
		Static: []cloudflaresim.StaticZone{{Origin: outsideDomain, Records: []string{
			"@ 300 IN MX 10 mx", "mx 300 IN A " + outsideIP.String(),
		}}},
		Fault: w.cfg.DNSFault, Lag: w.cfg.DNSLag, Now: w.now, Sleep: w.cfg.Sleep,
	}
	for _, z := range w.cfg.Zones {
		cfg.Zones = append(cfg.Zones, cloudflaresim.Zone{Name: z, DNSSEC: "active"})
	}
	w.dns = cloudflaresim.New(cfg)
	w.dns.SetReverse(true)
	var err error
	w.names, err = w.dns.ListenDNS("127.0.0.1:0")
	return err
}

func (w *World) startCloud(outsideIP netip.Addr) {
	w.cloud = alicloudsim.New(alicloudsim.Config{
		AccessKeys: []alicloudsim.AccessKey{{ID: AccessKeyID, Secret: AccessKeySecret}, {ID: HostKeyID, Secret: HostKeySecret, Allow: hostMay[:]}},
		RoleAllow:  hostMay[:],
		Region:     w.cfg.Region,
		Roles:      w.cfg.Roles,
		Boot:       w.boot,
		NextIP:     w.net.allocate,
		Fault:      byOperator(w.cfg.CloudFault),
		Latency:    w.cfg.Latency,
		Lag:        w.cfg.CloudLag,
		NoStock:    w.cfg.NoStock,
		Now:        w.now,
		Sleep:      w.cfg.Sleep,
	})
	w.net.allows = func(ip netip.Addr, protocol string, port int, source netip.Addr) bool {
		if ip == outsideIP {
			return port == 25 && !w.closed25.Load()
		}
		w.mu.Lock()
		_, bare := w.machines[ip]
		w.mu.Unlock()
		return bare || w.cfg.Roads[ip] != nil || w.cloud.Allows(ip, protocol, port, source)
	}
}

// startAPI serves the vendors' APIs from one loopback listener, told apart by
// path and, the CA's, by host.
func (w *World) startAPI() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if w.cfg.Record {
		w.tape = &tape{now: w.now}
	}
	mux := http.NewServeMux()
	for pattern, vendor := range map[string]struct {
		name string
		api  http.Handler
	}{
		"/client/v4/": {"dns", w.tape.record("dns", w.dns)},
		"/":           {"cloud", w.tape.record("cloud", w.cloud)},
		caHost + "/":  {"ca", w.ca.Handler()},
	} {
		api := vendor.api
		if w.cfg.Front != nil {
			api = w.cfg.Front(vendor.name, api)
		}
		mux.Handle(pattern, api)
	}
	w.apiAddr = l.Addr().String()
	w.api = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go w.api.Serve(l)
	return nil
}

// writeFiles puts the CA bundle, the operator's key and env into the world's folder.
func (w *World) writeFiles() error {
	roots := append(w.ca.RootsPEM(), w.inner.cert...)
	if from := w.cfg.From; from != nil {
		roots = append(roots, from.roots...)
		if err := from.writeOperatorKey(w.OperatorKey()); err != nil {
			return err
		}
	}
	if err := os.WriteFile(w.CABundle(), roots, 0o644); err != nil {
		return err
	}
	if _, err := os.Stat(w.OperatorKey()); errors.Is(err, os.ErrNotExist) {
		pub, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return err
		}
		block, err := ssh.MarshalPrivateKey(key, "mailform simulation")
		if err != nil {
			return err
		}
		if err := os.WriteFile(w.OperatorKey(), pem.EncodeToMemory(block), 0o600); err != nil {
			return err
		}
		public, err := ssh.NewPublicKey(pub)
		if err != nil {
			return err
		}
		if err := os.WriteFile(w.OperatorKey()+".pub", ssh.MarshalAuthorizedKey(public), 0o644); err != nil {
			return err
		}
	}
	var b strings.Builder
	b.WriteString("# The simulated world. Read it with:  . ./env\n")
	vars := w.Environment()
	for _, name := range environment {
		fmt.Fprintf(&b, "export %s='%s'\n", name, strings.ReplaceAll(vars[name], "'", `'\''`))
	}
	// env appears whole and last: who waits for it finds everything ready.
	tmp := filepath.Join(w.cfg.Dir, ".env.tmp")
	if err := os.WriteFile(tmp, []byte(b.String()), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(w.cfg.Dir, envFile))
}

// environment lists the variables of Environment in the order of the env file.
var environment = []string{
	"ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
	"ALIBABA_CLOUD_ECS_ENDPOINT", "ALIBABA_CLOUD_VPC_ENDPOINT", "ALIBABA_CLOUD_OSS_ENDPOINT",
	"CLOUDFLARE_API_TOKEN", "CLOUDFLARE_BASE_URL",
	"MAILFORM_ACME_DIRECTORY", "MAILFORM_CA_BUNDLE", "MAILFORM_RESOLVER", "MAILFORM_SSH_KEY", "MAILFORM_SSH_CONFIG",
	"ALL_PROXY", "NO_PROXY", "CURL_CA_BUNDLE",
}

// Environment is what turns programs towards this world: credentials,
// endpoints, the CA bundle, the resolver, and the proxy into the network.
func (w *World) Environment() map[string]string {
	api := "http://" + w.apiAddr
	return map[string]string{
		"ALIBABA_CLOUD_ACCESS_KEY_ID":     AccessKeyID,
		"ALIBABA_CLOUD_ACCESS_KEY_SECRET": AccessKeySecret,
		"ALIBABA_CLOUD_ECS_ENDPOINT":      api,
		"ALIBABA_CLOUD_VPC_ENDPOINT":      api,
		"ALIBABA_CLOUD_OSS_ENDPOINT":      api,
		"CLOUDFLARE_API_TOKEN":            APIToken,
		"CLOUDFLARE_BASE_URL":             api + "/client/v4",
		"MAILFORM_ACME_DIRECTORY":         w.ca.DirectoryURL(),
		"MAILFORM_CA_BUNDLE":              w.CABundle(),
		"MAILFORM_RESOLVER":               w.Resolver(),
		"MAILFORM_SSH_KEY":                w.OperatorKey(),
		"MAILFORM_SSH_CONFIG":             "none", // a person's jump hosts lead elsewhere
		"ALL_PROXY":                       "socks5h://" + w.Proxy(),
		"NO_PROXY":                        "127.0.0.1,localhost",
		"CURL_CA_BUNDLE":                  w.CABundle(),
	}
}

// Transport carries requests to the vendors' APIs and knows the way to CADirectory.
func (w *World) Transport() *http.Transport {
	return &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if host, _, err := net.SplitHostPort(addr); err == nil && host == caHost {
			addr = w.apiAddr
		}
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}}
}

// Dir is the world's folder.
func (w *World) Dir() string { return w.cfg.Dir }

// CABundle is the PEM file of everything in the world that signs certificates.
func (w *World) CABundle() string { return filepath.Join(w.cfg.Dir, "ca.pem") }

// OperatorKey is the SSH key file of the person who applies.
func (w *World) OperatorKey() string { return filepath.Join(w.cfg.Dir, "operator_ed25519") }

// Resolver is host:port of the world's DNS server.
func (w *World) Resolver() string { return w.names.Addr() }

// Proxy is host:port of the SOCKS proxy into the network.
func (w *World) Proxy() string { return w.proxy.addr() }

// Outside is the other end: somebody else's mail server.
func (w *World) Outside() *Outside { return w.outside }

// Region is the cloud's, and Zones are those of the DNS account.
func (w *World) Region() string  { return w.cfg.Region }
func (w *World) Zones() []string { return slices.Clone(w.cfg.Zones) }

// Cloud is the simulated cloud account.
func (w *World) Cloud() *alicloudsim.Sim { return w.cloud }

// DNS is the simulated DNS account.
func (w *World) DNS() *cloudflaresim.Server { return w.dns }

// Dial connects to host:port as the operator.
func (w *World) Dial(ctx context.Context, addr string) (net.Conn, error) {
	return w.net.dial(ctx, w.cfg.Operator, addr)
}

// DialOutside connects to host:port as a stranger on the Internet.
func (w *World) DialOutside(ctx context.Context, addr string) (net.Conn, error) {
	return w.net.dial(ctx, netip.AddrFrom4([4]byte{203, 0, 113, 25}), addr)
}

// SetPort25 opens the way from hosts to other mail servers, or closes it as the
// cloud does for new accounts.
func (w *World) SetPort25(open bool) { w.closed25.Store(!open) }

// SetReverse gives the hosts' addresses their names, or takes them away, as they
// are before anybody has asked for them.
func (w *World) SetReverse(on bool) { w.dns.SetReverse(on) }

// ListNext makes a blocklist of a DNS zone, with the public address on it that the
// cloud hands out next, as if a spammer had given it back a moment ago.
func (w *World) ListNext(zone string) error {
	a := w.net.coming().As4()
	return w.dns.SetStatic(cloudflaresim.StaticZone{Origin: zone, Records: []string{
		"2.0.0.127 300 IN A 127.0.0.2", // RFC 5782 5: the test entry of every list
		fmt.Sprintf("%d.%d.%d.%d 300 IN A 127.0.0.2", a[3], a[2], a[1], a[0]),
	}})
}

// Calls returns how many of mailform's requests the vendors' APIs have answered.
func (w *World) Calls() int { return w.operatorCalls() + len(w.dns.Calls()) }

// HostKey is the SSH host key's fingerprint of a machine that existed before
// the spec; "" when there is none at the address.
func (w *World) HostKey(ip netip.Addr) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hostKeys[ip]
}

// Inventory lists what exists in the vendors' accounts.
func (w *World) Inventory() []string {
	left := w.cloud.Inventory()
	for _, zone := range w.cfg.Zones {
		for _, r := range w.dns.Records(zone) {
			left = append(left, fmt.Sprintf("%s %s", r.Type, r.Name))
		}
	}
	return left
}

// Close ends everything, hosts and their processes included.
func (w *World) Close() {
	w.once.Do(func() {
		os.Remove(filepath.Join(w.cfg.Dir, envFile))
		w.mu.Lock()
		machines := slices.Clone(w.booted)
		w.mu.Unlock()
		for _, m := range machines {
			m.Destroy()
		}
		destroyDisks(w.disks)
		for _, p := range []*proxy{w.proxy, w.exit} {
			if p != nil {
				p.close()
			}
		}
		w.inner.close()
		if w.api != nil {
			w.api.Close()
		}
		if w.ca != nil {
			w.ca.Close()
		}
		if w.names != nil {
			w.names.Close()
		}
		if w.outside != nil {
			w.outside.close()
		}
	})
}

// hostEnvironment is the environment of programs on simulated hosts. instance is the
// cloud's id of the host; "" when it is not in the cloud.
func (w *World) hostEnvironment(instance string) []string {
	env := []string{
		"ALL_PROXY=socks5h://" + w.exit.addr(), "NO_PROXY=127.0.0.1,localhost",
		"MAILFORM_RESOLVER=" + w.Resolver(), "MAILFORM_CA_BUNDLE=" + w.CABundle(), "MAILFORM_PORT25_PROBES=" + outsideDomain,
	}
	if instance != "" {
		env = append(env, "MAILFORM_METADATA="+w.inner.url+instance+"/latest/")
	}
	return env
}

var _ station = (*hostsim.Host)(nil)

// issuers are the names in CAA records of all authorities that a spec may name: the
// simulated one stands in for whichever it does.
func issuers() []string {
	var out []string
	for _, a := range specs.Authorities() {
		out = append(out, a.CAA)
	}
	return out
}
