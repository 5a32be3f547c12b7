package lock

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"mailform/plan"
	"mailform/server/bucket"
)

// How the lock is kept in a bucket.
//
// Below the lock's key there is one object for each epoch, KEY/0000000000000007,
// and old ones are deleted: the one with the highest number is the lock. It says
// who holds it, or that it is free. Whoever wants it creates the next number, on
// the condition that it does not exist; of several, the service lets one win.
// The holder renews by writing its own object again. This needs nothing of the
// service but "put only where nothing is", which S3 calls If-None-Match: * and
// OSS x-oss-forbid-overwrite. An If-Match, which would do with one object, is
// refused by OSS.
//
// Time is the service's own, never a laptop's: an object's age is the answer's
// Date less its Last-Modified. The holder counts from before it sent a renewal
// and stops relying on it before the others, who wait some grace longer, take it
// over; a renewal that is answered after that does not count. So nobody takes
// over from a holder that still relies on its lease, as long as no two of the
// service's clocks differ by more than the grace.
//
// The highest number is never deleted, so the epoch only rises; and who has
// created one lists once more: a higher number means that what it knew was old.

// grace is how much longer than the lease others wait before they take over.
const grace = 10 * time.Second

// tries bounds how often a request is sent that had no usable answer.
const tries = 4

// requestTimeout bounds one request.
const requestTimeout = 10 * time.Second

type bucketLock struct {
	Config
	client *bucket.Client
	key    string // of the lock; its objects are below it
}

func newBucket(c Config) (plan.SharedLock, error) {
	step := "use the bucket " + c.Spec.Bucket + " for the lock"
	keys, err := bucket.EnvCredentials(c.Getenv)
	if err != nil {
		return nil, &plan.Error{Class: plan.ErrCredentials, Code: "MF5502", Step: step, Err: err,
			Fix: "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET"}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: c.Roots, MinVersion: tls.VersionTLS12}
	client, err := bucket.New(bucket.Config{
		Endpoint: c.Spec.Endpoint, Bucket: c.Spec.Bucket, Region: c.Spec.Region, Credentials: keys,
		HTTP: &http.Client{Transport: transport, Timeout: requestTimeout}, Now: c.Now,
	})
	if err != nil {
		return nil, &plan.Error{Class: plan.ErrSpec, Code: "MF5501", Step: step, Err: err, Fix: "correct the lock block of the spec"}
	}
	return &bucketLock{Config: c, client: client, key: strings.Trim(c.Spec.Key, "/")}, nil
}

func (b *bucketLock) Name() string { return "the bucket " + b.Spec.Bucket + ", " + b.key }

func (b *bucketLock) Close() { b.client.HTTP.CloseIdleConnections() }

// Acquire implements plan.SharedLock.
func (b *bucketLock) Acquire(ctx context.Context, h plan.Holder) (plan.Lease, error) {
	mine := record{Format: recordFormat, ID: newID(), Holder: h, Seconds: int64(plan.LeaseTTL / time.Second)}
	for range tries {
		epochs, err := b.epochs(ctx)
		if err != nil {
			return plan.Lease{}, err
		}
		top := int64(0)
		if n := len(epochs); n > 0 {
			top = epochs[n-1]
			have, err := b.read(ctx, top)
			if errors.Is(err, bucket.ErrNotFound) {
				continue // somebody has gone on meanwhile
			}
			if err != nil {
				return plan.Lease{}, err
			}
			if have.live() && !have.Holder.From(h) {
				return plan.Lease{}, plan.LockedError(b.Name(), have.lease(top))
			}
		}
		won, err := b.create(ctx, top+1, mine)
		if err != nil {
			return plan.Lease{}, err
		}
		if !won {
			continue // somebody was faster, and is told apart in the next round
		}
		if epochs, err = b.epochs(ctx); err != nil {
			return plan.Lease{}, err
		}
		if n := len(epochs); n == 0 || epochs[n-1] > top+1 {
			b.remove(ctx, top+1) // what we took for the top was long past
			continue
		}
		for _, old := range epochs {
			if old <= top {
				b.remove(ctx, old)
			}
		}
		return mine.lease(top + 1), nil
	}
	return plan.Lease{}, &plan.Error{Class: plan.ErrLocked, Code: "MF6002", Step: "lock " + b.Name(), Got: "several want it at the same time", Fix: "run the same command again"}
}

// create makes the object of an epoch and reports whether it is ours. The second
// request, which must be refused, finds out services that ignore the condition.
func (b *bucketLock) create(ctx context.Context, epoch int64, mine record) (bool, error) {
	err := b.put(ctx, epoch, mine, true)
	switch {
	case err == nil:
		if err := b.put(ctx, epoch, mine, true); err == nil {
			return false, &plan.Error{
				Code: "MF5503", Step: "lock " + b.Name(), Sent: "PUT of an object that exists, on the condition that it does not",
				Got: "the service overwrote it: here a lock would keep nobody out",
				Fix: "use a bucket without versioning (Alibaba's OSS ignores the condition with it), or a service that honours If-None-Match",
			}
		} else if !errors.Is(err, bucket.ErrExists) && !errors.Is(err, bucket.ErrConflict) {
			return false, b.failure("check", err)
		}
		return true, nil
	case !errors.Is(err, bucket.ErrExists):
		return false, b.failure("take", err)
	}
	// It exists: perhaps because the answer to our own request got lost.
	have, err := b.read(ctx, epoch)
	if errors.Is(err, bucket.ErrNotFound) {
		return false, nil
	}
	return err == nil && have.ID == mine.ID, err
}

// Renew implements plan.Lock.
func (b *bucketLock) Renew(ctx context.Context, l plan.Lease) (plan.Lease, error) {
	if err := b.put(ctx, l.Epoch, recordOf(l), false); err != nil {
		return l, b.failure("renew", err)
	}
	epochs, err := b.epochs(ctx)
	if err != nil {
		return l, err
	}
	if n := len(epochs); n > 0 && epochs[n-1] > l.Epoch {
		by := ""
		if have, err := b.read(ctx, epochs[n-1]); err == nil && !have.Free {
			by = " by " + have.Holder.String()
		}
		return l, fmt.Errorf("%w: it was taken%s", plan.ErrLeaseLost, by)
	}
	return l, nil
}

// Release implements plan.Lock. The object stays, for its number.
func (b *bucketLock) Release(ctx context.Context, l plan.Lease) error {
	r := recordOf(l)
	r.Free = true
	if err := b.put(ctx, l.Epoch, r, false); err != nil {
		return b.failure("give back", err)
	}
	return nil
}

// Held implements plan.Lock.
func (b *bucketLock) Held(ctx context.Context) (*plan.Lease, error) {
	for range tries {
		epochs, err := b.epochs(ctx)
		if err != nil || len(epochs) == 0 {
			return nil, err
		}
		top := epochs[len(epochs)-1]
		have, err := b.read(ctx, top)
		if errors.Is(err, bucket.ErrNotFound) {
			continue
		}
		if err != nil || !have.live() {
			return nil, err
		}
		l := have.lease(top)
		return &l, nil
	}
	return nil, &plan.Error{Class: plan.ErrTransient, Code: "MF5504", Step: "look at " + b.Name(), Got: "it changes hands too fast", Fix: "look again"}
}

// Break implements plan.Lock: it puts a free record above the holder's.
func (b *bucketLock) Break(ctx context.Context, l plan.Lease) error {
	now, err := b.Held(ctx)
	if err != nil {
		return err
	}
	if now == nil || now.ID != l.ID {
		return nil // it has ended by itself
	}
	free := recordOf(l)
	free.ID, free.Free = newID(), true
	won, err := b.create(ctx, l.Epoch+1, free)
	if err == nil && won {
		b.remove(ctx, l.Epoch)
	}
	return err
}

// epochs lists the numbers there are, in order.
func (b *bucketLock) epochs(ctx context.Context) ([]int64, error) {
	var out []int64
	err := b.retry(ctx, func() error {
		out = out[:0]
		for o, err := range b.client.List(ctx, b.key+"/") {
			if err != nil {
				return err
			}
			if n, ok := epochOf(strings.TrimPrefix(o.Key, b.key+"/")); ok {
				out = append(out, n)
			}
		}
		return nil
	})
	if err != nil {
		return nil, b.failure("look at", err)
	}
	slices.Sort(out)
	return out, nil
}

func (b *bucketLock) object(epoch int64) string { return b.key + "/" + epochName(epoch) }

// read returns the record of an epoch, with its age by the service's clock.
func (b *bucketLock) read(ctx context.Context, epoch int64) (record, error) {
	var r record
	err := b.retry(ctx, func() error {
		body, o, err := b.client.Get(ctx, b.object(epoch))
		if err != nil {
			return err
		}
		defer body.Close()
		if r, err = readRecord(body); err != nil {
			return err
		}
		if !o.Modified.IsZero() && !o.Served.IsZero() {
			r.age = o.Served.Sub(o.Modified)
		}
		return nil
	})
	if errors.Is(err, bucket.ErrNotFound) {
		return r, bucket.ErrNotFound
	}
	if err != nil {
		return r, b.failure("look at", err)
	}
	return r, nil
}

func (b *bucketLock) put(ctx context.Context, epoch int64, r record, create bool) error {
	body, err := r.encode()
	if err != nil {
		return err
	}
	return b.retry(ctx, func() error {
		return b.client.Put(ctx, b.object(epoch), strings.NewReader(body), bucket.PutOptions{Create: create, ContentType: "application/json"})
	})
}

// remove deletes what is no longer the lock. What stays is in nobody's way.
func (b *bucketLock) remove(ctx context.Context, epoch int64) {
	b.client.Delete(ctx, b.object(epoch))
}

// retry sends a request again that had no usable answer. Every request here may
// be: a creation that had happened already is found to be ours by its id.
func (b *bucketLock) retry(ctx context.Context, send func() error) error {
	for try := 1; ; try++ {
		err := send()
		var refused *bucket.Error
		again := err != nil && (!errors.As(err, &refused) || refused.Status >= 500 && refused.Status != http.StatusNotImplemented ||
			errors.Is(err, bucket.ErrBusy) || errors.Is(err, bucket.ErrConflict)) && !errors.Is(err, errRecord)
		if !again || try == tries || ctx.Err() != nil {
			return err
		}
		if b.Sleep(ctx, time.Duration(try)*500*time.Millisecond) != nil {
			return err
		}
	}
}

// failure says in a plan.Error what went wrong.
func (b *bucketLock) failure(verb string, err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	e := &plan.Error{Class: plan.ErrTransient, Code: "MF5504", Step: verb + " the lock on " + b.Name(), Err: err,
		Fix: "can " + b.Spec.Endpoint + " be reached? Nothing was changed; run the same command again"}
	var refused *bucket.Error
	switch {
	case errors.Is(err, errRecord):
		e.Class, e.Fix = plan.ErrBlocked, "let the lock block of the spec name another key, or delete what is below "+b.key
	case !errors.As(err, &refused):
	case errors.Is(err, bucket.ErrDenied):
		e.Class, e.Code, e.Fix = plan.ErrCredentials, "MF5505", "the key needs to list, get, put and delete objects below "+b.key+" in "+b.Spec.Bucket+"; is this machine's clock right?"
	case refused.Status < 500 && !errors.Is(err, bucket.ErrBusy):
		e.Class, e.Fix = plan.ErrFatal, "do the endpoint, bucket and region of the spec's lock block fit together?"
	}
	return e
}
