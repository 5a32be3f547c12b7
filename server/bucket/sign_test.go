package bucket

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"testing"
	"time"
)

// The examples Amazon publishes for S3 requests signed in a header:
// https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
func TestAmazonsExamples(t *testing.T) {
	keys := Credentials{AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}
	now := time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC)
	for _, e := range []struct {
		name, method, path string
		params             map[string]string
		header             map[string]string
		body               string
		signed, want       string
	}{
		{"get object", "GET", "/test.txt", nil, map[string]string{"Range": "bytes=0-9"}, "",
			"host;range;x-amz-content-sha256;x-amz-date", "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
		{"put object", "PUT", "/test$file.text", nil, map[string]string{"Date": "Fri, 24 May 2013 00:00:00 GMT", "X-Amz-Storage-Class": "REDUCED_REDUNDANCY"}, "Welcome to Amazon S3.",
			"date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class", "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"},
		{"get bucket lifecycle", "GET", "/", map[string]string{"lifecycle": ""}, nil, "",
			"host;x-amz-content-sha256;x-amz-date", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"},
		{"list objects", "GET", "/", map[string]string{"max-keys": "2", "prefix": "J"}, nil, "",
			"host;x-amz-content-sha256;x-amz-date", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
	} {
		t.Run(e.name, func(t *testing.T) {
			r, err := http.NewRequest(e.method, "https://examplebucket.s3.amazonaws.com/", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.URL.RawQuery = awsV4.query(e.params)
			for k, v := range e.header {
				r.Header.Set(k, v)
			}
			sum := sha256.Sum256([]byte(e.body))
			awsV4.sign(r, keys, "us-east-1", e.path, hex.EncodeToString(sum[:]), now)
			want := "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=" + e.signed + ",Signature=" + e.want
			if got := r.Header.Get("Authorization"); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
	if sum := sha256.Sum256(nil); hex.EncodeToString(sum[:]) != emptySHA256 {
		t.Error("emptySHA256 is not the digest of nothing")
	}
}

// The examples of Alibaba's own SDK for OSS V4 signatures (oss/signer, Apache-2.0).
func TestAlibabasExamples(t *testing.T) {
	for _, e := range []struct {
		token, want string
		unix        int64
	}{
		{"", "OSS4-HMAC-SHA256 Credential=ak/20231216/cn-hangzhou/oss/aliyun_v4_request,Signature=e21d18daa82167720f9b1047ae7e7f1ce7cb77a31e8203a7d5f4624fa0284afe", 1702743657},
		{"token", "OSS4-HMAC-SHA256 Credential=ak/20231217/cn-hangzhou/oss/aliyun_v4_request,Signature=b94a3f999cf85bcdc00d332fbd3734ba03e48382c36fa4d5af5df817395bd9ea", 1702784856},
	} {
		r, err := http.NewRequest("PUT", "http://bucket.oss-cn-hangzhou.aliyuncs.com", nil)
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range map[string]string{"x-oss-head1": "value", "abc": "value", "ZAbc": "value", "XYZ": "value", "content-type": "text/plain"} {
			r.Header.Set(k, v)
		}
		r.URL.RawQuery = ossV4.query(map[string]string{"param1": "value1", "+param1": "value3", "|param1": "value4", "+param2": "", "|param2": "", "param2": ""})
		ossV4.sign(r, Credentials{"ak", "sk", e.token}, "cn-hangzhou", "/bucket/1234+-/123/1.txt", "", time.Unix(e.unix, 0))
		if got := r.Header.Get("Authorization"); got != e.want {
			t.Errorf("got  %s\nwant %s", got, e.want)
		}
	}
}

func TestRegions(t *testing.T) {
	for host, want := range map[string]string{
		"oss-cn-hongkong.aliyuncs.com":          "cn-hongkong",
		"oss-cn-hongkong-internal.aliyuncs.com": "cn-hongkong",
		"s3.eu-central-1.amazonaws.com":         "eu-central-1",
		"127.0.0.1":                             "us-east-1",
		"minio.acme.example":                    "us-east-1",
	} {
		if got := regionOf(host); got != want {
			t.Errorf("%s: %q, want %q", host, got, want)
		}
	}
}

func FuzzReadListing(f *testing.F) {
	f.Add([]byte(`<ListBucketResult><IsTruncated>true</IsTruncated><Contents><Key>a%2Fb</Key><Size>3</Size></Contents></ListBucketResult>`))
	f.Add([]byte(`<Error><Code>SlowDown</Code></Error>`))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := readListing(bytes.NewReader(b))
		if err == nil {
			l.objects()
		}
	})
}

func FuzzReadError(f *testing.F) {
	f.Add([]byte("<Error><Code>Slow\x1bDown</Code><Message>x</Message></Error>"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e := readError(&http.Response{StatusCode: 503, Header: http.Header{}, Body: http.NoBody}, "GET", "/k")
		if !strings.Contains(e.Error(), "503") {
			t.Fatal(e)
		}
		e = readError(&http.Response{StatusCode: 503, Header: http.Header{}, Body: readCloser{bytes.NewReader(b)}}, "GET", "/k")
		if strings.ContainsAny(e.Error(), "\x1b\n\r\x00") || len(e.Error()) > 4096 {
			t.Fatalf("%q", e.Error())
		}
	})
}

type readCloser struct{ *bytes.Reader }

func (readCloser) Close() error { return nil }

// OSS is spoken to in its own way under either of its names.
func TestOSSNames(t *testing.T) {
	for _, endpoint := range []string{"https://oss-cn-hongkong.aliyuncs.com", "https://s3.oss-cn-hongkong.aliyuncs.com"} {
		c, err := New(Config{Endpoint: endpoint, Bucket: "acme-mail"})
		if err != nil {
			t.Fatal(err)
		}
		if c.base.Host != "acme-mail.oss-cn-hongkong.aliyuncs.com" || c.Region != "cn-hongkong" || c.scheme != ossV4 {
			t.Errorf("%s: host %s, region %s", endpoint, c.base.Host, c.Region)
		}
	}
}
