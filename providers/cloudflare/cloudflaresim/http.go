package cloudflaresim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	maxBody       = 8 << 20
	limitWindow   = 5 * time.Minute
	defaultPage   = 100
	maxPage       = 5_000_000
	zonesPage     = 20
	maxZonesPage  = 50
	apiPrefix     = "/client/v4"
	timestampForm = "2006-01-02T15:04:05.000000Z"
)

// message is an entry of "errors".
type message struct {
	Code    int       `json:"code"`
	Message string    `json:"message"`
	Chain   []message `json:"error_chain,omitempty"`
}

// failure is an answer that is not a success.
type failure struct {
	status int
	message
}

func fail(status, code int, text string, chain ...message) *failure {
	return &failure{status: status, message: message{Code: code, Message: text, Chain: chain}}
}

type resultInfo struct {
	Page       int `json:"page"`
	PerPage    int `json:"per_page"`
	Count      int `json:"count"`
	TotalCount int `json:"total_count"`
	TotalPages int `json:"total_pages"`
}

type envelope struct {
	Result   any         `json:"result"`
	Success  bool        `json:"success"`
	Errors   []message   `json:"errors"`
	Messages []message   `json:"messages"`
	Info     *resultInfo `json:"result_info,omitempty"`
}

// handler answers one kind of request. It runs with the server locked.
type handler func(r *request) (result any, info *resultInfo, f *failure)

type request struct {
	*http.Request
	body  []byte
	token *Token
}

func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	add := func(pattern string, h handler) {
		method, path, _ := strings.Cut(pattern, " ")
		mux.HandleFunc(method+" "+apiPrefix+path, func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, h) })
	}
	add("GET /user/tokens/verify", s.verifyToken)
	add("GET /ips", s.networks)
	add("GET /zones", s.listZones)
	zone := func(permission, pattern string, h zoneHandler) {
		method, path, _ := strings.Cut(pattern, " ")
		add(method+" /zones/{zone}"+path, s.inZone(permission, h))
	}
	zone("Zone", "GET ", s.getZone)
	zone("DNS", "GET /dns_records", s.listRecords)
	zone("DNS", "POST /dns_records", s.createRecord)
	zone("DNS", "GET /dns_records/usage", s.usage)
	zone("DNS", "POST /dns_records/batch", s.batch)
	zone("DNS", "GET /dns_records/{record}", s.getRecord)
	zone("DNS", "PUT /dns_records/{record}", s.putRecord)
	zone("DNS", "PATCH /dns_records/{record}", s.patchRecord)
	zone("DNS", "DELETE /dns_records/{record}", s.deleteRecord)
	zone("DNS", "GET /dnssec", s.dnssec)
	zone("Zone Settings", "GET /settings/{setting}", s.getSetting)
	zone("Zone Settings", "PATCH /settings/{setting}", s.patchSetting)
	zone("Zone WAF", "GET /rulesets/phases/{phase}/entrypoint", s.entrypoint)
	zone("Zone WAF", "POST /rulesets", s.createRuleset)
	zone("Zone WAF", "POST /rulesets/{ruleset}/rules", s.createRule)
	zone("Zone WAF", "PATCH /rulesets/{ruleset}/rules/{rule}", s.patchRule)
	zone("Zone WAF", "DELETE /rulesets/{ruleset}/rules/{rule}", s.deleteRule)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.serve(w, r, func(*request) (any, *resultInfo, *failure) {
			return nil, nil, fail(http.StatusNotFound, 7003, "Could not route to "+r.URL.Path+", perhaps your object identifier is invalid?")
		})
	})
	return mux
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

func (s *Server) serve(w http.ResponseWriter, r *http.Request, h handler) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return // the client went away or sends too much
	}
	r.Body = io.NopCloser(bytes.NewReader(body)) // for Fault

	s.mu.Lock()
	inject := s.cfg.Fault
	s.mu.Unlock()
	var fault Fault
	if inject != nil {
		s.asking.Lock()
		fault = inject(r)
		s.asking.Unlock()
	}
	if fault.Delay > 0 {
		s.cfg.Sleep(fault.Delay)
	}
	s.mu.Lock()
	call := Call{Method: r.Method, Path: r.URL.RequestURI(), Body: body}
	if fault.Drop {
		s.calls = append(s.calls, call)
		s.mu.Unlock()
		panic(http.ErrAbortHandler)
	}
	var env envelope
	status := http.StatusOK
	header := w.Header()
	f := s.limit(header)
	if f == nil && fault.Status != 0 {
		f = fault.failure()
		if fault.RetryAfter > 0 {
			header.Set("Retry-After", strconv.Itoa(fault.RetryAfter))
		}
	}
	req := &request{Request: r, body: body}
	if f == nil {
		req.token, f = s.authenticate(r)
	}
	if f == nil {
		env.Result, env.Info, f = h(req)
	}
	if f != nil {
		status, env.Result, env.Info, env.Errors = f.status, nil, nil, []message{f.message}
	}
	if list, ok := env.Result.([]any); ok && fault.HalfPage {
		env.Result = list[:len(list)/2]
	}
	if fault.Lose {
		s.calls = append(s.calls, call)
		s.mu.Unlock()
		panic(http.ErrAbortHandler)
	}
	call.Status = status
	s.calls = append(s.calls, call)
	header.Set("Cf-Ray", fmt.Sprintf("%016x-SIM", len(s.calls)))
	s.mu.Unlock()

	header.Set("Content-Type", "application/json")
	if fault.Garble {
		w.WriteHeader(status)
		io.WriteString(w, `{"result": [{"id": "trunc`)
		return
	}
	env.Success = f == nil
	if env.Errors == nil {
		env.Errors = []message{}
	}
	env.Messages = []message{}
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(env)
}

func (f Fault) failure() *failure {
	code, text := f.Code, http.StatusText(f.Status)
	if code == 0 {
		code = 10000 + f.Status
		if f.Status == http.StatusTooManyRequests {
			code, text = 971, "Please wait and consider throttling your request speed"
		}
	}
	return fail(f.Status, code, text)
}

// limit counts calls the vendor's way: a window of five minutes, and when it is
// used up everything is refused for the next five.
func (s *Server) limit(h http.Header) *failure {
	now := s.now()
	if now.Before(s.lockedTo) {
		h.Set("Retry-After", strconv.Itoa(int(s.lockedTo.Sub(now)/time.Second)+1))
		return fail(http.StatusTooManyRequests, 971, "Please wait and consider throttling your request speed")
	}
	if now.Sub(s.window) >= limitWindow {
		s.window, s.used = now, 0
	}
	s.used++
	left := max(s.cfg.CallLimit-s.used, 0)
	h.Set("Ratelimit", fmt.Sprintf(`"default";r=%d;t=%d`, left, int(limitWindow.Seconds()-now.Sub(s.window).Seconds())))
	h.Set("Ratelimit-Policy", fmt.Sprintf(`"default";q=%d;w=%d`, s.cfg.CallLimit, int(limitWindow.Seconds())))
	if s.used > s.cfg.CallLimit {
		s.lockedTo = now.Add(limitWindow)
		h.Set("Retry-After", strconv.Itoa(int(limitWindow.Seconds())))
		return fail(http.StatusTooManyRequests, 971, "Please wait and consider throttling your request speed")
	}
	return nil
}

func (s *Server) authenticate(r *http.Request) (*Token, *failure) {
	h := r.Header.Get("Authorization")
	if h == "" {
		return nil, fail(http.StatusBadRequest, 9106, "Missing X-Auth-Key, X-Auth-Email or Authorization headers")
	}
	value, ok := strings.CutPrefix(h, "Bearer ")
	if !ok || value == "" || strings.ContainsAny(value, " \t") {
		return nil, fail(http.StatusBadRequest, 6003, "Invalid request headers",
			message{Code: 6111, Message: "Invalid format for Authorization header"})
	}
	for i := range s.cfg.Tokens {
		t := &s.cfg.Tokens[i]
		if t.Value == value {
			if t.Status == "" || t.Status == "active" {
				return t, nil
			}
			return nil, fail(http.StatusUnauthorized, 1000, "Invalid API Token")
		}
	}
	if r.URL.Path == apiPrefix+"/user/tokens/verify" {
		return nil, fail(http.StatusUnauthorized, 1000, "Invalid API Token")
	}
	return nil, fail(http.StatusForbidden, 10000, "Authentication error")
}

func (t *Token) sees(zone string) bool { return len(t.Zones) == 0 || slices.Contains(t.Zones, zone) }

// may reports whether the token has a permission. To edit includes to read.
func (t *Token) may(permission string, edit bool) bool {
	switch {
	case edit && t.ReadOnly:
		return false
	case len(t.Permissions) == 0, slices.Contains(t.Permissions, permission+":Edit"):
		return true
	}
	return !edit && slices.Contains(t.Permissions, permission+":Read")
}

func (s *Server) verifyToken(r *request) (any, *resultInfo, *failure) {
	return map[string]any{"id": "ed17574386854bf78a67040be0a770b0", "status": "active"}, nil, nil
}

func (s *Server) listZones(r *request) (any, *resultInfo, *failure) {
	if !r.token.may("Zone", false) {
		return nil, nil, fail(http.StatusForbidden, 10000, "Authentication error")
	}
	q := r.URL.Query()
	page, size, f := paging(q.Get("page"), q.Get("per_page"), zonesPage, maxZonesPage)
	if f != nil {
		return nil, nil, f
	}
	var found []any
	for _, z := range s.zones {
		if !r.token.sees(z.Name) ||
			q.Get("name") != "" && !strings.EqualFold(q.Get("name"), z.Name) ||
			q.Get("status") != "" && q.Get("status") != z.Status {
			continue
		}
		found = append(found, z.wire())
	}
	shown, info := cut(found, page, size)
	return shown, info, nil
}

func (z *zoneState) wire() map[string]any {
	t := z.created.UTC().Format(timestampForm)
	var activated any
	if z.Status == "active" {
		activated = t
	}
	return map[string]any{
		"id": z.id, "name": z.Name, "status": z.Status, "paused": false, "type": "full",
		"development_mode": 0, "name_servers": z.NameServers,
		"original_name_servers": nil, "original_registrar": nil, "original_dnshost": nil,
		"created_on": t, "modified_on": t, "activated_on": activated,
		"account": map[string]any{"id": accountID(z.Account), "name": z.Account},
		"owner":   map[string]any{"id": accountID(z.Account), "type": "organization", "name": z.Account},
		"meta":    map[string]any{"step": 2, "custom_certificate_quota": 0, "page_rule_quota": 3, "phishing_detected": false},
		"plan": map[string]any{"id": "0feeeeeeeeeeeeeeeeeeeeeeeeeeeeee", "name": strings.ToUpper(z.Plan[:1]) + z.Plan[1:] + " Website", "price": 0, "currency": "USD",
			"frequency": "", "is_subscribed": z.Plan != "free", "can_subscribe": false, "legacy_id": z.Plan, "legacy_discount": false, "externally_managed": false},
		"permissions": []string{"#dns_records:edit", "#dns_records:read", "#zone:read"},
	}
}

func accountID(name string) string {
	return fmt.Sprintf("%032x", len(name))
}

// zoneHandler answers a request about one zone.
type zoneHandler func(r *request, z *zoneState) (any, *resultInfo, *failure)

// inZone finds the zone of a request and checks that the token may make it there.
func (s *Server) inZone(permission string, h zoneHandler) handler {
	return func(r *request) (any, *resultInfo, *failure) {
		id := r.PathValue("zone")
		for _, z := range s.zones {
			if z.id != id {
				continue
			}
			if !r.token.sees(z.Name) || !r.token.may(permission, r.Method != http.MethodGet) {
				return nil, nil, fail(http.StatusForbidden, 10000, "Authentication error")
			}
			if r.Method != http.MethodGet {
				z.keepPast(s.now(), s.cfg.Lag)
				s.changed()
			}
			return h(r, z)
		}
		return nil, nil, fail(http.StatusNotFound, 7003, "Could not route to /zones/"+id+", perhaps your object identifier is invalid?")
	}
}

func (s *Server) getZone(_ *request, z *zoneState) (any, *resultInfo, *failure) {
	return z.wire(), nil, nil
}

func (s *Server) usage(_ *request, z *zoneState) (any, *resultInfo, *failure) {
	out := map[string]any{"record_quota": s.cfg.RecordQuota, "record_usage": len(z.records)}
	if s.cfg.RecordQuota < 0 {
		out["record_quota"] = nil
	}
	return out, nil, nil
}

func paging(page, size string, byDefault, atMost int) (p, n int, f *failure) {
	p, n = 1, byDefault
	for _, field := range []struct {
		text string
		into *int
		most int
	}{{page, &p, 1 << 30}, {size, &n, atMost}} {
		if field.text == "" {
			continue
		}
		v, err := strconv.Atoi(field.text)
		if err != nil || v < 1 || v > field.most {
			return 0, 0, fail(http.StatusBadRequest, 1004, fmt.Sprintf("page and per_page must be whole numbers, per_page from 1 to %d", atMost))
		}
		*field.into = v
	}
	return p, n, nil
}

func cut(all []any, page, size int) ([]any, *resultInfo) {
	info := &resultInfo{Page: page, PerPage: size, TotalCount: len(all), TotalPages: (len(all) + size - 1) / size}
	start := min((page-1)*size, len(all))
	shown := append([]any{}, all[start:min(start+size, len(all))]...)
	info.Count = len(shown)
	return shown, info
}
