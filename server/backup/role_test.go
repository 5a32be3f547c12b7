package backup

import (
	"context"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"mailform/server/bucket"
	"mailform/server/bucket/bucketsim"
	"mailform/server/manifest"
)

// TestAHostSignsAsItsRole: where the settings have no key, what the machine's role
// gives signs, with its token.
func TestAHostSignsAsItsRole(t *testing.T) {
	sim := &bucketsim.Sim{Bucket: "acme-mail", Keys: map[string]string{"role": "secret"}, Token: "token", Now: time.Now}
	role := func(context.Context) (bucket.Credentials, error) {
		return bucket.Credentials{AccessKeyID: "role", SecretAccessKey: "secret", SessionToken: "token"}, nil
	}
	b := manifest.Backup{Endpoint: "https://oss-cn-hongkong-internal.aliyuncs.com", Bucket: "acme-mail", Region: "cn-hongkong", Role: true, OSS: true}
	p, err := NewPlace(Config{Logger: slog.New(slog.DiscardHandler), HTTP: &http.Client{Transport: sim.Transport()}, Role: role}, b, "mx1")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.putNew(t.Context(), "mx1/backups/a.json", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if got := sim.Objects(); len(got) != 1 || got[0] != "mx1/backups/a.json" {
		t.Errorf("stored %v", got)
	}
}
