package alicloud

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"mailform/plan"
	"mailform/specs"
)

// The bucket that backups go to. It can hold all mail of the stack, so it is private,
// closed to the public, encrypted and versioned, and it never goes while anything is
// in it: the vendor refuses that, and mailform empties no bucket.

const kindBucket = "bucket"

// The operations on a bucket.
const (
	opCreateBucket     = "PutBucket"
	opDeleteBucket     = "DeleteBucket"
	opTagBucket        = "PutBucketTags"
	opUntagBucket      = "UntagBucket"
	opBucketACL        = "PutBucketAcl"
	opBucketBlock      = "PutBucketPublicAccessBlock"
	opBucketVersioning = "PutBucketVersioning"
	opBucketEncryption = "PutBucketEncryption"
	opBucketLifecycle  = "PutBucketLifecycle"
)

// uploadsDays is how long the parts of an upload that was never completed stay.
const uploadsDays = 7

// bucketAddress is the address of a bucket, by its name: another name is another
// bucket, and the old one stays until it may go.
func bucketAddress(name string) plan.Address { return plan.Addr("backup", name) }

const bucketProtected = "the backups are in it"

func (p *Provider) declareBucket(spec *specs.Spec) plan.Resource {
	b := spec.Backup
	return plan.Resource{
		Address: bucketAddress(b.Bucket), Provider: Name, Kind: kindBucket,
		Attrs: plan.Attrs{
			"region":              plan.String(p.region),
			"marked":              plan.Bool(true),
			"acl":                 plan.String("private"),
			"block_public_access": plan.Bool(true),
			"versioning":          plan.String("Enabled"),
			"encrypted":           plan.Bool(true),
			"versions_kept_days":  plan.Int(int64((b.Keep + 24*time.Hour - 1) / (24 * time.Hour))),
			"uploads_kept_days":   plan.Int(uploadsDays),
		},
		ReplaceOn: []string{"region"},
		Protected: bucketProtected,
		Effect:    "where the hosts copy their mail to",
		Origin:    b.Range,
	}
}

// foundBucket is a bucket that carries our mark, or that the spec wants by its name.
type foundBucket struct {
	name  string
	info  bucketInfo
	rules lifecycle
	tags  bucketTags
	begun bool // made just now, most likely by us, and not marked yet
}

func (b foundBucket) region() string { return strings.TrimPrefix(b.info.Bucket.Location, "oss-") }

// stackBuckets finds a stack's buckets by their mark, and the one that the spec wants
// by its name. A spec without a bucket costs one call: most accounts have not activated
// OSS then, and what these credentials may not list they have not made.
func (r *reader) stackBuckets(ctx context.Context, scope plan.Scope) ([]foundBucket, error) {
	var wanted []string
	for _, d := range scope.Desired {
		if d.Kind == kindBucket {
			wanted = append(wanted, d.Address.Segments()[1])
		}
	}
	names, err := r.bucketNames(ctx, scope.Stack)
	if len(wanted) == 0 && (isCode(err, "UserDisable") || plan.ClassOf(explain("", err)) == plan.ErrCredentials) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []foundBucket
	for _, name := range slices.Compact(slices.Sorted(slices.Values(append(names, wanted...)))) {
		b, there, err := r.bucket(ctx, name, scope.Stack, slices.Contains(names, name))
		if gone(err) {
			continue // it went while it was looked at
		}
		if err != nil {
			return nil, err
		}
		if there {
			all = append(all, b)
		}
	}
	return all, nil
}

// bucket reads one bucket. marked says that it is known to carry the stack's mark.
func (r *reader) bucket(ctx context.Context, name, stack string, marked bool) (foundBucket, bool, error) {
	b := foundBucket{name: name}
	var there bool
	var err error
	if b.info, there, err = r.bucketInfo(ctx, name, ""); err != nil || !there {
		if isCode(err, "AccessDenied") && !marked {
			err = r.foreignName(ctx, name, err)
		}
		return b, false, err
	}
	if b.rules, err = r.lifecycleOf(ctx, name, b.region()); err != nil {
		return b, false, err
	}
	if marked {
		b.tags.Tags = []bucketTag{{tagStack, stack}}
		return b, true, nil
	}
	if b.tags, err = r.tagsOf(ctx, name, b.region()); err != nil {
		return b, false, err
	}
	// The vendor cannot mark a bucket in the call that makes it. One that is as that
	// call leaves it and has nothing in it is one that we began to make.
	i := b.info.Bucket
	if len(b.tags.Tags) == 0 && i.ACL == "private" && i.Versioning == "" && !b.encrypted() && len(b.rules.Rules) == 0 {
		b.begun, err = r.emptyBucket(ctx, name, b.region())
	}
	return b, err == nil, err
}

func (b foundBucket) encrypted() bool { return !in(b.info.Bucket.SSEAlgorithm, "", "None") }

// addBucket lists a bucket.
func (o *observer) addBucket(b foundBucket) {
	a := bucketAddress(b.name)
	i := b.info.Bucket
	object := plan.Object{Address: a, Provider: Name, Kind: kindBucket, ID: b.name, Owner: plan.Unowned, Forgettable: true, Protected: bucketProtected}
	switch owner := b.tags.value(tagStack); {
	case owner == o.scope.Stack, b.begun:
		object.Owner = plan.Ours
	case owner != "":
		object.Owner, object.OwnedBy = plan.OtherStack, owner
	}
	object.Attrs = plan.Attrs{
		"region":              plan.String(b.region()),
		"acl":                 plan.String(i.ACL),
		"block_public_access": plan.Bool(i.BlockPublicAccess),
		"versioning":          plan.String(i.Versioning),
		"encrypted":           plan.Bool(b.encrypted()),
	}
	if i.Versioning == "" {
		object.Attrs["versioning"] = plan.String("off")
	}
	for _, rule := range b.rules.Rules {
		if t := rule.terms(); t.ID == lifecycleID && t.Status == "Enabled" && t.Prefix == "" && t.Markers {
			object.Attrs["versions_kept_days"], object.Attrs["uploads_kept_days"] = plan.Int(int64(t.VersionsDays)), plan.Int(int64(t.UploadsDays))
		}
	}
	// One that is not ours needs the mark when it is taken over; one that is as wanted
	// is adopted, which marks it.
	marked := object.Owner == plan.Ours && !b.begun
	if object.Owner == plan.Unowned {
		marked = true
		for name, want := range o.desired[a] {
			marked = marked && (name == "marked" || want.Equal(object.Attrs[name]))
		}
	}
	object.Attrs["marked"] = plan.Bool(marked)
	o.objects = append(o.objects, object)
}

// bucketInputs are what every operation on a bucket needs.
func bucketInputs(ch plan.Change, attrs plan.Attrs) plan.Attrs {
	return plan.Attrs{"name": plan.String(ch.Address.Segments()[1]), "region": attrs["region"]}
}

func (c *compiler) createBucket(ch plan.Change) {
	c.then(ch.Address, opCreateBucket, "make the bucket", 2, bucketInputs(ch, ch.After))
	ch.Before = nil
	c.setBucket(ch)
}

// setBucket brings a bucket's settings about, one by one: the mark first, and what
// closes it before what only makes it better.
func (c *compiler) setBucket(ch plan.Change) {
	differs := func(names ...string) bool {
		return slices.ContainsFunc(names, func(name string) bool { return !ch.After[name].Equal(ch.Before[name]) })
	}
	set := func(kind, title string, names ...string) {
		inputs := bucketInputs(ch, ch.After)
		for _, name := range names {
			inputs[name] = ch.After[name]
		}
		c.then(ch.Address, kind, title, 1, inputs)
	}
	if ch.Action == plan.Adopt || differs("marked") {
		set(opTagBucket, "mark as ours the bucket")
	}
	if ch.Before != nil && differs("acl") { // a new one is private
		set(opBucketACL, "make private the bucket", "acl")
	}
	if differs("block_public_access") {
		set(opBucketBlock, "close to the public the bucket")
	}
	if differs("versioning") {
		set(opBucketVersioning, "keep old versions in", "versioning")
	}
	if differs("encrypted") {
		set(opBucketEncryption, "encrypt what comes into")
	}
	if differs("versions_kept_days", "uploads_kept_days") {
		set(opBucketLifecycle, "say how long old versions stay in", "versions_kept_days", "uploads_kept_days")
	}
}

// doBucket carries out what is about the bucket of backups.
func (r *run) doBucket(ctx context.Context) (plan.Result, error) {
	set := func(a action, param string, body any) (plan.Result, error) {
		return r.askBucket(ctx, ossRequest{action: a, method: http.MethodPut, params: map[string]string{param: ""}, body: body})
	}
	switch r.op.Kind {
	case opCreateBucket:
		return r.askBucket(ctx, ossRequest{action: ossPutBucket, method: http.MethodPut, header: map[string]string{"x-oss-acl": "private"}, body: createBucketBody{StorageClass: "Standard"}})
	case opDeleteBucket:
		res, err := r.askBucket(ctx, ossRequest{action: ossDeleteBucket, method: http.MethodDelete})
		if gone(err) {
			err = nil
		}
		return res, err
	case opTagBucket:
		return r.markBucket(ctx, true)
	case opUntagBucket:
		return r.markBucket(ctx, false)
	case opBucketACL:
		return r.askBucket(ctx, ossRequest{action: ossPutBucketAcl, method: http.MethodPut, params: map[string]string{"acl": ""}, header: map[string]string{"x-oss-acl": r.text("acl")}})
	case opBucketBlock:
		return set(ossPutBucketPublicAccessBlock, "publicAccessBlock", publicAccessBlockBody{BlockPublicAccess: true})
	case opBucketVersioning:
		return set(ossPutBucketVersioning, "versioning", versioningBody{Status: r.text("versioning")})
	case opBucketEncryption:
		return set(ossPutBucketEncryption, "encryption", encryptionBody{Algorithm: "AES256"})
	case opBucketLifecycle:
		l, err := r.lifecycleOf(ctx, r.text("name"), r.text("region"))
		if err != nil {
			return plan.Result{}, err
		}
		l.Rules = slices.DeleteFunc(l.Rules, func(rule lifecycleRule) bool { return rule.terms().ID == lifecycleID })
		l.Rules = append(l.Rules, ourRule(int(r.op.Inputs["versions_kept_days"].Num()), int(r.op.Inputs["uploads_kept_days"].Num())))
		return set(ossPutBucketLifecycle, "lifecycle", l)
	}
	return plan.Result{}, r.internal("this version of mailform does not know the operation " + r.op.Kind)
}

// askBucket sends a request about the operation's bucket.
func (r *run) askBucket(ctx context.Context, q ossRequest) (plan.Result, error) {
	q.bucket, q.region = r.text("name"), r.text("region")
	err := r.oss(ctx, q, nil)
	if isCode(err, "BucketNotEmpty") {
		e := explain(r.step(), err).(*plan.Error)
		e.Fix = strings.ReplaceAll(e.Fix, "NAME", q.bucket)
		err = e
	}
	return plan.Result{}, err
}

// markBucket puts our tags on a bucket or takes them off. The vendor exchanges all
// tags at once, so those of others are sent along.
func (r *run) markBucket(ctx context.Context, ours bool) (plan.Result, error) {
	t, err := r.tagsOf(ctx, r.text("name"), r.text("region"))
	if gone(err) && !ours {
		return plan.Result{}, nil
	}
	if err != nil {
		return plan.Result{}, err
	}
	t.Tags = slices.DeleteFunc(t.Tags, func(tag bucketTag) bool { return in(tag.Key, tagStack, tagAddress) })
	if ours {
		t.Tags = append(t.Tags, bucketTag{tagStack, r.stack}, bucketTag{tagAddress, string(r.address())})
	}
	params := map[string]string{"tagging": ""}
	if len(t.Tags) == 0 {
		return r.askBucket(ctx, ossRequest{action: ossDeleteBucketTagging, method: http.MethodDelete, params: params})
	}
	return r.askBucket(ctx, ossRequest{action: ossPutBucketTagging, method: http.MethodPut, params: params, body: t})
}
