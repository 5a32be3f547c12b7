package alicloud

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mailform/plan"
	"mailform/providers/alicloud/alicloudsim"
	"mailform/server/bucket"
	"mailform/specs"
)

// withBucket is testSpec whose backups go to a bucket that is to be made.
func withBucket(change ...func(*specs.Backup)) *specs.Spec {
	s := testSpec()
	s.Backup = &specs.Backup{Create: true, Bucket: "acme-backup", Every: time.Hour, Keep: 30 * 24 * time.Hour}
	for _, f := range change {
		f(s.Backup)
	}
	return s
}

// store is a client as the host has one.
func (c *cloud) store(t *testing.T, name string) *bucket.Client {
	t.Helper()
	b, err := bucket.New(bucket.Config{Endpoint: c.url, Bucket: name, Region: "cn-hongkong", OSS: true,
		Credentials: bucket.Credentials{AccessKeyID: testKeyID, SecretAccessKey: testSecret}, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// byHand sets something of a bucket as a person would.
func (c *cloud) byHand(t *testing.T, name, method, param, header, body string) {
	t.Helper()
	q := bucket.Request{Method: method, Params: map[string]string{}, Header: map[string]string{}}
	if param != "" {
		q.Params[param] = ""
	}
	if k, v, ok := strings.Cut(header, ": "); ok {
		q.Header[k] = v
	}
	if body != "" {
		q.Body = []byte(body)
	}
	if _, err := c.store(t, name).Call(t.Context(), q); err != nil {
		t.Fatal(err)
	}
}

func buckets(c *cloud) (out []string) {
	for _, line := range c.sim.Describe() {
		if strings.HasPrefix(line, "bucket ") {
			out = append(out, line)
		}
	}
	return out
}

const asWanted = `bucket "acme-backup" private, closed true, versioning "Enabled", encryption "AES256", lifecycle ` +
	`<LifecycleConfiguration><Rule><ID>mailform</ID><Prefix></Prefix><Status>Enabled</Status><Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>` +
	`<AbortMultipartUpload><Days>7</Days></AbortMultipartUpload><NoncurrentVersionExpiration><NoncurrentDays>30</NoncurrentDays></NoncurrentVersionExpiration></Rule></LifecycleConfiguration> ` +
	`[mailform:address=backup/acme-backup mailform:stack=acme-mail]`

func TestABucketIsMadePrivateVersionedAndEncrypted(t *testing.T) {
	c := newCloud(t)
	p := c.provider()
	c.apply(p, withBucket())
	equal(t, "bucket", buckets(c), []string{asWanted})
	if left := pending(planFor(t, p, withBucket())); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	// Whatever somebody changes about it is seen and put right; what else they added stays.
	for _, by := range [][4]string{
		{http.MethodPut, "publicAccessBlock", "", "<PublicAccessBlockConfiguration><BlockPublicAccess>false</BlockPublicAccess></PublicAccessBlockConfiguration>"},
		{http.MethodPut, "acl", "x-oss-acl: public-read", ""},
		{http.MethodPut, "versioning", "", "<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>"},
		{http.MethodPut, "lifecycle", "", "<LifecycleConfiguration><Rule><ID>theirs</ID><Prefix>logs/</Prefix><Status>Enabled</Status><Expiration><Days>3</Days></Expiration></Rule></LifecycleConfiguration>"},
		{http.MethodPut, "tagging", "", "<Tagging><TagSet><Tag><Key>team</Key><Value>ops</Value></Tag><Tag><Key>mailform:stack</Key><Value>acme-mail</Value></Tag></TagSet></Tagging>"},
	} {
		c.byHand(t, "acme-backup", by[0], by[1], by[2], by[3])
	}
	ch, _ := planFor(t, p, withBucket()).Change("backup/acme-backup")
	var fields []string
	for _, f := range ch.Fields {
		fields = append(fields, f.Path)
	}
	equal(t, "drift", fields, []string{"acl", "block_public_access", "uploads_kept_days", "versioning", "versions_kept_days"})
	c.apply(p, withBucket())
	now := buckets(c)[0]
	for _, want := range []string{" private, closed true, versioning \"Enabled\"", "<ID>theirs</ID>", "<ID>mailform</ID>", "team=ops"} {
		if !strings.Contains(now, want) {
			t.Errorf("no %s in %s", want, now)
		}
	}
	c.apply(p, withBucket(func(b *specs.Backup) { b.Keep = 36 * time.Hour }))
	if now := buckets(c)[0]; !strings.Contains(now, "<NoncurrentDays>2</NoncurrentDays>") || strings.Contains(now, "<NoncurrentDays>30</NoncurrentDays>") {
		t.Errorf("kept for a day and a half: %s", now)
	}
}

// TestABucketIsNeverDeletedWithWhatIsInIt: it is protected, the vendor refuses, and
// the error says both ways on.
func TestABucketIsNeverDeletedWithWhatIsInIt(t *testing.T) {
	c := newCloud(t)
	p := c.provider()
	c.apply(p, withBucket())
	store := c.store(t, "acme-backup")
	if err := store.Put(t.Context(), "a", strings.NewReader("mail"), bucket.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := store.Delete(t.Context(), "a"); err != nil { // a version of it stays
		t.Fatal(err)
	}
	other := withBucket(func(b *specs.Backup) { b.Bucket = "acme-other" })
	pl := planFor(t, p, other)
	equal(t, "another bucket", pending(pl), []string{"delete backup/acme-backup (blocked)", "create backup/acme-other"})
	if ch, _ := pl.Change("backup/acme-backup"); ch.Risk != plan.RiskLosesData {
		t.Errorf("risk %q", ch.Risk)
	}
	_, err := walk(p, planFor(t, p, withBucket(), destroy), 1)
	if plan.ClassOf(err) != plan.ErrBlocked || !strings.Contains(fixOf(err), `forget "backup/acme-backup" {}`) || !strings.Contains(fixOf(err), "empty it in the vendor's console") {
		t.Fatalf("%v; %s", err, fixOf(err))
	}
	if len(buckets(c)) != 1 {
		t.Error("the bucket went with what is in it")
	}
	c.sim.EmptyBucket("acme-backup")
	if _, err := walk(p, planFor(t, p, withBucket(), destroy), 2); err != nil {
		t.Fatal(err)
	}
	if !c.sim.Empty() {
		t.Errorf("left: %v", c.sim.Inventory())
	}
}

// TestABucketThatLeftTheSpec: whose block was taken out is seen, goes only when that
// is allowed, and with the rest when the stack goes; with something in it, not at all.
func TestABucketThatLeftTheSpec(t *testing.T) {
	c := newCloud(t)
	p := c.provider()
	c.apply(p, withBucket())
	full := func() {
		t.Helper()
		if err := c.store(t, "acme-backup").Put(t.Context(), "a", strings.NewReader("mail"), bucket.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	full()
	pl := planFor(t, p, testSpec())
	equal(t, "without the block", pending(pl), []string{"delete backup/acme-backup (blocked)"})
	ch, _ := pl.Change("backup/acme-backup")
	if ch.Risk != plan.RiskLosesData || ch.Blocked.Allow != "--allow backup/acme-backup" || !strings.Contains(ch.Blocked.Why, "the backups are in it") {
		t.Errorf("risk %q, blocked %+v", ch.Risk, ch.Blocked)
	}
	allow := func(in *plan.Input) { in.Allow = []string{"backup/acme-backup"} }
	for _, how := range []func(*plan.Input){allow, destroy} {
		_, err := walk(p, planFor(t, p, testSpec(), how), 1)
		if plan.ClassOf(err) != plan.ErrBlocked || !strings.Contains(fixOf(err), "empty it in the vendor's console") {
			t.Fatalf("with mail in it: %v; %s", err, fixOf(err))
		}
		if len(buckets(c)) != 1 {
			t.Fatal("the bucket went with what is in it")
		}
	}
	c.sim.EmptyBucket("acme-backup")
	if _, err := walk(p, planFor(t, p, testSpec(), allow), 2); err != nil {
		t.Fatal(err)
	}
	equal(t, "after it was allowed", buckets(c), nil)
	// Or given up, and then nobody's business.
	c.apply(p, withBucket())
	full()
	if _, err := walk(p, planFor(t, p, testSpec(), func(in *plan.Input) { in.Forget = []specs.Forget{{Address: "backup/*"}} }), 3); err != nil {
		t.Fatal(err)
	}
	equal(t, "after it was given up", pending(planFor(t, p, testSpec())), nil)
	equal(t, "the bucket", []string{buckets(c)[0][:20]}, []string{`bucket "acme-backup"`})
}

// TestLookingForBucketsCostsNothing: of accounts without OSS, and of credentials that
// may not list buckets, nothing is asked when the spec has no bucket; what did not come
// whole is no answer there either.
func TestLookingForBucketsCostsNothing(t *testing.T) {
	for _, tc := range []struct {
		fault alicloudsim.Fault
		class plan.ErrorClass
		fails bool
	}{
		{fault: alicloudsim.Fault{Status: 403, Code: "UserDisable"}},
		{fault: alicloudsim.Fault{Status: 403, Code: "AccessDenied"}},
		{fault: alicloudsim.Fault{Status: 403, Code: "InvalidAccessKeyId"}},
		{fault: alicloudsim.Fault{Status: 503, Code: "QpsLimitExceeded"}, class: plan.ErrThrottled, fails: true},
		{fault: alicloudsim.Fault{Drop: true}, class: plan.ErrTransient, fails: true},
	} {
		c := newCloud(t)
		p := c.provider()
		c.inject(func(call alicloudsim.Call) alicloudsim.Fault {
			if call.Product == "oss" {
				return tc.fault
			}
			return alicloudsim.Fault{}
		})
		desired, _ := p.Declare(testSpec())
		if _, err := p.Observe(t.Context(), plan.Scope{Stack: "acme-mail", Desired: desired}); (err != nil) != tc.fails || plan.ClassOf(err) != tc.class {
			t.Errorf("%+v: class %q: %v", tc.fault, plan.ClassOf(err), err)
		}
		desired, _ = p.Declare(withBucket())
		if _, err := p.Observe(t.Context(), plan.Scope{Stack: "acme-mail", Desired: desired}); err == nil {
			t.Errorf("%+v: no error with a bucket in the spec", tc.fault)
		}
	}
}

// TestMakingABucketIsInterruptedAnywhere kills after every request: the next run
// goes on without a question, although the vendor cannot mark a bucket as it makes it.
func TestMakingABucketIsInterruptedAnywhere(t *testing.T) {
	for n := 1; ; n++ {
		c := newCloud(t)
		p := c.provider()
		var puts atomic.Int64 // an answer that is cut off tells the test nothing of what the simulator did
		c.inject(func(call alicloudsim.Call) alicloudsim.Fault {
			if call.Product != "oss" || call.ReadOnly() {
				return alicloudsim.Fault{}
			}
			now := puts.Add(1)
			return alicloudsim.Fault{Drop: now >= int64(n), After: now == int64(n)}
		})
		_, err := walk(p, planFor(t, p, withBucket()), 0)
		if puts.Load() < int64(n) {
			if err != nil || n < 7 {
				t.Fatalf("%d requests: %v", n-1, err)
			}
			return
		}
		c.inject(nil)
		pl := planFor(t, p, withBucket())
		for _, ch := range pl.Changes {
			if ch.Blocked != nil {
				t.Errorf("after %d: %s is blocked: %s", n, ch.Address, ch.Blocked.Why)
			}
		}
		if _, err := walk(p, pl, 1); err != nil {
			t.Fatalf("after %d: %v", n, err)
		}
		equal(t, "bucket", buckets(c), []string{asWanted})
	}
}

func TestABucketOfSomebodyElse(t *testing.T) {
	c := newCloud(t, func(cfg *alicloudsim.Config) { cfg.TakenBuckets = []string{"acme-backup"} })
	p := c.provider()
	desired, _ := p.Declare(withBucket())
	_, err := p.Observe(context.Background(), plan.Scope{Stack: "acme-mail", Desired: desired})
	if plan.ClassOf(err) != plan.ErrBlocked || !strings.Contains(fixOf(err), "choose another") {
		t.Errorf("%v; %s", err, fixOf(err))
	}
}

// TestABucketThatExists: one with something in it, or with settings of its own, is
// not taken without being asked; one of another stack not at all.
func TestABucketThatExists(t *testing.T) {
	c := newCloud(t)
	p := c.provider()
	c.byHand(t, "acme-backup", http.MethodPut, "", "", "")
	if err := c.store(t, "acme-backup").Put(t.Context(), "a", strings.NewReader("x"), bucket.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	change := func(f ...func(*plan.Input)) plan.Change {
		ch, _ := planFor(t, p, withBucket(), f...).Change("backup/acme-backup")
		return ch
	}
	if ch := change(); ch.Blocked == nil || ch.Blocked.Allow != "--take backup/acme-backup" {
		t.Errorf("%s, blocked %+v", ch.Action, ch.Blocked)
	}
	if _, err := walk(p, planFor(t, p, withBucket(), func(in *plan.Input) { in.Take = []string{"backup/*"} }), 1); err != nil {
		t.Fatal(err)
	}
	if ch := change(); ch.Action != plan.NoOp {
		t.Errorf("after it was taken: %s %v", ch.Action, ch.Fields)
	}
	// Given up, it is as wanted and without a mark: adopted when the spec wants it again.
	forget := planFor(t, p, withBucket(), func(in *plan.Input) { in.Forget = []specs.Forget{{Address: "backup/*"}} })
	if _, err := walk(p, forget, 2); err != nil {
		t.Fatal(err)
	}
	if now := buckets(c)[0]; !strings.HasSuffix(now, " []") {
		t.Errorf("forgotten: %s", now)
	}
	if ch := change(); ch.Action != plan.Adopt {
		t.Errorf("as wanted without a mark: %s %v", ch.Action, ch.Fields)
	}
	c.apply(p, withBucket())
	if ch := change(); ch.Action != plan.NoOp {
		t.Errorf("adopted: %s", ch.Action)
	}
	c.byHand(t, "acme-backup", http.MethodPut, "tagging", "", "<Tagging><TagSet><Tag><Key>mailform:stack</Key><Value>other</Value></Tag></TagSet></Tagging>")
	if ch := change(); ch.Blocked == nil || ch.Blocked.Allow != "" {
		t.Errorf("another stack's: %s, blocked %+v", ch.Action, ch.Blocked)
	}
}

// TestOSSRefusals: what OSS says is explained like the rest.
func TestOSSRefusals(t *testing.T) {
	for _, tc := range []struct {
		status int
		code   string
		class  plan.ErrorClass
		fix    string
	}{
		{403, "AccessDenied", plan.ErrCredentials, "allow oss:PutBucket"},
		{403, "UserDisable", plan.ErrFatal, "activate OSS"},
		{400, "TooManyBuckets", plan.ErrFatal, "no more buckets"},
		{409, "BucketAlreadyExists", plan.ErrBlocked, "choose another"},
		{503, "QpsLimitExceeded", plan.ErrThrottled, "in a while"},
		{403, "RequestTimeTooSkewed", plan.ErrFatal, "clock"},
		{403, "SecurityTokenExpired", plan.ErrCredentials, "has expired"},
		{500, "InternalError", plan.ErrAmbiguous, "whether the operation took effect"},
	} {
		c := newCloud(t)
		p := c.provider()
		c.inject(func(call alicloudsim.Call) alicloudsim.Fault {
			if call.Action != "PutBucket" {
				return alicloudsim.Fault{}
			}
			return alicloudsim.Fault{Status: tc.status, Code: tc.code, Message: "no"}
		})
		op := plan.Op{Kind: opCreateBucket, Title: "make the bucket", Addresses: []plan.Address{"backup/acme-backup"},
			Inputs: plan.Attrs{"name": plan.String("acme-backup"), "region": plan.String("cn-hongkong")}}
		_, err := p.Do(t.Context(), op, "t", nil)
		if plan.ClassOf(err) != tc.class || !strings.Contains(fixOf(err), tc.fix) {
			t.Errorf("%s: class %v: %v; %s", tc.code, plan.ClassOf(err), err, fixOf(err))
		}
		if strings.Contains(err.Error(), testSecret) {
			t.Errorf("%s: the error holds the secret", tc.code)
		}
	}
}

// TestOSSCredentialsThatExpireOnTheWay are asked for again, as for the other APIs.
func TestOSSCredentialsThatExpireOnTheWay(t *testing.T) {
	now := time.Now()
	c := newCloud(t, func(cfg *alicloudsim.Config) {
		cfg.AccessKeys = []alicloudsim.AccessKey{{ID: "old", Secret: "s", SecurityToken: "t1", Expires: now}, {ID: "new", Secret: "s", SecurityToken: "t2"}}
	})
	asked := 0
	p := c.provider(func(cfg *Config) {
		cfg.Credentials = func() (Credentials, error) {
			if asked++; asked == 1 {
				return Credentials{"old", "s", "t1"}, nil
			}
			return Credentials{"new", "s", "t2"}, nil
		}
	})
	r := &reader{via: p.api}
	if names, err := r.bucketNames(t.Context(), "acme-mail"); err != nil || len(names) != 0 {
		t.Errorf("%v %v", names, err)
	}
	if asked != 2 {
		t.Errorf("asked %d times", asked)
	}
}

func TestManyBucketsTakePages(t *testing.T) {
	c := newCloud(t)
	p := c.provider()
	var want []string
	for _, name := range []string{"b-1", "b-2", "b-3"} {
		want = append(want, "acme-"+name)
		c.byHand(t, "acme-"+name, http.MethodPut, "", "", "")
	}
	r := &reader{via: p.api}
	names, err := r.listBuckets(t.Context(), map[string]string{"prefix": "acme-", "max-keys": "2"})
	if err != nil || !slices.Equal(names, want) {
		t.Errorf("%v %v", names, err)
	}
}

// TestTheHostsPolicyIsEnough: with what the host's role may do, backups can be made,
// pruned and brought back, and nothing that is gone for good is deleted.
func TestTheHostsPolicyIsEnough(t *testing.T) {
	c := newCloud(t, func(cfg *alicloudsim.Config) {
		cfg.AccessKeys = append(cfg.AccessKeys, alicloudsim.AccessKey{ID: "host", Secret: "s", SecurityToken: "t", Allow: hostPermissions[:]})
	})
	c.apply(c.provider(), withBucket())
	b, err := bucket.New(bucket.Config{Endpoint: c.url, Bucket: "acme-backup", Region: "cn-hongkong", OSS: true, Now: time.Now,
		Sign: func(context.Context) (bucket.Credentials, error) {
			return bucket.Credentials{AccessKeyID: "host", SecretAccessKey: "s", SessionToken: "t"}, nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Put(t.Context(), "mx1/objects/a", strings.NewReader("mail"), bucket.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	body, _, err := b.Get(t.Context(), "mx1/objects/a")
	if err != nil {
		t.Fatal(err)
	}
	body.Close()
	n := 0
	for _, err := range b.List(t.Context(), "mx1/") {
		if n++; err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Delete(t.Context(), "mx1/objects/a"); err != nil || n != 1 {
		t.Error(n, err)
	}
	if _, err := b.Call(t.Context(), bucket.Request{Method: http.MethodDelete}); err == nil {
		t.Error("the host may delete the bucket")
	}
	if text := HostPolicyJSON("acme-backup"); strings.Contains(text, "DeleteObjectVersion") {
		t.Errorf("versions can be deleted: %s", text)
	}
}
