package alicloud

import (
	"encoding/json"
	"fmt"
	"path"

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

// profileFile is the shared configuration of the vendor's command line tool.
type profileFile struct {
	Current  string `json:"current"`
	Profiles []struct {
		Name            string `json:"name"`
		Mode            string `json:"mode"`
		AccessKeyID     string `json:"access_key_id"`
		AccessKeySecret string `json:"access_key_secret"`
		StsToken        string `json:"sts_token"`
	} `json:"profiles"`
}

// CredentialsFromProfile reads the text of ~/.aliyun/config.json. An empty
// profile name means the file's current one. Modes AK and StsToken are understood.
func CredentialsFromProfile(text []byte, profile string) (Credentials, error) {
	var f profileFile
	if err := json.Unmarshal(text, &f); err != nil {
		// The decoder's message can quote the text, and the text holds secrets.
		return Credentials{}, missingCredentials("the profile file is not valid JSON")
	}
	if profile == "" {
		profile = f.Current
	}
	if profile == "" {
		profile = "default"
	}
	for _, p := range f.Profiles {
		if p.Name != profile {
			continue
		}
		if p.Mode != "AK" && p.Mode != "StsToken" && p.Mode != "" {
			return Credentials{}, missingCredentials(fmt.Sprintf("profile %q has mode %q; mailform understands AK and StsToken", profile, p.Mode))
		}
		if p.AccessKeyID == "" || p.AccessKeySecret == "" {
			return Credentials{}, missingCredentials(fmt.Sprintf("profile %q has no access key", profile))
		}
		return Credentials{p.AccessKeyID, p.AccessKeySecret, p.StsToken}, nil
	}
	return Credentials{}, missingCredentials(fmt.Sprintf("the profile file has no profile %q", profile))
}

// FindCredentials looks where the vendor's own tools look: the environment, then
// the profile file (ALIBABA_CLOUD_PROFILE names the profile). The result is meant
// for Config.Credentials and reads anew on every call, so that temporary
// credentials can be renewed while mailform runs.
func FindCredentials(getenv func(string) string, home string, readFile func(string) ([]byte, error)) func() (Credentials, error) {
	return func() (Credentials, error) {
		c, envErr := CredentialsFromEnv(getenv)
		if envErr == nil {
			return c, nil
		}
		for _, n := range envNames {
			if getenv(n.id) != "" || getenv(n.secret) != "" {
				return Credentials{}, envErr // half set is a mistake, not a reason to look elsewhere
			}
		}
		if home == "" || readFile == nil {
			return Credentials{}, envErr
		}
		text, err := readFile(path.Join(home, ".aliyun", "config.json"))
		if err != nil {
			return Credentials{}, envErr
		}
		return CredentialsFromProfile(text, getenv("ALIBABA_CLOUD_PROFILE"))
	}
}
