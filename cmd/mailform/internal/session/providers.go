package session

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/crypto/ssh"

	"mailform/plan"
	"mailform/providers/acme"
	"mailform/providers/alicloud"
	"mailform/providers/cloudflare"
	"mailform/providers/host"
	"mailform/providers/host/agentbin"
	"mailform/specs"
)

// providers makes the outside systems. An endpoint in the spec goes before one
// in the environment; without either the vendor's own is used.
func (s *Session) providers(roots *x509.CertPool) ([]plan.Provider, error) {
	spec, getenv := s.Spec, s.env.Getenv
	stack := spec.Stack.Name

	keys, err := host.OperatorKeys(s.env.Home, getenv)
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, keys.Close)
	for _, note := range keys.Notes {
		s.warn(note)
	}

	// Everything that is missing is said at once, before anything is read.
	credentials := alicloud.FindCredentials(getenv, s.env.Home, os.ReadFile)
	var missing []error
	if slices.ContainsFunc(spec.Hosts, func(h *specs.Host) bool { return h.Instance != nil }) {
		_, err := credentials()
		missing = append(missing, err)
	}
	cloud, err := alicloud.New(alicloud.Config{
		Region:       first(spec.AliCloud.Region, getenv("ALIBABA_CLOUD_REGION_ID")),
		ECSEndpoint:  first(spec.AliCloud.ECSEndpoint, getenv("ALIBABA_CLOUD_ECS_ENDPOINT")),
		VPCEndpoint:  first(spec.AliCloud.VPCEndpoint, getenv("ALIBABA_CLOUD_VPC_ENDPOINT")),
		Stack:        stack,
		Credentials:  credentials,
		OperatorKeys: keys.Public(),
		Roots:        roots,
		Now:          s.env.Now,
	})
	if err != nil {
		return nil, err
	}
	dns, err := cloudflare.New(cloudflare.Config{
		Token:   getenv("CLOUDFLARE_API_TOKEN"),
		BaseURL: first(spec.Cloudflare.BaseURL, getenv("CLOUDFLARE_BASE_URL")),
		Roots:   roots,
		Stack:   stack,
		Now:     s.env.Now,
	})
	missing = append(missing, err)
	if err := errors.Join(missing...); err != nil {
		return nil, err
	}
	executable, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program's own file: %w", err)
	}
	s.hosts = host.New(host.Config{
		Stack:      stack,
		Version:    s.env.Version,
		Actor:      first(getenv("USER"), getenv("LOGNAME"), "somebody"),
		Dial:       s.env.Dial,
		Signers:    func() []ssh.Signer { return keys.Signers },
		KnownHosts: s.knownHosts(),
		Confirm:    s.confirmHostKey,
		Agents:     agentbin.Default(executable),
		Secret:     spec.Secret,
		Roots:      roots,
		Now:        s.env.Now,
	})
	s.closers = append(s.closers, s.hosts.Close)
	certs, err := acme.New(acme.Config{
		Directory:  first(spec.ACME.Directory, getenv("MAILFORM_ACME_DIRECTORY")),
		Contact:    spec.Stack.Contact,
		Roots:      roots,
		Resolver:   first(spec.Resolver, getenv("MAILFORM_RESOLVER")),
		Challenger: dns,
		Hosts:      s.hosts,
		Now:        s.env.Now,
	})
	if err != nil {
		return nil, err
	}
	return []plan.Provider{cloud, dns, s.hosts, certs}, nil
}

func (s *Session) knownHosts() string {
	if s.env.Home == "" {
		return ""
	}
	return filepath.Join(s.env.Home, ".ssh", "known_hosts")
}

func (s *Session) confirmHostKey(name, fingerprint string) bool {
	if s.env.Confirm == nil {
		return false
	}
	return s.env.Confirm(fmt.Sprintf("The SSH host key of %s is not known yet. Its fingerprint is\n  %s\nCompare it with what the machine's owner or console says. To pin it: ssh { host_key = %q }", name, fingerprint, fingerprint))
}
