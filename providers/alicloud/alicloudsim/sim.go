// Package alicloudsim is a simulator of the parts of Alibaba Cloud's ECS
// (2014-05-26), VPC (2016-04-28) and OSS APIs that a mail host needs. It speaks the
// vendor's wire format (signed RPC over HTTP) and keeps the vendor's rules: required
// parameters, ids, asynchronous states and what must wait for them, ClientToken
// replay, dependency violations, the several shapes of "not found", security group
// semantics, and the empty list that hides a missing permission.
//
// It is product code: rehearsals, tests and demonstrations use the same simulator.
// It imports server/bucket/bucketsim, which keeps the buckets' objects.
package alicloudsim

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"
)

// AccessKey is a RAM user's key.
type AccessKey struct {
	ID            string
	Secret        string
	SecurityToken string    // expected when not ""
	Expires       time.Time // not accepted from then on; zero for a lasting key
	Deny          []string  // actions this user may not use: "ecs:RunInstances", "vpc:*"
	Allow         []string  // when not nil, the only ones this user may use
}

// BootRequest is what a new machine is made of.
type BootRequest struct {
	InstanceID string
	HostName   string
	UserData   []byte // decoded
	PublicKey  string // of the key pair, as an authorized_keys line; "" without one
	ImageID    string
}

// Machine is a running computer behind an instance. Its methods are called one at
// a time and never while the simulator's state is locked, so they may call Allows.
type Machine interface {
	Attach(ip netip.Addr) // a public address now leads here
	Detach()              // and no longer
	Stop() error          // orderly
	Start() error         // again, after Stop
	Destroy() error       // for good
}

// Config is what a simulator is made of. Only AccessKeys is needed.
type Config struct {
	AccessKeys []AccessKey
	Region     string // "" for cn-hongkong

	// Boot makes the machine of an instance that enters Running for the first time.
	// Nil: instances are states without machines.
	Boot func(BootRequest) (Machine, error)
	// NextIP gives a new public address. Nil counts through 198.18.0.0/15 (RFC 2544).
	NextIP func() netip.Addr
	// Addresses are handed out first, in this order and before NextIP is asked: for
	// a day on which the vendor gives an address that others know too well. See HandOut.
	Addresses []netip.Addr
	// Now stamps what is created. Nil for time.Now.
	Now func() time.Time
	// MaxSkew is how far a request's timestamp may be from Now; 0 does not look.
	// The vendor allows 15 minutes.
	MaxSkew time.Duration

	// Settle is how often a passing state (Pending, Associating …) is seen before
	// it passes; 0 means once, a negative number never.
	Settle int
	// NoStock says what is sold out. It applies to RunInstances; with Announced set,
	// DescribeAvailableResource knows it too.
	NoStock   func(zone, instanceType string) bool
	Announced bool

	// Fault may spoil a call. It is asked once per request, after the signature was checked,
	// and about one request at a time.
	Fault func(Call) Fault
	// Latency is what every call takes on its way, before it is looked at; calls
	// wait beside each other. Nil: nothing.
	Latency func() time.Duration
	// Sleep waits out the latency. Nil for time.Sleep.
	Sleep func(time.Duration)
	// Lag is how long, by Now, a listing that filters by tags does not know yet of
	// tags that were set. 0: it always does.
	Lag time.Duration
	// Quota is how many things of a kind there may be: "vpc", "vswitch",
	// "security-group", "key-pair", "instance", "eip", "disk", "snapshot-policy", "bucket".
	// Kinds that are missing have no limit.
	Quota map[string]int
	// International is an account of the vendor's international site, which can pay for
	// public addresses by traffic only.
	International bool
	// TakenBuckets are the names of buckets that other customers have.
	TakenBuckets []string
	// Roles are the account's RAM roles that instances may be given, and RoleAllow is
	// what their credentials may be used for, as AccessKey.Allow.
	Roles     []string
	RoleAllow []string
}

// Call is one request as it arrived, without signature, user data and token.
type Call struct {
	Seq         int // from 1
	Product     string
	Action      string
	AccessKeyID string
	Params      url.Values
	Permissions []string // the RAM actions it takes: "ecs:RunInstances", and what else the caller must be permitted to
	Status      int      // of the answer; 0 when none was given
	Code        string   // the error code of the answer; "" for success
}

// ReadOnly reports whether the call changes nothing.
func (c Call) ReadOnly() bool {
	return strings.HasPrefix(c.Action, "Describe") || strings.HasPrefix(c.Action, "Get") || strings.HasPrefix(c.Action, "List")
}

// Fault is what happens to a call instead of, or after, being carried out.
// The zero Fault is none.
type Fault struct {
	After    bool // carry the call out first
	Drop     bool // close the connection without an answer
	HalfPage bool // carry the call out, and answer a list with half of its page

	Status     int    // answer with this error
	Code       string // the vendor's code
	Message    string
	RetryAfter int    // seconds, as a header; 0 for none
	Body       string // answer with exactly this, and Status (200 when 0)
}

func (f Fault) none() bool {
	return !f.Drop && f.Status == 0 && f.Body == ""
}

// fault is what Config.Fault has for a call.
func (s *Sim) fault(call Call) Fault {
	if s.cfg.Fault == nil {
		return Fault{}
	}
	s.asking.Lock()
	defer s.asking.Unlock()
	return s.cfg.Fault(call)
}

// Sim is the simulator: an http.Handler for all products, told apart by the
// version that a request names, and OSS by its signature.
type Sim struct {
	cfg      Config
	settle   int
	handlers map[string]handler

	asking sync.Mutex // held while Config.Fault is asked
	serial sync.Mutex // one request at a time, with its effects on machines

	mu        sync.RWMutex
	count     int            // of ids
	made      map[string]int // by kind
	calls     []Call
	nonces    map[string]bool
	tokens    map[string]replay
	vpcs      map[string]*vpcState
	vswitches map[string]*vswitchState
	groups    map[string]*groupState
	keys      map[string]*keyState
	instances map[string]*instanceState
	eips      map[string]*eipState
	disks     map[string]*diskState
	policies  map[string]*policyState
	buckets   map[string]*bucketState
	metadata  map[string]time.Time // tokens of the metadata service: until when
	roleKeys  []AccessKey          // of roles, those that are still good
	sessions  int                  // tokens and role keys given out
	tagged    map[string]time.Time // when a thing's tags were last set, by id
	nextIP    netip.Addr
	addresses []netip.Addr   // to be handed out before any other
	effects   []func() error // on machines, to be done before the answer is given
}

// New makes a simulator.
func New(cfg Config) *Sim {
	if cfg.Region == "" {
		cfg.Region = "cn-hongkong"
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Sim{
		cfg:       cfg,
		settle:    max(cfg.Settle, 0),
		made:      map[string]int{},
		nonces:    map[string]bool{},
		tokens:    map[string]replay{},
		vpcs:      map[string]*vpcState{},
		vswitches: map[string]*vswitchState{},
		groups:    map[string]*groupState{},
		keys:      map[string]*keyState{},
		instances: map[string]*instanceState{},
		eips:      map[string]*eipState{},
		disks:     map[string]*diskState{},
		policies:  map[string]*policyState{},
		buckets:   map[string]*bucketState{},
		metadata:  map[string]time.Time{},
		tagged:    map[string]time.Time{},
		nextIP:    netip.AddrFrom4([4]byte{198, 18, 0, 0}),
		addresses: slices.Clone(cfg.Addresses),
	}
	if cfg.Settle == 0 {
		s.settle = 1
	}
	if s.cfg.Sleep == nil {
		s.cfg.Sleep = time.Sleep
	}
	s.handlers = s.actions()
	return s
}

// Calls returns every request so far, in order.
func (s *Sim) Calls() []Call {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return append([]Call(nil), s.calls...)
}

// Inventory lists everything that exists, as "ID NAME", sorted.
func (s *Sim) Inventory() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []string
	for id, v := range s.vpcs {
		out = append(out, id+" "+v.name)
	}
	for id, v := range s.vswitches {
		out = append(out, id+" "+v.name)
	}
	for id, v := range s.groups {
		out = append(out, id+" "+v.name)
	}
	for id := range s.keys {
		out = append(out, "key-pair "+id)
	}
	for id, v := range s.instances {
		if v.state != "Deleted" {
			out = append(out, id+" "+v.name)
		}
	}
	for id, v := range s.eips {
		out = append(out, id+" "+v.ip.String())
	}
	for id, v := range s.disks {
		if !v.system {
			out = append(out, id+" "+v.name)
		}
	}
	for id, v := range s.policies {
		out = append(out, id+" "+v.name)
	}
	for name := range s.buckets {
		out = append(out, "bucket "+name)
	}
	sort.Strings(out)
	return out
}

// Empty reports whether nothing exists.
func (s *Sim) Empty() bool { return len(s.Inventory()) == 0 }

// id makes a new one in the vendor's form: "vpc-j6c0s4tq8l1yk3u7bn2w".
func (s *Sim) id(kind string) string {
	s.count++
	s.made[kind]++
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", kind, s.count))
	text := strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:]))
	return kind + idMark + text[:17]
}

// idMark begins every id after its kind.
const idMark = "-j6c"

// publicIP gives a new public address.
func (s *Sim) publicIP() netip.Addr {
	if len(s.addresses) > 0 {
		next := s.addresses[0]
		s.addresses = s.addresses[1:]
		return next
	}
	if s.cfg.NextIP != nil {
		return s.cfg.NextIP()
	}
	s.nextIP = s.nextIP.Next()
	return s.nextIP
}

// HandOut has the next public addresses be these, after those of Config.Addresses
// that are left. An address may be handed out again after it was released.
func (s *Sim) HandOut(addresses ...netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addresses = append(s.addresses, addresses...)
}

// life is a state that passes into others by being looked at: the vendor's
// asynchronous states, without a clock.
type life struct {
	state string
	next  []string
	left  int // looks until the next
}

// pass begins a passage through states; the last one stays.
func (l *life) pass(s *Sim, states ...string) {
	l.state, l.next, l.left = states[0], states[1:], s.settle
}

// look returns the state and lets time go by. entered is called for each state
// that begins now.
func (l *life) look(s *Sim, entered func(state string)) string {
	if len(l.next) == 0 {
		return l.state
	}
	if l.left > 0 {
		l.left--
		return l.state
	}
	l.state, l.next, l.left = l.next[0], l.next[1:], s.settle-1
	if entered != nil {
		entered(l.state)
	}
	return l.state
}

// after queues something to be done to a machine before the answer is given.
func (s *Sim) after(effect func() error) { s.effects = append(s.effects, effect) }

// indexed notes that a thing's tags were set just now.
func (s *Sim) indexed(id string) { s.tagged[id] = s.cfg.Now() }

// matches reports whether a listing by tags has a thing.
func (s *Sim) matches(id string, tags, filter map[string]string) bool {
	if len(filter) > 0 && s.cfg.Lag > 0 && s.cfg.Now().Before(s.tagged[id].Add(s.cfg.Lag)) {
		return false
	}
	return hasTags(tags, filter)
}

func (s *Sim) roleExists(name string) bool { return slices.Contains(s.cfg.Roles, name) }

// quota refuses one more of a kind of which there are have already.
func (s *Sim) quota(kind string, have int, code string) error {
	if most, limited := s.cfg.Quota[kind]; limited && have >= most {
		return refuse(403, code, "The maximum number of %ss is exceeded.", kind)
	}
	return nil
}

// stamp is the current time as the VPC API writes it; ECS instances and key pairs leave
// the seconds out.
func (s *Sim) stamp(layout string) string { return s.cfg.Now().UTC().Format(layout) }

const (
	withSeconds    = "2006-01-02T15:04:05Z"
	withoutSeconds = "2006-01-02T15:04Z"
)
