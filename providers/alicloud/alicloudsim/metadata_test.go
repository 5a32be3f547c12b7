package alicloudsim

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"mailform/server/bucket"
	"mailform/server/bucket/bucketsim"
)

// TestAnInstanceSignsAsItsRole: the credentials of the metadata service reach the
// bucket, for what the role may and no longer than they are good; an instance without
// a role, and who does not ask for a token first, get none.
func TestAnInstanceSignsAsItsRole(t *testing.T) {
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	c := newClient(t, Config{Now: func() time.Time { return now }, Roles: []string{"mail"}, RoleAllow: []string{"oss:PutObject", "oss:GetObject"}})
	ok := c.want("")
	_, vsw, sg, without, _ := c.ready()
	inst := ok(c.ecs("RunInstances", "InstanceType", "ecs.g7.large", "ImageId", "debian_12_11_x64_20G_alibase_20250716.vhd", "VSwitchId", vsw, "SecurityGroupId", sg,
		"SystemDisk.Category", "cloud_essd", "RamRoleName", "mail"))
	with := inst["InstanceIdSets"].(map[string]any)["InstanceIdSet"].([]any)[0].(string)
	c.sim.mu.Lock()
	c.sim.buckets["backups"] = &bucketState{name: "backups", store: &bucketsim.Sim{Bucket: "backups", Now: c.sim.cfg.Now}}
	c.sim.mu.Unlock()
	oss := httptest.NewServer(c.sim)
	defer oss.Close()
	client := func(id string) *bucket.Client {
		service := httptest.NewServer(c.sim.Metadata(id))
		t.Cleanup(service.Close)
		b, err := bucket.New(bucket.Config{Endpoint: oss.URL, Bucket: "backups", Region: "cn-hongkong", OSS: true, Now: c.sim.cfg.Now,
			Sign: bucket.Role(bucket.RoleConfig{URL: service.URL + "/latest/", Now: c.sim.cfg.Now})})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	put := func(b *bucket.Client) error {
		return b.Put(context.Background(), "mx1/part", bytes.NewReader([]byte("mail")), bucket.PutOptions{})
	}
	b := client(with)
	for range 2 {
		if err := put(b); err != nil {
			t.Fatal(err)
		}
		now = now.Add(roleTime + time.Minute) // the first credentials have ended
	}
	if got := c.sim.Objects("backups"); len(got) != 1 || got[0] != "mx1/part" {
		t.Errorf("in the bucket: %v", got)
	}
	var refused *bucket.Error
	if err := b.Delete(context.Background(), "mx1/part"); !errors.As(err, &refused) || refused.Code != "AccessDenied" {
		t.Errorf("a role that may not delete: %v", err)
	}
	if err := put(client(without)); !errors.Is(err, bucket.ErrNoRole) {
		t.Errorf("an instance without a role: %v", err)
	}
	w := httptest.NewRecorder()
	c.sim.Metadata(with).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/latest/"+metadataRole+"mail", nil))
	if w.Code != http.StatusUnauthorized || strings.Contains(w.Body.String(), "AccessKey") {
		t.Errorf("without a token: %d %s", w.Code, w.Body)
	}
}
