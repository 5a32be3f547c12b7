package host

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Signing keys follow each other so that nobody ever sees a signature whose key it
// cannot find. A new key gets a selector that was never used, is published, and
// signs only when every name server shows it and every resolver has forgotten that
// it was not there (RFC 2308). The old key stays published, without signing, for as
// long as mail may be on its way, and then goes.
//
// What a key is in follows from the world: whether it signs and since or until
// when from the host, when its record was published from the DNS provider, whether it
// is seen from the name servers.

const (
	// keepRetired is how long a key stays published after it signed last. Queues of
	// other servers give up after four to five days (RFC 5321 4.5.4.1).
	keepRetired = 7 * 24 * time.Hour
	// settle is added to the time for which resolvers remember that there was no
	// record: name servers do not learn of it all at once, and a resolver that asked the
	// last of them a moment before remembers from then on. That all show it now does
	// not say since when. A secondary of somebody else's that misses the notification
	// asks after the SOA's refresh and retry (RFC 1035 4.3.5), which Cloudflare sets to
	// 10,000 s and 2,400 s; nobody is in a hurry.
	settle = 4 * time.Hour
	// unknownNegative stands for the negative TTL of a zone that does not tell it.
	unknownNegative = time.Hour
)

// keyState is what is known of one signing key of a domain.
type keyState struct {
	selector, algorithm string
	host                string // where the key is; "" when only its record is left
	created             time.Time
	signs               bool
	signedUntil         time.Time // zero unless it has signed and does not any more
	signsSince          time.Time // zero unless it has signed

	record    recordState
	published time.Time // zero when the DNS provider does not say
	seen      bool      // by every name server
	instead   string    // what one of them says when it is not seen
	negative  time.Duration
}

func (k keyState) hasSigned() bool {
	return k.signs || !k.signsSince.IsZero() || !k.signedUntil.IsZero()
}

// recordState is what a key's record says.
type recordState uint8

const (
	recordMissing recordState = iota
	recordRight
	recordOther   // another text than the key's, or of a key that is gone
	recordRevoked // RFC 6376 3.6.1: an empty p=
	recordForeign // somebody else's record is in its place
)

// keyLine is what the spec wants of one kind of key of a domain.
type keyLine struct {
	host      string
	selector  string // of the first generation: "mf1-rsa"
	algorithm string
	rotate    time.Duration // 0: never
}

// kind tells lines apart: a domain signs with at most one RSA and one Ed25519 key.
func kind(algorithm string) string {
	if strings.HasPrefix(algorithm, "rsa") {
		return "rsa"
	}
	return algorithm
}

// keyPlan is what is to become of a selector.
type keyPlan struct {
	selector, algorithm string
	host                string
	key                 bool // the private key is wanted
	sign                bool
	record              recordState // recordMissing: none is wanted; recordOther: what is there stays
	first               bool        // it signs as soon as it is published: nobody can have asked for it
	rush                bool        // it signs as soon as it is seen, whatever resolvers remember
	waits               string
	effect              string
}

// lineWorld is what surrounds a line.
type lineWorld struct {
	now      time.Time
	observed bool              // the host was looked at, or is yet to be made
	unsigned bool              // no key of the domain signs
	asked    func(string) bool // selector: is it to be replaced now?
	line     *keyLine          // nil when the spec wants no such key any more
}

// schedule decides about the keys of one kind of a domain.
func schedule(w lineWorld, keys []keyState) []keyPlan {
	keys = slices.Clone(keys)
	slices.SortFunc(keys, func(a, b keyState) int {
		return cmp.Or(a.created.Compare(b.created), cmp.Compare(generation(a.selector), generation(b.selector)), cmp.Compare(a.selector, b.selector))
	})
	var out []keyPlan
	current, next := pick(w, keys)
	if w.line != nil {
		out = w.succession(keys, current, next)
	}
	planned := map[string]bool{}
	since := time.Time{} // when what signs now began to
	for _, p := range out {
		planned[p.selector] = true
	}
	if current != nil {
		since = current.signsSince
	}
	for _, k := range keys {
		if !planned[k.selector] {
			if p, stays := w.retire(k, since); stays {
				out = append(out, p)
			}
		}
	}
	return out
}

// pick finds the key that signs, on the host that is to, and the newest that has
// never signed and fits the wish.
func pick(w lineWorld, keys []keyState) (current, next *keyState) {
	usable := func(k *keyState) bool {
		return w.line != nil && k.host != "" && k.host == w.line.host && k.record != recordRevoked
	}
	for i := range keys {
		if k := &keys[i]; usable(k) && k.signs {
			current = k
		}
	}
	for i := range keys {
		k := &keys[i]
		// A converge that was cut off has noted that it begins to sign, or has not
		// noted yet that it ended. It begins if it is the later of the two.
		begins := !k.signs && k.signedUntil.IsZero() && !k.signsSince.IsZero() && (current == nil || current.signsSince.Before(k.signsSince))
		switch {
		case !usable(k):
		case (begins || !k.hasSigned()) && k.algorithm == w.line.algorithm && ofLine(k.selector, w.line.selector):
			next = k
		}
	}
	return current, next
}

// succession decides what signs, what comes up, and what they wait for.
func (w lineWorld) succession(keys []keyState, current, next *keyState) []keyPlan {
	l := w.line
	live := func(selector string) keyPlan {
		return keyPlan{selector: selector, algorithm: l.algorithm, host: l.host, key: true, record: recordRight}
	}
	if current == nil {
		p := live(w.freeSelector(keys))
		switch {
		case next != nil:
			p = live(next.selector)
		case !w.observed:
			// The machine is there and could not be asked. What is newest in DNS is its key.
			if n := newest(keys, l.selector); n != "" {
				p = live(n)
			}
		}
		p.sign, p.first = w.unsigned, w.unsigned
		if p.sign || next == nil {
			p.effect = "a signing key for the domain's mail"
			return []keyPlan{p}
		}
		p.sign, p.waits = w.ready(*next)
		return []keyPlan{p}
	}
	p := live(current.selector)
	p.algorithm, p.sign = current.algorithm, true
	why := w.due(*current)
	asked := w.asked(current.selector)
	if next == nil && why == "" {
		return []keyPlan{p}
	}
	n := live(w.freeSelector(keys))
	if next != nil {
		n = live(next.selector)
	}
	n.effect = fmt.Sprintf("takes the place of %s (%s)", current.selector, cmp.Or(why, "which is older"))
	switch {
	case asked:
		n.sign, n.rush = true, true
	case next != nil:
		n.sign, n.waits = w.ready(*next)
	}
	if n.sign {
		p.sign = false
		if asked {
			p = revoked(p)
		}
	}
	return []keyPlan{p, n}
}

// due says why a key must be followed by another one, "" when it need not.
func (w lineWorld) due(k keyState) string {
	l := w.line
	switch age := w.now.Sub(k.created); {
	case w.asked(k.selector):
		return "as asked"
	case k.algorithm != l.algorithm:
		return "the spec wants " + l.algorithm
	case !ofLine(k.selector, l.selector):
		return "the spec wants the selector " + l.selector
	case l.rotate > 0 && age >= l.rotate:
		return fmt.Sprintf("which is %d days old", int(age.Hours()/24))
	}
	return ""
}

// ready reports whether a key may sign and, when it may not, what it waits for. It
// waits only once there is nothing else to do for it.
func (w lineWorld) ready(k keyState) (bool, string) {
	negative := cmp.Or(k.negative, unknownNegative)
	from := k.published.Add(negative + settle)
	switch {
	case k.record != recordRight:
		return false, ""
	case k.published.IsZero():
		return false, "when it was published is not known"
	case !k.seen:
		return false, fmt.Sprintf("not every name server shows it yet (%s); run again later", cmp.Or(k.instead, "they cannot be asked"))
	case w.now.Before(from):
		from = from.Add(time.Minute - 1).Truncate(time.Minute)
		return false, fmt.Sprintf("signs from %s UTC on, when no resolver remembers that it was not there; run again after that", from.UTC().Format("2006-01-02 15:04"))
	}
	return true, ""
}

// retire decides about a key that does not sign, or must not any more. since is
// when what signs in its place began to.
func (w lineWorld) retire(k keyState, since time.Time) (keyPlan, bool) {
	p := keyPlan{selector: k.selector, algorithm: k.algorithm, host: k.host, key: k.host != "", record: recordRight}
	over := func(t time.Time) bool { return !t.IsZero() && w.now.Sub(t) >= keepRetired }
	switch {
	case k.record == recordRevoked:
		p = revoked(p)
		return p, !over(k.published)
	case k.host == "": // its key is gone; nobody knows until when it signed
		p.record = recordOther
		return p, k.record != recordForeign && !over(since)
	case !k.hasSigned(): // nothing was ever signed with it
		return p, false
	case w.asked(k.selector):
		return revoked(p), true
	case k.signs:
		return p, true // from the next converge on it does not
	case k.signedUntil.IsZero():
		return p, !over(since)
	}
	return p, !over(k.signedUntil)
}

// revoked is what becomes of a key that must not be trusted any more. Its record
// says so: to a verifier a revoked key and one that is not there are the same
// (RFC 6376 6.1.2), but the empty p= (3.6.1) is a statement. It cannot be mistaken for
// a lookup that failed, hides a wildcard, keeps the selector from being used again,
// and tells the next run that this key is done with.
func revoked(p keyPlan) keyPlan {
	p.key, p.sign, p.record = false, false, recordRevoked
	p.effect = "signatures by " + p.selector + " are no longer believed"
	return p
}

// revokedText is the record of a revoked key.
func revokedText(algorithm string) string { return "v=DKIM1; k=" + kind(algorithm) + "; p=" }

// freeSelector is one that no key has had: the line's first, or the next number.
func (w lineWorld) freeSelector(keys []keyState) string {
	last := 0
	for _, k := range keys {
		if ofLine(k.selector, w.line.selector) {
			last = max(last, generationOf(k.selector, w.line.selector))
		}
	}
	if last == 0 {
		return w.line.selector
	}
	return w.line.selector + "-" + strconv.Itoa(last+1)
}

// newest is the selector of the latest generation in DNS.
func newest(keys []keyState, first string) string {
	best, at := "", 0
	for _, k := range keys {
		if g := generationOf(k.selector, first); g > at && k.record != recordRevoked && k.record != recordForeign {
			best, at = k.selector, g
		}
	}
	return best
}

func ofLine(selector, first string) bool { return generationOf(selector, first) > 0 }

// generationOf numbers the selectors of a line: "mf1-rsa" is 1, "mf1-rsa-2" is 2. 0
// is another line's.
func generationOf(selector, first string) int {
	if selector == first {
		return 1
	}
	rest, ok := strings.CutPrefix(selector, first+"-")
	n, err := strconv.Atoi(rest)
	if !ok || err != nil || n < 2 || strconv.Itoa(n) != rest {
		return 0
	}
	return n
}

// generation is the number at the end of a selector, 1 without one.
func generation(selector string) int {
	if i := strings.LastIndexByte(selector, '-'); i >= 0 {
		if n, err := strconv.Atoi(selector[i+1:]); err == nil && n > 1 {
			return n
		}
	}
	return 1
}
