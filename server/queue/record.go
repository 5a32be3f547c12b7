package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"mailform/server/route"
	"mailform/server/store"
)

// undelivered is one recipient's failure.
type undelivered struct {
	address string
	why     *failure
}

// record makes the outcome of an attempt durable and reports it to the loop.
// The sender is told first: if we die in between, he is told twice.
func (w *worker) record(ctx context.Context, e store.QueueEntry, verdicts map[string]*failure) {
	ctx = context.WithoutCancel(ctx) // what a server has answered is noted down in any case
	now := w.q.cfg.Now()
	age := now.Sub(e.Queued)
	expired := age >= w.q.cfg.GiveUpAfter
	log := w.q.cfg.Logger.With("entry", e.ID, "domain", e.Domain, "from", e.From, "attempt", e.Attempts+1)
	var failed, waiting []undelivered
	for _, r := range e.Recipients {
		f, known := verdicts[r]
		if !known {
			f = temporary("4.0.0", "no answer about this recipient")
		}
		switch {
		case f == nil:
			log.Info("queue: delivered", "to", r, "server", w.host.name, "tls", w.client != nil && w.client.tls, "age", age.Round(time.Second).String())
		case f.permanent || expired:
			log.Info("queue: failed", "to", r, "status", f.enhanced, "err", f.Error(), "expired", expired)
			failed = append(failed, undelivered{r, f})
		default:
			log.Info("queue: deferred", "to", r, "status", f.enhanced, "err", f.Error())
			waiting = append(waiting, undelivered{r, f})
		}
	}
	if len(failed) > 0 {
		if err := w.notify(ctx, e, failed, actionFailed); err != nil {
			log.Log(ctx, levelOf(err), "queue: the sender could not be told, trying again later", "err", err)
			waiting = append(waiting, failed...)
			failed = nil
		}
	}
	late := age >= w.q.cfg.WarnAfter && lastAttempt(e).Sub(e.Queued) < w.q.cfg.WarnAfter
	if late && len(waiting) > 0 {
		if err := w.notify(ctx, e, waiting, actionDelayed); err != nil {
			log.Log(ctx, levelOf(err), "queue: delay notice", "err", err)
		}
	}
	e.Attempts++
	e.NextTry = now.Add(delay(e.ID, e.Attempts))
	e.Recipients = nil
	for _, u := range waiting {
		e.Recipients = append(e.Recipients, u.address)
	}
	var err error
	if len(waiting) == 0 {
		if err = w.q.cfg.Store.RemoveQueue(ctx, e.ID); err == nil || errors.Is(err, store.ErrNoMessage) {
			w.q.results <- result{id: e.ID}
			return
		}
	} else {
		e.LastError = oneLine(waiting[0].why.Error())
		err = w.q.cfg.Store.UpdateQueue(ctx, e)
		if errors.Is(err, store.ErrNoMessage) { // dropped by the operator meanwhile
			w.q.results <- result{id: e.ID}
			return
		}
	}
	if err != nil {
		// The loop keeps what we know; see list.
		log.Log(ctx, levelOf(err), "queue: the outcome could not be stored, trying again later", "err", err)
	}
	w.q.results <- result{id: e.ID, entry: &e, unsaved: err != nil}
}

// levelOf is how much an error of the store has to be seen: that the disk takes nothing
// the store says itself, once for all entries.
func levelOf(err error) slog.Level {
	if errors.Is(err, store.ErrFull) {
		return slog.LevelDebug
	}
	return slog.LevelError
}

// deliverHere puts an entry for one of our own domains into mailboxes. Entries
// come to this when a domain was added after they were queued.
func (w *worker) deliverHere(ctx context.Context, e store.QueueEntry) map[string]*failure {
	verdicts := map[string]*failure{}
	full := map[string]bool{}
	for {
		d := store.Delivery{Size: e.Size}
		var placed []string
		for _, r := range e.Recipients {
			if verdicts[r] != nil {
				continue
			}
			to, err := w.st.Routes.Resolve(r)
			if err != nil {
				verdicts[r] = routeFailure(err, r)
				continue
			}
			if slices.ContainsFunc(to.Deliveries, func(d route.Delivery) bool { return full[d.Account] }) {
				verdicts[r] = temporary("4.2.2", "the mailbox of %s is full", r)
				continue
			}
			placed = append(placed, r)
			w.place(&d, e.From, e.Account, r, to)
		}
		if len(placed) == 0 {
			return verdicts
		}
		body, err := w.q.cfg.Store.OpenQueued(ctx, e)
		if err == nil {
			d.Body = body
			_, err = w.q.cfg.Store.Deliver(ctx, d)
			_ = body.Close()
		}
		var quota *store.QuotaError
		if errors.As(err, &quota) && !full[quota.Account] {
			full[quota.Account] = true
			continue
		}
		for _, r := range placed {
			verdicts[r] = nil
			if err != nil {
				verdicts[r] = temporary("4.3.0", "%v", err)
			}
		}
		if err == nil && len(d.Queue) > 0 {
			w.q.Kick()
		}
		return verdicts
	}
}

// place adds the destinations of one address to a delivery.
func (w *worker) place(d *store.Delivery, from, account, address string, to route.Result) {
	now := w.q.cfg.Now()
	for _, x := range to.Deliveries {
		if slices.ContainsFunc(d.Targets, func(t store.Target) bool { return t.Account == x.Account }) {
			continue
		}
		d.Targets = append(d.Targets, store.Target{Account: x.Account, Mailbox: x.Mailbox, InternalDate: now,
			Prefix: fmt.Appendf(nil, "Return-Path: <%s>\r\nDelivered-To: %s\r\n", from, x.Address)})
	}
	for _, f := range to.Forwards {
		_, domain, _ := route.Split(f)
		d.Queue = append(d.Queue, store.QueueEntry{From: from, Recipients: []string{f}, Domain: domain, Account: account,
			Prefix: fmt.Appendf(nil, "Delivered-To: %s\r\n", address), Queued: now, NextTry: now})
	}
}

func routeFailure(err error, address string) *failure {
	switch {
	case errors.Is(err, route.ErrUnknown):
		return permanent("5.1.1", "%s is unknown", address)
	case errors.Is(err, route.ErrDisabled):
		return permanent("5.2.1", "%s does not take mail any more", address)
	}
	return permanent("5.1.3", "%s: %v", address, err)
}
