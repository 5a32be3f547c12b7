package bucketsim

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"time"
)

// signature is the Authorization header, taken apart.
type signature struct {
	oss                     bool
	id, date, region, scope string
	signed                  []string
	value                   string
}

type refusal struct{ code, text string }

// Check verifies the signature of a request that is about the bucket or, where
// Bucket is "", about the service. It returns the code and text of the refusal, or "".
func (s *Sim) Check(r *http.Request, body []byte) (code, text string) {
	_, refused := s.verify(r, body)
	if refused != nil {
		return refused.code, refused.text
	}
	return "", ""
}

// KeyID is the id of the key that a request says it is signed with; "" for none.
func KeyID(r *http.Request) string {
	sign, ok := parse(r.Header.Get("Authorization"))
	if !ok {
		return ""
	}
	return sign.id
}

// verify checks a request's signature from what arrived, nothing else: the path
// and query as they were sent, and the headers.
func (s *Sim) verify(r *http.Request, body []byte) (*signature, *refusal) {
	sign, ok := parse(r.Header.Get("Authorization"))
	if !ok {
		return nil, &refusal{"AccessDenied", "Access Denied"}
	}
	secret, known := s.Keys[sign.id]
	if !known {
		return nil, &refusal{"InvalidAccessKeyId", "The access key id you provided does not exist in our records."}
	}
	vendor, first := "X-Amz-", "AWS4"
	if sign.oss {
		vendor, first = "X-Oss-", "aliyun_v4"
	}
	if token := r.Header.Get(vendor + "Security-Token"); s.Token != "" && token != s.Token {
		return nil, &refusal{"InvalidSecurityToken", "The security token you provided is invalid."}
	}
	stamp := r.Header.Get(vendor + "Date")
	at, err := time.Parse("20060102T150405Z", stamp)
	if err != nil || !strings.HasPrefix(stamp, sign.date) {
		return nil, &refusal{"AccessDenied", "no valid date"}
	}
	if skew := s.Now().Sub(at); skew > maxSkew || skew < -maxSkew {
		return nil, &refusal{"RequestTimeTooSkewed", "The difference between the request time and the current time is too large."}
	}
	payload := r.Header.Get(vendor + "Content-Sha256")
	if payload != "UNSIGNED-PAYLOAD" {
		if sum := sha256.Sum256(body); sign.oss || payload != hex.EncodeToString(sum[:]) {
			return nil, &refusal{"XAmzContentSHA256Mismatch", "The provided content digest does not match what was computed."}
		}
	}
	rawPath, rawQuery, _ := strings.Cut(r.RequestURI, "?")
	if sign.oss && s.Bucket != "" && strings.HasPrefix(r.Host, s.Bucket+".") {
		rawPath = "/" + s.Bucket + rawPath
	}
	names := sign.signed
	if sign.oss {
		for n := range r.Header {
			if n = strings.ToLower(n); strings.HasPrefix(n, "x-oss-") || n == "content-type" || n == "content-md5" {
				names = append(names, n)
			}
		}
		slices.Sort(names)
	} else {
		// What is not signed could have been added on the way.
		for _, must := range []string{"host", "x-amz-date", "x-amz-content-sha256"} {
			if !slices.Contains(names, must) {
				return nil, &refusal{"AccessDenied", must + " is not signed"}
			}
		}
		for n := range r.Header {
			if n = strings.ToLower(n); strings.HasPrefix(n, "x-amz-") && !slices.Contains(names, n) {
				return nil, &refusal{"AccessDenied", n + " is not signed"}
			}
		}
	}
	lines := []string{r.Method, rawPath, strings.Join(sorted(rawQuery), "&")}
	for _, n := range names {
		v := strings.Join(r.Header.Values(n), ",")
		if n == "host" {
			v = r.Host
		}
		lines = append(lines, n+":"+strings.TrimSpace(v))
	}
	lines = append(lines, "", strings.Join(sign.signed, ";"), payload)
	digest := sha256.Sum256([]byte(strings.Join(lines, "\n")))
	algorithm := first + "-HMAC-SHA256"
	if sign.oss {
		algorithm = "OSS4-HMAC-SHA256"
	}
	key := []byte(first + secret)
	for _, part := range append(strings.Split(sign.scope, "/"), strings.Join([]string{algorithm, stamp, sign.scope, hex.EncodeToString(digest[:])}, "\n")) {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(part))
		key = h.Sum(nil)
	}
	if hex.EncodeToString(key) != sign.value {
		return nil, &refusal{"SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided."}
	}
	return sign, nil
}

func sorted(query string) []string {
	if query == "" {
		return nil
	}
	parts := strings.Split(query, "&")
	slices.Sort(parts)
	return parts
}

// parse reads "AWS4-HMAC-SHA256 Credential=…,SignedHeaders=…,Signature=…" or its
// OSS4 cousin.
func parse(header string) (*signature, bool) {
	algorithm, rest, _ := strings.Cut(header, " ")
	s := &signature{oss: algorithm == "OSS4-HMAC-SHA256"}
	if !s.oss && algorithm != "AWS4-HMAC-SHA256" {
		return nil, false
	}
	for part := range strings.SplitSeq(rest, ",") {
		k, v, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch k {
		case "Credential":
			var ok bool
			if s.id, s.scope, ok = strings.Cut(v, "/"); !ok {
				return nil, false
			}
		case "SignedHeaders":
			s.signed = strings.Split(v, ";")
		case "Signature":
			s.value = v
		}
	}
	scope := strings.Split(s.scope, "/")
	want := "s3/aws4_request"
	if s.oss {
		want = "oss/aliyun_v4_request"
	}
	if len(scope) != 4 || scope[2]+"/"+scope[3] != want || s.value == "" || !s.oss && len(s.signed) == 0 {
		return nil, false
	}
	s.date, s.region = scope[0], scope[1]
	return s, true
}
