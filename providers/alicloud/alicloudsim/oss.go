package alicloudsim

import (
	"bytes"
	"encoding/xml"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"mailform/server/bucket/bucketsim"
)

// OSS: buckets and what the vendor says of them. Objects are bucketsim's business.

type bucketState struct {
	name, region, acl, created string
	blocked                    bool   // Block Public Access
	versioning                 string // "", "Enabled" or "Suspended"
	encryption                 string // "" for none
	lifecycle                  string // the rules as they were put, "" for none
	tags                       map[string]string
	store                      *bucketsim.Sim
}

// maxObject bounds a request's body: backups come in parts of some MiB.
const maxObject = 64 << 20

// ossRequest is one signed request to OSS.
type ossRequest struct {
	*Sim
	hr     *http.Request
	body   []byte
	bucket string // "" for the service
	object bool   // about one object, or a listing of them
	action string // as RAM calls it
	key    AccessKey
	half   bool
}

// serveOSS answers a request to OSS. The bucket stands in the host's name or, as at
// no real endpoint, first in the path.
func (s *Sim) serveOSS(w http.ResponseWriter, hr *http.Request, requestID string) {
	w.Header().Set("X-Oss-Request-Id", requestID)
	w.Header().Set("Date", s.cfg.Now().UTC().Format(http.TimeFormat))
	body, err := io.ReadAll(io.LimitReader(hr.Body, maxObject+1))
	if err != nil || len(body) > maxObject {
		answerOSS(w, nil, refuse(400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size."))
		return
	}
	r := &ossRequest{Sim: s, hr: hr, body: body}
	hr.Body = io.NopCloser(bytes.NewReader(body))
	r.name()
	if err := r.authenticate(); err != nil {
		answerOSS(w, nil, err)
		return
	}
	params := url.Values{"Bucket": {r.bucket}}
	maps.Copy(params, hr.URL.Query())
	call := s.record(&request{Sim: s, product: "oss", action: r.action, params: params, key: r.key})
	fault := s.fault(call)
	r.half = fault.HalfPage
	var text []byte
	if fault.none() || fault.After {
		if r.object && r.allowed() == nil {
			if rec := r.serveObject(w, fault); rec {
				s.settleCall(call.Seq, 200, "")
				return
			}
		}
		s.mu.Lock()
		text, err = r.dispatch()
		s.mu.Unlock()
	}
	switch {
	case fault.none():
	case fault.Drop:
		s.settleCall(call.Seq, 0, "")
		panic(http.ErrAbortHandler)
	case fault.Body != "":
		w.WriteHeader(max(fault.Status, 200))
		_, _ = w.Write([]byte(fault.Body))
		s.settleCall(call.Seq, max(fault.Status, 200), "")
		return
	default:
		err = refuse(fault.Status, fault.Code, "%s", fault.Message)
	}
	if fault.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(fault.RetryAfter))
	}
	status, code := 200, ""
	if err != nil {
		status, code = asRefusal(err).status, asRefusal(err).code
	}
	s.settleCall(call.Seq, status, code)
	answerOSS(w, text, err)
}

// answerOSS writes an answer: XML, nothing, or an error.
func answerOSS(w http.ResponseWriter, text []byte, err error) {
	w.Header().Set("Content-Type", "application/xml")
	if err != nil {
		f := asRefusal(err)
		text, _ = xml.Marshal(struct {
			XMLName       xml.Name `xml:"Error"`
			Code, Message string
		}{Code: f.code, Message: f.message})
		w.WriteHeader(f.status)
	}
	_, _ = w.Write(text)
}

// subresources are the parts of a bucket that have requests of their own, with what
// RAM calls them.
var subresources = map[string]string{"bucketInfo": "Info", "lifecycle": "Lifecycle", "tagging": "Tagging", "acl": "Acl",
	"publicAccessBlock": "PublicAccessBlock", "versioning": "Versioning", "encryption": "Encryption"}

// name finds out what the request is about.
func (r *ossRequest) name() {
	path := strings.TrimPrefix(r.hr.URL.Path, "/")
	if host, own := strings.CutSuffix(r.hr.Host, ".aliyuncs.com"); own {
		if name, _, virtual := strings.Cut(host, "."); virtual {
			r.bucket = name
		}
	} else {
		r.bucket, path, _ = strings.Cut(path, "/")
	}
	verb := map[string]string{http.MethodGet: "Get", http.MethodPut: "Put", http.MethodDelete: "Delete"}[r.hr.Method]
	query := r.hr.URL.Query()
	switch {
	case r.bucket == "":
		r.action = "ListBuckets"
		return
	case path != "":
		r.action, r.object = verb+"Object", true
		return
	case query.Has("list-type"):
		r.action, r.object = "ListObjects", true
		return
	}
	r.action = verb + "Bucket"
	for part, called := range subresources {
		if query.Has(part) {
			r.action = verb + "Bucket" + called
		}
	}
}

func (r *ossRequest) authenticate() error {
	s := &bucketsim.Sim{Bucket: r.bucket, Keys: map[string]string{}, Now: r.cfg.Now}
	if k, known := r.accessKey(bucketsim.KeyID(r.hr)); known {
		s.Keys[k.ID], r.key = k.Secret, k
	}
	if code, text := s.Check(r.hr, r.body); code != "" {
		return refuse(403, code, "%s", text)
	}
	if e := r.key.Expires; !e.IsZero() && !r.cfg.Now().Before(e) {
		return refuse(403, "SecurityTokenExpired", "The security token you provided has expired.")
	}
	if r.key.SecurityToken != r.hr.Header.Get("X-Oss-Security-Token") {
		return refuse(403, "InvalidSecurityToken", "The security token you provided is invalid.")
	}
	return nil
}

func (r *ossRequest) allowed() error {
	if !r.key.may("oss:" + r.action) {
		return refuse(403, "AccessDenied", "You have no right to access this object because of bucket acl.")
	}
	return nil
}

// serveObject hands a request about objects to the bucket's store; false when there
// is no such bucket.
func (r *ossRequest) serveObject(w http.ResponseWriter, fault Fault) bool {
	r.mu.RLock()
	b := r.buckets[r.bucket]
	r.mu.RUnlock()
	if b == nil || !fault.none() {
		return false
	}
	b.store.Know(r.key.ID, r.key.Secret)
	b.store.ServeHTTP(w, r.hr)
	return true
}

func noBucket() error {
	return refuse(404, "NoSuchBucket", "The specified bucket does not exist.")
}

// dispatch carries a request about a bucket out. s.mu is held.
func (r *ossRequest) dispatch() ([]byte, error) {
	if err := r.allowed(); err != nil {
		return nil, err
	}
	if slices.Contains(r.cfg.TakenBuckets, r.bucket) && r.action != "PutBucket" {
		return nil, refuse(403, "AccessDenied", "You have no right to access this object because of bucket acl.")
	}
	switch r.action {
	case "ListBuckets":
		return r.listBuckets()
	case "PutBucket":
		return nil, r.putBucket()
	}
	b := r.buckets[r.bucket]
	if b == nil {
		return nil, noBucket()
	}
	switch r.action {
	case "DeleteBucket":
		if b.store.Held() > 0 {
			return nil, refuse(409, "BucketNotEmpty", "The bucket has objects. Please delete them first.")
		}
		delete(r.buckets, b.name)
		return nil, nil
	case "GetBucketInfo":
		return r.bucketInfo(b)
	case "GetBucketLifecycle":
		if b.lifecycle == "" {
			return nil, refuse(404, "NoSuchLifecycle", "No Row found in Lifecycle Table.")
		}
		return []byte(b.lifecycle), nil
	case "GetBucketTagging":
		return r.bucketTags(b)
	case "PutBucketTagging":
		return nil, r.tagBucket(b)
	case "DeleteBucketTagging":
		b.tags = nil
		return nil, nil
	}
	return nil, r.setBucket(b)
}

// setBucket is the PUT of one of a bucket's settings.
func (r *ossRequest) setBucket(b *bucketState) error {
	malformed := refuse(400, "MalformedXML", "The XML you provided was not well-formed or did not validate against our published schema.")
	switch r.action {
	case "PutBucketAcl":
		acl := r.hr.Header.Get("X-Oss-Acl")
		switch {
		case !slices.Contains([]string{"private", "public-read", "public-read-write"}, acl):
			return refuse(400, "InvalidArgument", "no such bucket access control exists")
		case acl != "private" && b.blocked:
			return refuse(403, "AccessDenied", "Put public bucket acl is not allowed.")
		}
		b.acl = acl
	case "PutBucketPublicAccessBlock":
		var c struct {
			XMLName           xml.Name `xml:"PublicAccessBlockConfiguration"`
			BlockPublicAccess bool
		}
		if xml.Unmarshal(r.body, &c) != nil {
			return malformed
		}
		b.blocked = c.BlockPublicAccess
	case "PutBucketVersioning":
		var c struct {
			XMLName xml.Name `xml:"VersioningConfiguration"`
			Status  string
		}
		if xml.Unmarshal(r.body, &c) != nil || c.Status != "Enabled" && c.Status != "Suspended" {
			return malformed
		}
		b.versioning, b.store.Version = c.Status, c.Status == "Enabled"
	case "PutBucketEncryption":
		var c struct {
			XMLName   xml.Name `xml:"ServerSideEncryptionRule"`
			Algorithm string   `xml:"ApplyServerSideEncryptionByDefault>SSEAlgorithm"`
		}
		if xml.Unmarshal(r.body, &c) != nil || !slices.Contains([]string{"AES256", "KMS", "SM4"}, c.Algorithm) {
			return malformed
		}
		b.encryption = c.Algorithm
	case "PutBucketLifecycle":
		return r.putLifecycle(b)
	default:
		return refuse(405, "MethodNotAllowed", "The specified method is not allowed against this resource.")
	}
	return nil
}

// putLifecycle checks the rules as the vendor does: each has a status and something
// to do, days are positive, and a rule that removes delete markers has no days of
// its own for what is current.
func (r *ossRequest) putLifecycle(b *bucketState) error {
	var c struct {
		XMLName xml.Name `xml:"LifecycleConfiguration"`
		Rules   []struct {
			ID, Prefix, Status string
			Expiration         *struct {
				Days                      int
				ExpiredObjectDeleteMarker bool
			}
			Noncurrent *struct{ NoncurrentDays int } `xml:"NoncurrentVersionExpiration"`
			Abort      *struct{ Days int }           `xml:"AbortMultipartUpload"`
			Other      []struct{ XMLName xml.Name }  `xml:"Transition"`
		} `xml:"Rule"`
	}
	if xml.Unmarshal(r.body, &c) != nil || len(c.Rules) == 0 || len(c.Rules) > 1000 {
		return refuse(400, "MalformedXML", "The XML you provided was not well-formed or did not validate against our published schema.")
	}
	ids := map[string]bool{}
	for _, rule := range c.Rules {
		bad := ids[rule.ID] && rule.ID != "" || rule.Status != "Enabled" && rule.Status != "Disabled" ||
			rule.Expiration == nil && rule.Noncurrent == nil && rule.Abort == nil && len(rule.Other) == 0 ||
			rule.Expiration != nil && rule.Expiration.ExpiredObjectDeleteMarker == (rule.Expiration.Days > 0) ||
			rule.Noncurrent != nil && rule.Noncurrent.NoncurrentDays < 1 || rule.Abort != nil && rule.Abort.Days < 1
		if bad {
			return refuse(400, "InvalidArgument", "The lifecycle rule %s is not valid.", rule.ID)
		}
		ids[rule.ID] = true
	}
	b.lifecycle = string(r.body)
	return nil
}

func (r *ossRequest) putBucket() error {
	name, acl := r.bucket, r.hr.Header.Get("X-Oss-Acl")
	if len(name) < 3 || len(name) > 63 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || name[0] == '-' || name[len(name)-1] == '-' {
		return refuse(400, "InvalidBucketName", "The specified bucket is not valid.")
	}
	if slices.Contains(r.cfg.TakenBuckets, name) {
		return refuse(409, "BucketAlreadyExists", "The requested bucket name is not available. The bucket namespace is shared by all users of the system. Please select a different name and try again.")
	}
	if b := r.buckets[name]; b != nil { // one's own: only its settings change
		if acl != "" {
			b.acl = acl
		}
		return nil
	}
	if most, limited := r.cfg.Quota["bucket"]; limited && len(r.buckets) >= most {
		return refuse(400, "TooManyBuckets", "You have attempted to create more buckets than allowed.")
	}
	if acl == "" {
		acl = "private"
	}
	r.made["bucket"]++
	// Since October 2025 a new bucket is closed to the public.
	r.buckets[name] = &bucketState{name: name, region: r.cfg.Region, acl: acl, blocked: true, created: r.stamp("2006-01-02T15:04:05.000Z"),
		store: &bucketsim.Sim{Bucket: name, Now: r.cfg.Now}}
	return nil
}

func (r *ossRequest) bucketInfo(b *bucketState) ([]byte, error) {
	type grant struct{ Grant string }
	type rule struct{ SSEAlgorithm string }
	type info struct {
		Name, Location, ExtranetEndpoint, IntranetEndpoint, CreationDate, StorageClass, DataRedundancyType string
		AccessControlList                                                                                  grant
		ServerSideEncryptionRule                                                                           rule
		Versioning                                                                                         string `xml:",omitempty"`
		BlockPublicAccess                                                                                  bool
	}
	i := info{Name: b.name, Location: "oss-" + b.region, ExtranetEndpoint: "oss-" + b.region + ".aliyuncs.com", IntranetEndpoint: "oss-" + b.region + "-internal.aliyuncs.com",
		CreationDate: b.created, StorageClass: "Standard", DataRedundancyType: "LRS", AccessControlList: grant{b.acl},
		ServerSideEncryptionRule: rule{"None"}, Versioning: b.versioning, BlockPublicAccess: b.blocked}
	if b.encryption != "" {
		i.ServerSideEncryptionRule.SSEAlgorithm = b.encryption
	}
	return xml.Marshal(struct {
		XMLName xml.Name `xml:"BucketInfo"`
		Bucket  info
	}{Bucket: i})
}

type ossTag struct{ Key, Value string }

type ossTagging struct {
	XMLName xml.Name `xml:"Tagging"`
	Tags    []ossTag `xml:"TagSet>Tag"`
}

func (r *ossRequest) bucketTags(b *bucketState) ([]byte, error) {
	var t ossTagging
	for _, k := range slices.Sorted(maps.Keys(b.tags)) {
		t.Tags = append(t.Tags, ossTag{k, b.tags[k]})
	}
	return xml.Marshal(t)
}

func (r *ossRequest) tagBucket(b *bucketState) error {
	var t ossTagging
	if xml.Unmarshal(r.body, &t) != nil || len(t.Tags) == 0 || len(t.Tags) > 20 {
		return refuse(400, "MalformedXML", "The XML you provided was not well-formed or did not validate against our published schema.")
	}
	tags := map[string]string{}
	for _, tag := range t.Tags {
		if _, twice := tags[tag.Key]; twice || tag.Key == "" || len(tag.Key) > 64 || len(tag.Value) > 128 {
			return refuse(400, "InvalidTag", "The tag is not valid.")
		}
		tags[tag.Key] = tag.Value
	}
	b.tags = tags
	r.indexed("bucket " + b.name)
	return nil
}

// listBuckets is GetService.
func (r *ossRequest) listBuckets() ([]byte, error) {
	type entry struct{ Name, Location, CreationDate, StorageClass string }
	page := struct {
		XMLName     xml.Name `xml:"ListAllMyBucketsResult"`
		IsTruncated bool     `xml:",omitempty"`
		NextMarker  string   `xml:",omitempty"`
		Buckets     struct{ Bucket []entry }
	}{}
	q := r.hr.URL.Query()
	var filter map[string]string
	if key := q.Get("tag-key"); key != "" {
		filter = map[string]string{key: q.Get("tag-value")}
	}
	most := 100
	if text := q.Get("max-keys"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 1000 {
			return nil, refuse(400, "InvalidArgument", "Argument max-keys must be an integer between 1 and 1000.")
		}
		most = n
	}
	for _, name := range slices.Sorted(maps.Keys(r.buckets)) {
		b := r.buckets[name]
		if !strings.HasPrefix(name, q.Get("prefix")) || name <= q.Get("marker") || !r.matches("bucket "+name, b.tags, filter) {
			continue
		}
		if len(page.Buckets.Bucket) == most {
			page.IsTruncated, page.NextMarker = true, page.Buckets.Bucket[most-1].Name
			break
		}
		page.Buckets.Bucket = append(page.Buckets.Bucket, entry{name, "oss-" + b.region, b.created, "Standard"})
	}
	if r.half {
		page.Buckets.Bucket = page.Buckets.Bucket[:len(page.Buckets.Bucket)/2]
	}
	return xml.Marshal(page)
}

// Objects lists the keys of a bucket's objects, sorted.
func (s *Sim) Objects(name string) []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if b := s.buckets[name]; b != nil {
		return b.store.Objects()
	}
	return nil
}

// EmptyBucket removes everything in a bucket with all its versions, as a person does in
// the vendor's console.
func (s *Sim) EmptyBucket(name string) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if b := s.buckets[name]; b != nil {
		b.store.Purge()
	}
}
