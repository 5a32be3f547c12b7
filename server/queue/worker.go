package queue

import (
	"context"
	"crypto/tls"
	"errors"
	"io"

	"mailform/server/store"
)

// worker makes one attempt for each entry of a batch, over one connection as
// long as that holds.
type worker struct {
	q  *Queue
	st *Settings

	client *client
	host   host
}

// submissionsPort is where a relay speaks TLS from the first octet, RFC 8314 3.3.
const submissionsPort = 465

func (w *worker) run(ctx context.Context, batch []store.QueueEntry) {
	defer func() {
		if w.client != nil {
			w.client.quit()
		}
	}()
	for i, e := range batch {
		if ctx.Err() != nil { // shutting down: the entry stays as it is
			w.q.results <- result{id: e.ID, entry: &e}
			continue
		}
		var verdicts map[string]*failure
		if len(e.Recipients) == 0 { // all have it; only the store does not know yet
			w.record(ctx, e, nil)
			continue
		}
		if w.st.Routes.Local(e.Domain) {
			verdicts = w.deliverHere(ctx, e)
		} else {
			f := w.connect(ctx, e.Domain)
			if f != nil && ctx.Err() == nil {
				// What holds for one entry's servers holds for the whole batch.
				for _, e := range batch[i:] {
					w.record(ctx, e, sameVerdict(e, f))
				}
				return
			}
			if f == nil {
				verdicts = w.send(ctx, e)
			}
		}
		if ctx.Err() != nil && len(verdicts) == 0 {
			w.q.results <- result{id: e.ID, entry: &e}
			continue
		}
		w.record(ctx, e, verdicts)
	}
}

func sameVerdict(e store.QueueEntry, f *failure) map[string]*failure {
	v := map[string]*failure{}
	for _, r := range e.Recipients {
		v[r] = f
	}
	return v
}

// connect gets a connection to the first server that will talk to us.
//
// The relay's certificate is always verified, and mail never goes there in the
// clear. Other servers get TLS when they offer it, whatever their certificate
// (RFC 7435): without a policy from the domain a name in the DNS is no more
// trustworthy than the certificate. A server whose TLS does not work gets the
// mail in the clear, as one does that offers none.
func (w *worker) connect(ctx context.Context, domain string) *failure {
	if w.client != nil {
		return nil
	}
	var hosts []host
	var f *failure
	relay := w.st.Relay
	if relay != nil {
		var err error
		if hosts, err = addresses(ctx, w.q.cfg.Resolver, relay.Host, relay.Port); err != nil {
			return temporary("4.4.3", "looking up the relay: %v", err)
		}
		if len(hosts) == 0 {
			return temporary("4.4.4", "the relay %s has no address", relay.Host)
		}
	} else if hosts, f = servers(ctx, w.q.cfg.Resolver, w.st.Hostname, domain); f != nil {
		return f
	}
	var last *failure
	for _, h := range hosts {
		c, err := w.dialHost(ctx, h, relay != nil)
		if err == nil && relay != nil && relay.Username != "" {
			if err = c.auth(relay.Username, relay.Password); err != nil {
				c.close()
				w.q.cfg.Logger.Error("queue: relay", "relay", h.name, "err", err)
			}
		}
		if err == nil {
			w.client, w.host = c, h
			return nil
		}
		if ctx.Err() != nil {
			return temporary("4.4.0", "interrupted")
		}
		w.q.cfg.Logger.Info("queue: server does not take mail now", "server", h.name, "address", h.addr, "err", err)
		f := asFailure(err, h)
		// A server that refuses to talk refuses this host, not the message: one
		// that would is asked first, RFC 5321 4.2.1.
		if last == nil || last.permanent {
			last = f
		}
	}
	return last
}

func (w *worker) dialHost(ctx context.Context, h host, relay bool) (*client, error) {
	sec := security{tls: &tls.Config{ServerName: h.name, MinVersion: tls.VersionTLS12}}
	if relay {
		sec.tls.RootCAs = w.q.cfg.Roots
		sec.required = true
		sec.implicit = w.st.Relay.Port == submissionsPort
		return dial(ctx, &w.q.cfg, h, w.st.Hostname, sec)
	}
	sec.tls.InsecureSkipVerify = true
	sec.tls.MinVersion = tls.VersionTLS10 // old TLS is better than none, RFC 7435
	c, err := dial(ctx, &w.q.cfg, h, w.st.Hostname, sec)
	if errors.Is(err, errTLS) && ctx.Err() == nil {
		w.q.cfg.Logger.Info("queue: sending without TLS", "server", h.name, "err", err)
		sec.never = true
		return dial(ctx, &w.q.cfg, h, w.st.Hostname, sec)
	}
	return c, err
}

// asFailure makes a failure of whatever went wrong with a server.
func asFailure(err error, h host) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	status := "4.4.2" // bad connection
	if errors.Is(err, errConnect) {
		status = "4.4.1" // no answer from host
	} else if errors.Is(err, errTLS) {
		status = "4.7.5"
	}
	return &failure{enhanced: status, remote: h.name, text: oneLine(err.Error())}
}

// send makes the attempt over the open connection, and over a new one if the
// server has hung up on the old one since the last message.
func (w *worker) send(ctx context.Context, e store.QueueEntry) map[string]*failure {
	m := message{entry: e, open: func() (io.ReadCloser, error) { return w.q.cfg.Store.OpenQueued(ctx, e) }}
	verdicts, err := w.client.transaction(m)
	if err != nil && w.client.used && !w.client.body && len(verdicts) == 0 {
		w.drop()
		if f := w.connect(ctx, e.Domain); f != nil {
			return sameVerdict(e, f)
		}
		verdicts, err = w.client.transaction(m)
	}
	if err == nil {
		w.client.used = true
		return verdicts
	}
	w.drop()
	if ctx.Err() != nil {
		return nil
	}
	var f *failure
	if errors.Is(err, errBody) {
		w.q.cfg.Logger.Error("queue: message cannot be read", "entry", e.ID, "err", err)
		f = temporary("4.3.0", "the message cannot be read from the store: %v", err)
	} else {
		f = asFailure(err, w.host)
	}
	for _, r := range e.Recipients {
		if _, known := verdicts[r]; !known {
			verdicts[r] = f
		}
	}
	return verdicts
}

func (w *worker) drop() {
	w.client.close()
	w.client = nil
}
