package daemon

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"mailform/server/manifest"
	"mailform/server/store"
)

// How much one look takes out of the mailboxes: bounded, so that a rule for years of
// mail holds up nobody. What is left the next look finds.
const (
	retentionBatch = 500    // messages in one commit
	retentionLook  = 50_000 // messages in one look
)

// specialUses are the names that mean a mailbox by its use.
var specialUses = [...]string{"Archive", "Drafts", "Junk", "Sent", "Trash"}

// retention takes messages out of mailboxes for their age, as the manifest's rules say.
type retention struct {
	d *daemon

	mu    sync.Mutex
	rules map[retentionKey]*manifest.Retains
}

type retentionKey struct{ domain, rule, mailbox string }

func newRetention(d *daemon) *retention {
	return &retention{d: d, rules: map[retentionKey]*manifest.Retains{}}
}

// look applies all rules as of now, which is what is believed, not what the clock says.
func (r *retention) look(ctx context.Context, now time.Time) {
	s := r.d.state.Load()
	left := retentionLook
	for _, dom := range s.manifest.Domains {
		for _, rule := range dom.Retention {
			done := manifest.Retains{Domain: dom.Name, Rule: rule.Name, Mailbox: rule.Mailbox, Last: r.d.cfg.Now().UTC()}
			before := now.Add(-time.Duration(rule.AfterSeconds) * time.Second)
			for _, box := range dom.Mailboxes {
				if left <= 0 || ctx.Err() != nil {
					break
				}
				account := strings.ToLower(box.Local + "@" + dom.Name)
				n, err := r.apply(ctx, account, rule, before, left)
				left -= n
				done.Removed += int64(n)
				if n > 0 {
					r.d.log.Info("messages removed for their age", "rule", rule.Name, "account", account, "mailbox", rule.Mailbox, "messages", n, "before", before)
				}
				if err != nil && ctx.Err() == nil {
					done.Failed = account + ": " + err.Error()
					r.d.log.Error("messages are not removed for their age", "rule", rule.Name, "account", account, "mailbox", rule.Mailbox, "err", err)
				}
			}
			r.note(done)
		}
	}
}

// apply takes what is older out of one account's mailbox, at most that many messages.
func (r *retention) apply(ctx context.Context, account string, rule manifest.Retention, before time.Time, most int) (removed int, err error) {
	name, err := r.mailbox(ctx, account, rule.Mailbox)
	if err != nil || name == "" {
		return 0, err
	}
	snap, watch, err := r.d.store.Open(ctx, account, name)
	if errors.Is(err, store.ErrNoMailbox) {
		return 0, nil // removed since
	}
	if err != nil {
		return 0, err
	}
	watch.Close()
	var uids []store.UID
	var m store.Message
	for row := range snap.Messages.Rows(0, snap.Messages.Len()) {
		row.Read(&m)
		if m.SaveDate.Before(before) && len(uids) < most {
			uids = append(uids, m.UID)
		}
	}
	for batch := range slices.Chunk(uids, retentionBatch) {
		if err := ctx.Err(); err != nil {
			return removed, err
		}
		gone, err := r.d.store.ExpungeOld(ctx, account, snap.Info.Box(), batch, before)
		removed += len(gone)
		if errors.Is(err, store.ErrNoMailbox) {
			return removed, nil
		}
		if err != nil {
			return removed, err
		}
	}
	return removed, nil
}

// mailbox finds the one that a rule means; "" when the account has none.
func (r *retention) mailbox(ctx context.Context, account, named string) (string, error) {
	list, err := r.d.store.Mailboxes(ctx, account)
	if err != nil {
		return "", err
	}
	use := ""
	if slices.Contains(specialUses[:], named) {
		use = `\` + named
	}
	for _, m := range list {
		if use != "" && m.SpecialUse == use || use == "" && m.Name == named {
			return m.Name, nil
		}
	}
	return "", nil
}

// note adds what a look has done.
func (r *retention) note(done manifest.Retains) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := retentionKey{done.Domain, done.Rule, done.Mailbox}
	if old := r.rules[key]; old != nil {
		done.Removed += old.Removed
	}
	r.rules[key] = &done
}

// status says what has become of the rules that there are.
func (r *retention) status(m *manifest.Manifest) []manifest.Retains {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []manifest.Retains
	for _, dom := range m.Domains {
		for _, rule := range dom.Retention {
			st := manifest.Retains{Domain: dom.Name, Rule: rule.Name, Mailbox: rule.Mailbox}
			if done := r.rules[retentionKey{dom.Name, rule.Name, rule.Mailbox}]; done != nil {
				st = *done
			}
			out = append(out, st)
		}
	}
	return out
}

// expire deletes mail for its age, again and again until the context ends: that of
// mailboxes that were removed, and what the rules say.
func (d *daemon) expire(ctx context.Context) error {
	clock := newBelievedClock(d.cfg.Layout.AgesFile(), d.log)
	ran := stopwatch{last: time.Now()}
	tick := time.NewTicker(expireEvery)
	defer tick.Stop()
	for {
		now := clock.look(d.cfg.Now(), ran.lap())
		d.purge.look(ctx, now)
		if !now.IsZero() {
			d.retention.look(ctx, now)
		}
		select {
		case <-ctx.Done():
			clock.look(d.cfg.Now(), ran.lap()) // so that restarts do not lose the time between
			return nil
		case <-tick.C:
		}
	}
}
