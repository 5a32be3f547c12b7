package backup

import (
	"context"
	"fmt"
	"time"

	"mailform/server/bucket"
)

// Prune removes the backups older than keep, but never the newest, and then the
// objects that no remaining one names. When one of those cannot be read, nothing
// but old manifests goes. It must not run beside Backup.
func (p *Place) Prune(ctx context.Context, keep time.Duration) error {
	times, err := p.Times(ctx)
	if err != nil {
		return err
	}
	if len(times) == 0 {
		return nil // objects without any backup are what a first run has sent so far
	}
	oldest := p.cfg.Now().Add(-keep)
	removed := 0
	for len(times) > 1 && times[0].Before(oldest) {
		if err := p.remove(ctx, p.keys.manifest(times[0])); err != nil {
			return err
		}
		times = times[1:]
		removed++
	}
	used, err := p.used(ctx, times)
	if err != nil {
		return fmt.Errorf("nothing was removed that an unreadable backup may need: %w", err)
	}
	var stale []string
	if err := p.list(ctx, p.keys.objects(), func(o bucket.Object) {
		if s, ok := p.keys.sumOf(o.Key); ok && !used[s] {
			stale = append(stale, o.Key)
		}
	}); err != nil {
		return err
	}
	for _, key := range stale {
		if err := p.remove(ctx, key); err != nil {
			return err
		}
	}
	p.cfg.Logger.Info("backup: old ones removed", "backups", removed, "objects", len(stale), "kept", len(times))
	return nil
}

// used are the objects that the backups made at times name. A page that several
// share is read once.
func (p *Place) used(ctx context.Context, times []time.Time) (map[sum]bool, error) {
	used, read := map[sum]bool{}, map[sum]bool{}
	for _, t := range times {
		m, err := p.Manifest(ctx, t)
		if err != nil {
			return nil, err
		}
		for _, o := range m.Pages {
			if read[o.Sum] {
				continue
			}
			files, err := p.page(ctx, o)
			if err != nil {
				return nil, err
			}
			used[o.Sum], read[o.Sum] = true, true
			for _, f := range files {
				for _, part := range f.Parts {
					used[part.Sum] = true
				}
			}
		}
	}
	return used, nil
}
