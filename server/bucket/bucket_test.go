package bucket_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailform/server/bucket"
	"mailform/server/bucket/bucketsim"
)

var keys = bucket.Credentials{AccessKeyID: "id", SecretAccessKey: "secret"}

func newSim() *bucketsim.Sim {
	return &bucketsim.Sim{Bucket: "acme-mail", Keys: map[string]string{"id": "secret"}, Now: time.Now, Page: 3}
}

// clients are the ways to the same simulator: S3 over HTTP, and OSS.
func clients(t *testing.T, sim *bucketsim.Sim) map[string]*bucket.Client {
	srv := httptest.NewServer(sim)
	t.Cleanup(srv.Close)
	out := map[string]*bucket.Client{}
	for name, c := range map[string]bucket.Config{
		"S3":  {Endpoint: srv.URL},
		"OSS": {Endpoint: "https://oss-cn-hongkong.aliyuncs.com", HTTP: &http.Client{Transport: sim.Transport()}},
	} {
		c.Bucket, c.Credentials, c.Now = "acme-mail", keys, time.Now
		client, err := bucket.New(c)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = client
	}
	return out
}

func put(t *testing.T, c *bucket.Client, key, body string, create bool) error {
	t.Helper()
	return c.Put(t.Context(), key, strings.NewReader(body), bucket.PutOptions{Create: create, ContentType: "text/plain"})
}

func list(t *testing.T, c *bucket.Client, prefix string) []string {
	t.Helper()
	var out []string
	for o, err := range c.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		if o.Modified.IsZero() {
			t.Errorf("%s: no time of change", o.Key)
		}
		out = append(out, o.Key)
	}
	return out
}

// walk is what every service must do; it leaves the bucket empty.
func walk(t *testing.T, c *bucket.Client) {
	const odd = "lock/a b+c%d&e=ü/~.*'(x)"
	if err := put(t, c, odd, "one", true); err != nil {
		t.Fatal(err)
	}
	if err := put(t, c, odd, "two", true); !errors.Is(err, bucket.ErrExists) {
		t.Fatalf("created twice: %v", err)
	}
	body, o, err := c.Get(t.Context(), odd)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(body)
	body.Close()
	if err != nil || string(text) != "one" || o.ETag == "" || o.Modified.IsZero() || o.Served.Sub(o.Modified).Abs() > time.Minute {
		t.Errorf("%q, %v, %+v", text, err, o)
	}
	if err := put(t, c, odd, "three", false); err != nil {
		t.Fatal(err)
	}
	for i := range 7 {
		if err := put(t, c, fmt.Sprintf("lock/%02d", i), "", true); err != nil {
			t.Fatal(err)
		}
	}
	got := list(t, c, "lock/")
	if len(got) != 8 || got[0] != "lock/00" || got[7] != odd {
		t.Errorf("list: %q", got)
	}
	for o := range c.List(t.Context(), "lock/") {
		if o.Key != "lock/00" {
			t.Errorf("the list goes on after it was left: %s", o.Key)
		}
		break
	}
	for _, k := range append(got, "lock/absent") {
		if err := c.Delete(t.Context(), k); err != nil {
			t.Error(err)
		}
	}
	if _, _, err := c.Get(t.Context(), odd); !errors.Is(err, bucket.ErrNotFound) {
		t.Errorf("get what was deleted: %v", err)
	}
	if got := list(t, c, ""); len(got) != 0 {
		t.Errorf("left: %q", got)
	}
}

func TestWalk(t *testing.T) {
	for name, c := range clients(t, newSim()) {
		t.Run(name, func(t *testing.T) { walk(t, c) })
	}
}

func TestRefusals(t *testing.T) {
	sim := newSim()
	ok := clients(t, sim)
	for name, c := range ok {
		wrong := *c
		wrong.Credentials.SecretAccessKey = "wrong"
		err := put(t, &wrong, "k", "x", false)
		if !errors.Is(err, bucket.ErrDenied) || !strings.Contains(err.Error(), "SignatureDoesNotMatch") || strings.Contains(err.Error(), "wrong") {
			t.Errorf("%s: a wrong secret: %v", name, err)
		}
		late := *c
		late.Now = func() time.Time { return time.Now().Add(-time.Hour) }
		if err := put(t, &late, "k", "x", false); !errors.Is(err, bucket.ErrDenied) || !strings.Contains(err.Error(), "RequestTimeTooSkewed") {
			t.Errorf("%s: a clock that is an hour late: %v", name, err)
		}
		sim.SetFault(func(*http.Request) bucketsim.Fault { return bucketsim.Fault{Status: 503, Code: "SlowDown"} })
		if err := put(t, c, "k", "x", false); !errors.Is(err, bucket.ErrBusy) {
			t.Errorf("%s: a busy service: %v", name, err)
		}
		sim.SetFault(func(*http.Request) bucketsim.Fault {
			return bucketsim.Fault{Status: 409, Code: "ConditionalRequestConflict"}
		})
		if err := put(t, c, "k", "x", true); !errors.Is(err, bucket.ErrConflict) || errors.Is(err, bucket.ErrExists) {
			t.Errorf("%s: a conflict: %v", name, err)
		}
		sim.SetFault(func(*http.Request) bucketsim.Fault { return bucketsim.Fault{Lose: true} })
		var refused *bucket.Error
		if err := put(t, c, "k", "x", false); err == nil || errors.As(err, &refused) {
			t.Errorf("%s: a lost answer: %v", name, err)
		}
		sim.SetFault(nil)
		if got := list(t, c, "k"); len(got) != 1 {
			t.Errorf("%s: %q: only the request whose answer was lost has happened", name, got)
		}
		if err := c.Delete(t.Context(), "k"); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []bucket.Config{
		{Endpoint: "oss-cn-hongkong.aliyuncs.com", Bucket: "abc"},
		{Endpoint: "https://user:pw@s3.example", Bucket: "abc"},
		{Endpoint: "https://s3.example", Bucket: "a/../b"},
	} {
		if _, err := bucket.New(bad); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
}

func TestEnvCredentials(t *testing.T) {
	env := map[string]string{"ALIBABA_CLOUD_ACCESS_KEY_ID": "a", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "b", "ALIBABA_CLOUD_SECURITY_TOKEN": "c"}
	get := func(n string) string { return env[n] }
	if c, err := bucket.EnvCredentials(get); err != nil || c != (bucket.Credentials{AccessKeyID: "a", SecretAccessKey: "b", SessionToken: "c"}) {
		t.Errorf("%+v, %v", c, err)
	}
	env["AWS_ACCESS_KEY_ID"] = "d"
	if _, err := bucket.EnvCredentials(get); err == nil || !strings.Contains(err.Error(), "AWS_SECRET_ACCESS_KEY") {
		t.Errorf("half of a key: %v", err)
	}
	env["AWS_SECRET_ACCESS_KEY"] = "e"
	if c, err := bucket.EnvCredentials(get); err != nil || c.AccessKeyID != "d" || c.SessionToken != "" {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := bucket.EnvCredentials(func(string) string { return "" }); err == nil {
		t.Error("no credentials are no error")
	}
}

// TestRealService walks over an S3 service of other people's making, Versity's
// gateway, when it is installed.
func TestRealService(t *testing.T) {
	program, err := exec.LookPath("versitygw")
	if err != nil {
		t.Skip("versitygw is not installed")
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "acme-mail"), 0o755); err != nil {
		t.Fatal(err)
	}
	socket := freeAddr(t)
	var log bytes.Buffer
	cmd := exec.Command(program, "--port", socket, "--access", keys.AccessKeyID, "--secret", keys.SecretAccessKey, "posix", dir)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	c, err := bucket.New(bucket.Config{Endpoint: "http://" + socket, Bucket: "acme-mail", Credentials: keys, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		_, _, err := c.Get(t.Context(), "absent")
		if errors.Is(err, bucket.ErrNotFound) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("it does not answer: %v\n%s", err, log.String())
		}
	}
	walk(t, c)
}

// freeAddr is a loopback address that nobody listens on.
func freeAddr(t *testing.T) string {
	srv := httptest.NewUnstartedServer(nil)
	defer srv.Listener.Close()
	return srv.Listener.Addr().String()
}
