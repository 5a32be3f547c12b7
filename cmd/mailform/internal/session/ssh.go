package session

import (
	"fmt"

	"mailform/plan"
	"mailform/providers/host"
	"mailform/providers/host/sshconn"
	"mailform/specs"
)

// person is the one who runs mailform, as SSH sees him: his keys, configuration
// and known hosts. The public keys are those that machines are made with.
func (s *Session) person(getenv func(string) string) (*sshconn.Env, []string, error) {
	e, err := sshconn.NewEnv(s.env.Home, first(getenv("USER"), getenv("LOGNAME")), getenv)
	if err != nil {
		return nil, nil, &plan.Error{Class: plan.ErrCredentials, Code: "MF4015", Step: "read the SSH configuration", Err: err,
			Fix: "correct it, or set " + sshconn.ConfigVariable + " to another file; \"none\" uses no configuration"}
	}
	e.Confirm, e.Keys.Passphrase = s.confirmHostKey, s.env.Passphrase
	s.closers = append(s.closers, e.Keys.Close)
	if err := e.CheckKey(); err != nil {
		return nil, nil, &plan.Error{Class: plan.ErrCredentials, Code: "MF4012", Step: "read the SSH key to log in with", Err: err,
			Fix: "set MAILFORM_SSH_KEY to the file of a private key, or leave it out and use an SSH agent"}
	}
	var public []string
	for _, h := range append(created(s.Spec), &specs.Host{}) {
		settings, err := e.Settings(host.Target(h))
		if err != nil {
			return nil, nil, &plan.Error{Class: plan.ErrCredentials, Code: "MF4015", Step: "read the SSH configuration", Err: err,
				Fix: "correct it, or set " + sshconn.ConfigVariable + " to another file; \"none\" uses no configuration"}
		}
		for _, key := range e.Public(settings) {
			public = appendNew(public, key)
		}
	}
	for _, note := range e.Keys.Notes() {
		s.warn(note)
	}
	return e, public, nil
}

// created are the hosts whose machines mailform makes.
func created(spec *specs.Spec) []*specs.Host {
	var out []*specs.Host
	for _, h := range spec.Hosts {
		if h.Instance != nil {
			out = append(out, h)
		}
	}
	return out
}

func appendNew(list []string, s string) []string {
	for _, have := range list {
		if have == s {
			return list
		}
	}
	return append(list, s)
}

func (s *Session) confirmHostKey(name, fingerprint string) bool {
	if s.env.Confirm == nil {
		return false
	}
	return s.env.Confirm(fmt.Sprintf("The SSH host key of %s is not known yet. Its fingerprint is\n  %s\nCompare it with what the machine's owner or console says. To pin it: ssh { host_key = %q }", name, fingerprint, fingerprint))
}
