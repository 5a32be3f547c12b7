package cloudflare

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cloudflare/cloudflare-go/v6/option"

	"mailform/plan"
	"mailform/providers/internal/webpage"
)

const rateLimitFix = "wait: Cloudflare allows 1,200 calls in 5 minutes for everything that uses this account, and refuses all of them for 5 minutes after that"

// maxAnswer bounds what is read of one answer. A zone of 10,000 records is about 8 MiB.
const maxAnswer = 64 << 20

// Error codes of the API that decide what happens next.
const (
	codeRateLimit = 971

	codeNoSuchRecord = 81044
	codeQuota        = 81045
	codeCNAMEOverA   = 81053
	codeAOverCNAME   = 81054
	codeNSConflict   = 81056
	codeExists       = 81057
	codeIdentical    = 81058
)

// apiMessage is one entry of an answer's errors. Validation errors hide one
// level down in error_chain.
type apiMessage struct {
	Code    int          `json:"code"`
	Message string       `json:"message"`
	Chain   []apiMessage `json:"error_chain"`
}

// codes appends the codes of the message and its chain.
func (m apiMessage) codes(list []int) []int {
	list = append(list, m.Code)
	for _, c := range m.Chain {
		list = c.codes(list)
	}
	return list
}

func (m apiMessage) String() string {
	s := fmt.Sprintf("%d %s", m.Code, m.Message)
	for _, c := range m.Chain {
		s += ": " + c.String()
	}
	return s
}

// apiError is kept in plan.Error.Err, so that callers can ask for a code.
type apiError struct{ codes []int }

func (e *apiError) Error() string { return fmt.Sprintf("Cloudflare API error %v", e.codes) }

// hasCode reports whether err is an API error with one of the codes.
func hasCode(err error, codes ...int) bool {
	var e *apiError
	if !errors.As(err, &e) {
		return false
	}
	for _, c := range e.codes {
		for _, want := range codes {
			if c == want {
				return true
			}
		}
	}
	return false
}

// checkAnswer turns everything but a well-formed success into a *plan.Error. The
// library itself takes "success": false for success, and its error type cannot be
// named outside its root package. Headers, and so the token, never get into an error.
func (c *client) checkAnswer(req *http.Request, next option.MiddlewareNext) (*http.Response, error) {
	effect := req.Method != http.MethodGet
	sent := req.Method + " " + req.URL.Scheme + "://" + req.URL.Host + req.URL.Path
	if e := c.limit.spent(c.now()); e != nil {
		e.Sent = sent
		return nil, e
	}

	var wrote atomic.Bool
	trace := &httptrace.ClientTrace{WroteHeaders: func() { wrote.Store(true) }}
	res, err := next(req.WithContext(httptrace.WithClientTrace(req.Context(), trace)))
	if err != nil {
		e := &plan.Error{
			Class: plan.ErrTransient, Code: "MF5210", Sent: sent, Err: err,
			Fix: "check the network and, if it is set, CLOUDFLARE_BASE_URL; then run the same command again",
		}
		if effect && wrote.Load() {
			e.Class = plan.ErrAmbiguous
			e.Fix = "run the same command again: it finds out what happened and continues"
		}
		return nil, e
	}
	reset := c.limit.note(res.Header, c.now())
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	res.Body.Close()
	var envelope struct {
		Success bool         `json:"success"`
		Errors  []apiMessage `json:"errors"`
	}
	if err == nil && len(body) > maxAnswer {
		err = fmt.Errorf("the answer is larger than %d MiB", maxAnswer>>20)
	}
	if err == nil {
		err = json.Unmarshal(body, &envelope)
	}
	if err == nil && res.StatusCode < 300 && envelope.Success {
		res.Body = io.NopCloser(bytes.NewReader(body))
		return res, nil
	}
	e := classify(res.StatusCode, envelope.Errors, effect, err)
	if page := webpage.Describe(res.Header.Get("Content-Type"), body); page != "" && err != nil {
		e = pageInstead(res.StatusCode, page, effect)
	}
	if e.Class == plan.ErrThrottled {
		e.RetryAfter = cmp.Or(retryAfter(res.Header.Get("Retry-After"), c.now()), reset)
	}
	if e.Class == plan.ErrCredentials {
		c.explain(req, e)
	}
	e.Sent = sent
	if ray := res.Header.Get("Cf-Ray"); ray != "" {
		e.Got += " (ray " + ray + ")"
	}
	return nil, e
}

// pageInstead is what a web page in place of an answer means: trouble at the vendor's
// front, or somebody in between who answers for it.
func pageInstead(status int, page string, effect bool) *plan.Error {
	e := &plan.Error{Code: "MF5217", Got: strings.TrimSpace(strconv.Itoa(status)+" "+http.StatusText(status)) + ": " + page}
	switch {
	case status == http.StatusTooManyRequests:
		e.Class, e.Fix = plan.ErrThrottled, rateLimitFix
		return e
	case status >= 500:
		e.Class, e.Fix = plan.ErrTransient, "run the same command again; https://www.cloudflarestatus.com says whether the API has a problem"
	default:
		e.Fix = "somebody between this machine and Cloudflare answers in its place: log in to the network if it wants that (open any page in a browser), and look at HTTPS_PROXY and, if it is set, CLOUDFLARE_BASE_URL; then run the same command again"
	}
	if effect {
		e.Class = plan.ErrAmbiguous
	}
	return e
}

// classify decides what an unsuccessful answer means. malformed is why the body
// could not be read, or nil.
func classify(status int, messages []apiMessage, effect bool, malformed error) *plan.Error {
	var codes []int
	texts := make([]string, 0, len(messages))
	for _, m := range messages {
		codes = m.codes(codes)
		texts = append(texts, m.String())
	}
	api := &apiError{codes: codes}
	e := &plan.Error{Got: strconv.Itoa(status), Err: api}
	if len(texts) > 0 {
		e.Got += " " + strings.Join(texts, "; ")
	} else if text := http.StatusText(status); text != "" {
		e.Got += " " + text
	}
	if malformed != nil {
		e.Got += fmt.Sprintf(" (the body is not the API's JSON: %v)", malformed)
	}

	const again = "run the same command again"
	switch {
	case status == http.StatusTooManyRequests || hasCode(api, codeRateLimit):
		e.Class, e.Code = plan.ErrThrottled, "MF5211"
		e.Fix = rateLimitFix
	case status == http.StatusUnauthorized || status == http.StatusForbidden ||
		hasCode(api, 1000, 6003, 6111, 9103, 9106, 9107, 9109, 10000):
		e.Class, e.Code = plan.ErrCredentials, "MF5212"
		e.Fix = "set CLOUDFLARE_API_TOKEN to a token that is active and has these permissions for the zones in the spec: " + permissionNames(Scope(false))
	case hasCode(api, codeNoSuchRecord):
		e.Class, e.Code = plan.ErrStale, "MF5213"
		e.Fix = "a record was deleted since the plan was made; " + again
	case hasCode(api, codeExists, codeIdentical):
		e.Class, e.Code = plan.ErrStale, "MF5214"
		e.Fix = "a record like this one, without our mark, is already there: " + again + " to adopt it, or delete it at Cloudflare if the plan says that it is in the way"
	case hasCode(api, codeCNAMEOverA, codeAOverCNAME):
		e.Class, e.Code = plan.ErrBlocked, "MF5215"
		e.Fix = "a name cannot have a CNAME and an address: remove the CNAME record that is not ours, or use another host name"
	case hasCode(api, codeQuota):
		e.Class, e.Code = plan.ErrFatal, "MF5216"
		e.Fix = "the zone has as many records as its Cloudflare plan allows: delete some, or change the plan; then " + again
	case status >= 500 || status == http.StatusRequestTimeout || malformed != nil || status < 300 && len(messages) == 0:
		e.Class, e.Code = plan.ErrTransient, "MF5217"
		e.Fix = again + "; https://www.cloudflarestatus.com says whether the API has a problem"
		if effect {
			e.Class = plan.ErrAmbiguous
			e.Fix = again + ": it finds out what happened and continues"
		}
	case invalidRecord(codes) != "":
		e.Code = "MF5218"
		e.Fix = invalidRecord(codes)
	default:
		e.Code = "MF5219"
		e.Fix = "Cloudflare refused the request and did nothing; its words above say why"
	}
	return e
}

// invalidRecord explains the codes of a refused record that people meet; "" for others.
func invalidRecord(codes []int) string {
	const defect = "; please report this as a defect of mailform"
	for _, code := range codes {
		switch code {
		case 9004:
			return "records of this type cannot be proxied" + defect
		case 9000:
			return "the record's name is not one that Cloudflare takes: look at the names of hosts and domains in the spec"
		case 9005, 9006:
			return "the record's address is of the wrong kind: look at the host's address in the spec"
		case 9007, 9008, 9009, 9010, 9011:
			return "Cloudflare does not take what the record says; its words above say why"
		case 9021:
			return "the time to live must be between 60 and 86,400 seconds" + defect
		case 9101:
			return "a part of the record is missing" + defect
		case 9313:
			return "the record's comment, which holds our mark, is too long for the zone's plan" + defect
		case codeNSConflict:
			return "another name server is responsible for this name: remove its NS records from the zone, or put the name into a zone of its own"
		}
	}
	return ""
}

// retryAfter reads the header: seconds or a date (RFC 9110 10.2.3). 0 when it is
// not there or makes no sense.
func retryAfter(value string, now time.Time) time.Duration {
	var d time.Duration
	if s, err := strconv.Atoi(strings.TrimSpace(value)); err == nil {
		d = time.Duration(s) * time.Second
	} else if t, err := http.ParseTime(value); err == nil {
		d = t.Sub(now)
	}
	if d < 0 || d > 24*time.Hour {
		return 0
	}
	return d
}
