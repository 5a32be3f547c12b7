// Package bucketsim is object storage in memory that behaves like Amazon S3 and
// like Alibaba Cloud OSS, by the signature a request comes with: it checks every
// signature itself, writes conditionally and atomically, lists in pages, keeps
// its own clock and can be told to fail.
//
// It imports nothing of mailform: what it checks it does not share with the
// client that it checks.
package bucketsim

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Fault is what a request meets instead of its ordinary answer.
type Fault struct {
	Status int    // answered without any effect, with Code
	Code   string // "SlowDown"
	Drop   bool   // the request takes no effect and is not answered
	Lose   bool   // it takes effect and is not answered
}

// Sim is a service with one bucket. Set the fields before it is used.
type Sim struct {
	Bucket  string
	Keys    map[string]string // access key id -> secret
	Token   string            // the security token that goes with the keys; "" does not look
	Now     func() time.Time  // the service's clock
	Page    int               // objects in one page of a list; 0 means 1,000
	Version bool              // versioning is on: OSS then ignores x-oss-forbid-overwrite
	Naive   bool              // a service that knows no conditions and ignores them

	asking  sync.Mutex // held while fault is asked
	mu      sync.Mutex
	fault   func(*http.Request) Fault
	objects map[string]object
	held    int // versions and delete markers, with Version
	calls   int
}

// SetFault has f asked about every request from now on, about one at a time; nil is
// for good days. It may be called at any time.
func (s *Sim) SetFault(f func(*http.Request) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// Know adds a key. It may be called at any time.
func (s *Sim) Know(id, secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Keys == nil {
		s.Keys = map[string]string{}
	}
	s.Keys[id] = secret
}

type object struct {
	body     []byte
	etag     string
	modified time.Time
	kind     string
}

// maxBody bounds one object.
const maxBody = 64 << 20

// maxSkew is how far a client's clock may be off.
const maxSkew = 15 * time.Minute

// Calls returns how many requests were made.
func (s *Sim) Calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

// Objects returns the keys, sorted.
func (s *Sim) Objects() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys("")
}

// Held is how much stands in the way of deleting the bucket: objects or, where
// versioning is on, every version and delete marker there ever was.
func (s *Sim) Held() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(s.held, len(s.objects))
}

// Purge removes everything with all its versions, as a person does in the console.
func (s *Sim) Purge() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects, s.held = nil, 0
}

// keys lists what begins with prefix. mu is held.
func (s *Sim) keys(prefix string) []string {
	var out []string
	for k := range s.objects {
		if strings.HasPrefix(k, prefix) {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return out
}

// Transport is a round tripper that ends in the simulator without a network.
func (s *Sim) Transport() http.RoundTripper { return transport{s} }

type transport struct{ s *Sim }

// errDropped is what a client sees of an answer that does not come.
var errDropped = fmt.Errorf("EOF: the connection was closed without an answer: %w", io.ErrUnexpectedEOF)

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	in := r.Clone(r.Context())
	in.RequestURI = r.URL.RequestURI()
	if in.Body == nil {
		in.Body = http.NoBody
	}
	a := t.s.answer(in)
	r.Body = nil
	if a == nil {
		return nil, errDropped
	}
	return &http.Response{
		StatusCode: a.status, Status: strconv.Itoa(a.status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: a.header, Body: io.NopCloser(bytes.NewReader(a.body)), ContentLength: int64(len(a.body)), Request: r,
	}, nil
}

// ServeHTTP implements http.Handler.
func (s *Sim) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := s.answer(r)
	if a == nil {
		panic(http.ErrAbortHandler)
	}
	for k, v := range a.header {
		w.Header()[k] = v
	}
	w.WriteHeader(a.status)
	w.Write(a.body)
}

// reply is an answer; nil is none.
type reply struct {
	status int
	header http.Header
	body   []byte
}

func (s *Sim) answer(r *http.Request) *reply {
	var f Fault
	s.mu.Lock()
	fault := s.fault
	s.mu.Unlock()
	if fault != nil {
		s.asking.Lock()
		f = fault(r)
		s.asking.Unlock()
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if f.Drop || err != nil {
		return nil
	}
	a := &reply{status: http.StatusOK, header: http.Header{}}
	a.header.Set("Date", s.Now().UTC().Format(http.TimeFormat))
	a.header.Set("X-Amz-Request-Id", fmt.Sprintf("REQ%06d", s.calls))
	if f.Status != 0 {
		return a.refuse(f.Status, f.Code, "simulated")
	}
	sign, refused := s.verify(r, body)
	if refused != nil {
		return a.refuse(http.StatusForbidden, refused.code, refused.text)
	}
	key, ok := s.key(r)
	if !ok {
		return a.refuse(http.StatusNotFound, "NoSuchBucket", "The specified bucket does not exist.")
	}
	s.serve(a, r, key, body, sign)
	if f.Lose {
		return nil
	}
	return a
}

// key takes the object's key out of the host or the path.
func (s *Sim) key(r *http.Request) (string, bool) {
	if strings.HasPrefix(r.Host, s.Bucket+".") {
		return strings.TrimPrefix(r.URL.Path, "/"), true
	}
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	return key, bucket == s.Bucket
}

func (s *Sim) serve(a *reply, r *http.Request, key string, body []byte, sign *signature) {
	if s.objects == nil {
		s.objects = map[string]object{}
	}
	have, exists := s.objects[key]
	switch {
	case key == "" && r.Method == http.MethodGet && r.URL.Query().Get("list-type") == "2":
		s.list(a, r.URL.Query())
	case key == "":
		a.refuse(http.StatusNotImplemented, "NotImplemented", "not simulated")
	case r.Method == http.MethodPut:
		if len(body) > maxBody {
			a.refuse(http.StatusBadRequest, "EntityTooLarge", "too large")
			return
		}
		if !s.allowed(a, r, have, exists, sign) {
			return
		}
		sum := md5.Sum(body)
		o := object{body: body, etag: `"` + strings.ToUpper(hex.EncodeToString(sum[:])) + `"`, modified: s.Now().UTC().Truncate(time.Second), kind: r.Header.Get("Content-Type")}
		s.objects[key] = o
		s.version()
		a.header.Set("ETag", o.etag)
	case r.Method == http.MethodGet && !exists:
		a.refuse(http.StatusNotFound, "NoSuchKey", "The specified key does not exist.")
	case r.Method == http.MethodGet:
		a.header.Set("ETag", have.etag)
		a.header.Set("Last-Modified", have.modified.Format(http.TimeFormat))
		a.header.Set("Content-Type", have.kind)
		a.body = have.body
	case r.Method == http.MethodDelete:
		delete(s.objects, key)
		s.version()
		a.status = http.StatusNoContent
	default:
		a.refuse(http.StatusMethodNotAllowed, "MethodNotAllowed", "not simulated")
	}
}

// version notes that another version or delete marker came about.
func (s *Sim) version() {
	if s.Version {
		s.held++
	}
}

// allowed checks the conditions of a PUT.
func (s *Sim) allowed(a *reply, r *http.Request, have object, exists bool, sign *signature) bool {
	none, match, forbid := r.Header.Get("If-None-Match"), r.Header.Get("If-Match"), r.Header.Get("X-Oss-Forbid-Overwrite")
	switch {
	case s.Naive:
	case sign.oss && none+match != "": // as OSS answers: it knows its own condition only
		a.refuse(http.StatusNotImplemented, "NotImplemented", "A header you provided implies functionality that is not implemented.")
		return false
	case sign.oss && forbid == "true" && exists && !s.Version:
		a.refuse(http.StatusConflict, "FileAlreadyExists", "The object you specified already exists and can not be overwritten.")
		return false
	case sign.oss:
	case none == "*" && exists, match != "" && match != have.etag && exists:
		a.refuse(http.StatusPreconditionFailed, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold")
		return false
	case match != "" && !exists:
		a.refuse(http.StatusNotFound, "NoSuchKey", "The specified key does not exist.")
		return false
	}
	return true
}

func (a *reply) refuse(status int, code, message string) *reply {
	a.status = status
	var b bytes.Buffer
	b.WriteString(xml.Header + "<Error><Code>" + code + "</Code><Message>")
	xml.EscapeText(&b, []byte(message))
	b.WriteString("</Message></Error>")
	a.body = b.Bytes()
	a.header.Set("Content-Type", "application/xml")
	return a
}

type entry struct {
	Key          string `xml:"Key"`
	LastModified string `xml:"LastModified"`
	ETag         string `xml:"ETag"`
	Size         int    `xml:"Size"`
}

// list is ListObjectsV2.
func (s *Sim) list(a *reply, q url.Values) {
	keys := s.keys(q.Get("prefix"))
	if after := q.Get("continuation-token"); after != "" {
		i, _ := slices.BinarySearch(keys, after)
		keys = keys[i:]
	}
	page := s.Page
	if page == 0 {
		page = 1000
	}
	out := struct {
		XMLName  xml.Name `xml:"ListBucketResult"`
		Cut      bool     `xml:"IsTruncated"`
		Next     string   `xml:"NextContinuationToken,omitempty"`
		Encoding string   `xml:"EncodingType,omitempty"`
		Contents []entry  `xml:"Contents"`
	}{}
	out.Encoding = q.Get("encoding-type")
	if len(keys) > page {
		out.Cut, out.Next = true, keys[page]
		keys = keys[:page]
	}
	for _, k := range keys {
		o := s.objects[k]
		if out.Encoding == "url" {
			k = url.QueryEscape(k)
		}
		out.Contents = append(out.Contents, entry{k, o.modified.Format("2006-01-02T15:04:05.000Z"), o.etag, len(o.body)})
	}
	b, err := xml.Marshal(out)
	if err != nil {
		a.refuse(http.StatusInternalServerError, "InternalError", err.Error())
		return
	}
	a.body = b
	a.header.Set("Content-Type", "application/xml")
}
