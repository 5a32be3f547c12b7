package alicloud

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"mailform/plan"
	"mailform/providers/alicloud/alicloudsim"
)

func TestCredentialsFromEnv(t *testing.T) {
	for _, tc := range []struct {
		name string
		env  func(string) string
		want Credentials
		err  string
	}{
		{"current names", env("ALIBABA_CLOUD_ACCESS_KEY_ID", "i", "ALIBABA_CLOUD_ACCESS_KEY_SECRET", "s", "ALIBABA_CLOUD_SECURITY_TOKEN", "t"), Credentials{"i", "s", "t"}, ""},
		{"older names", env("ALICLOUD_ACCESS_KEY", "i", "ALICLOUD_SECRET_KEY", "s"), Credentials{"i", "s", ""}, ""},
		{"current before older", env("ALICLOUD_ACCESS_KEY", "o", "ALICLOUD_SECRET_KEY", "o", "ALIBABA_CLOUD_ACCESS_KEY_ID", "i", "ALIBABA_CLOUD_ACCESS_KEY_SECRET", "s"), Credentials{"i", "s", ""}, ""},
		{"half", env("ALIBABA_CLOUD_ACCESS_KEY_ID", "i"), Credentials{}, "ALIBABA_CLOUD_ACCESS_KEY_SECRET is not"},
		{"other half", env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "s"), Credentials{}, "ALIBABA_CLOUD_ACCESS_KEY_ID is not"},
		{"none", env(), Credentials{}, "ALIBABA_CLOUD_ACCESS_KEY_ID is not set"},
	} {
		c, err := CredentialsFromEnv(tc.env)
		if c != tc.want || (err == nil) != (tc.err == "") || err != nil && (!strings.Contains(err.Error(), tc.err) || plan.ClassOf(err) != plan.ErrCredentials) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

func TestFindCredentials(t *testing.T) {
	file := `{"current":"work","profiles":[
		{"name":"odd","mode":"RamRoleArn","ram_role_arn":"r"},
		{"name":"work","mode":"AK","access_key_id":"i","access_key_secret":"s"},
		{"name":"sts","mode":"StsToken","access_key_id":"i2","access_key_secret":"s2","sts_token":"t"}]}`
	read := func(name string) ([]byte, error) {
		if name == "/home/me/.aliyun/config.json" {
			return []byte(file), nil
		}
		return nil, os.ErrNotExist
	}
	if c, err := FindCredentials(env(), "/home/me", read)(); err != nil || c != (Credentials{"i", "s", ""}) {
		t.Errorf("current profile: %v", err)
	}
	if c, err := FindCredentials(env("ALIBABA_CLOUD_PROFILE", "sts"), "/home/me", read)(); err != nil || c.SecurityToken != "t" {
		t.Errorf("named profile: %v", err)
	}
	if _, err := FindCredentials(env("ALIBABA_CLOUD_PROFILE", "odd"), "/home/me", read)(); err == nil || !strings.Contains(err.Error(), "RamRoleArn") {
		t.Errorf("unknown mode: %v", err)
	}
	if _, err := FindCredentials(env("ALIBABA_CLOUD_PROFILE", "nobody"), "/home/me", read)(); err == nil || !strings.Contains(err.Error(), "no profile \"nobody\"") {
		t.Errorf("unknown profile: %v", err)
	}
	if _, err := FindCredentials(env("ALIBABA_CLOUD_ACCESS_KEY_ID", "i"), "/home/me", read)(); err == nil {
		t.Error("half an environment fell back to the file")
	}
	if _, err := FindCredentials(env(), "/elsewhere", read)(); plan.ClassOf(err) != plan.ErrCredentials || !strings.Contains(fixOf(err), "ALIBABA_CLOUD_ACCESS_KEY_ID") {
		t.Errorf("nothing anywhere: %v", err)
	}
	broken := func(string) ([]byte, error) { return []byte(`{"profiles":[{"access_key_secret":"hidden"`), nil }
	if _, err := FindCredentials(env(), "/home/me", broken)(); err == nil || strings.Contains(err.Error(), "hidden") {
		t.Errorf("broken file: %v", err)
	}
}

func TestSharedCredentialsFile(t *testing.T) {
	file := `# the vendor's SDKs
[default]
enable = true
type = access_key
access_key_id = i
access_key_secret = s

[tmp]
type=sts
access_key_id=i2
access_key_secret=s2
security_token=t2
[off]
enable = false
`
	read := func(name string) ([]byte, error) {
		if name == "/home/me/.alibabacloud/credentials" || name == "/elsewhere" {
			return []byte(file), nil
		}
		return nil, os.ErrNotExist
	}
	for _, tc := range []struct {
		env  func(string) string
		home string
		want Credentials
		err  string
	}{
		{env(), "/home/me", Credentials{"i", "s", ""}, ""},
		{env("ALIBABA_CLOUD_PROFILE", "tmp"), "/home/me", Credentials{"i2", "s2", "t2"}, ""},
		{env("ALIBABA_CLOUD_CREDENTIALS_FILE", "/elsewhere"), "", Credentials{"i", "s", ""}, ""},
		{env("ALIBABA_CLOUD_PROFILE", "off"), "/home/me", Credentials{}, "no profile"},
		{env(), "/home/you", Credentials{}, "ALIBABA_CLOUD_ACCESS_KEY_ID is not set"},
	} {
		c, err := FindCredentials(tc.env, tc.home, read)()
		if c != tc.want || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
			t.Errorf("%v %v, want %q", c == tc.want, err, tc.err)
		}
	}
}

// roles stands for the metadata service and for STS.
type roles struct {
	asked  []string
	until  time.Time
	broken bool
}

func (r *roles) RoundTrip(req *http.Request) (*http.Response, error) {
	answer := func(status int, text string) (*http.Response, error) {
		return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(text)), Header: http.Header{}, Request: req}, nil
	}
	body := ""
	if req.Body != nil {
		b, _ := io.ReadAll(req.Body)
		body = string(b)
	}
	r.asked = append(r.asked, req.Method+" "+req.URL.Path)
	key := fmt.Sprintf(`{"AccessKeyId":"STS.%d","AccessKeySecret":"hidden","SecurityToken":"token","Expiration":%q}`, len(r.asked), r.until.Format(time.RFC3339))
	form, _ := url.ParseQuery(body)
	switch {
	case r.broken:
		return answer(500, `{"AccessKeySecret":"hidden"}`)
	case req.URL.Host == "100.100.100.200" && req.Method == http.MethodPut:
		return answer(200, "metadata-token")
	case req.URL.Host == "100.100.100.200" && req.Header.Get("X-aliyun-ecs-metadata-token") != "metadata-token":
		return answer(403, "no token")
	case req.URL.Path == "/latest/meta-data/ram/security-credentials/":
		return answer(200, "mail-admin\n")
	case req.URL.Path == "/latest/meta-data/ram/security-credentials/mail-admin":
		return answer(200, key)
	case req.URL.Host == "sts.aliyuncs.com" && form.Get("Action") == "AssumeRoleWithOIDC":
		if form.Get("OIDCToken") != "ey.ci.token" || form.Get("RoleArn") != "acs:ram::1:role/ci" || form.Get("OIDCProviderArn") != "acs:ram::1:oidc-provider/gh" {
			return answer(400, `{"Code":"AuthenticationFail.OIDCToken.Invalid","Message":"hidden"}`)
		}
		return answer(200, `{"RequestId":"R","Credentials":`+key+`}`)
	}
	return answer(404, "")
}

func TestRolesAreTakenHeldAndRenewed(t *testing.T) {
	ci := env("ALIBABA_CLOUD_ROLE_ARN", "acs:ram::1:role/ci", "ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "acs:ram::1:oidc-provider/gh", "ALIBABA_CLOUD_OIDC_TOKEN_FILE", "/run/token")
	files := func(name string) ([]byte, error) {
		switch name {
		case "/run/token":
			return []byte("ey.ci.token\n"), nil
		case "/home/me/.aliyun/config.json":
			return []byte(`{"current":"ecs","profiles":[{"name":"ecs","mode":"EcsRamRole","ram_role_name":"mail-admin"}]}`), nil
		}
		return nil, os.ErrNotExist
	}
	for name, tc := range map[string]struct {
		env  func(string) string
		home string
		asks int
	}{
		"CI":            {ci, "/home/you", 1},
		"instance":      {env("ALIBABA_CLOUD_ECS_METADATA", "mail-admin"), "/home/you", 2},
		"profile":       {env(), "/home/me", 2},
		"CI before all": {ci, "/home/me", 1},
	} {
		now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		r := &roles{until: now.Add(time.Hour)}
		find := FindCredentials(tc.env, tc.home, files, Over(r), At(func() time.Time { return now }))
		first, err := find()
		if err != nil || first.SecurityToken != "token" || first.AccessKeySecret != "hidden" || len(r.asked) != tc.asks {
			t.Errorf("%s: %v after %v", name, err, r.asked)
			continue
		}
		if again, _ := find(); again != first || len(r.asked) != tc.asks {
			t.Errorf("%s: asked again: %v", name, r.asked)
		}
		now = now.Add(56 * time.Minute)
		// When there are no new ones the old ones serve to their end …
		r.broken = true
		if old, err := find(); err != nil || old != first {
			t.Errorf("%s: shortly before the end: %v", name, err)
		}
		r.broken, r.until = false, now.Add(time.Hour)
		if fresh, err := find(); err != nil || fresh == first {
			t.Errorf("%s: not renewed: %v", name, err)
		}
		// … and not beyond.
		r.broken = true
		now = now.Add(2 * time.Hour)
		if _, err := find(); plan.ClassOf(err) != plan.ErrCredentials || strings.Contains(err.Error(), "hidden") || fixOf(err) == "" {
			t.Errorf("%s: after the end: %v", name, err)
		}
	}
	// The metadata service is not asked unless it is meant.
	r := &roles{}
	for _, e := range []func(string) string{env(), env("ALIBABA_CLOUD_ECS_METADATA", "x", "ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")} {
		if _, err := FindCredentials(e, "/home/you", files, Over(r))(); err == nil || len(r.asked) > 0 {
			t.Errorf("%v; asked %v", err, r.asked)
		}
	}
	if _, err := FindCredentials(env("ALIBABA_CLOUD_OIDC_TOKEN_FILE", "/run/token"), "/home/me", files, Over(r))(); err == nil || !strings.Contains(err.Error(), "ALIBABA_CLOUD_ROLE_ARN is not set") {
		t.Errorf("half of OIDC: %v", err)
	}
	wrong := func(string) ([]byte, error) { return []byte("other"), nil }
	if _, err := FindCredentials(ci, "", wrong, Over(r))(); err == nil || !strings.Contains(err.Error(), "400 AuthenticationFail.OIDCToken.Invalid") || strings.Contains(err.Error(), "hidden") {
		t.Errorf("a token that is refused: %v", err)
	}
}

// TestCredentialsThatExpireOnTheWay: the vendor refuses the old ones in the middle of
// an apply, and the next ones are already there.
func TestCredentialsThatExpireOnTheWay(t *testing.T) {
	var mu sync.Mutex
	now, calls, expired := time.Now(), 0, false
	c := newCloud(t, func(cfg *alicloudsim.Config) {
		cfg.AccessKeys = []alicloudsim.AccessKey{{ID: "STS.1", Secret: "a", SecurityToken: "t1", Expires: now.Add(time.Minute)}, {ID: "STS.2", Secret: "b", SecurityToken: "t2"}}
		cfg.Now = func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return now
		}
	})
	p := c.provider(func(cfg *Config) {
		cfg.Credentials = func() (Credentials, error) {
			mu.Lock()
			defer mu.Unlock()
			if calls++; calls == 30 {
				now, expired = now.Add(2*time.Minute), true
				return Credentials{"STS.1", "a", "t1"}, nil
			}
			if expired {
				return Credentials{"STS.2", "b", "t2"}, nil
			}
			return Credentials{"STS.1", "a", "t1"}, nil
		}
	})
	c.apply(p, testSpec())
	if !expired || len(c.machines) != 1 {
		t.Errorf("expired %v, %d machines", expired, len(c.machines))
	}
}

func FuzzProfile(f *testing.F) {
	f.Add([]byte(`{"current":"a","profiles":[{"name":"a","mode":"AK","access_key_id":"i","access_key_secret":"s"}]}`), "")
	f.Add([]byte(`[]`), "x")
	f.Add([]byte("[default]\ntype = sts\naccess_key_id=i\n"), "")
	f.Add([]byte("[]\n[x]\n=\n[default"), "x")
	f.Fuzz(func(t *testing.T, text []byte, profile string) {
		for _, shared := range []string{"", "/shared"} {
			read := func(name string) ([]byte, error) {
				if (name == "/shared") != (shared != "") {
					return nil, os.ErrNotExist
				}
				return text, nil
			}
			c, err := FindCredentials(env("ALIBABA_CLOUD_PROFILE", profile, "ALIBABA_CLOUD_CREDENTIALS_FILE", shared), "/home/me", read, Over(&roles{broken: true}))()
			if err == nil && (c.AccessKeyID == "" || c.AccessKeySecret == "") {
				t.Error("no credentials and no error")
			}
			if err != nil && plan.ClassOf(err) != plan.ErrCredentials {
				t.Errorf("class %q", plan.ClassOf(err))
			}
		}
	})
}

// FuzzTemporary reads any answer of a role's: it is whole or an error, and never quoted.
func FuzzTemporary(f *testing.F) {
	f.Add([]byte(`{"AccessKeyId":"i","AccessKeySecret":"s","SecurityToken":"t","Expiration":"2026-01-02T03:04:05Z"}`))
	f.Add([]byte(`{"Expiration":1}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := readTemporary(text)
		if err == nil && (c.AccessKeyID == "" || c.AccessKeySecret == "" || c.SecurityToken == "" || c.until.IsZero()) {
			t.Errorf("%q gives half of it", text)
		}
		if err != nil && !strings.HasPrefix(err.Error(), "the answer holds no") {
			t.Errorf("%v", err)
		}
	})
}
