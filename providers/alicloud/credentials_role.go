package alicloud

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"mailform/plan"
)

// Temporary credentials: of the RAM role of the instance mailform runs on, and of a
// role that a CI job takes with its OIDC token.

const (
	// renewBefore is how long before their end temporary credentials are renewed: the
	// vendor gives new ones well before that.
	renewBefore = 5 * time.Minute

	// metadata is where an ECS instance asks about itself.
	// https://www.alibabacloud.com/help/en/ecs/user-guide/view-instance-metadata
	metadata = "http://100.100.100.200/latest/"
)

// temporary are credentials with an end.
type temporary struct {
	Credentials
	until time.Time
}

// ciRole is a RAM role that may be taken with an OIDC token.
type ciRole struct{ arn, provider, tokenFile, session string }

// ciRole reads the environment of a CI job; false when it names no role.
func (f *finder) ciRole() (ciRole, bool, error) {
	r := ciRole{f.getenv("ALIBABA_CLOUD_ROLE_ARN"), f.getenv("ALIBABA_CLOUD_OIDC_PROVIDER_ARN"),
		f.getenv("ALIBABA_CLOUD_OIDC_TOKEN_FILE"), f.getenv("ALIBABA_CLOUD_ROLE_SESSION_NAME")}
	if r.tokenFile == "" && r.provider == "" {
		return r, false, nil // a role alone is for other ways of taking it
	}
	for _, v := range []struct{ name, value string }{{"ALIBABA_CLOUD_ROLE_ARN", r.arn},
		{"ALIBABA_CLOUD_OIDC_PROVIDER_ARN", r.provider}, {"ALIBABA_CLOUD_OIDC_TOKEN_FILE", r.tokenFile}} {
		if v.value == "" {
			return r, true, &plan.Error{Class: plan.ErrCredentials, Code: codeCredentials, Step: "find Alibaba Cloud credentials",
				Got: v.name + " is not set, although others for an OIDC role are",
				Fix: "set ALIBABA_CLOUD_ROLE_ARN, ALIBABA_CLOUD_OIDC_PROVIDER_ARN and ALIBABA_CLOUD_OIDC_TOKEN_FILE, or none of them"}
		}
	}
	return r, true, nil
}

// hold gives temporary credentials, asking for new ones before they end. When that
// fails while the old ones are still good, those are used.
func (f *finder) hold(whose string, ask func() (temporary, error)) (Credentials, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	have, now := f.temporary[whose], f.now()
	if now.Before(have.until.Add(-renewBefore)) {
		return have.Credentials, nil
	}
	fresh, err := ask()
	if err != nil {
		if now.Before(have.until) {
			return have.Credentials, nil
		}
		return Credentials{}, err
	}
	f.temporary[whose] = fresh
	return fresh.Credentials, nil
}

func (f *finder) client(timeout time.Duration, proxy bool) *http.Client {
	c := &http.Client{Timeout: timeout, Transport: f.transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if f.transport == nil {
		t := &http.Transport{DialContext: (&net.Dialer{Timeout: timeout / 2}).DialContext, DisableKeepAlives: true}
		if proxy {
			t.Proxy = http.ProxyFromEnvironment
		}
		c.Transport = t
	}
	return c
}

// send makes one request and returns the answer's body.
func send(client *http.Client, req *http.Request) (int, []byte, error) {
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, bare(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	return resp.StatusCode, body, err
}

// instanceRole asks the metadata service, in its hardened mode with a token, for the
// credentials of the instance's role.
func (f *finder) instanceRole(name string) (Credentials, error) {
	fail := func(got string) (temporary, error) {
		return temporary{}, &plan.Error{Class: plan.ErrCredentials, Code: codeCredentials, Step: "ask the instance for the credentials of its RAM role",
			Sent: "GET " + metadata + "meta-data/ram/security-credentials/" + name, Got: got,
			Fix: "run mailform on an ECS instance with this RAM role, or take ALIBABA_CLOUD_ECS_METADATA or the profile's mode EcsRamRole away"}
	}
	return f.hold("instance "+name, func() (temporary, error) {
		client := f.client(5*time.Second, false)
		ask := func(method, where, header, value string) (int, []byte, error) {
			req, err := http.NewRequestWithContext(context.Background(), method, metadata+where, nil)
			if err != nil {
				return 0, nil, err
			}
			req.Header.Set(header, value)
			return send(client, req)
		}
		status, token, err := ask(http.MethodPut, "api/token", "X-aliyun-ecs-metadata-token-ttl-seconds", "60")
		if err != nil || status != 200 {
			return fail(answered(status, err))
		}
		if name == "" {
			status, text, err := ask(http.MethodGet, "meta-data/ram/security-credentials/", "X-aliyun-ecs-metadata-token", string(token))
			if err != nil || status != 200 || strings.TrimSpace(string(text)) == "" {
				return fail(answered(status, err))
			}
			name, _, _ = strings.Cut(strings.TrimSpace(string(text)), "\n")
		}
		status, text, err := ask(http.MethodGet, "meta-data/ram/security-credentials/"+url.PathEscape(name), "X-aliyun-ecs-metadata-token", string(token))
		if err != nil || status != 200 {
			return fail(answered(status, err))
		}
		t, err := readTemporary(text)
		if err != nil {
			return fail(err.Error())
		}
		return t, nil
	})
}

func answered(status int, err error) string {
	if err != nil {
		return clean(err.Error(), 200)
	}
	return fmt.Sprintf("status %d", status)
}

// assume takes a role with the OIDC token in a file.
// https://www.alibabacloud.com/help/en/ram/developer-reference/api-sts-2015-04-01-assumerolewithoidc
func (f *finder) assume(r ciRole) (Credentials, error) {
	endpoint := f.getenv("ALIBABA_CLOUD_STS_ENDPOINT")
	if endpoint == "" {
		endpoint = "sts.aliyuncs.com"
	}
	fail := func(got, fix string) (temporary, error) {
		return temporary{}, &plan.Error{Class: plan.ErrCredentials, Code: codeCredentials, Step: "take the RAM role " + r.arn + " with an OIDC token",
			Sent: "POST " + endpoint + " AssumeRoleWithOIDC", Got: got, Fix: fix}
	}
	return f.hold("oidc "+r.arn, func() (temporary, error) {
		token, err := f.readFile(r.tokenFile)
		if err != nil {
			return fail("cannot read the token: "+err.Error(), "let the CI job write its OIDC token to the file that ALIBABA_CLOUD_OIDC_TOKEN_FILE names")
		}
		to, err := endpointFor(endpoint, "", product{name: "sts"})
		if err != nil {
			return fail(err.Error(), "correct ALIBABA_CLOUD_STS_ENDPOINT")
		}
		session := r.session
		if session == "" {
			session = "mailform"
		}
		form := url.Values{"Action": {"AssumeRoleWithOIDC"}, "Version": {"2015-04-01"}, "Format": {"JSON"},
			"Timestamp": {f.now().UTC().Format("2006-01-02T15:04:05Z")}, "SignatureNonce": {rand.Text()},
			"RoleArn": {r.arn}, "OIDCProviderArn": {r.provider}, "OIDCToken": {strings.TrimSpace(string(token))},
			"RoleSessionName": {session}, "DurationSeconds": {"3600"}}
		req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, to.String()+"/", strings.NewReader(form.Encode()))
		if err != nil {
			return fail(bare(err).Error(), "correct ALIBABA_CLOUD_STS_ENDPOINT")
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		status, text, err := send(f.client(20*time.Second, true), req)
		if err != nil {
			return fail(clean(err.Error(), 200), "check the network and any proxy, then run the same command again")
		}
		if status != 200 {
			var refusal struct{ Code string }
			_ = json.Unmarshal(text, &refusal) // what is no JSON has no code
			return fail(strings.TrimSpace(fmt.Sprintf("%d %s", status, clean(refusal.Code, 100))),
				"check that the role trusts the OIDC provider for this repository or project, and that the token has not expired")
		}
		var answer struct{ Credentials json.RawMessage }
		if err := json.Unmarshal(text, &answer); err != nil {
			return fail("the answer is not in the API's format", "check ALIBABA_CLOUD_STS_ENDPOINT")
		}
		t, err := readTemporary(answer.Credentials)
		if err != nil {
			return fail(err.Error(), "check ALIBABA_CLOUD_STS_ENDPOINT")
		}
		return t, nil
	})
}

// readTemporary reads credentials as the metadata service and STS give them. Its
// errors quote nothing.
func readTemporary(text []byte) (temporary, error) {
	var a struct {
		AccessKeyId, AccessKeySecret, SecurityToken string
		Expiration                                  time.Time
	}
	if err := json.Unmarshal(text, &a); err != nil {
		return temporary{}, errors.New("the answer holds no credentials")
	}
	if a.AccessKeyId == "" || a.AccessKeySecret == "" || a.SecurityToken == "" || a.Expiration.IsZero() {
		return temporary{}, errors.New("the answer holds no complete credentials")
	}
	return temporary{Credentials{a.AccessKeyId, a.AccessKeySecret, a.SecurityToken}, a.Expiration}, nil
}
