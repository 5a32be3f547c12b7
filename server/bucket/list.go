package bucket

import (
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"time"
)

// maxPage bounds one page of a list, in bytes: 1,000 keys of 1,024 bytes with
// room to spare.
const maxPage = 8 << 20

// listing is the answer to ListObjectsV2, which S3 and OSS share.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
type listing struct {
	XMLName   xml.Name `xml:"ListBucketResult"`
	Truncated bool     `xml:"IsTruncated"`
	Next      string   `xml:"NextContinuationToken"`
	Encoding  string   `xml:"EncodingType"` // "url" when keys are escaped: not every service does what it is asked
	Contents  []struct {
		Key          string `xml:"Key"`
		Size         int64  `xml:"Size"`
		ETag         string `xml:"ETag"`
		LastModified string `xml:"LastModified"`
	} `xml:"Contents"`
}

// List yields the objects whose keys begin with prefix, in the order of their
// keys, a request for every thousand. It ends with the first error.
func (c *Client) List(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		token := ""
		for {
			page, err := c.page(ctx, prefix, token)
			if err != nil {
				yield(Object{}, err)
				return
			}
			objects, err := page.objects()
			for _, o := range objects {
				if !yield(o, nil) {
					return
				}
			}
			switch {
			case err != nil:
				yield(Object{}, err)
				return
			case !page.Truncated:
				return
			case page.Next == "" || page.Next == token:
				yield(Object{}, fmt.Errorf("list %q: the service says that there is more and not where", prefix))
				return
			}
			token = page.Next
		}
	}
}

func (c *Client) page(ctx context.Context, prefix, token string) (*listing, error) {
	// XML cannot carry every key unescaped.
	params := map[string]string{"list-type": "2", "prefix": prefix, "encoding-type": "url"}
	if token != "" {
		params["continuation-token"] = token
	}
	resp, err := c.do(ctx, call{method: http.MethodGet, params: params})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return readListing(resp.Body)
}

func readListing(r io.Reader) (*listing, error) {
	l := &listing{}
	if err := xml.NewDecoder(io.LimitReader(r, maxPage)).Decode(l); err != nil {
		return nil, fmt.Errorf("read a list of objects: %w", err)
	}
	return l, nil
}

func (l *listing) objects() ([]Object, error) {
	var out []Object
	for _, e := range l.Contents {
		key := e.Key
		if l.Encoding == "url" {
			var err error
			if key, err = url.QueryUnescape(key); err != nil {
				return out, fmt.Errorf("read a list of objects: key %.100q: %w", e.Key, err)
			}
		}
		o := Object{Key: key, Size: e.Size, ETag: e.ETag}
		o.Modified, _ = time.Parse(time.RFC3339, e.LastModified)
		out = append(out, o)
	}
	return out, nil
}
