package alicloud

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"mailform/plan"
	"mailform/providers/alicloud/alicloudsim"
	"mailform/specs"
)

// story is a life of a host: made, changed in every way, taken away.
var story = []struct {
	name  string
	spec  func() *specs.Spec
	input func(*plan.Input)
}{
	{"create", func() *specs.Spec { return testSpec(withDisk) }, nil},
	{"change", func() *specs.Spec {
		return testSpec(withDisk, func(h *specs.Host) {
			h.Instance.Type, h.Instance.Bandwidth = "ecs.g7.xlarge", 20
			h.Instance.SystemDisk.SizeGiB, h.Instance.DataDisk.SizeGiB, h.Instance.DataDisk.Category = 60, 300, "cloud_auto"
			h.Instance.DataDisk.Snapshots.Days = 30
			h.SSH.From = h.SSH.From[:0:0]
			h.SSH.From = append(h.SSH.From, prefixes("203.0.113.0/24")...)
			h.Allow = []specs.Allow{{Name: "web", Protocol: "tcp", FromPort: 443, ToPort: 443, From: prefixes("0.0.0.0/0", "::/0")}}
		})
	}, nil},
	{"destroy", func() *specs.Spec { return &specs.Spec{} }, destroy},
}

// worldOf is the world without its ids.
func worldOf(c *cloud) []string {
	var out []string
	for _, s := range c.sim.Inventory() {
		id, name, _ := strings.Cut(s, " ")
		kind, _, _ := strings.Cut(id, "-")
		if kind == "eip" {
			name = ""
		}
		out = append(out, kind+" "+name)
	}
	slices.Sort(out)
	return out
}

// tell runs the story up to and including a chapter.
func tell(t *testing.T, c *cloud, chapter int) {
	t.Helper()
	for i := 0; i <= chapter; i++ {
		p := c.provider()
		var change []func(*plan.Input)
		if story[i].input != nil {
			change = append(change, story[i].input)
		}
		if _, err := walk(p, planFor(t, p, story[i].spec(), change...), 0); err != nil {
			t.Fatalf("%s: %v", story[i].name, err)
		}
	}
}

// TestEveryLostAnswer drops the answer of each call that has an effect, before and
// after the effect, once with Resolve at hand and once with the process gone and
// everything known about it lost. In the end the world must be the same.
func TestEveryLostAnswer(t *testing.T) {
	points, runs := 0, 0
	for chapter := range story {
		// The uninterrupted run tells which calls there are and how it ends.
		ref := newCloud(t)
		tell(t, ref, chapter-1)
		before := len(ref.sim.Calls())
		if err := once(t, ref, chapter, true); err != nil {
			t.Fatal(err)
		}
		want := worldOf(ref)
		var effects []int
		for _, call := range ref.sim.Calls()[before:] {
			if !call.ReadOnly() {
				effects = append(effects, call.Seq-before)
			}
		}
		points += len(effects)
		for n := range effects {
			for _, after := range []bool{false, true} {
				for _, crash := range []bool{false, true} {
					runs++
					name := fmt.Sprintf("%s: effect %d, after=%v, crash=%v", story[chapter].name, n+1, after, crash)
					c := newCloud(t)
					tell(t, c, chapter-1)
					seen := 0
					c.inject(func(call alicloudsim.Call) alicloudsim.Fault {
						if call.ReadOnly() {
							return alicloudsim.Fault{}
						}
						if seen++; seen == n+1 {
							return alicloudsim.Fault{Drop: true, After: after}
						}
						return alicloudsim.Fault{}
					})
					err := once(t, c, chapter, !crash)
					if crash == (err == nil) {
						t.Errorf("%s: err = %v", name, err)
						continue
					}
					if crash {
						if err := once(t, c, chapter, false); err != nil {
							t.Errorf("%s: run again: %v", name, err)
							continue
						}
					}
					if got := worldOf(c); !slices.Equal(got, want) {
						t.Errorf("%s: the world is %v, want %v", name, got, want)
					}
					if running := count(c.machines); running != min(1, len(want)) {
						t.Errorf("%s: %d machines run", name, running)
					}
				}
			}
		}
	}
	t.Logf("%d effects, %d interruptions, no duplicate, no orphan", points, runs)
}

func count(machines []*machine) (running int) {
	for _, m := range machines {
		if !m.gone {
			running++
		}
	}
	return running
}

// once plans and walks one chapter. Without resolve the first ambiguous failure
// ends the run, as a crash does.
func once(t *testing.T, c *cloud, chapter int, resolve bool) error {
	t.Helper()
	p := c.provider()
	var change []func(*plan.Input)
	if story[chapter].input != nil {
		change = append(change, story[chapter].input)
	}
	pl := planFor(t, p, story[chapter].spec(), change...)
	if resolve {
		_, err := walk(p, pl, 0)
		return err
	}
	_, err := walkUntilAmbiguous(p, pl)
	return err
}

// walkUntilAmbiguous walks without ever asking Resolve.
func walkUntilAmbiguous(p *Provider, pl *plan.Plan) (map[plan.Address]plan.Attrs, error) {
	return walkWith(p, pl, 0, func(p *Provider, op plan.Op, generation int) (plan.Result, error) {
		res, err := p.Do(context.Background(), op, plan.Token(fmt.Sprintf("t-%x-%d", fnv(op), generation)), nil)
		for attempt := 0; attempt < 5 && (plan.ClassOf(err) == plan.ErrTransient || plan.ClassOf(err) == plan.ErrSpentToken); attempt++ {
			if plan.ClassOf(err) == plan.ErrSpentToken {
				generation++
			}
			res, err = p.Do(context.Background(), op, plan.Token(fmt.Sprintf("t-%x-%d", fnv(op), generation)), nil)
		}
		return res, err
	})
}

// TestEveryKindOfBadAnswer gives each call of a whole life each kind of bad answer
// once. Applying again must always lead where the undisturbed run leads.
func TestEveryKindOfBadAnswer(t *testing.T) {
	faults := map[string]alicloudsim.Fault{
		"throttled":        {Status: 429, Code: "Throttling.User", Message: "Request was denied due to user flow control.", RetryAfter: 3},
		"unavailable":      {Status: 503, Code: "ServiceUnavailable", Message: "The request has failed due to a temporary failure of the server."},
		"internal error":   {Status: 500, Code: "InternalError", Message: "unknown", After: true},
		"code is a number": {Status: 503, Body: `{"Code":503,"Message":{"x":1},"RequestId":7}`},
		"html":             {Body: "<html>captive portal</html>"},
		"truncated":        {Body: `{"RequestId":"A-B-C","VpcId":"vpc-`, After: true},
		"empty object":     {Body: `{}`, After: true},
		"no id":            {Body: `{"RequestId":"A-B-C"}`, After: true},
	}
	ref := newCloud(t)
	tell(t, ref, 2)
	var names []string
	for name := range faults {
		names = append(names, name)
	}
	slices.Sort(names)
	occurrence := map[string]int{}
	runs := 0
	for n, target := range ref.sim.Calls() {
		occurrence[target.Action]++
		// The kinds take turns: each meets calls of every sort.
		name := names[n%len(names)]
		runs++
		c := newCloud(t)
		seen, nth := 0, occurrence[target.Action]
		c.inject(func(call alicloudsim.Call) alicloudsim.Fault {
			if call.Action == target.Action {
				if seen++; seen == nth {
					return faults[name]
				}
			}
			return alicloudsim.Fault{}
		})
		for chapter := range story {
			var err error
			for range 3 { // what a person does: the same command again
				if err = attempt(c, chapter); err == nil {
					break
				}
			}
			if err != nil {
				t.Errorf("%s at %s %d, %s: %v", name, target.Action, nth, story[chapter].name, err)
			}
		}
		if !c.sim.Empty() {
			t.Errorf("%s at %s %d: left behind %v", name, target.Action, nth, c.sim.Inventory())
		}
	}
	t.Logf("%d lives with one bad answer each", runs)
}

// attempt is once without failing the test when the world cannot be read.
func attempt(c *cloud, chapter int) error {
	p := c.provider()
	spec := story[chapter].spec()
	desired, _ := p.Declare(spec)
	seen, err := p.Observe(context.Background(), plan.Scope{Stack: "acme-mail", Desired: desired})
	if err != nil {
		return err
	}
	in := plan.Input{Stack: "acme-mail", Desired: desired, Observed: seen.Objects,
		Compilers: map[string]func([]plan.Change) []plan.Op{Name: p.Compile}}
	if story[chapter].input != nil {
		story[chapter].input(&in)
	}
	pl, diags := plan.Build(in)
	if diags.HasErrors() {
		return fmt.Errorf("%+v", diags)
	}
	_, err = walk(p, pl, 0)
	return err
}

// An answer to a question that broke off, even if a proxy has ended it as though it
// were complete, is asked for again; something else than the API is not.
func TestHalfAnAnswer(t *testing.T) {
	for body, want := range map[string]plan.ErrorClass{
		`{"RequestId":"A-B-C","Vpcs":{"Vpc":[{"VpcId":"vpc-`: plan.ErrTransient,
		"{":                           plan.ErrTransient,
		"<html>captive portal</html>": plan.ErrFatal,
	} {
		c := newCloud(t)
		c.inject(func(call alicloudsim.Call) alicloudsim.Fault {
			if call.Action == "DescribeVpcs" {
				return alicloudsim.Fault{Body: body}
			}
			return alicloudsim.Fault{}
		})
		_, err := c.provider().Observe(context.Background(), plan.Scope{Stack: "acme-mail"})
		if got := plan.ClassOf(err); err == nil || got != want {
			t.Errorf("%s: class %q, want %q: %v", body, got, want, err)
		}
	}
}

func TestEmptyListsAreNotBelievedWithoutPermission(t *testing.T) {
	c := newCloud(t, func(cfg *alicloudsim.Config) {
		cfg.AccessKeys = append(cfg.AccessKeys, alicloudsim.AccessKey{ID: "blind", Secret: "s", Deny: []string{"ecs:DescribeInstances"}})
	})
	c.apply(c.provider(), testSpec())
	blind := c.provider(func(cfg *Config) {
		cfg.Credentials = func() (Credentials, error) { return Credentials{AccessKeyID: "blind", AccessKeySecret: "s"}, nil }
	})
	_, err := blind.Observe(context.Background(), plan.Scope{Stack: "acme-mail"})
	if plan.ClassOf(err) != plan.ErrCredentials || !strings.Contains(fixOf(err), "ecs:DescribeInstances") {
		t.Errorf("an instance that may not be seen reads as deleted: %v (%s)", err, fixOf(err))
	}
}

func TestCredentials(t *testing.T) {
	c := newCloud(t, func(cfg *alicloudsim.Config) {
		cfg.AccessKeys = append(cfg.AccessKeys,
			alicloudsim.AccessKey{ID: "temporary", Secret: "s", SecurityToken: "sts"},
			alicloudsim.AccessKey{ID: "limited", Secret: "s", Deny: []string{"vpc:*"}})
	})
	for _, tc := range []struct {
		name      string
		cred      Credentials
		err       error
		class     plan.ErrorClass
		got, want string // in the error and in its fix
	}{
		{name: "right", cred: Credentials{testKeyID, testSecret, ""}},
		{name: "temporary", cred: Credentials{"temporary", "s", "sts"}},
		{name: "unknown key", cred: Credentials{"LTAInobody", "s", ""}, class: plan.ErrCredentials, got: "InvalidAccessKeyId.NotFound", want: "ALIBABA_CLOUD_ACCESS_KEY_ID"},
		{name: "wrong secret", cred: Credentials{testKeyID, "wrong", ""}, class: plan.ErrCredentials, got: "SignatureDoesNotMatch", want: "ALIBABA_CLOUD_ACCESS_KEY_SECRET"},
		{name: "expired token", cred: Credentials{"temporary", "s", "old"}, class: plan.ErrCredentials, got: "InvalidSecurityToken", want: "ALIBABA_CLOUD_SECURITY_TOKEN"},
		{name: "not permitted", cred: Credentials{"limited", "s", ""}, class: plan.ErrCredentials, got: "Forbidden.RAM", want: "allow vpc:Describe"},
		{name: "missing", err: missingCredentials("x"), class: plan.ErrCredentials, want: "ALIBABA_CLOUD_ACCESS_KEY_ID"},
	} {
		p := c.provider(func(cfg *Config) { cfg.Credentials = func() (Credentials, error) { return tc.cred, tc.err } })
		_, err := p.Observe(context.Background(), plan.Scope{Stack: "acme-mail"})
		if plan.ClassOf(err) != tc.class || (tc.class == plan.ErrFatal) != (err == nil) {
			t.Errorf("%s: class %q, err %v", tc.name, plan.ClassOf(err), err)
			continue
		}
		if err != nil && (!strings.Contains(err.Error(), tc.got) || !strings.Contains(fixOf(err), tc.want)) {
			t.Errorf("%s: %v; fix: %s", tc.name, err, fixOf(err))
		}
	}
}

// TestNothingSecretIsSaid makes errors of every kind with a request that holds
// a private key and looks for it, and for signatures, in what comes out.
func TestNothingSecretIsSaid(t *testing.T) {
	op := plan.Op{Kind: opRunInstances, Title: "create the instance", Addresses: []plan.Address{"host/mx1/instance"}, Inputs: plan.Attrs{
		"image": plan.String("m-1"), "type": plan.String("ecs.g7.large"), "hostname": plan.String("mail.acme.example"),
		"ssh_user": plan.String("root"), "ssh_port": plan.Int(22), "authorized_keys": plan.Strings(operator),
		"system_disk": plan.Map(map[string]plan.Value{"category": plan.String("cloud_essd")}),
		"subnet":      plan.String("vsw-1"), "firewall": plan.String("sg-1"), "ssh_key": plan.String("k"),
	}}
	echo := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			w.WriteHeader(status)
			fmt.Fprintf(w, `{"RequestId":"R","Code":"SignatureDoesNotMatch","Message":"Specified signature is not matched with our calculation. server string to sign is:%s%s"}`,
				r.URL.RawQuery, strings.ReplaceAll(string(body), `"`, `'`))
		}
	}
	for name, h := range map[string]http.HandlerFunc{
		"signature": echo(400),
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/?"+r.URL.RawQuery, http.StatusTemporaryRedirect)
		},
		"garbage": func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "<html>", r.URL.RawQuery) },
		"drop":    func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"panic": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(400)
			fmt.Fprint(w, `{"Code":400,"RequestId":[]}`)
		},
	} {
		var url string
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.RawQuery, "UserData") {
				t.Errorf("%s: user data travels in the URL", name)
			}
			url = r.URL.RawQuery
			h(w, r)
		}))
		cfg := (&cloud{}).config()
		cfg.ECSEndpoint, cfg.VPCEndpoint = srv.URL, srv.URL
		p, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		_, err = p.Do(context.Background(), op, "token", nil)
		srv.Close()
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		var e *plan.Error
		if !errors.As(err, &e) || e.Sent != "POST "+srv.URL+" RunInstances" || !strings.HasPrefix(err.Error(), "create the instance host/mx1/instance: POST ") {
			t.Errorf("%s: %v", name, err)
		}
		all := fmt.Sprintf("%v %+v %#v %v %v", err, err, err, e.Fix, e.Err)
		for _, secret := range []string{testSecret, "UserData", "I2Nsb3VkLWNvbmZpZw", "PRIVATE KEY", "Signature=", "Signature%3D", "SignatureNonce"} {
			if strings.Contains(all, secret) {
				t.Errorf("%s: the error says %q: %s", name, secret, all)
			}
		}
		if url == "" {
			t.Errorf("%s: nothing was sent", name)
		}
	}
	if s := fmt.Sprintf("%v %+v %#v %s", Credentials{"id", "hidden", "tok"}, Credentials{"id", "hidden", "tok"}, Credentials{"id", "hidden", "tok"}, Credentials{"id", "hidden", "tok"}); strings.Contains(s, "hidden") || strings.Contains(s, "tok") {
		t.Errorf("credentials print themselves: %s", s)
	}
}

func TestUnreachableAndUntrusted(t *testing.T) {
	cfg := (&cloud{}).config()
	cfg.ECSEndpoint, cfg.VPCEndpoint = "http://127.0.0.1:1", "http://127.0.0.1:1"
	p, _ := New(cfg)
	op := plan.Op{Kind: opCreateVpc, Addresses: []plan.Address{"host/mx1/network"}, Inputs: plan.Attrs{"cidr": plan.String(networkCIDR)}}
	_, err := p.Do(context.Background(), op, "t", nil)
	if plan.ClassOf(err) != plan.ErrTransient || !strings.Contains(err.Error(), "could not be sent") {
		t.Errorf("refused connection: class %q: %v", plan.ClassOf(err), err)
	}

	c := newCloud(t)
	srv := httptest.NewUnstartedServer(c.sim)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	defer srv.Close()
	cfg.ECSEndpoint, cfg.VPCEndpoint = srv.URL, strings.TrimPrefix(srv.URL, "https://") // https is the default
	p, _ = New(cfg)
	_, err = p.Do(context.Background(), op, "t", nil)
	if plan.ClassOf(err) != plan.ErrFatal || !strings.Contains(fixOf(err), "MAILFORM_CA_BUNDLE") {
		t.Errorf("unknown CA: class %q: %v; %s", plan.ClassOf(err), err, fixOf(err))
	}
	cfg.Roots = x509.NewCertPool()
	cfg.Roots.AddCert(srv.Certificate())
	dialled := 0
	cfg.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		dialled++
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	p, _ = New(cfg)
	if _, err = p.Do(context.Background(), op, "t", nil); err != nil || dialled == 0 {
		t.Errorf("with the CA: %v, dialled %d times", err, dialled)
	}
}

func TestTheContextIsObeyed(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(arrived)
		<-release
	}))
	defer srv.Close()
	defer close(release)
	cfg := (&cloud{}).config()
	cfg.ECSEndpoint, cfg.VPCEndpoint = srv.URL, srv.URL
	p, _ := New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-arrived; cancel() }()
	_, err := p.Do(ctx, plan.Op{Kind: opCreateVpc, Addresses: []plan.Address{"host/mx1/network"}}, "t", nil)
	if !errors.Is(err, context.Canceled) || plan.ClassOf(err) != plan.ErrAmbiguous {
		t.Errorf("class %q: %v", plan.ClassOf(err), err)
	}
}

func TestAWaitGivesUpAndSaysWhy(t *testing.T) {
	c := newCloud(t, func(cfg *alicloudsim.Config) { cfg.Settle = 1_000_000 })
	p := c.provider()
	pl := planFor(t, p, testSpec())
	var said []string
	for _, op := range pl.Ops {
		if op.Kind == opCreateVpc {
			if _, err := p.Do(context.Background(), op, "t", nil); err != nil {
				t.Fatal(err)
			}
			op.Kind = opWaitVpc
			_, err := p.Do(context.Background(), op, "t", func(m string, _, _ int64) { said = append(said, m) })
			if plan.ClassOf(err) != plan.ErrTransient || !strings.Contains(err.Error(), "is still Pending after 5m0s") {
				t.Errorf("err = %v", err)
			}
		}
	}
	equal(t, "progress", said, []string{"the VPC is Pending"})
	if n := len(c.sim.Calls()); n > 90 {
		t.Errorf("%d calls in five minutes", n)
	}
}
