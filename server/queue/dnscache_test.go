package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// reply is what a name server says, written as in a zone file: records, and below
// a line "authority" those of that section.
func reply(t *testing.T, rcode int, text string) *dns.Msg {
	t.Helper()
	r := &dns.Msg{}
	r.Rcode = rcode
	section := &r.Answer
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "authority" {
			section = &r.Ns
			continue
		}
		if line == "" {
			continue
		}
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatal(err)
		}
		*section = append(*section, rr)
	}
	return r
}

func TestRemember(t *testing.T) {
	t.Parallel()
	const soa = "authority\nexample. 600 IN SOA ns.example. ops.example. 1 7200 900 1209600 "
	for _, c := range []struct {
		name  string
		rcode int
		text  string
		ttl   time.Duration
		gone  bool
	}{
		{"an address", 0, "a.example. 300 IN A 192.0.2.1", 300 * time.Second, false},
		{"the shortest of several", 0, "a.example. 300 IN A 192.0.2.1\na.example. 20 IN A 192.0.2.2", 20 * time.Second, false},
		{"an alias that is shorter", 0, "a.example. 30 IN CNAME b.example.\nb.example. 300 IN A 192.0.2.1", 30 * time.Second, false},
		{"a long one", 0, "a.example. 604800 IN A 192.0.2.1", maxTTL, false},
		{"one that is not to be kept", 0, "a.example. 0 IN A 192.0.2.1", 0, false},
		{"a time that is none", 0, "a.example. 2147483648 IN A 192.0.2.1", 0, false},
		{"no such record", 0, soa + "60", 60 * time.Second, false},
		{"no such record, the SOA record's own time is less", 0, strings.Replace(soa, "600", "10", 1) + "60", 10 * time.Second, false},
		{"no such name", dns.RcodeNameError, soa + "60", 60 * time.Second, true},
		{"no such name, for long", dns.RcodeNameError, soa + "86400", maxAbsentTTL, true},
		{"no such name, and nothing says for how long", dns.RcodeNameError, "", 0, true},
		{"no such record behind an alias", 0, "a.example. 30 IN CNAME b.example.\n" + soa + "60", 30 * time.Second, false},
		{"no such name behind an alias", dns.RcodeNameError, "a.example. 30 IN CNAME b.example.\n" + soa + "60", 30 * time.Second, true},
	} {
		a := remember(asked("A.example", dns.TypeA), reply(t, c.rcode, c.text))
		if a.ttl != c.ttl || (a.err != nil) != c.gone || a.err != nil && !errors.Is(a.err, ErrNoDomain) {
			t.Errorf("%s: kept for %v, %v", c.name, a.ttl, a.err)
		}
	}
}

// asking counts the questions that reach the name servers.
type asking struct {
	n      atomic.Int64
	answer func(question) answer
}

func (a *asking) ask(_ context.Context, q question) answer {
	a.n.Add(1)
	return a.answer(q)
}

func TestCacheKeepsAndForgets(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	a := &asking{answer: func(q question) answer {
		switch {
		case q.name == "gone.example.":
			return answer{err: ErrNoDomain, ttl: time.Minute}
		case q.name == "broken.example.":
			return answer{err: errors.New("SERVFAIL"), ttl: failureTTL}
		case q.name == "large.example.":
			return answer{ttl: time.Minute, octets: maxAnswer + 1}
		case q.name == "never.example.":
			return answer{}
		}
		return answer{ttl: time.Minute}
	}}
	c := newCache(func() time.Time { return now }, a.ask)
	// Each is asked for twice, and again after a while.
	for _, x := range []struct {
		name            string
		after           time.Duration
		first, again    int64 // questions
		notThere, other bool  // the error
	}{
		{name: "there.example.", after: 59 * time.Second, first: 1, again: 0},
		{name: "there.example.", after: time.Second, first: 0, again: 1},
		{name: "gone.example.", after: 59 * time.Second, first: 1, again: 0, notThere: true},
		{name: "broken.example.", after: failureTTL, first: 1, again: 1, other: true},
		{name: "large.example.", first: 2, again: 1},
		{name: "never.example.", first: 2, again: 1},
	} {
		get := func() int64 {
			before := a.n.Load()
			_, err := c.get(t.Context(), question{x.name, dns.TypeA})
			if errors.Is(err, ErrNoDomain) != x.notThere || (err != nil) != (x.notThere || x.other) {
				t.Errorf("%s: %v", x.name, err)
			}
			return a.n.Load() - before
		}
		if n := get() + get(); n != x.first {
			t.Errorf("%s: asked twice, %d questions", x.name, n)
		}
		now = now.Add(x.after)
		if n := get(); n != x.again {
			t.Errorf("%s: %v later %d questions", x.name, x.after, n)
		}
	}
	// Another type is another question, another case of the name is not.
	before := a.n.Load()
	for _, q := range []question{asked("Other.Example", dns.TypeTXT), asked("other.example.", dns.TypeTXT), asked("other.example", dns.TypeA)} {
		if _, err := c.get(t.Context(), q); err != nil {
			t.Error(err)
		}
	}
	if n := a.n.Load() - before; n != 2 {
		t.Errorf("%d questions for two", n)
	}
}

func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	const octets = 1000
	a := &asking{answer: func(question) answer { return answer{ttl: time.Hour, octets: octets} }}
	c := newCache(time.Now, a.ask)
	get := func(name string) {
		if _, err := c.get(t.Context(), asked(name, dns.TypeA)); err != nil {
			t.Error(err)
		}
	}
	for i := range 3 * maxCached / octets {
		get(fmt.Sprintf("name%d.example", i))
		get("often.example")
		if n := len(c.younger) + len(c.elder); n*octets > maxCached {
			t.Fatalf("%d answers are kept", n)
		}
	}
	if want := int64(3*maxCached/octets + 1); a.n.Load() != want {
		t.Errorf("%d questions, want %d: what is asked often was forgotten", a.n.Load(), want)
	}
}

func TestCacheAsksOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var n, ended atomic.Int64
		c := newCache(time.Now, func(ctx context.Context, q question) answer {
			n.Add(1)
			select {
			case <-release:
				return answer{ttl: time.Minute}
			case <-ctx.Done():
				ended.Add(1)
				return answer{err: ctx.Err()}
			}
		})
		q := asked("a.example", dns.TypeA)
		first, cancel := context.WithCancel(t.Context())
		results := make(chan error, 10)
		for i := range 10 {
			ctx := t.Context()
			if i == 0 {
				ctx = first
			}
			go func() {
				_, err := c.get(ctx, q)
				results <- err
			}()
			synctest.Wait()
		}
		cancel() // who asked first goes, and the others still get their answer
		if err := <-results; !errors.Is(err, context.Canceled) {
			t.Errorf("who left got %v", err)
		}
		close(release)
		for range 9 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		if n.Load() != 1 || ended.Load() != 0 {
			t.Errorf("%d questions, %d were given up", n.Load(), ended.Load())
		}

		// When all have left, the question is given up, and nothing is kept of it.
		release = make(chan struct{})
		q = asked("b.example", dns.TypeA)
		alone, cancel := context.WithCancel(t.Context())
		go func() {
			_, err := c.get(alone, q)
			results <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-results; !errors.Is(err, context.Canceled) {
			t.Errorf("who left got %v", err)
		}
		synctest.Wait()
		close(release)
		if _, err := c.get(t.Context(), q); err != nil || n.Load() != 3 || ended.Load() != 1 {
			t.Errorf("%v, %d questions, %d were given up", err, n.Load(), ended.Load())
		}
		if len(c.flights) != 0 {
			t.Errorf("%d questions are still under way", len(c.flights))
		}
	})
}

// FuzzRemember reads replies as they come from the network.
func FuzzRemember(f *testing.F) {
	for _, text := range []string{"a.example. 300 IN A 192.0.2.1", "authority\nexample. 600 IN SOA ns.example. ops.example. 1 7200 900 1209600 60"} {
		r := reply(&testing.T{}, dns.RcodeSuccess, text)
		r.SetQuestion("a.example.", dns.TypeA)
		b, err := r.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := new(dns.Msg)
		if r.Unpack(b) != nil {
			return
		}
		a := remember(asked("a.example", dns.TypeA), r)
		if a.ttl < 0 || a.ttl > maxTTL || (len(a.records) == 0 || a.err != nil) && a.ttl > maxAbsentTTL || a.octets < answerCost {
			t.Fatalf("kept for %v: %v, %v", a.ttl, a.records, a.err)
		}
	})
}

// What is to be found out anew is asked for whatever is remembered, and remembered in
// the place of that.
func TestAnew(t *testing.T) {
	t.Parallel()
	address := "192.0.2.1"
	a := &asking{answer: func(q question) answer {
		rr, err := dns.NewRR(q.name + " 300 IN A " + address)
		if err != nil || q.kind != dns.TypeA {
			return answer{ttl: time.Minute}
		}
		return answer{records: []dns.RR{rr}, ttl: 5 * time.Minute}
	}}
	d := &DNS{cache: newCache(time.Now, a.ask)}
	look := func(ctx context.Context, want string) {
		t.Helper()
		got, err := d.LookupAddr(ctx, "mail.example")
		if err != nil || len(got) != 1 || got[0].String() != want {
			t.Errorf("%v, %v, expected %s", got, err, want)
		}
	}
	look(t.Context(), "192.0.2.1")
	address = "192.0.2.2"
	look(t.Context(), "192.0.2.1")
	look(Anew(t.Context()), "192.0.2.2")
	look(t.Context(), "192.0.2.2")
}
