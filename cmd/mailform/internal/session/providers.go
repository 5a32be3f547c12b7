package session

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/sync/errgroup"

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
	spec := s.Spec
	stack := spec.Stack.Name
	// Values that come out of files have a newline at their end easily.
	getenv := func(name string) string { return strings.TrimSpace(s.env.Getenv(name)) }

	resolver := first(spec.Resolver, getenv("MAILFORM_RESOLVER"))
	if err := checkResolver(resolver); err != nil {
		return nil, err
	}
	person, operators, err := s.person(getenv)
	if err != nil {
		return nil, err
	}

	// Everything that is missing is said at once, before anything is read.
	credentials := alicloud.FindCredentials(getenv, s.env.Home, os.ReadFile)
	var missing []error
	if spec.Backup != nil && spec.Backup.Create || slices.ContainsFunc(spec.Hosts, func(h *specs.Host) bool { return h.Instance != nil }) {
		_, err := credentials()
		missing = append(missing, err)
	}
	cloud, err := alicloud.New(alicloud.Config{
		Region:       first(spec.AliCloud.Region, getenv("ALIBABA_CLOUD_REGION_ID")),
		ECSEndpoint:  first(spec.AliCloud.ECSEndpoint, getenv("ALIBABA_CLOUD_ECS_ENDPOINT")),
		VPCEndpoint:  first(spec.AliCloud.VPCEndpoint, getenv("ALIBABA_CLOUD_VPC_ENDPOINT")),
		OSSEndpoint:  first(spec.AliCloud.OSSEndpoint, getenv("ALIBABA_CLOUD_OSS_ENDPOINT")),
		Stack:        stack,
		Credentials:  credentials,
		OperatorKeys: operators,
		Roots:        roots,
		Transport:    s.transport(roots, looksAtCloud),
		Now:          s.env.Now,
		Sleep:        s.env.Sleep,
	})
	if err != nil {
		return nil, err
	}
	token := getenv("CLOUDFLARE_API_TOKEN")
	if strings.ContainsFunc(token, unicode.IsControl) || strings.Contains(token, " ") {
		missing = append(missing, &plan.Error{Class: plan.ErrCredentials, Code: "MF4013", Step: "read the Cloudflare API token",
			Got: "CLOUDFLARE_API_TOKEN holds spaces or control characters", Fix: "set CLOUDFLARE_API_TOKEN to the token and nothing else"})
	}
	dns, err := cloudflare.New(cloudflare.Config{
		Token:   token,
		BaseURL: first(spec.Cloudflare.BaseURL, getenv("CLOUDFLARE_BASE_URL")),
		Roots:   roots,
		Stack:   stack,

		ACMEDirectory: getenv("MAILFORM_ACME_DIRECTORY"),

		Transport: s.transport(roots, gets),
		Now:       s.env.Now,
		Sleep:     s.env.Sleep,
	})
	missing = append(missing, err)
	if err := errors.Join(missing...); err != nil {
		return nil, err
	}
	agents := s.env.Agents
	if agents == nil {
		executable, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find this program's own file: %w", err)
		}
		agents = agentbin.Default(executable)
	}
	s.hosts = host.New(host.Config{
		Stack:      stack,
		ReadOnly:   s.opts.ReadOnly,
		DeleteMail: s.opts.DeleteMail,
		Version:    s.env.Version,
		Actor:      first(getenv("USER"), getenv("LOGNAME"), "somebody"),
		Dial:       s.env.Dial,
		SSH:        person,

		NoteHostKey: cloud.NoteHostKey,

		Agents: agents,
		Secret: spec.Secret,
		Published: func(ctx context.Context, records []host.TXT) []host.Sighting {
			return sightings(ctx, s.certs, records)
		},
		Roots:   roots,
		Now:     s.env.Now,
		HostNow: s.env.LeaseNow,
		Sleep:   s.env.Sleep,
	})
	s.closers = append(s.closers, s.hosts.Close)
	s.certs, err = acme.New(acme.Config{
		Directory:  first(spec.ACME.Directory, getenv("MAILFORM_ACME_DIRECTORY")),
		Issuer:     spec.ACME.Issuer,
		Contact:    spec.Stack.Contact,
		EAB:        binding(spec, getenv),
		Roots:      roots,
		Resolver:   resolver,
		Challenger: dns,
		Hosts:      s.hosts,
		Answers:    s.answers(),
		Transport:  s.transport(roots, gets),
		Now:        s.env.Now,
		Sleep:      s.env.Sleep,
	})
	if err != nil {
		return nil, err
	}
	return []plan.Provider{cloud, dns, s.hosts, s.certs}, nil
}

// binding is the external account binding of the spec, or of the environment.
func binding(spec *specs.Spec, getenv func(string) string) acme.EAB {
	if e := spec.ACME.EAB; e != nil {
		return acme.EAB{KeyID: e.KeyID, HMAC: e.HMAC}
	}
	return acme.EAB{KeyID: getenv("MAILFORM_ACME_EAB_KID"), HMAC: getenv("MAILFORM_ACME_EAB_HMAC")}
}

// sightings asks about many records at once.
func sightings(ctx context.Context, certs *acme.Provider, records []host.TXT) []host.Sighting {
	out := make([]host.Sighting, len(records))
	var g errgroup.Group
	g.SetLimit(16)
	for i, r := range records {
		g.Go(func() error {
			out[i].Everywhere, out[i].Negative, out[i].Got = certs.Published(ctx, r.Name, r.Text)
			return nil
		})
	}
	g.Wait()
	return out
}

// checkResolver wants host:port, or "" for the system's.
func checkResolver(resolver string) error {
	if resolver == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(resolver)
	if n, perr := strconv.ParseUint(port, 10, 16); err == nil && host != "" && perr == nil && n > 0 {
		return nil
	}
	return &plan.Error{Class: plan.ErrSpec, Code: "MF4014", Step: "read the resolver's address",
		Got: fmt.Sprintf("%q is not host:port", resolver), Fix: `give resolver (or MAILFORM_RESOLVER) as host:port, like "9.9.9.9:53", or leave it out`}
}
