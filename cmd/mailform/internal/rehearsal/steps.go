package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"mailform/providers/world"
)

// The mail steps take the first mailbox as the one that writes and is written
// to from outside, and the last one as its correspondent; with a single mailbox
// it writes to itself.

const (
	inboundID   = "<inbound@rehearsal.invalid>"
	submittedID = "<submitted@rehearsal.invalid>"
)

func (r *Rehearsal) writer() string        { return r.boxes[0] }
func (r *Rehearsal) correspondent() string { return r.boxes[len(r.boxes)-1] }

// mx is the name of the host that serves a mailbox's domain.
func (r *Rehearsal) mx(mailbox string) string {
	_, domain, _ := strings.Cut(mailbox, "@")
	for _, d := range r.Spec.Domains {
		if d.Name == domain {
			return r.Spec.Host(d.Host).Hostname
		}
	}
	return ""
}

func (r *Rehearsal) outsider() string { return "someone@" + r.World.Outside().Domain }

func (r *Rehearsal) deliver(ctx context.Context) (string, error) {
	local, domain, _ := strings.Cut(r.writer(), "@")
	to := local + "+rehearsal@" + domain // a sub-address reaches the mailbox too
	msg := compose(r.outsider(), to, "Hello from outside", inboundID, r.cfg.Env.Now(), "Does the new server take mail?\n")
	if err := r.mail.deliver(ctx, r.mx(r.writer()), "mx."+r.World.Outside().Domain, r.outsider(), to, msg); err != nil {
		return "", err
	}
	return r.outsider() + " → " + to, nil
}

func (r *Rehearsal) refuse(ctx context.Context) (string, error) {
	_, domain, _ := strings.Cut(r.writer(), "@")
	for _, d := range r.Spec.Domains {
		if d.Name == domain && d.CatchAll != "" {
			return "skipped: " + domain + " has a catch-all", nil
		}
	}
	answer, err := r.mail.refused(ctx, r.mx(r.writer()), "mx."+r.World.Outside().Domain, r.outsider(), "no-such-person@"+domain)
	return answer, err
}

func (r *Rehearsal) submit(ctx context.Context) (string, error) {
	from := r.writer()
	password, ok := r.Passwords[from]
	if !ok {
		return "", fmt.Errorf("apply returned no first password for %s", from)
	}
	to := []string{r.correspondent(), r.outsider()}
	msg := compose(from, strings.Join(to, ", "), "Hello from inside", submittedID, r.cfg.Env.Now(), "The new server sends mail too.\n")
	if err := r.mail.submit(ctx, r.mx(from), from, password, to, msg); err != nil {
		return "", err
	}
	return from + " → " + strings.Join(to, ", "), nil
}

func (r *Rehearsal) read(ctx context.Context) (string, error) {
	for _, m := range []struct{ box, id string }{{r.writer(), inboundID}, {r.correspondent(), submittedID}} {
		if _, err := r.mail.read(ctx, r.mx(m.box), m.box, r.Passwords[m.box], m.id); err != nil {
			return "", err
		}
	}
	if r.writer() == r.correspondent() {
		return "by " + r.writer(), nil
	}
	return "by " + r.writer() + " and " + r.correspondent(), nil
}

func (r *Rehearsal) dkim(ctx context.Context) (string, error) {
	from := r.writer()
	_, domain, _ := strings.Cut(from, "@")
	for _, d := range r.Spec.Domains {
		if d.Name == domain && d.DKIM == nil {
			return "skipped: " + domain + " does not sign", nil
		}
	}
	box := r.correspondent()
	msg, err := r.mail.read(ctx, r.mx(box), box, r.Passwords[box], submittedID)
	if err != nil {
		return "", err
	}
	n, err := r.mail.verifyDKIM(ctx, msg, domain)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d signatures of %s", n, domain), nil
}

func (r *Rehearsal) certificate(ctx context.Context) (string, error) {
	var seen []string
	for _, h := range r.Spec.Hosts {
		cert, err := r.mail.certificate(ctx, h.Hostname)
		if err != nil {
			return "", err
		}
		if err := cert.VerifyHostname(h.Hostname); err != nil {
			return "", err
		}
		seen = append(seen, fmt.Sprintf("%s by %s", h.Hostname, cert.Issuer.CommonName))
	}
	return strings.Join(seen, ", "), nil
}

func (r *Rehearsal) outbound(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, dialogTimeout)
	defer cancel()
	got, err := r.World.Outside().Wait(ctx, func(m world.Received) bool {
		return strings.Contains(string(m.Data), submittedID)
	})
	if err != nil {
		return "", errors.New("the message did not arrive at " + r.outsider() + " in time")
	}
	if !got.TLS {
		return "", errors.New("the message arrived without TLS although STARTTLS was offered")
	}
	_, domain, _ := strings.Cut(r.writer(), "@")
	for _, d := range r.Spec.Domains {
		if d.Name == domain && d.DKIM == nil {
			return "over TLS", nil
		}
	}
	n, err := r.mail.verifyDKIM(ctx, got.Data, domain)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("over TLS, %d DKIM signatures verify there", n), nil
}
