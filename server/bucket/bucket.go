// Package bucket is a small client for object storage: Amazon S3, what speaks
// its protocol, and Alibaba Cloud OSS in its own. It does what locks and backups
// need: put (also only where nothing is yet), get, list and delete.
//
// On Alibaba's endpoints (*.aliyuncs.com) it speaks OSS's own API with OSS V4
// signatures, because OSS refuses S3's conditional headers with 501 and documents
// x-oss-forbid-overwrite for its own API only. Everywhere else it speaks S3 with
// AWS Signature Version 4 and If-None-Match. Call sends any other request of the
// service's API. Requests are signed with lasting keys or those of a role (Role).
//
// It never repeats a request: whether one may be repeated is the caller's to
// know. It imports nothing of mailform, so that the providers may use it, too.
package bucket

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Credentials sign requests.
type Credentials struct {
	AccessKeyID     string
	SecretAccessKey string
	SessionToken    string // of temporary credentials; "" for lasting ones
}

// EnvCredentials reads credentials where the vendors' tools do: AWS_ACCESS_KEY_ID,
// AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or else ALIBABA_CLOUD_ACCESS_KEY_ID,
// ALIBABA_CLOUD_ACCESS_KEY_SECRET and ALIBABA_CLOUD_SECURITY_TOKEN.
func EnvCredentials(getenv func(string) string) (Credentials, error) {
	for _, names := range [][3]string{
		{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"},
		{"ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET", "ALIBABA_CLOUD_SECURITY_TOKEN"},
	} {
		c := Credentials{getenv(names[0]), getenv(names[1]), getenv(names[2])}
		switch {
		case c.AccessKeyID == "":
			continue
		case c.SecretAccessKey == "":
			return Credentials{}, fmt.Errorf("%s is set and %s is not", names[0], names[1])
		}
		return c, nil
	}
	return Credentials{}, errors.New("neither AWS_ACCESS_KEY_ID nor ALIBABA_CLOUD_ACCESS_KEY_ID is set")
}

// Config says which bucket and how.
type Config struct {
	Endpoint    string // URL of the service: "https://oss-cn-hongkong.aliyuncs.com", "http://127.0.0.1:9000"
	Bucket      string
	Region      string // "" takes it from the endpoint's name, or "us-east-1"
	OSS         bool   // OSS also where the endpoint's name does not say so; the bucket's name then stands in the path
	Credentials Credentials
	// Sign gives the credentials of each request in place of Credentials, when it is set.
	Sign func(context.Context) (Credentials, error)
	HTTP *http.Client // redirects are never followed; nil is a plain one
	Now  func() time.Time
}

// Client is safe for concurrent use.
type Client struct {
	Config
	scheme scheme
	base   url.URL // of the bucket
	inPath bool    // the bucket's name stands in the path, not in the host
}

// New checks the configuration.
func New(c Config) (*Client, error) {
	u, err := url.Parse(c.Endpoint)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || strings.Trim(u.Path, "/") != "" {
		return nil, fmt.Errorf("the endpoint %q is not a URL like https://s3.eu-central-1.amazonaws.com", c.Endpoint)
	}
	if !validBucket(c.Bucket) {
		return nil, fmt.Errorf("%q is not the name of a bucket", c.Bucket)
	}
	host := strings.ToLower(u.Hostname())
	client := &Client{Config: c, scheme: awsV4, base: url.URL{Scheme: u.Scheme, Host: strings.ToLower(u.Host)}, inPath: true}
	switch {
	case strings.HasSuffix(host, ".aliyuncs.com"):
		// OSS answers to the S3 protocol under a name of its own, without conditions.
		host = strings.TrimPrefix(host, "s3.")
		client.base.Host = strings.TrimPrefix(client.base.Host, "s3.")
		client.scheme, client.inPath = ossV4, false
	case c.OSS:
		client.scheme = ossV4
	case strings.HasSuffix(host, ".amazonaws.com"), strings.HasSuffix(host, ".amazonaws.com.cn"):
		// A dot in the bucket's name would not match the certificate.
		client.inPath = strings.Contains(c.Bucket, ".")
	}
	if !client.inPath {
		client.base.Host = c.Bucket + "." + client.base.Host
	}
	if client.Region == "" {
		client.Region = regionOf(host)
	}
	if client.HTTP == nil {
		client.HTTP = &http.Client{}
	}
	plain := *client.HTTP
	plain.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	client.HTTP = &plain
	return client, nil
}

// validBucket keeps what would change the request's host or path out of it.
func validBucket(name string) bool {
	if len(name) < 3 || len(name) > 63 {
		return false
	}
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-.") == "" && name[0] != '.' && name[0] != '-'
}

// regionOf reads the region in a vendor's endpoint name.
func regionOf(host string) string {
	first, rest, _ := strings.Cut(host, ".")
	switch {
	case strings.HasSuffix(host, ".aliyuncs.com"):
		for _, suffix := range []string{"-internal", "-vpc"} {
			first = strings.TrimSuffix(first, suffix)
		}
		return strings.TrimPrefix(first, "oss-")
	case first == "s3" && strings.Contains(rest, ".amazonaws.com"):
		region, _, _ := strings.Cut(rest, ".")
		return region
	}
	return "us-east-1"
}

// Object is what is known of a stored object without its content.
type Object struct {
	Key      string
	Size     int64 // -1 when unknown
	ETag     string
	Modified time.Time // by the service's clock, in seconds
	Served   time.Time // when the service answered, by its clock; zero in a list
}

// PutOptions vary a Put.
type PutOptions struct {
	Create      bool // only where nothing is yet: ErrExists otherwise
	ContentType string
}

// Put stores an object. The body is read twice where its digest is signed.
func (c *Client) Put(ctx context.Context, key string, body io.ReadSeeker, o PutOptions) error {
	size, err := body.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	digest := unsignedPayload
	if c.scheme.hashPayload {
		h := sha256.New()
		if _, err := body.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.Copy(h, body); err != nil {
			return err
		}
		digest = hex.EncodeToString(h.Sum(nil))
	}
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return err
	}
	header := http.Header{}
	if o.ContentType != "" {
		header.Set("Content-Type", o.ContentType)
	}
	if o.Create {
		header.Set(c.scheme.absent[0], c.scheme.absent[1])
	}
	resp, err := c.do(ctx, call{method: http.MethodPut, key: key, header: header, body: io.NopCloser(body), size: size, digest: digest})
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// Get returns an object's content, which the caller closes; ErrNotFound when
// there is none.
func (c *Client) Get(ctx context.Context, key string) (io.ReadCloser, Object, error) {
	resp, err := c.do(ctx, call{method: http.MethodGet, key: key})
	if err != nil {
		return nil, Object{}, err
	}
	o := Object{Key: key, Size: resp.ContentLength, ETag: resp.Header.Get("ETag")}
	o.Modified, _ = http.ParseTime(resp.Header.Get("Last-Modified"))
	o.Served, _ = http.ParseTime(resp.Header.Get("Date"))
	return resp.Body, o, nil
}

// Delete removes an object. One that does not exist is no error.
func (c *Client) Delete(ctx context.Context, key string) error {
	resp, err := c.do(ctx, call{method: http.MethodDelete, key: key})
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// call is one request.
type call struct {
	method, key string
	service     bool // about the service, not about the bucket
	params      map[string]string
	header      http.Header
	body        io.ReadCloser
	size        int64
	digest      string
}

// do sends a request. A status other than 2xx is an *Error; an error of another
// type says that no answer came, and nothing about what happened.
func (c *Client) do(ctx context.Context, q call) (*http.Response, error) {
	u := c.base
	u.Path = "/" + q.key
	resource := u.Path
	switch {
	case q.service:
		if !c.inPath {
			u.Host = strings.TrimPrefix(u.Host, c.Bucket+".")
		}
	case c.inPath:
		u.Path = "/" + c.Bucket + u.Path
		resource = u.Path
	case !c.scheme.hashPayload: // OSS signs the bucket wherever it stands
		resource = "/" + c.Bucket + u.Path
	}
	u.RawPath = escape(u.Path, true)
	u.RawQuery = c.scheme.query(q.params)
	r, err := http.NewRequestWithContext(ctx, q.method, u.String(), nil)
	if err != nil {
		return nil, err
	}
	if q.header != nil {
		r.Header = q.header
	}
	if q.body != nil {
		r.Body, r.ContentLength = q.body, q.size
		if q.size == 0 {
			r.Body = http.NoBody
		}
	}
	digest := q.digest
	if digest == "" {
		digest = emptySHA256
	}
	r.Host = canonicalHost(u)
	credentials := c.Credentials
	if c.Sign != nil {
		if credentials, err = c.Sign(ctx); err != nil {
			return nil, err
		}
	}
	c.scheme.sign(r, credentials, c.Region, resource, digest, c.Now())
	resp, err := c.HTTP.Do(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, readError(resp, q.method, u.Path)
}

// canonicalHost is the Host header: without the scheme's own port, which proxies drop.
func canonicalHost(u url.URL) string {
	if p := u.Port(); p == "443" && u.Scheme == "https" || p == "80" && u.Scheme == "http" {
		host := u.Hostname()
		if ip := net.ParseIP(host); ip != nil && ip.To4() == nil {
			host = "[" + host + "]"
		}
		return host
	}
	return u.Host
}
