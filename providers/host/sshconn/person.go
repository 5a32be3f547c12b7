package sshconn

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// ConfigVariable names the person's configuration file instead of ~/.ssh/config;
// "none" reads no configuration at all, as ssh -F none.
const ConfigVariable = "MAILFORM_SSH_CONFIG"

// KeyVariable names a key file that is offered before all others.
const KeyVariable = "MAILFORM_SSH_KEY"

// The machine's own configuration, ssh(1).
const (
	systemConfig     = "/etc/ssh/ssh_config"
	systemKnownHosts = "/etc/ssh/ssh_known_hosts"
)

// NewEnv is the Env of a person with a home folder, "" for none, and an
// environment. Dial, Confirm and Keys.Passphrase are the caller's to add.
func NewEnv(home, user string, getenv func(string) string) (*Env, error) {
	e := &Env{Getenv: getenv, Home: home, User: user, Key: getenv(KeyVariable), Keys: &Keys{}, GlobalKnownHosts: []string{systemKnownHosts}}
	var files []string
	if home != "" {
		e.KnownHosts = []string{filepath.Join(home, ".ssh", "known_hosts"), filepath.Join(home, ".ssh", "known_hosts2")}
		files = append(files, filepath.Join(home, ".ssh", "config"))
	}
	files = append(files, systemConfig)
	switch named := getenv(ConfigVariable); {
	case strings.EqualFold(named, "none"):
		files = nil
	case named != "":
		files = []string{tilde(home, named)}
		if _, err := os.Stat(files[0]); err != nil {
			return nil, fmt.Errorf("%s: %w", ConfigVariable, err)
		}
	}
	var err error
	if e.Config, err = ReadConfig(Files{os.ReadFile, filepath.Glob}, home, files...); err != nil {
		return nil, err
	}
	return e, nil
}

// CheckKey says why the key that KeyVariable names cannot be used, nil when it can
// or none is named.
func (e *Env) CheckKey() error {
	if e.Key == "" {
		return nil
	}
	if err := e.Keys.Check(tilde(e.Home, e.Key), e.getenv("SSH_AUTH_SOCK")); err != nil {
		return fmt.Errorf("%s: %w", KeyVariable, err)
	}
	return nil
}
