package alicloud

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/auth/credentials"
	sdkerrors "github.com/aliyun/alibaba-cloud-sdk-go/sdk/errors"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/requests"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/responses"

	"mailform/providers/internal/webpage"
)

const (
	// callTimeout bounds one request with its answer. RunInstances is the slowest
	// call; the vendor's SDK allows it 60 s.
	callTimeout = 60 * time.Second
	// maxAnswer bounds the body of one answer: a page of 100 instances is some 400 KiB.
	maxAnswer = 16 << 20
)

// api sends typed requests. It is safe for concurrent use: the SDK's client is
// not, so every call gets its own; connections are pooled below it.
type api struct {
	region      string
	endpoints   map[product]endpoint
	ownOSS      bool // OSS's endpoint is given, for every region
	credentials func() (Credentials, error)
	now         func() time.Time
	transport   http.RoundTripper
}

// request is what a typed request of this package is: the SDK's RPC request with
// parameter fields. Parameters travel in the POST body (position:"Body"), not
// in the URL where the SDK's own clients put them: user data holds an SSH host key,
// and URLs end up in logs.
type request interface {
	requests.AcsRequest
	target() product
}

// rpc carries one request's product beside the SDK's base type.
type rpc struct {
	*requests.RpcRequest
	product product
}

func (r rpc) target() product { return r.product }

// newRPC begins a request. Requests are not reusable (parameters only ever get added).
func newRPC(a action) rpc {
	p := actions[a].product
	r := rpc{&requests.RpcRequest{}, p}
	r.InitWithApiInfo(p.name, p.version, actions[a].name, "", "")
	return r
}

// answer is what every response embeds.
type answer struct {
	*responses.BaseResponse
	RequestId string
}

func newAnswer() answer { return answer{BaseResponse: &responses.BaseResponse{}} }

func (a answer) requestID() string { return a.RequestId }

// response is what a typed response of this package is.
type response interface {
	responses.AcsResponse
	requestID() string
}

// listing is a response with a list. An answer without its list is not an empty
// list: to believe it would be to believe that everything is gone.
type listing interface{ listed() bool }

// failure is why a call brought no usable answer. errors.go turns it into what a
// person reads.
type failure struct {
	product product
	action  string
	method  string // "" for POST
	to      endpoint
	at      time.Time // by this machine's clock
	kind    failureKind
	status  int    // HTTP status; 0 when no answer came
	code    string // the vendor's error code
	message string // the vendor's text, cleaned
	request string // the vendor's request id

	retryAfter time.Duration
	err        error
}

type failureKind uint8

const (
	refused   failureKind = iota // the vendor answered with an error
	unsent                       // the request certainly never left this machine
	lost                         // sent, no answer
	malformed                    // answered with something that is not the API's format
	partial                      // a listing of many pages that does not add up
)

func (f *failure) Error() string { return f.action + ": " + f.got() }

func (f *failure) Unwrap() error { return f.err }

// isCode reports whether err is the vendor's refusal with one of the codes.
func isCode(err error, codes ...string) bool {
	var f *failure
	if !errors.As(err, &f) || f.kind != refused {
		return false
	}
	for _, c := range codes {
		if f.code == c {
			return true
		}
	}
	return false
}

// call sends req and decodes into resp. The error is a *failure, or the *plan.Error
// of missing credentials. Credentials that expired on the way are asked for again:
// when there are others by now, the request, which was refused, goes out once more.
func (a *api) call(ctx context.Context, req request, resp response) error {
	cred, err := a.credentials()
	if err != nil {
		return err
	}
	err = a.send(ctx, req, resp, cred)
	if isCode(err, "InvalidSecurityToken.Expired", "SecurityTokenExpired") {
		if fresh, credErr := a.credentials(); credErr == nil && fresh != cred && fresh.SecurityToken != "" {
			return a.send(ctx, req, resp, fresh)
		}
	}
	return err
}

// send is one attempt of call.
func (a *api) send(ctx context.Context, req request, resp response, cred Credentials) error {
	to := a.endpoints[req.target()]
	f := &failure{product: req.target(), action: req.GetActionName(), to: to, at: a.now()}

	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	rt := &roundTripper{ctx: ctx, base: a.transport}

	var provider credentials.CredentialsProvider
	if cred.SecurityToken != "" {
		provider = credentials.NewStaticSTSCredentialsProvider(cred.AccessKeyID, cred.AccessKeySecret, cred.SecurityToken)
	} else {
		provider = credentials.NewStaticAKCredentialsProvider(cred.AccessKeyID, cred.AccessKeySecret)
	}
	config := sdk.NewConfig().WithScheme("HTTPS").WithAutoRetry(false).WithUserAgent("mailform")
	config.Transport = rt
	client, err := sdk.NewClientWithOptions(a.region, config, provider)
	if err != nil {
		f.kind, f.err = unsent, err
		return f
	}
	// The SDK compiles every NO_PROXY entry as a regular expression and fails on one
	// that is none. Proxies are the transport's business here.
	client.SetNoProxy("unused")
	client.SetHttpProxy("http://unused.invalid")
	client.SetHttpsProxy("http://unused.invalid")
	client.SetReadTimeout(2 * callTimeout) // ctx is the limit
	req.SetDomain(to.host)
	req.SetScheme(strings.ToUpper(to.scheme))

	err = safely(func() error { return client.DoAction(req, resp) })
	f.status = rt.status
	f.retryAfter = rt.retryAfter
	switch {
	case err == nil:
		if resp.requestID() == "" {
			f.kind, f.err = malformed, errors.New(cmp.Or(rt.page, "the answer carries no request id"))
			return f
		}
		if l, ok := resp.(listing); ok && !l.listed() {
			f.kind, f.err = malformed, errors.New("the answer carries no list")
			return f
		}
		return nil
	case rt.status == 0 && !rt.sent.Load():
		f.kind, f.err = unsent, bare(err)
	case rt.status == 0:
		f.kind, f.err = lost, bare(err)
	default:
		var se *sdkerrors.ServerError
		if errors.As(err, &se) && se.ErrorCode() != "" {
			f.kind = refused
			f.code = clean(se.ErrorCode(), 100)
			f.message = clean(se.Message(), 300)
			f.request = clean(se.RequestId(), 64)
			return f
		}
		// A body that could not be read to its end is a lost answer too.
		f.kind, f.err = malformed, bare(err)
		if rt.page != "" {
			f.err = errors.New(rt.page)
		} else if rt.truncated.Load() {
			f.kind = lost
		}
	}
	return f
}

// safely turns a panic into an error: the SDK asserts types of error bodies unchecked.
func safely(fn func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = errors.New("the answer is not in the API's format")
		}
	}()
	return fn()
}

// bare takes the request's URL, with its signature, out of an error.
func bare(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		return ue.Err
	}
	var ce *sdkerrors.ClientError
	if errors.As(err, &ce) {
		return errors.New("the answer is not in the API's format")
	}
	var se *sdkerrors.ServerError
	if errors.As(err, &se) {
		return errors.New("the answer has no error code")
	}
	return err
}

// clean makes text from outside fit to print: one line, bounded, without
// what a signature error quotes back (all parameters of the request).
func clean(s string, limit int) string {
	if i := strings.Index(s, "server string to sign"); i >= 0 {
		s = s[:i] + "(rest left out)"
	}
	var b strings.Builder
	for _, r := range s {
		if b.Len() >= limit {
			b.WriteString("…")
			break
		}
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			r = ' '
		}
		b.WriteRune(r)
	}
	return strings.TrimSpace(b.String())
}

// roundTripper is where the caller's context enters the SDK, redirects stop (a
// followed one would carry the signed URL along as the Referer), answers are bounded
// and it is noted how far the request got.
type roundTripper struct {
	ctx  context.Context
	base http.RoundTripper

	sent       atomic.Bool // a connection was had, so the request may have arrived
	truncated  atomic.Bool
	status     int
	retryAfter time.Duration
	page       string // what web page came in place of an answer; "" for none
}

func (t *roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	if _, real := t.base.(*http.Transport); !real {
		t.sent.Store(true) // an injected transport does not report its steps
	}
	ctx := httptrace.WithClientTrace(t.ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { t.sent.Store(true) },
	})
	resp, err := t.base.RoundTrip(req.WithContext(ctx))
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, err
	}
	t.status = resp.StatusCode
	t.retryAfter = parseRetryAfter(resp.Header.Get("Retry-After"))
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		resp.Body.Close()
		return nil, fmt.Errorf("redirected with status %d, which the API never does", resp.StatusCode)
	}
	resp.Body = &boundedBody{body: resp.Body, left: maxAnswer, truncated: &t.truncated}
	if kind := resp.Header.Get("Content-Type"); strings.Contains(kind, "html") {
		start, _ := io.ReadAll(io.LimitReader(resp.Body, webpage.Enough)) // what cannot be read has no title
		t.page = webpage.Describe(kind, start)
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(start), resp.Body), resp.Body}
	}
	return resp, nil
}

func parseRetryAfter(h string) time.Duration {
	n, err := strconv.Atoi(strings.TrimSpace(h))
	if err != nil || n < 0 || n > 3600 {
		return 0
	}
	return time.Duration(n) * time.Second
}

// boundedBody fails past its limit and notes a body that broke off, also one that
// a proxy in between has ended as if it were complete.
type boundedBody struct {
	body        io.ReadCloser
	left        int
	truncated   *atomic.Bool
	first, last byte
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errors.New("the answer is too long")
	}
	if len(p) > b.left {
		p = p[:b.left]
	}
	n, err := b.body.Read(p)
	b.left -= n
	if text := bytes.TrimSpace(p[:n]); len(text) > 0 {
		if b.first == 0 {
			b.first = text[0]
		}
		b.last = text[len(text)-1]
	}
	if err != nil && (err != io.EOF || b.first == '{' && b.last != '}') {
		b.truncated.Store(true)
	}
	return n, err
}

func (b *boundedBody) Close() error { return b.body.Close() }
