package alicloud

import (
	"context"
	"encoding/xml"
	"errors"
	"net/http"
	"strconv"
	"time"

	"mailform/plan"
	"mailform/server/bucket"
)

// What OSS is asked about a bucket. It is an API of its own beside the others: REST
// with XML and another signature, which server/bucket knows.
// https://www.alibabacloud.com/help/en/oss/developer-reference/list-of-operations-by-function

// ossRequest is a request about a bucket. Like the others it is made from the table
// in actions.go.
type ossRequest struct {
	action action
	method string
	bucket string // "" for the service
	region string // the bucket's; "" for the provider's
	params map[string]string
	header map[string]string
	body   any // marshalled to XML; nil for none
}

// anyBucket stands for the bucket in requests that are about none.
const anyBucket = "mailform"

// oss sends a request and decodes the answer into resp, unless that is nil. Errors
// are those of call.
func (a *api) oss(ctx context.Context, q ossRequest, resp any) error {
	cred, err := a.credentials()
	if err != nil {
		return err
	}
	err = a.sendOSS(ctx, q, resp, cred)
	if isCode(err, "SecurityTokenExpired") {
		if fresh, credErr := a.credentials(); credErr == nil && fresh != cred && fresh.SecurityToken != "" {
			return a.sendOSS(ctx, q, resp, fresh)
		}
	}
	return err
}

// sendOSS is one attempt of oss.
func (a *api) sendOSS(ctx context.Context, q ossRequest, resp any, cred Credentials) error {
	to, region := a.endpoints[oss], a.region
	if q.region != "" && q.region != a.region {
		region = q.region
		if !a.ownOSS {
			to, _ = endpointFor("", region, oss) // the vendor's own is always well-formed
		}
	}
	f := &failure{product: oss, action: actions[q.action].name, method: q.method, to: to, at: a.now()}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	rt := &roundTripper{ctx: ctx, base: a.transport}
	name := q.bucket
	if name == "" {
		name = anyBucket
	}
	client, err := bucket.New(bucket.Config{Endpoint: to.String(), Bucket: name, Region: region, OSS: true,
		Credentials: bucket.Credentials{AccessKeyID: cred.AccessKeyID, SecretAccessKey: cred.AccessKeySecret, SessionToken: cred.SecurityToken},
		HTTP:        &http.Client{Transport: rt}, Now: a.now})
	if err != nil {
		f.kind, f.err = unsent, err
		return f
	}
	var body []byte
	if q.body != nil {
		if body, err = xml.Marshal(q.body); err != nil {
			f.kind, f.err = unsent, err
			return f
		}
	}
	text, err := client.Call(ctx, bucket.Request{Method: q.method, Service: q.bucket == "", Params: q.params, Header: q.header, Body: body})
	f.status, f.retryAfter = rt.status, rt.retryAfter
	var refusal *bucket.Error
	switch {
	case rt.page != "":
		f.kind, f.err = malformed, errors.New(rt.page)
	case errors.As(err, &refusal) && refusal.Code != "":
		f.kind, f.code, f.message, f.request = refused, clean(refusal.Code, 100), clean(refusal.Message, 300), clean(refusal.RequestID, 64)
	case errors.As(err, &refusal):
		f.kind, f.err = malformed, errors.New("the answer has no error code")
	case err != nil && rt.status == 0 && !rt.sent.Load():
		f.kind, f.err = unsent, bare(err)
	case err != nil:
		f.kind, f.err = lost, bare(err)
	case resp != nil && xml.Unmarshal(text, resp) != nil:
		f.kind, f.err = malformed, errors.New("the answer is not in the API's format")
		if rt.truncated.Load() {
			f.kind = lost
		}
	default:
		return nil
	}
	return f
}

// bucketInfo is GetBucketInfo's answer.
type bucketInfo struct {
	XMLName xml.Name `xml:"BucketInfo"`
	Bucket  struct {
		Name              string
		Location          string    // "oss-cn-hongkong"
		CreationDate      time.Time // RFC 3339
		ACL               string    `xml:"AccessControlList>Grant"`
		Versioning        string    // "Enabled", "Suspended", or "" while it was never on
		SSEAlgorithm      string    `xml:"ServerSideEncryptionRule>SSEAlgorithm"` // "None" without
		BlockPublicAccess bool
	}
}

// bucketInfo asks about one bucket; false when there is none of that name.
func (r *reader) bucketInfo(ctx context.Context, name, region string) (bucketInfo, bool, error) {
	var info bucketInfo
	err := r.oss(ctx, ossRequest{action: ossGetBucketInfo, method: http.MethodGet, bucket: name, region: region, params: map[string]string{"bucketInfo": ""}}, &info)
	if gone(err) {
		return info, false, nil
	}
	return info, err == nil, err
}

// oss is api.oss, counted. What is asked of a bucket is asked one after the other,
// so that an answer that did not come whole is asked for again at once: the tries
// of the whole observation would be used up by a few of them.
func (r *reader) oss(ctx context.Context, q ossRequest, resp any) error {
	r.calls.Add(1)
	err := r.via.oss(ctx, q, resp)
	var f *failure
	if errors.As(err, &f) && (f.kind == lost || f.kind == malformed) && ctx.Err() == nil {
		r.calls.Add(1)
		err = r.via.oss(ctx, q, resp)
	}
	return err
}

type bucketTags struct {
	XMLName xml.Name    `xml:"Tagging"`
	Tags    []bucketTag `xml:"TagSet>Tag"`
}

type bucketTag struct{ Key, Value string }

// tagsOf reads a bucket's tags.
func (r *reader) tagsOf(ctx context.Context, name, region string) (bucketTags, error) {
	var t bucketTags
	err := r.oss(ctx, ossRequest{action: ossGetBucketTagging, method: http.MethodGet, bucket: name, region: region, params: map[string]string{"tagging": ""}}, &t)
	if isCode(err, "NoSuchTagSet", "NoSuchTagSetError") {
		return bucketTags{}, nil
	}
	return t, err
}

func (t bucketTags) value(key string) string {
	for _, tag := range t.Tags {
		if tag.Key == key {
			return tag.Value
		}
	}
	return ""
}

// lifecycle is a bucket's lifecycle rules. Those of others are carried along as they are.
type lifecycle struct {
	XMLName xml.Name        `xml:"LifecycleConfiguration"`
	Rules   []lifecycleRule `xml:"Rule"`
}

type lifecycleRule struct {
	Inside string `xml:",innerxml"`
}

// lifecycleTerms are what of a rule we write and read.
type lifecycleTerms struct {
	ID           string
	Prefix       string
	Status       string
	Markers      bool `xml:"Expiration>ExpiredObjectDeleteMarker"`
	VersionsDays int  `xml:"NoncurrentVersionExpiration>NoncurrentDays"`
	UploadsDays  int  `xml:"AbortMultipartUpload>Days"`
}

// terms reads a rule; what cannot be read has no terms.
func (l lifecycleRule) terms() (t lifecycleTerms) {
	if xml.Unmarshal([]byte("<Rule>"+l.Inside+"</Rule>"), &t) != nil {
		return lifecycleTerms{}
	}
	return t
}

// lifecycleID names our rule among those of others.
const lifecycleID = "mailform"

// ourRule writes our rule: for the whole bucket, what is no longer current goes after
// some days, and so do uploads that were never completed.
func ourRule(versionsDays, uploadsDays int) lifecycleRule {
	return lifecycleRule{Inside: "<ID>" + lifecycleID + "</ID><Prefix></Prefix><Status>Enabled</Status>" +
		"<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>" +
		"<AbortMultipartUpload><Days>" + strconv.Itoa(uploadsDays) + "</Days></AbortMultipartUpload>" +
		"<NoncurrentVersionExpiration><NoncurrentDays>" + strconv.Itoa(versionsDays) + "</NoncurrentDays></NoncurrentVersionExpiration>"}
}

// lifecycleOf reads a bucket's lifecycle rules.
func (r *reader) lifecycleOf(ctx context.Context, name, region string) (lifecycle, error) {
	var l lifecycle
	err := r.oss(ctx, ossRequest{action: ossGetBucketLifecycle, method: http.MethodGet, bucket: name, region: region, params: map[string]string{"lifecycle": ""}}, &l)
	if isCode(err, "NoSuchLifecycle") {
		return lifecycle{}, nil
	}
	return l, err
}

// bucketNames lists the names of the account's buckets that carry a stack's mark.
func (r *reader) bucketNames(ctx context.Context, stack string) (names []string, err error) {
	return r.listBuckets(ctx, map[string]string{"tag-key": tagStack, "tag-value": stack, "max-keys": "1000"})
}

func (r *reader) listBuckets(ctx context.Context, params map[string]string) (names []string, err error) {
	err = followed(func(marker string) (string, error) {
		var page struct {
			XMLName     xml.Name `xml:"ListAllMyBucketsResult"`
			IsTruncated bool
			NextMarker  string
			Buckets     *struct {
				Bucket []struct{ Name string }
			}
		}
		if marker != "" {
			params["marker"] = marker
		}
		if err := r.oss(ctx, ossRequest{action: ossListBuckets, method: http.MethodGet, params: params}, &page); err != nil {
			return "", err
		}
		if page.Buckets == nil || page.IsTruncated && page.NextMarker == "" {
			return "", &failure{product: oss, action: actions[ossListBuckets].name, method: http.MethodGet, to: r.via.endpoints[oss], kind: malformed,
				status: http.StatusOK, err: errors.New("the answer carries no list")}
		}
		for _, b := range page.Buckets.Bucket {
			names = append(names, b.Name)
		}
		return page.NextMarker, nil
	})
	return names, err
}

// emptyBucket reports whether nothing is in a bucket.
func (r *reader) emptyBucket(ctx context.Context, name, region string) (bool, error) {
	var page struct {
		XMLName  xml.Name   `xml:"ListBucketResult"`
		Contents []struct{} `xml:"Contents"`
	}
	err := r.oss(ctx, ossRequest{action: ossListObjects, method: http.MethodGet, bucket: name, region: region,
		params: map[string]string{"list-type": "2", "max-keys": "1"}}, &page)
	return err == nil && len(page.Contents) == 0, err
}

// foreignName explains that a name is there and may not be looked at.
func (r *reader) foreignName(ctx context.Context, name string, denied error) error {
	names, err := r.listBuckets(ctx, map[string]string{"prefix": name, "max-keys": "1000"})
	if err != nil || in(name, names...) {
		return denied // ours, and not permitted
	}
	return &plan.Error{Class: plan.ErrBlocked, Code: codeConflict, Got: "another of the vendor's customers has a bucket " + name,
		Fix: "names of buckets are unique among all of the vendor's customers: choose another in the spec's backup block"}
}

// The bodies of what is set.
type (
	createBucketBody struct {
		XMLName      xml.Name `xml:"CreateBucketConfiguration"`
		StorageClass string
	}
	publicAccessBlockBody struct {
		XMLName           xml.Name `xml:"PublicAccessBlockConfiguration"`
		BlockPublicAccess bool
	}
	versioningBody struct {
		XMLName xml.Name `xml:"VersioningConfiguration"`
		Status  string
	}
	encryptionBody struct {
		XMLName   xml.Name `xml:"ServerSideEncryptionRule"`
		Algorithm string   `xml:"ApplyServerSideEncryptionByDefault>SSEAlgorithm"`
	}
)
