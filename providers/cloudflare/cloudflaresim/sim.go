// Package cloudflaresim is a Cloudflare account on loopback: the part of the v4
// API that mail needs, with the vendor's rules (tokens, pagination, validation,
// transactional batches, rate limits, TXT splitting), and a DNS server that
// answers with the zones' records as the Internet would.
//
// It is product code: rehearsals, demos and tests use it. It imports no other
// package of mailform and nothing here ever leaves the machine.
package cloudflaresim

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/idna"
)

// Config describes the account.
type Config struct {
	Tokens []Token // at least one, or every request is refused
	Zones  []Zone
	Static []StaticZone // zones of the rest of the Internet, for DNS only

	// BatchLimit is how many operations a batch may hold; 0 means as many as the zone's plan allows.
	BatchLimit int
	// RecordQuota is how many records a zone may have; 0 means 1,000, and a negative
	// number that the account has a quota and no zone one of its own.
	RecordQuota int
	// CallLimit is how many calls are allowed in five minutes; 0 means 1,200.
	CallLimit int

	// Networks are those of the vendor's proxies; nil means the ones of 2023-09-28.
	Networks []string

	// Lag is for how long reads do not show what was written. Writes are checked
	// against the truth all the same.
	Lag time.Duration

	// Fault is asked before each request, about one at a time; nil injects nothing. See Fault.
	Fault func(*http.Request) Fault
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Sleep waits for Fault.Delay; nil means time.Sleep.
	Sleep func(time.Duration)
}

// Token is an API token.
type Token struct {
	Value    string
	Status   string   // "active" (default), "disabled" or "expired"
	Zones    []string // names it has access to; empty for all
	ReadOnly bool     // without any permission to edit
	// Permissions are those it has, such as "DNS:Edit" (which includes "DNS:Read"); empty for all.
	Permissions []string
}

// Zone is a zone of the account.
type Zone struct {
	Name        string
	Status      string   // "active" (default), "pending", "initializing" or "moved"
	NameServers []string // defaults to two of the vendor's
	Account     string   // name; "Mailform simulation" by default
	DNSSEC      string   // "disabled" (default), "pending" or "active"
	Plan        string   // "free" (default), "pro", "business" or "enterprise"
}

// Fault is something that goes wrong with one request.
type Fault struct {
	Delay      time.Duration // before anything else
	Status     int           // answer with this status (429, 500, 503 …) and do nothing
	RetryAfter int           // seconds, for Status 429
	Code       int           // error code in the body for Status; 0 for a fitting one
	Drop       bool          // close the connection without doing anything
	Lose       bool          // do it, then close the connection without an answer
	Garble     bool          // do it, then answer with something that is not JSON
	HalfPage   bool          // leave the second half out of a list that says how long it is
}

// Record is a DNS record as the API stores it.
type Record struct {
	ID       string
	Name     string // FQDN without trailing dot
	Type     string
	Content  string
	TTL      int  // 1 is automatic
	Priority *int // MX, SRV, URI
	Proxied  bool
	Comment  string          // "" is null
	Data     json.RawMessage // SRV, CAA, TLSA …; content is derived from it
	Created  time.Time
	Modified time.Time
}

// Call is one request that was made.
type Call struct {
	Method string
	Path   string // with query
	Body   []byte
	Status int // 0 when the connection was dropped
}

// Server is the simulated account. It is an http.Handler for /client/v4/… .
type Server struct {
	cfg Config
	now func() time.Time
	mux *http.ServeMux

	asking sync.Mutex // held while Config.Fault is asked

	mu       sync.Mutex
	zones    []*zoneState
	static   []staticZone
	reverse  bool // see SetReverse
	calls    []Call
	serial   int  // makes ids
	changes  int  // SOA serial
	answers  view // what DNS answers from; nil after a change
	window   time.Time
	used     int
	lockedTo time.Time // all calls fail until then
}

type zoneState struct {
	Zone
	id      string
	created time.Time
	records []*Record
	past    []pastRecords // oldest first

	settings map[string]string
	ruleset  string // id; "" as long as there is none
	rules    []Rule
}

// pastRecords are what reads show for a while after a change.
type pastRecords struct {
	until   time.Time
	records []*Record
}

// New makes an account. It panics when a static zone cannot be parsed, which is
// a mistake in the program that made the Config.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg, now: cfg.Now}
	if s.now == nil {
		s.now = time.Now
	}
	if s.cfg.RecordQuota == 0 {
		s.cfg.RecordQuota = 1000
	}
	if s.cfg.CallLimit == 0 {
		s.cfg.CallLimit = 1200
	}
	s.cfg.Tokens = slices.Clone(cfg.Tokens)
	if s.cfg.Sleep == nil {
		s.cfg.Sleep = time.Sleep
	}
	for _, z := range cfg.Zones {
		s.AddZone(z)
	}
	for _, z := range cfg.Static {
		if err := s.SetStatic(z); err != nil {
			panic("cloudflaresim: " + err.Error())
		}
	}
	s.mux = s.routes()
	return s
}

// AddZone adds a zone to the account.
func (s *Server) AddZone(z Zone) {
	if z.Status == "" {
		z.Status = "active"
	}
	if len(z.NameServers) == 0 {
		z.NameServers = []string{"ada.ns.cloudflare.example", "bob.ns.cloudflare.example"}
	}
	if z.Account == "" {
		z.Account = "Mailform simulation"
	}
	if z.DNSSEC == "" {
		z.DNSSEC = "disabled"
	}
	if z.Plan == "" {
		z.Plan = "free"
	}
	z.Name = ascii(z.Name)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.zones = append(s.zones, &zoneState{Zone: z, id: s.newID("zone"), created: s.now()})
	s.changed()
}

// SetZoneStatus changes a zone's status.
func (s *Server) SetZoneStatus(name, status string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, z := range s.zones {
		if z.Name == ascii(name) {
			z.Status = status
		}
	}
	s.changed()
}

// SetRecordQuota replaces Config.RecordQuota.
func (s *Server) SetRecordQuota(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cfg.RecordQuota = n
}

// SetTokenStatus changes a token's status: "active", "disabled" or "expired".
func (s *Server) SetTokenStatus(value, status string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.cfg.Tokens {
		if s.cfg.Tokens[i].Value == value {
			s.cfg.Tokens[i].Status = status
		}
	}
}

// SetFault replaces Config.Fault.
func (s *Server) SetFault(f func(*http.Request) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cfg.Fault = f
}

// Seed puts records into a zone as another user of the account would, without
// validation. Missing ids, names (the zone's) and TTLs (automatic) are filled in.
func (s *Server) Seed(zone string, records ...Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, z := range s.zones {
		if z.Name != ascii(zone) {
			continue
		}
		for _, r := range records {
			if r.ID == "" {
				r.ID = s.newID("seed")
			}
			if r.Name == "" {
				r.Name = z.Name
			}
			if r.TTL == 0 {
				r.TTL = 1
			}
			if r.Created.IsZero() {
				r.Created, r.Modified = s.now(), s.now()
			}
			z.records = append(z.records, &r)
		}
	}
	s.changed()
}

// Records returns a zone's records, sorted by type, name, content and id.
func (s *Server) Records(zone string) []Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Record
	for _, z := range s.zones {
		if z.Name == ascii(zone) {
			for _, r := range z.records {
				out = append(out, *r)
			}
		}
	}
	slices.SortFunc(out, func(a, b Record) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Content, b.Content), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// Calls returns the requests made so far, oldest first.
func (s *Server) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// ResetCalls forgets the requests made so far.
func (s *Server) ResetCalls() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = nil
}

// ascii is how the vendor stores domain names: punycode, lower case, no trailing dot.
func ascii(name string) string {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if a, err := idna.New(idna.MapForLookup(), idna.StrictDomainName(false)).ToASCII(name); err == nil {
		return a
	}
	return name
}

// changed makes DNS read the zones again. s.mu is held.
func (s *Server) changed() {
	s.changes++
	s.answers = nil
}

// newID gives an identifier in the vendor's form: 32 hex digits. s.mu is held or
// the server is not shared yet.
func (s *Server) newID(kind string) string {
	s.serial++
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", kind, s.serial))
	return hex.EncodeToString(sum[:16])
}

func (z *zoneState) find(id string) *Record {
	for _, r := range z.records {
		if r.ID == id {
			return r
		}
	}
	return nil
}

// visible are the records that reads show at a moment.
func (z *zoneState) visible(now time.Time) []*Record {
	for _, p := range z.past {
		if now.Before(p.until) {
			return p.records
		}
	}
	return z.records
}

// keepPast remembers the records as they are before a change, for as long as reads lag.
func (z *zoneState) keepPast(now time.Time, lag time.Duration) {
	if lag <= 0 {
		return
	}
	z.past = slices.DeleteFunc(z.past, func(p pastRecords) bool { return !now.Before(p.until) })
	z.past = append(z.past, pastRecords{until: now.Add(lag), records: z.clone().records})
}

// clone copies a zone so that a batch can be tried out.
func (z *zoneState) clone() *zoneState {
	c := *z
	c.records = make([]*Record, len(z.records))
	for i, r := range z.records {
		copied := *r
		c.records[i] = &copied
	}
	return &c
}
