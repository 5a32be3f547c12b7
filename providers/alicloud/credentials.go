package alicloud

import (
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"mailform/plan"
)

// Credentials sign requests. SecurityToken is set for temporary (STS) ones.
type Credentials struct {
	AccessKeyID     string
	AccessKeySecret string
	SecurityToken   string
}

// String keeps the secret out of every format verb.
func (c Credentials) String() string { return "alicloud credentials •••" }

// GoString keeps the secret out of %#v.
func (c Credentials) GoString() string { return c.String() }

// envNames lists the variables in the order they are tried: the vendor's current
// tools' names, then those of its older ones.
var envNames = [...]struct{ id, secret, token string }{
	{"ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET", "ALIBABA_CLOUD_SECURITY_TOKEN"},
	{"ALICLOUD_ACCESS_KEY", "ALICLOUD_SECRET_KEY", "ALICLOUD_SECURITY_TOKEN"},
	{"ALICLOUD_ACCESS_KEY_ID", "ALICLOUD_ACCESS_KEY_SECRET", "ALICLOUD_SECURITY_TOKEN"},
}

const credentialsFix = "set ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET " +
	"(and ALIBABA_CLOUD_SECURITY_TOKEN for temporary credentials), or run \"aliyun configure\""

func missingCredentials(got string) error {
	return &plan.Error{
		Class: plan.ErrCredentials,
		Code:  codeCredentials,
		Step:  "find Alibaba Cloud credentials",
		Got:   got,
		Fix:   credentialsFix,
	}
}

// CredentialsFromEnv reads credentials from the environment: the variables
// ALIBABA_CLOUD_ACCESS_KEY_ID, …_SECRET and ALIBABA_CLOUD_SECURITY_TOKEN, or the
// older ALICLOUD_… names. The error is a *plan.Error of class ErrCredentials that
// names the variable to set.
func CredentialsFromEnv(getenv func(string) string) (Credentials, error) {
	for _, n := range envNames {
		c := Credentials{getenv(n.id), getenv(n.secret), getenv(n.token)}
		switch {
		case c.AccessKeyID != "" && c.AccessKeySecret != "":
			return c, nil
		case c.AccessKeyID != "":
			return Credentials{}, missingCredentials(n.id + " is set but " + n.secret + " is not")
		case c.AccessKeySecret != "":
			return Credentials{}, missingCredentials(n.secret + " is set but " + n.id + " is not")
		}
	}
	return Credentials{}, missingCredentials("ALIBABA_CLOUD_ACCESS_KEY_ID is not set")
}

// finder looks for credentials where the vendor's own tools look.
type finder struct {
	getenv    func(string) string
	home      string
	readFile  func(string) ([]byte, error)
	transport http.RoundTripper // nil: the real network
	now       func() time.Time

	mu        sync.Mutex
	temporary map[string]temporary // what roles gave, by whose they are
}

// A CredentialOption changes how FindCredentials reaches the outside.
type CredentialOption func(*finder)

// Over sends the requests for temporary credentials over a transport.
func Over(t http.RoundTripper) CredentialOption { return func(f *finder) { f.transport = t } }

// At sets the clock by which temporary credentials are renewed.
func At(now func() time.Time) CredentialOption { return func(f *finder) { f.now = now } }

// FindCredentials looks where the vendor's own tools look, in their order:
//
//   - an access key in the environment, with ALIBABA_CLOUD_SECURITY_TOKEN for a temporary one;
//   - a role for a CI job, by its OIDC token: ALIBABA_CLOUD_ROLE_ARN, ALIBABA_CLOUD_OIDC_PROVIDER_ARN
//     and ALIBABA_CLOUD_OIDC_TOKEN_FILE;
//   - ~/.aliyun/config.json, then ~/.alibabacloud/credentials (or ALIBABA_CLOUD_CREDENTIALS_FILE);
//     ALIBABA_CLOUD_PROFILE names the profile;
//   - the RAM role of the instance that mailform runs on, when ALIBABA_CLOUD_ECS_METADATA names it.
//
// readFile may be nil when there are no files. The result is meant for
// Config.Credentials. It reads files anew on every call and asks for the
// credentials of a role again before they expire, so that a long apply outlives
// them. Its errors are *plan.Error of class ErrCredentials.
func FindCredentials(getenv func(string) string, home string, readFile func(string) ([]byte, error), options ...CredentialOption) func() (Credentials, error) {
	f := &finder{getenv: getenv, home: home, readFile: readFile, now: time.Now, temporary: map[string]temporary{}}
	for _, o := range options {
		o(f)
	}
	if f.readFile == nil {
		f.readFile = func(string) ([]byte, error) { return nil, os.ErrNotExist }
	}
	return f.find
}

func (f *finder) find() (Credentials, error) {
	c, envErr := CredentialsFromEnv(f.getenv)
	if envErr == nil {
		return c, nil
	}
	for _, n := range envNames {
		if f.getenv(n.id) != "" || f.getenv(n.secret) != "" {
			return Credentials{}, envErr // half set is a mistake, not a reason to look elsewhere
		}
	}
	if role, set, err := f.ciRole(); set || err != nil {
		if err != nil {
			return Credentials{}, err
		}
		return f.assume(role)
	}
	p, found, err := f.profile()
	switch {
	case err != nil:
		return Credentials{}, err
	case found:
		return f.use(p)
	}
	if name := f.getenv("ALIBABA_CLOUD_ECS_METADATA"); name != "" && !strings.EqualFold(f.getenv("ALIBABA_CLOUD_ECS_METADATA_DISABLED"), "true") {
		return f.instanceRole(name)
	}
	return Credentials{}, envErr
}
