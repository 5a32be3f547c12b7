// Package backup copies the mail of a host to an S3-compatible bucket and brings
// it back.
//
// The store is a log that only grows, so a backup is what is new since the last
// one. Files are cut into parts; a part is an object that is named by its
// SHA-256, so that nothing is sent twice, sending again does no harm, and what
// comes back can be told from what was damaged. Then come pages, which list files
// and their parts, and last the manifest, which names the pages: a backup is there
// wholly or not at all. Below the block's prefix and the host's name:
//
//	backups/20261122T093945Z.json   the manifest
//	objects/SHA256                  parts and pages
//
// A run that was killed leaves objects that the next one finds and uses. What no
// manifest names any more is removed, after the manifest that named it.
//
// In a backup are the mail store, the password hashes that were born on the host
// and the list of retained mailboxes. Private keys are not: those of TLS and DKIM
// are made anew by an apply, and a bucket that is read by somebody else shall not
// let him speak for the domain. Whoever can read the bucket can read the mail.
//
// It imports server/bucket, server/manifest and server/store.
package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"mailform/server/bucket"
	"mailform/server/manifest"
)

// Config is what reaching a bucket needs. Logger must be set.
type Config struct {
	Logger *slog.Logger
	HTTP   *http.Client                                     // default: a plain one
	Now    func() time.Time                                 // default time.Now
	Sleep  func(ctx context.Context, d time.Duration) error // between tries; default waits
	// Role gives the credentials of the machine's role, where the settings say to
	// sign with them; default bucket.Role.
	Role func(context.Context) (bucket.Credentials, error)
	// SessionToken belongs to temporary credentials; "" for lasting ones.
	SessionToken string
	// Rate is how many octets a second are read, and how many are sent, by a
	// backup; default 16 MiB, negative is any number.
	Rate int
}

const (
	tries = 6
	// requestTime bounds one request: a part in it at 56 KiB/s.
	requestTime = 5 * time.Minute
)

// Place is where the backups of one host are.
type Place struct {
	cfg    Config
	client *bucket.Client
	keys   keys
	rate   *rate.Limiter
}

// NewPlace checks the settings. host is the host's name in the spec.
func NewPlace(cfg Config, b manifest.Backup, host string) (*Place, error) {
	if cfg.HTTP == nil {
		cfg.HTTP = &http.Client{}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Sleep == nil {
		cfg.Sleep = sleep
	}
	limit := rate.Limit(cfg.Rate)
	switch {
	case cfg.Rate == 0:
		limit = 16 << 20
	case cfg.Rate < 0:
		limit = rate.Inf
	}
	if !manifest.ValidName(host) {
		return nil, fmt.Errorf("%q is not the name of a host", host)
	}
	var sign func(context.Context) (bucket.Credentials, error)
	if b.Role {
		if sign = cfg.Role; sign == nil {
			sign = bucket.Role(bucket.RoleConfig{Now: cfg.Now})
		}
	}
	client, err := bucket.New(bucket.Config{
		Endpoint: b.Endpoint, Bucket: b.Bucket, Region: b.Region, OSS: b.OSS, HTTP: cfg.HTTP, Now: cfg.Now, Sign: sign,
		Credentials: bucket.Credentials{AccessKeyID: b.AccessKeyID, SecretAccessKey: b.SecretAccessKey, SessionToken: cfg.SessionToken},
	})
	if err != nil {
		return nil, err
	}
	return &Place{cfg: cfg, client: client, keys: keysOf(b.Prefix, host), rate: rate.NewLimiter(limit, partBytes)}, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// try repeats a request that may be repeated while that can help. Each try takes
// requestTime at most.
func (p *Place) try(ctx context.Context, request func(context.Context) error) error {
	wait := time.Second
	for n := 1; ; n++ {
		one, cancel := context.WithTimeout(ctx, requestTime)
		err := request(one)
		cancel()
		if err == nil || ctx.Err() != nil || n == tries || !passing(err) {
			return err
		}
		p.cfg.Logger.Debug("backup: trying again", "err", err, "wait", wait.String())
		if serr := p.cfg.Sleep(ctx, wait); serr != nil {
			return err
		}
		wait *= 2
	}
}

// passing says whether a request may succeed when it is sent again.
func passing(err error) bool {
	var refused *bucket.Error
	if errors.As(err, &refused) {
		return refused.Status >= 500 || errors.Is(err, bucket.ErrBusy) || errors.Is(err, bucket.ErrConflict)
	}
	var local *localError
	return !errors.As(err, &local)
}

// localError is a failure of this machine, not of the service.
type localError struct{ error }

func (e *localError) Unwrap() error { return e.error }

// put stores an object whose name and content belong together.
func (p *Place) put(ctx context.Context, key string, body io.ReadSeeker, size int64) error {
	if err := p.rate.WaitN(ctx, int(min(size, partBytes))); err != nil {
		return err
	}
	return p.try(ctx, func(ctx context.Context) error {
		return p.client.Put(ctx, key, body, bucket.PutOptions{ContentType: "application/octet-stream"})
	})
}

// putNew stores an object where nothing may be yet.
func (p *Place) putNew(ctx context.Context, key string, text []byte) error {
	err := p.try(ctx, func(ctx context.Context) error {
		return p.client.Put(ctx, key, bytes.NewReader(text), bucket.PutOptions{Create: true, ContentType: "application/json"})
	})
	if !errors.Is(err, bucket.ErrExists) {
		return err
	}
	// Perhaps ours, whose answer was lost.
	have, gerr := p.text(ctx, key, maxManifest)
	if gerr != nil {
		return errors.Join(err, gerr)
	}
	if !bytes.Equal(have, text) {
		return fmt.Errorf("another host writes backups to the same place: %w", err)
	}
	return nil
}

// text reads a small object.
func (p *Place) text(ctx context.Context, key string, limit int64) (text []byte, err error) {
	err = p.try(ctx, func(ctx context.Context) error {
		body, _, err := p.client.Get(ctx, key)
		if err != nil {
			return err
		}
		defer body.Close()
		text, err = io.ReadAll(io.LimitReader(body, limit+1))
		return err
	})
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("%s: %w: it has more than %d octets", key, errDamaged, limit)
	}
	return text, err
}

// list returns the objects below a prefix. A list that breaks off is begun anew.
func (p *Place) list(ctx context.Context, prefix string, take func(bucket.Object)) error {
	var objects []bucket.Object
	err := p.try(ctx, func(ctx context.Context) error {
		objects = objects[:0]
		for o, err := range p.client.List(ctx, prefix) {
			if err != nil {
				return err
			}
			objects = append(objects, o)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list %s: %w", prefix, err)
	}
	for _, o := range objects {
		take(o)
	}
	return nil
}

func (p *Place) remove(ctx context.Context, key string) error {
	return p.try(ctx, func(ctx context.Context) error { return p.client.Delete(ctx, key) })
}

// Times returns the times of all backups, oldest first.
func (p *Place) Times(ctx context.Context) ([]time.Time, error) {
	var out []time.Time
	err := p.list(ctx, p.keys.manifests(), func(o bucket.Object) {
		if t, ok := p.keys.timeOf(o.Key); ok {
			out = append(out, t)
		}
	})
	slices.SortFunc(out, time.Time.Compare)
	return out, err
}

// Manifest reads the manifest of the backup made at t.
func (p *Place) Manifest(ctx context.Context, t time.Time) (*Manifest, error) {
	key := p.keys.manifest(t)
	text, err := p.text(ctx, key, maxManifest)
	if err != nil {
		return nil, err
	}
	m, err := readManifest(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return m, nil
}

// page reads one page of a manifest.
func (p *Place) page(ctx context.Context, o object) ([]file, error) {
	key := p.keys.object(o.Sum)
	text, err := p.text(ctx, key, o.Size)
	if err != nil {
		return nil, err
	}
	if sha256.Sum256(text) != o.Sum {
		return nil, fmt.Errorf("%s: %w: its checksum does not match", key, errDamaged)
	}
	files, err := readPage(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return files, nil
}
