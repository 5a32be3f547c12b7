package main

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"mailform/plan"
	"mailform/providers/lock"
	"mailform/server/bucket/bucketsim"
	"mailform/server/manifest"
	"mailform/specs"
)

// team is the bucket of a script, and the lease that somebody else has in it.
type team struct {
	sim  *bucketsim.Sim
	url  string
	lock plan.SharedLock
}

// teams are those of the running scripts.
var teams sync.Map

// elsewhere is a colleague at another machine.
var elsewhere = plan.Holder{Stack: "example-com", Who: "carol", Host: "elsewhere", PID: 4711, Command: "mailform apply", Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}

// scriptBucket starts an S3 service and sets BUCKET_URL and credentials.
func scriptBucket(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: bucket")
	}
	sim := &bucketsim.Sim{Bucket: "team-locks", Keys: map[string]string{"team": "team-secret"}, Now: time.Now}
	srv := httptest.NewServer(sim)
	ts.Defer(srv.Close)
	teams.Store(ts, &team{sim: sim, url: srv.URL})
	ts.Defer(func() { teams.Delete(ts) })
	ts.Setenv("BUCKET_URL", srv.URL)
	ts.Setenv("AWS_ACCESS_KEY_ID", "team")
	ts.Setenv("AWS_SECRET_ACCESS_KEY", "team-secret")
}

// scriptCarol lets a colleague take the team's lock, look away, or have the lease
// on the last host that was started.
func scriptCarol(ts *testscript.TestScript, neg bool, args []string) {
	switch {
	case neg || len(args) != 2:
	case args[0] == "takes" && args[1] == "bucket":
		v, ok := teams.Load(ts)
		if !ok {
			ts.Fatalf("no bucket was started")
		}
		t := v.(*team)
		l, err := lock.New(lock.Config{
			Stack: "example-com", Spec: &specs.Lock{Kind: lock.KindBucket, Endpoint: t.url, Bucket: "team-locks", Key: "mailform/example-com.lock"},
			Getenv: ts.Getenv, Now: time.Now,
		})
		ts.Check(err)
		_, err = l.Acquire(context.Background(), elsewhere)
		ts.Check(err)
		t.lock = l
		ts.Defer(l.Close)
		return
	case args[0] == "expires" && args[1] == "bucket":
		v, _ := teams.Load(ts)
		sim := v.(*team).sim
		sim.Now = func() time.Time { return time.Now().Add(2 * plan.LeaseTTL) }
		return
	case args[0] == "takes" && args[1] == "host":
		writeLease(ts, time.Minute)
		return
	case args[0] == "expires" && args[1] == "host":
		writeLease(ts, -time.Second)
		return
	}
	ts.Fatalf("usage: carol takes|expires bucket|host")
}

// writeLease gives carol a lease on the script's host, as an apply of hers would.
func writeLease(ts *testscript.TestScript, left time.Duration) {
	roots := worldOf(ts).HostRoots()
	layout := manifest.Layout{Root: roots[len(roots)-1]}
	var owner manifest.Owner
	data, err := os.ReadFile(layout.OwnerFile())
	ts.Check(err)
	ts.Check(json.Unmarshal(data, &owner))
	owner.Epoch++
	lease := manifest.Lease{ID: "CAROLS", Epoch: owner.Epoch, Holder: manifest.Holder(elsewhere), Seconds: 60, Expires: time.Now().Add(left)}
	for file, v := range map[string]any{layout.OwnerFile(): owner, layout.LeaseFile(): lease} {
		text, err := manifest.Encode(v)
		ts.Check(err)
		ts.Check(os.WriteFile(filepath.Clean(file), text, 0o644))
	}
}
