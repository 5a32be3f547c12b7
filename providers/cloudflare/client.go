package cloudflare

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cloudflare/cloudflare-go/v6/dns"
	"github.com/cloudflare/cloudflare-go/v6/option"
	"github.com/cloudflare/cloudflare-go/v6/zones"

	"mailform/plan"
)

// callTimeout bounds one request. A list of 5,000 records takes the vendor seconds.
const callTimeout = time.Minute

// Page sizes: the vendor's limit for zones, and one that holds almost every zone
// in one answer for records.
const (
	zonesPerPage   = 50
	recordsPerPage = 5000
)

// zone is a zone of the account, as far as we care.
type zone struct {
	id, name, status string
	plan             string // the vendor's short name of what is paid for, "free"; "" when not known
	nameServers      []string
}

// client makes the vendor's calls, one request each.
type client struct {
	records *dns.RecordService
	zones   *zones.ZoneService
	http    *http.Client
	base    string // ends in a slash
	root    string // path of base
	token   string
	now     func() time.Time

	limit  budget
	verify verification
}

func newClient(base *url.URL, token string, transport http.RoundTripper, now func() time.Time) *client {
	u := *base
	u.Path = strings.TrimSuffix(u.Path, "/") + "/"
	c := &client{http: &http.Client{Transport: transport}, base: u.String(), root: u.Path, token: token, now: now}
	opts := []option.RequestOption{
		option.WithBaseURL(c.base),
		option.WithAPIToken(token),
		option.WithHTTPClient(c.http),
		// The library would retry POSTs ten times, blindly. Whether and when to try
		// again is decided by apply, from the error's class.
		option.WithMaxRetries(0),
		option.WithMiddleware(c.checkAnswer),
	}
	c.records, c.zones = dns.NewRecordService(opts...), zones.NewZoneService(opts...)
	return c
}

// call runs one request and gives its error the step it failed in.
func call(ctx context.Context, step string, effect bool, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := f(ctx)
	if err == nil {
		return nil
	}
	var e *plan.Error
	if errors.As(err, &e) {
		e.Step = step
		return e
	}
	// The library gives up without our middleware's error when the context ends, and
	// when it cannot decode an answer. Either way a write may have happened.
	class := plan.ErrTransient
	if effect {
		class = plan.ErrAmbiguous
	}
	return &plan.Error{
		Class: class, Code: "MF5203", Step: step, Err: err,
		Fix: "run the same command again: it finds out what happened and continues",
	}
}

// set fills one of the library's parameter fields, whose type cannot be named outside it.
func set[T any](value *T, present *bool, v T) { *value, *present = v, true }

// pageInfo is the part of an answer that says whether there is more. The
// library's own pager asks for one page too many, and never ends against a server
// that ignores the page number.
type pageInfo struct {
	TotalPages int `json:"total_pages"`
	TotalCount int `json:"total_count"`
}

// answer is what the API answers, as far as we read it. The library's own types know
// every field of every kind of record, and take several times as long to read.
type answer[T any] struct {
	Result T        `json:"result"`
	Info   pageInfo `json:"result_info"`
}

type apiZone struct {
	ID          string   `json:"id"`
	Name        string   `json:"name"`
	Status      string   `json:"status"`
	NameServers []string `json:"name_servers"`
	Plan        struct {
		LegacyID string `json:"legacy_id"` // "free", "pro" …
	} `json:"plan"`
}

type apiBatch struct {
	Deletes []apiRecord `json:"deletes"`
	Patches []apiRecord `json:"patches"`
	Posts   []apiRecord `json:"posts"`
}

// listZones gives all zones the token can see, and how many requests that took.
func (c *client) listZones(ctx context.Context) ([]zone, int, error) {
	var all []zone
	for page := 1; ; page++ {
		var params zones.ZoneListParams
		set(&params.Page.Value, &params.Page.Present, float64(page))
		set(&params.PerPage.Value, &params.PerPage.Present, float64(zonesPerPage))
		var info pageInfo
		const step = "list the zones of the account"
		err := call(ctx, step, false, func(ctx context.Context) error {
			var got answer[[]apiZone]
			_, err := c.zones.List(ctx, params, option.WithResponseBodyInto(&got))
			for _, z := range got.Result {
				all = append(all, fromZone(z))
			}
			info = got.Info
			return err
		})
		if err != nil {
			return nil, page, err
		}
		if page < info.TotalPages {
			continue
		}
		if len(all) < info.TotalCount {
			return nil, page, halfAList(step, len(all), info.TotalCount, "zones")
		}
		return all, page, nil
	}
}

// halfAList refuses a list that ends too early: absence must never be concluded
// from it.
func halfAList(step string, have, want int, things string) error {
	return &plan.Error{
		Class: plan.ErrTransient, Code: "MF5204", Step: step,
		Got: fmt.Sprintf("%d of %d %s", have, want, things),
		Fix: "run the same command again",
	}
}

// listRecords gives all records of a zone, or those whose comment begins with prefix.
func (c *client) listRecords(ctx context.Context, z zone, prefix string) ([]record, int, error) {
	var all []record
	for page := 1; ; page++ {
		var params dns.RecordListParams
		set(&params.ZoneID.Value, &params.ZoneID.Present, z.id)
		set(&params.Page.Value, &params.Page.Present, float64(page))
		set(&params.PerPage.Value, &params.PerPage.Present, float64(recordsPerPage))
		if prefix != "" {
			var filter dns.RecordListParamsComment
			set(&filter.Startswith.Value, &filter.Startswith.Present, prefix)
			set(&params.Comment.Value, &params.Comment.Present, filter)
		}
		var info pageInfo
		step := "list the records of zone " + z.name
		err := call(ctx, step, false, func(ctx context.Context) error {
			var got answer[[]apiRecord]
			_, err := c.records.List(ctx, params, option.WithResponseBodyInto(&got))
			for _, r := range got.Result {
				all = append(all, fromAPI(r))
			}
			info = got.Info
			return err
		})
		if err != nil {
			return nil, page, err
		}
		if page < info.TotalPages {
			continue
		}
		// With a filter the vendor counts what the filter leaves out, too.
		if prefix == "" && len(all) < info.TotalCount {
			return nil, page, halfAList(step, len(all), info.TotalCount, "records")
		}
		return all, page, nil
	}
}

// batch is what one transaction does. The vendor executes deletes, patches and
// posts in this order; all or nothing.
type batch struct {
	deletes []string // ids
	patches []record // whole records: the schema wants name, type and ttl in patches, too
	posts   []record // without id
}

func (c *client) batch(ctx context.Context, step, zoneID string, b batch) (patched, posted []record, err error) {
	var params dns.RecordBatchParams
	set(&params.ZoneID.Value, &params.ZoneID.Present, zoneID)
	if len(b.deletes) > 0 {
		deletes := make([]dns.RecordBatchParamsDelete, len(b.deletes))
		for i, id := range b.deletes {
			set(&deletes[i].ID.Value, &deletes[i].ID.Present, id)
		}
		set(&params.Deletes.Value, &params.Deletes.Present, deletes)
	}
	if len(b.patches) > 0 {
		patches := make([]dns.BatchPatchUnionParam, len(b.patches))
		for i, r := range b.patches {
			if patches[i], err = patchParam(r); err != nil {
				return nil, nil, err
			}
		}
		set(&params.Patches.Value, &params.Patches.Present, patches)
	}
	if len(b.posts) > 0 {
		posts := make([]dns.RecordBatchParamsPostUnion, len(b.posts))
		for i, r := range b.posts {
			if posts[i], err = postParam(r); err != nil {
				return nil, nil, err
			}
		}
		set(&params.Posts.Value, &params.Posts.Present, posts)
	}
	var got answer[apiBatch]
	err = call(ctx, step, true, func(ctx context.Context) error {
		_, err := c.records.Batch(ctx, params, option.WithResponseBodyInto(&got))
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	if err := b.check(got.Result); err != nil {
		return nil, nil, &plan.Error{
			Class: plan.ErrAmbiguous, Code: "MF5205", Step: step, Err: err,
			Fix: "run the same command again: it finds out what happened and continues",
		}
	}
	for _, r := range got.Result.Patches {
		patched = append(patched, fromAPI(r))
	}
	for _, r := range got.Result.Posts {
		posted = append(posted, fromAPI(r))
	}
	return patched, posted, nil
}

// check holds the answer against what was asked: the library reports success
// for any 200.
func (b batch) check(res apiBatch) error {
	if len(res.Deletes) != len(b.deletes) || len(res.Patches) != len(b.patches) || len(res.Posts) != len(b.posts) {
		return fmt.Errorf("asked for %d deletes, %d patches and %d posts, the answer has %d, %d and %d",
			len(b.deletes), len(b.patches), len(b.posts), len(res.Deletes), len(res.Patches), len(res.Posts))
	}
	for i, id := range b.deletes {
		if res.Deletes[i].ID != id {
			return fmt.Errorf("asked to delete record %s, the answer names %s", id, res.Deletes[i].ID)
		}
	}
	for i, want := range b.patches {
		if got := fromAPI(res.Patches[i]); got.id != want.id || !got.matches(want) {
			return fmt.Errorf("record %s %s is not as asked in the answer", want.kind, want.name)
		}
	}
	for i, want := range b.posts {
		if got := fromAPI(res.Posts[i]); got.id == "" || !got.matches(want) {
			return fmt.Errorf("record %s %s is not as asked in the answer", want.kind, want.name)
		}
	}
	return nil
}
