package bucket_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"mailform/server/bucket"
)

// metadata is an instance's metadata service in its hardened mode.
type metadata struct {
	role    string
	serial  int
	until   func() time.Time
	down    bool
	answers int
}

func (m *metadata) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.answers++
	const below = "/latest/meta-data/ram/security-credentials/"
	switch {
	case m.down:
		w.WriteHeader(http.StatusInternalServerError)
	case r.Method == http.MethodPut && r.URL.Path == "/latest/api/token" && r.Header.Get("X-aliyun-ecs-metadata-token-ttl-seconds") != "":
		fmt.Fprint(w, "token")
	case r.Header.Get("X-aliyun-ecs-metadata-token") != "token":
		w.WriteHeader(http.StatusForbidden)
	case m.role == "":
		w.WriteHeader(http.StatusNotFound)
	case r.URL.Path == below:
		fmt.Fprintln(w, m.role)
	case r.URL.Path == below+m.role:
		m.serial++
		fmt.Fprintf(w, `{"AccessKeyId": "id", "AccessKeySecret": "secret", "SecurityToken": "token-%d", "Expiration": %q, "Code": "Success"}`,
			m.serial, m.until().UTC().Format(time.RFC3339))
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func TestARoleSignsAndIsRenewed(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	m := &metadata{role: "mail-backup", until: func() time.Time { return now.Add(time.Hour) }}
	srv := httptest.NewServer(m)
	t.Cleanup(srv.Close)
	sign := bucket.Role(bucket.RoleConfig{URL: srv.URL + "/latest/", Now: func() time.Time { return now }})
	sim := newSim()
	sim.Now, sim.Token = func() time.Time { return now }, "token-1"
	c, err := bucket.New(bucket.Config{Endpoint: "https://oss-cn-hongkong.aliyuncs.com", Bucket: "acme-mail", Sign: sign,
		HTTP: &http.Client{Transport: sim.Transport()}, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	store := func(key string) {
		t.Helper()
		if err := put(t, c, key, "text", false); err != nil {
			t.Fatal(err)
		}
	}
	store("a")
	now = now.Add(54 * time.Minute)
	asked := m.answers
	store("b")
	if m.answers != asked {
		t.Error("credentials that are good for a while are asked for again")
	}
	// Five minutes before their end there are new ones, and none when nobody answers.
	now = now.Add(2 * time.Minute)
	m.down = true
	store("c")
	m.down, sim.Token = false, "token-2"
	store("d")
	m.down = true
	now = now.Add(time.Hour)
	if err := put(t, c, "e", "text", false); err == nil || !strings.Contains(err.Error(), "status 500") {
		t.Errorf("without credentials: %v", err)
	}
	m.down, m.role = false, ""
	if err := put(t, c, "e", "text", false); !errors.Is(err, bucket.ErrNoRole) {
		t.Errorf("without a role: %v", err)
	}
}

// FuzzRole holds that whatever the metadata service answers, credentials are complete or there are none.
func FuzzRole(f *testing.F) {
	f.Add(`{"AccessKeyId": "id", "AccessKeySecret": "secret", "SecurityToken": "t", "Expiration": "2026-01-02T03:04:05Z"}`)
	f.Add(`{"AccessKeyId": "id"}`)
	f.Add("<html>")
	f.Fuzz(func(t *testing.T, text string) {
		c, until, err := bucket.ReadRole([]byte(text))
		if err == nil && (c.AccessKeyID == "" || c.SecretAccessKey == "" || c.SessionToken == "" || until.IsZero()) {
			t.Errorf("%q gives %v", text, c.AccessKeyID)
		}
		if err != nil && len(text) > 12 && strings.Contains(err.Error(), text) {
			t.Errorf("the error quotes the answer: %v", err)
		}
	})
}
