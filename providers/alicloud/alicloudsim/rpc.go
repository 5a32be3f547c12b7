package alicloudsim

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// obj is a JSON object of an answer.
type obj = map[string]any

// refusal is an error answer.
type refusal struct {
	status        int
	code, message string
}

func (r *refusal) Error() string { return r.code + ": " + r.message }

func refuse(status int, code, format string, args ...any) error {
	return &refusal{status, code, fmt.Sprintf(format, args...)}
}

// handler carries one action out.
type handler struct {
	required []string
	do       func(*request) (obj, error)
	// once makes the action idempotent by ClientToken.
	once bool
}

// request is one signed request.
type request struct {
	*Sim
	product string // "ecs" or "vpc"
	action  string
	params  url.Values
	key     AccessKey
	half    bool // answer with half a page, see Fault
}

func (r *request) get(name string) string { return r.params.Get(name) }

func (r *request) flag(name string) bool { return r.params.Get(name) == "true" }

// number returns a whole-number parameter, def when it is absent.
func (r *request) number(name string, def, low, high int) (int, error) {
	text := r.get(name)
	if text == "" {
		return def, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < low || n > high {
		return 0, refuse(400, "InvalidParameter", "The specified parameter %s is not valid.", name)
	}
	return n, nil
}

// maxRequest bounds a request's parameters: user data of 32 KiB in base64, and the rest.
const maxRequest = 256 << 10

// ServeHTTP answers one API request. Parameters may stand in the query or the form.
func (s *Sim) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	if s.cfg.Latency != nil {
		s.cfg.Sleep(s.cfg.Latency())
	}
	s.serial.Lock()
	defer s.serial.Unlock()
	requestID := s.newRequestID()
	if strings.HasPrefix(hr.Header.Get("Authorization"), "OSS4-HMAC-SHA256 ") {
		s.serveOSS(w, hr, requestID)
		return
	}
	hr.Body = http.MaxBytesReader(w, hr.Body, maxRequest)

	r, err := s.authenticate(hr)
	if err != nil {
		answerError(w, hr, requestID, err, 0)
		return
	}
	call := s.record(r)
	fault := s.fault(call)
	var body obj
	r.half = fault.HalfPage
	if fault.none() || fault.After {
		body, err = s.execute(r)
	}
	status, code := 200, ""
	if !fault.none() {
		switch {
		case fault.Drop:
			s.settleCall(call.Seq, 0, "")
			panic(http.ErrAbortHandler)
		case fault.Body != "":
			if fault.Status != 0 {
				status = fault.Status
			}
			s.settleCall(call.Seq, status, "")
			w.Header().Set("Content-Type", "application/json;charset=utf-8")
			w.WriteHeader(status)
			_, _ = w.Write([]byte(fault.Body))
			return
		}
		err = refuse(fault.Status, fault.Code, "%s", fault.Message)
	}
	if err != nil {
		rf := asRefusal(err)
		status, code = rf.status, rf.code
	}
	s.settleCall(call.Seq, status, code)
	if err != nil {
		answerError(w, hr, requestID, err, fault.RetryAfter)
		return
	}
	body["RequestId"] = requestID
	writeJSON(w, 200, body)
}

// execute carries a request out, with what it does to machines.
func (s *Sim) execute(r *request) (obj, error) {
	s.mu.Lock()
	body, err := s.dispatch(r)
	effects := s.effects
	s.effects = nil
	s.mu.Unlock()
	for _, effect := range effects {
		if e := effect(); e != nil && err == nil {
			err = refuse(500, "InternalError", "The simulated machine failed: %v", e)
		}
	}
	return body, err
}

func (s *Sim) dispatch(r *request) (obj, error) {
	h, ok := s.handlers[r.product+":"+r.action]
	if !ok {
		return nil, refuse(404, "InvalidAction.NotFound", "Specified api is not found, please check your url and method.")
	}
	if r.denied() && r.product+":"+r.action != "ecs:DescribeInstances" {
		return nil, r.forbidden()
	}
	if r.passesRole() && !r.key.may("ram:PassRole") {
		return nil, refuse(403, "InvalidUser.PassRoleForbidden", "The RAM user does not have the permission to pass a role.")
	}
	if region := r.get("RegionId"); region != "" && region != s.cfg.Region {
		return nil, refuse(404, "InvalidRegionId.NotFound", "The specified RegionId does not exist.")
	}
	for _, name := range h.required {
		if r.get(name) == "" && r.get(name+".1") == "" && r.get(name+".1.Key") == "" {
			return nil, refuse(400, "MissingParameter", "The input parameter %q that is mandatory for processing this request is not supplied.", name)
		}
	}
	if h.once {
		return s.once(r, h.do)
	}
	return h.do(r)
}

// replay is the answer a ClientToken got.
type replay struct {
	params string
	body   obj
	err    error
}

// once answers a known ClientToken again: with the first answer when the request is
// the same, else with a mismatch. Of failures only a lack of stock is remembered.
func (s *Sim) once(r *request, do func(*request) (obj, error)) (obj, error) {
	token := r.get("ClientToken")
	if token == "" {
		return do(r)
	}
	if len(token) > 64 {
		return nil, refuse(400, "InvalidClientToken.ValueNotSupported", "The ClientToken provided is invalid.")
	}
	for _, c := range []byte(token) {
		if c <= ' ' || c > '~' {
			return nil, refuse(400, "InvalidClientToken.ValueNotSupported", "The ClientToken provided is invalid.")
		}
	}
	name := r.product + ":" + r.action + " " + token
	params := r.own().Encode()
	if first, known := s.tokens[name]; known {
		if first.params != params {
			return nil, refuse(400, "IdempotentParameterMismatch", "The request uses the same client token as a previous, but non-identical request.")
		}
		return clone(first.body), first.err
	}
	body, err := do(r)
	if err == nil || asRefusal(err).code == "OperationDenied.NoStock" {
		s.tokens[name] = replay{params, clone(body), err}
	}
	return body, err
}

func clone(o obj) obj {
	c := make(obj, len(o))
	for k, v := range o {
		c[k] = v
	}
	return c
}

// common are the parameters every request has.
var common = [...]string{"Action", "Version", "Format", "AccessKeyId", "Signature", "SignatureMethod", "SignatureVersion",
	"SignatureType", "SignatureNonce", "Timestamp", "SecurityToken", "RegionId"}

// own are the action's own parameters.
func (r *request) own() url.Values {
	own := url.Values{}
	for k, v := range r.params {
		own[k] = v
	}
	for _, k := range common {
		own.Del(k)
	}
	return own
}

// may reports whether the key's user is permitted to an action.
func (k AccessKey) may(name string) bool {
	product, _, _ := strings.Cut(name, ":")
	if slices.Contains(k.Deny, "*") || slices.Contains(k.Deny, product+":*") || slices.Contains(k.Deny, name) {
		return false
	}
	return k.Allow == nil || slices.Contains(k.Allow, name)
}

func (r *request) denied() bool { return !r.key.may(r.product + ":" + r.action) }

// passesRole reports whether the request hands a RAM role to an instance.
func (r *request) passesRole() bool { return r.action == "RunInstances" && r.get("RamRoleName") != "" }

func (r *request) forbidden() error {
	return refuse(403, "Forbidden.RAM", "User not authorized to operate on the specified resource, or this API doesn't support RAM.")
}

// authenticate checks who asks, and that nobody changed the question.
func (s *Sim) authenticate(hr *http.Request) (*request, error) {
	if hr.Method != http.MethodGet && hr.Method != http.MethodPost {
		return nil, refuse(405, "UnsupportedHTTPMethod", "This http method is not supported.")
	}
	if err := hr.ParseForm(); err != nil {
		return nil, refuse(400, "InvalidParameter", "The request cannot be read.")
	}
	r := &request{Sim: s, action: hr.Form.Get("Action"), params: url.Values{}}
	for k, vs := range hr.Form {
		if len(vs) != 1 {
			return nil, refuse(400, "InvalidParameter", "The parameter %s is given more than once.", k)
		}
		r.params.Set(k, vs[0])
	}
	switch r.get("Version") {
	case "2014-05-26":
		r.product = "ecs"
	case "2016-04-28":
		r.product = "vpc"
	default:
		return nil, refuse(400, "InvalidVersion", "Specified parameter Version is not valid.")
	}
	if f := r.get("Format"); f != "" && !strings.EqualFold(f, "JSON") {
		return nil, refuse(400, "InvalidParameter.Format", "Specified parameter format is not valid.")
	}
	for _, name := range []string{"Action", "AccessKeyId", "Signature", "SignatureMethod", "SignatureVersion", "SignatureNonce", "Timestamp"} {
		if r.get(name) == "" {
			return nil, refuse(400, "Missing"+name, "%s is mandatory for this action.", name)
		}
	}
	if r.get("SignatureMethod") != "HMAC-SHA1" || r.get("SignatureVersion") != "1.0" {
		return nil, refuse(400, "InvalidParameter.SignatureMethod", "Specified signature method is not supported.")
	}
	at, err := time.Parse("2006-01-02T15:04:05Z", r.get("Timestamp"))
	if err != nil {
		return nil, refuse(400, "InvalidTimeStamp.Format", "Specified time stamp or date value is not well formatted.")
	}
	if d := s.cfg.Now().Sub(at); s.cfg.MaxSkew > 0 && (d > s.cfg.MaxSkew || d < -s.cfg.MaxSkew) {
		return nil, refuse(400, "InvalidTimeStamp.Expired", "Specified time stamp or date value is expired.")
	}
	var known bool
	if r.key, known = s.accessKey(r.get("AccessKeyId")); !known {
		return nil, refuse(404, "InvalidAccessKeyId.NotFound", "Specified access key is not found.")
	}
	if e := r.key.Expires; !e.IsZero() && !s.cfg.Now().Before(e) {
		return nil, refuse(403, "InvalidSecurityToken.Expired", "Specified SecurityToken is expired.")
	}
	if r.key.SecurityToken != r.get("SecurityToken") {
		return nil, refuse(400, "InvalidSecurityToken.MismatchWithAccessKey", "The security token does not belong to the access key.")
	}
	text := stringToSign(hr.Method, r.params)
	if !hmac.Equal([]byte(sign(text, r.key.Secret)), []byte(r.get("Signature"))) {
		return nil, refuse(400, "SignatureDoesNotMatch", "Specified signature is not matched with our calculation. server string to sign is:%s", text)
	}
	nonce := r.key.ID + " " + r.get("SignatureNonce")
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.nonces[nonce] {
		return nil, refuse(400, "SignatureNonceUsed", "Specified signature nonce was used already.")
	}
	if len(s.nonces) > 100_000 {
		clear(s.nonces)
	}
	s.nonces[nonce] = true
	return r, nil
}

// stringToSign is the canonical request of the vendor's RPC signature, version 1.0.
func stringToSign(method string, params url.Values) string {
	names := make([]string, 0, len(params))
	for k := range params {
		if k != "Signature" {
			names = append(names, k)
		}
	}
	sort.Strings(names)
	pairs := make([]string, len(names))
	for i, k := range names {
		pairs[i] = percent(k) + "=" + percent(params.Get(k))
	}
	return method + "&%2F&" + percent(strings.Join(pairs, "&"))
}

// percent encodes as RFC 3986 wants it.
func percent(s string) string { return stricter.Replace(url.QueryEscape(s)) }

// stricter is what RFC 3986 wants otherwise than forms do.
var stricter = strings.NewReplacer("+", "%20", "*", "%2A", "%7E", "~")

func sign(text, secret string) string {
	m := hmac.New(sha1.New, []byte(secret+"&"))
	m.Write([]byte(text))
	return base64.StdEncoding.EncodeToString(m.Sum(nil))
}

// record notes a call. Signatures, tokens and user data (it holds a private key) are left out.
func (s *Sim) record(r *request) Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	params := r.own()
	if d := params.Get("UserData"); d != "" {
		params.Set("UserData", fmt.Sprintf("(%d characters)", len(d)))
	}
	if region := r.get("RegionId"); region != "" {
		params.Set("RegionId", region)
	}
	c := Call{Seq: len(s.calls) + 1, Product: r.product, Action: r.action, AccessKeyID: r.key.ID, Params: params,
		Permissions: []string{r.product + ":" + r.action}}
	if r.passesRole() {
		c.Permissions = append(c.Permissions, "ram:PassRole")
	}
	s.calls = append(s.calls, c)
	return c
}

func (s *Sim) settleCall(seq, status int, code string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[seq-1].Status, s.calls[seq-1].Code = status, code
}

func (s *Sim) newRequestID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
	return fmt.Sprintf("%08X-7A3B-5C1D-9E2F-%012X", s.count*2654435761%(1<<32), s.count)
}

func asRefusal(err error) *refusal {
	if r, ok := err.(*refusal); ok {
		return r
	}
	return &refusal{500, "InternalError", err.Error()}
}

func answerError(w http.ResponseWriter, hr *http.Request, requestID string, err error, retryAfter int) {
	r := asRefusal(err)
	if retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
	}
	writeJSON(w, r.status, obj{
		"RequestId": requestID,
		"HostId":    hr.Host,
		"Code":      r.code,
		"Message":   r.message,
		"Recommend": "https://api.aliyun.com/troubleshoot?q=" + url.QueryEscape(r.code),
	})
}

func writeJSON(w http.ResponseWriter, status int, body obj) {
	w.Header().Set("Content-Type", "application/json;charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// tags reads Tag.N.Key and Tag.N.Value.
func (r *request) tags() (map[string]string, error) {
	t := map[string]string{}
	for n := 1; ; n++ {
		k := r.get(fmt.Sprintf("Tag.%d.Key", n))
		v := r.get(fmt.Sprintf("Tag.%d.Value", n))
		if k == "" && v == "" {
			return t, nil
		}
		if _, twice := t[k]; twice {
			return nil, refuse(400, "Duplicate.TagKey", "The Tag.N.Key contain duplicate key.")
		}
		low := strings.ToLower(k)
		if k == "" || len(k) > 128 || strings.HasPrefix(low, "aliyun") || strings.HasPrefix(low, "acs:") || strings.Contains(low, "http://") || strings.Contains(low, "https://") {
			return nil, refuse(400, "InvalidTagKey.Malformed", "The specified Tag.n.Key is not valid.")
		}
		if len(v) > 128 || strings.Contains(v, "http://") || strings.Contains(v, "https://") {
			return nil, refuse(400, "InvalidTagValue.Malformed", "The specified Tag.n.Value is not valid.")
		}
		if n > 20 {
			return nil, refuse(400, "InvalidTagCount", "The specified tags are beyond the permitted range.")
		}
		t[k] = v
	}
}

// hasTags reports whether all of filter is in tags.
func hasTags(tags, filter map[string]string) bool {
	for k, v := range filter {
		if have, ok := tags[k]; !ok || v != "" && have != v {
			return false
		}
	}
	return true
}

func ecsTags(t map[string]string) obj { return tagList(t, "TagKey", "TagValue") }

func vpcTags(t map[string]string) obj { return tagList(t, "Key", "Value") }

func tagList(t map[string]string, key, value string) obj {
	list := []obj{}
	for _, k := range sorted(t) {
		list = append(list, obj{key: k, value: t[k]})
	}
	return obj{"Tag": list}
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// numbered cuts one page by PageNumber and PageSize out of a list and describes it.
func numbered[T any](r *request, all []T, most int) ([]T, obj, error) {
	number, err := r.number("PageNumber", 1, 1, 1_000_000)
	if err != nil {
		return nil, nil, err
	}
	size, err := r.number("PageSize", 10, 1, most)
	if err != nil {
		return nil, nil, err
	}
	start := min((number-1)*size, len(all))
	end := min(start+size, len(all))
	if r.half {
		end -= (end - start + 1) / 2
	}
	return all[start:end], obj{"TotalCount": len(all), "PageNumber": number, "PageSize": size}, nil
}

// followed cuts one page by NextToken and MaxResults out of a list.
func followed[T any](r *request, all []T, least, most int) ([]T, obj, error) {
	size, err := r.number("MaxResults", most, least, most)
	if err != nil {
		return nil, nil, err
	}
	start := 0
	if t := r.get("NextToken"); t != "" {
		n, err := strconv.Atoi(strings.TrimPrefix(t, "AAAAAd"))
		if err != nil || n < 0 || n > len(all) {
			return nil, nil, refuse(400, "InvalidNextToken", "The specified NextToken is not valid.")
		}
		start = n
	}
	end := min(start+size, len(all))
	if r.half {
		end -= (end - start + 1) / 2
	}
	page := obj{}
	if end < len(all) {
		page["NextToken"] = "AAAAAd" + strconv.Itoa(end)
	}
	return all[start:end], page, nil
}

// jsonList reads a parameter that is a JSON array of text. ok is false when it is absent.
func (r *request) jsonList(name string) (list []string, ok bool, err error) {
	text := r.get(name)
	if text == "" {
		return nil, false, nil
	}
	if json.Unmarshal([]byte(text), &list) != nil {
		return nil, true, refuse(400, "InvalidParameter", "The specified parameter %s is not a JSON array.", name)
	}
	return list, true, nil
}

// prefix parses a CIDR block that must be given masked.
func prefix(text string) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(text)
	return p, err == nil && p.Masked() == p
}
