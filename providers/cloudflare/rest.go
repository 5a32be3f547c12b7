package cloudflare

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
)

// rest makes one request of our own, for the parts of the API whose packages in the
// library would cost more than they give. path is relative to the base URL; body
// and into may be nil.
func (c *client) rest(ctx context.Context, step, method, path string, body, into any) error {
	return call(ctx, step, method != http.MethodGet, func(ctx context.Context) error {
		req, err := c.request(ctx, method, path, body)
		if err != nil {
			return err
		}
		res, err := c.checkAnswer(req, c.http.Do)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if into == nil {
			return nil
		}
		var envelope struct{ Result json.RawMessage }
		if err := json.NewDecoder(res.Body).Decode(&envelope); err != nil {
			return err
		}
		return json.Unmarshal(envelope.Result, into)
	})
}

func (c *client) request(ctx context.Context, method, path string, body any) (*http.Request, error) {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return nil, fmt.Errorf("write the request: %w", err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	return req, nil
}
