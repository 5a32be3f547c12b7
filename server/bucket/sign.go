package bucket

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"time"
)

// scheme is one of the two signatures, which are cousins: AWS Signature Version
// 4 and Alibaba's OSS V4.
type scheme struct {
	algorithm   string // in the Authorization header
	keyPrefix   string // before the secret
	terminator  string // end of the scope
	service     string
	header      string // prefix of the vendor's own headers
	absent      [2]string
	token       string // header of temporary credentials
	hashPayload bool   // false: the body is protected by TLS alone
}

// https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
var awsV4 = scheme{
	algorithm: "AWS4-HMAC-SHA256", keyPrefix: "AWS4", terminator: "aws4_request", service: "s3", header: "x-amz-",
	absent: [2]string{"If-None-Match", "*"}, token: "X-Amz-Security-Token", hashPayload: true,
}

// https://www.alibabacloud.com/help/en/oss/developer-reference/recommend-to-use-signature-version-4
var ossV4 = scheme{
	algorithm: "OSS4-HMAC-SHA256", keyPrefix: "aliyun_v4", terminator: "aliyun_v4_request", service: "oss", header: "x-oss-",
	absent: [2]string{"X-Oss-Forbid-Overwrite", "true"}, token: "X-Oss-Security-Token",
}

const unsignedPayload = "UNSIGNED-PAYLOAD"

// emptySHA256 is the digest of nothing.
const emptySHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// sign adds date, payload digest, token and signature to a request whose other
// headers are all set. resource is the decoded path that is signed.
func (s scheme) sign(r *http.Request, c Credentials, region, resource, payload string, now time.Time) {
	stamp := now.UTC().Format("20060102T150405Z")
	if !s.hashPayload {
		payload = unsignedPayload
	}
	r.Header.Set(s.header+"date", stamp)
	r.Header.Set(s.header+"content-sha256", payload)
	if c.SessionToken != "" {
		r.Header.Set(s.token, c.SessionToken)
	}
	scope := strings.Join([]string{stamp[:8], region, s.service, s.terminator}, "/")
	canonical, signed := s.canonical(r, resource, payload)
	digest := sha256.Sum256([]byte(canonical))
	text := strings.Join([]string{s.algorithm, stamp, scope, hex.EncodeToString(digest[:])}, "\n")
	key := []byte(s.keyPrefix + c.SecretAccessKey)
	for part := range strings.SplitSeq(scope, "/") {
		key = mac(key, part)
	}
	auth := s.algorithm + " Credential=" + c.AccessKeyID + "/" + scope
	if signed != "" {
		auth += ",SignedHeaders=" + signed
	}
	r.Header.Set("Authorization", auth+",Signature="+hex.EncodeToString(mac(key, text)))
}

// canonical is the canonical request, and the names of the headers in it where
// the scheme lists them. AWS: every header and the host is signed. OSS: its own
// headers and Content-Type are, without being named.
func (s scheme) canonical(r *http.Request, resource, payload string) (text, signed string) {
	headers := map[string]string{}
	for name, values := range r.Header {
		name = strings.ToLower(name)
		if s.hashPayload || strings.HasPrefix(name, s.header) || name == "content-type" || name == "content-md5" {
			for i, v := range values {
				values[i] = strings.TrimSpace(v)
			}
			headers[name] = strings.Join(values, ",")
		}
	}
	if s.hashPayload {
		headers["host"] = r.Host
	}
	names := make([]string, 0, len(headers))
	for n := range headers {
		names = append(names, n)
	}
	slices.Sort(names)
	var b strings.Builder
	for _, part := range []string{r.Method, escape(resource, true), r.URL.RawQuery} {
		b.WriteString(part + "\n")
	}
	for _, n := range names {
		b.WriteString(n + ":" + headers[n] + "\n")
	}
	if s.hashPayload {
		signed = strings.Join(names, ";")
	}
	b.WriteString("\n" + signed + "\n" + payload)
	return b.String(), signed
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// query is a query string in canonical form: sorted, nothing but unreserved
// characters unescaped. OSS leaves out the equals sign before an empty value.
func (s scheme) query(params map[string]string) string {
	var parts []string
	for k, v := range params {
		p := escape(k, false)
		if v != "" || s.hashPayload {
			p += "=" + escape(v, false)
		}
		parts = append(parts, p)
	}
	slices.Sort(parts)
	return strings.Join(parts, "&")
}

// escape percent-encodes everything but the unreserved characters of RFC 3986,
// and slashes when they are to be kept.
func escape(s string, keepSlash bool) string {
	const hexDigits = "0123456789ABCDEF"
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '.', c == '_', c == '~', c == '/' && keepSlash:
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
		}
	}
	return b.String()
}
