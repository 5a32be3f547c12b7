package bucket

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
)

// Request is a request about a bucket or the service, not about one object: what
// the vendors call operations on buckets.
type Request struct {
	Method  string
	Service bool              // of the service ("list the buckets"), not of the bucket
	Params  map[string]string // "versioning": ""
	Header  map[string]string // the service's own begin with x-oss- or x-amz-
	Body    []byte            // XML; nil for none
}

// maxAnswer bounds the answer to a Request: a list of 1,000 buckets is some 600 KiB.
const maxAnswer = 4 << 20

// Call sends a request and returns the answer's body. Errors are those of the
// other methods.
func (c *Client) Call(ctx context.Context, q Request) ([]byte, error) {
	header := http.Header{}
	for name, value := range q.Header {
		header.Set(name, value)
	}
	one := call{method: q.Method, service: q.Service, params: q.Params, header: header}
	if q.Body != nil {
		header.Set("Content-Type", "application/xml")
		sum := sha256.Sum256(q.Body)
		one.body, one.size, one.digest = io.NopCloser(bytes.NewReader(q.Body)), int64(len(q.Body)), hex.EncodeToString(sum[:])
	}
	resp, err := c.do(ctx, one)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(text) > maxAnswer {
		err = errors.New("the answer is too long")
	}
	return text, err
}
