package alicloud

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// profile is one entry of the vendor's shared files.
type profile struct {
	name string
	mode string // as in config.json: AK, StsToken, EcsRamRole or OIDC
	key  Credentials
	role string // EcsRamRole: the role's name; "" for the instance's only one
	oidc ciRole // OIDC
}

// profile finds the profile to use in the files; false when there is none.
func (f *finder) profile() (profile, bool, error) {
	if f.home == "" && f.getenv("ALIBABA_CLOUD_CREDENTIALS_FILE") == "" {
		return profile{}, false, nil
	}
	name := f.getenv("ALIBABA_CLOUD_PROFILE")
	type source struct {
		file string
		read func([]byte, string) (profile, error)
	}
	var sources []source
	if f.home != "" {
		sources = append(sources, source{path.Join(f.home, ".aliyun", "config.json"), readConfig})
	}
	shared := f.getenv("ALIBABA_CLOUD_CREDENTIALS_FILE")
	if shared == "" {
		shared = path.Join(f.home, ".alibabacloud", "credentials")
	}
	sources = append(sources, source{shared, readShared})
	var missing error
	for _, s := range sources {
		text, err := f.readFile(s.file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return profile{}, false, missingCredentials("cannot read " + s.file + ": " + err.Error())
		}
		p, err := s.read(text, name)
		if errors.Is(err, errNoProfile) {
			missing = missingCredentials(fmt.Sprintf("%s has no profile %q", s.file, name))
			continue // perhaps the other file has it
		}
		if err != nil {
			return profile{}, false, missingCredentials(s.file + ": " + err.Error())
		}
		return p, true, nil
	}
	return profile{}, false, missing
}

var errNoProfile = errors.New("no such profile")

// use turns a profile into credentials.
func (f *finder) use(p profile) (Credentials, error) {
	switch p.mode {
	case "", "AK", "StsToken":
		if p.key.AccessKeyID == "" || p.key.AccessKeySecret == "" {
			return Credentials{}, missingCredentials(fmt.Sprintf("profile %q has no access key", p.name))
		}
		return p.key, nil
	case "EcsRamRole":
		return f.instanceRole(p.role)
	case "OIDC":
		return f.assume(p.oidc)
	}
	return Credentials{}, missingCredentials(fmt.Sprintf("profile %q has mode %q; mailform understands AK, StsToken, EcsRamRole and OIDC", p.name, p.mode))
}

// readConfig reads the text of ~/.aliyun/config.json. An empty name means the
// file's current profile.
func readConfig(text []byte, name string) (profile, error) {
	var file struct {
		Current  string `json:"current"`
		Profiles []struct {
			Name            string `json:"name"`
			Mode            string `json:"mode"`
			AccessKeyID     string `json:"access_key_id"`
			AccessKeySecret string `json:"access_key_secret"`
			StsToken        string `json:"sts_token"`
			RAMRoleName     string `json:"ram_role_name"`
			RAMRoleArn      string `json:"ram_role_arn"`
			RAMSessionName  string `json:"ram_session_name"`
			ProviderArn     string `json:"oidc_provider_arn"`
			TokenFile       string `json:"oidc_token_file"`
		} `json:"profiles"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		// The decoder's message can quote the text, and the text holds secrets.
		return profile{}, errors.New("not valid JSON")
	}
	if name == "" {
		name = file.Current
	}
	if name == "" {
		name = "default"
	}
	for _, p := range file.Profiles {
		if p.Name == name {
			return profile{name, p.Mode, Credentials{p.AccessKeyID, p.AccessKeySecret, p.StsToken}, p.RAMRoleName,
				ciRole{p.RAMRoleArn, p.ProviderArn, p.TokenFile, p.RAMSessionName}}, nil
		}
	}
	return profile{}, errNoProfile
}

// sharedModes are the types of ~/.alibabacloud/credentials in the words of config.json.
var sharedModes = map[string]string{"access_key": "AK", "sts": "StsToken", "ecs_ram_role": "EcsRamRole", "oidc_role_arn": "OIDC"}

// readShared reads the text of ~/.alibabacloud/credentials: sections of "key = value".
func readShared(text []byte, name string) (profile, error) {
	if name == "" {
		name = "default"
	}
	section, values := "", map[string]string(nil)
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 64<<10)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
		case line[0] == '[' && line[len(line)-1] == ']':
			section = strings.TrimSpace(line[1 : len(line)-1])
			if section == name && values == nil {
				values = map[string]string{}
			}
		case section == name:
			k, v, ok := strings.Cut(line, "=")
			if !ok {
				return profile{}, fmt.Errorf("a line of [%s] is not \"key = value\"", name)
			}
			values[strings.TrimSpace(k)] = strings.TrimSpace(v)
		}
	}
	if lines.Err() != nil {
		return profile{}, errors.New("a line is too long")
	}
	if values == nil || strings.EqualFold(values["enable"], "false") {
		return profile{}, errNoProfile
	}
	mode, ok := sharedModes[values["type"]]
	if !ok {
		mode = values["type"]
	}
	if mode == "" {
		mode = "AK"
	}
	return profile{name, mode, Credentials{values["access_key_id"], values["access_key_secret"], values["security_token"]}, values["role_name"],
		ciRole{values["role_arn"], values["oidc_provider_arn"], values["oidc_token_file_path"], values["role_session_name"]}}, nil
}
