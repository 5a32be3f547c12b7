package mailauth

import (
	"context"
	"errors"
	"net"
	"net/netip"
)

// ErrNoName says that a name does not exist in the DNS (NXDOMAIN).
var ErrNoName = errors.New("name does not exist")

// Resolver answers questions to the DNS. An empty list without an error means
// that the name exists and has no such record. Errors other than ErrNoName are
// taken for temporary.
type Resolver interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
	LookupMX(ctx context.Context, domain string) ([]*net.MX, error)
	LookupAddr(ctx context.Context, host string) ([]netip.Addr, error)
	LookupPTR(ctx context.Context, a netip.Addr) ([]string, error)
}

// Bounds on what an answer may hold. A DKIM key of 4,096 bits has 736 octets in
// base64, and the longest SPF records of the large are below 1 KiB.
const (
	maxTXT     = 4096 // octets of all texts of a name
	maxRecords = 100
)

// lookups is a Resolver in the shape that the SPF and DKIM libraries want: they
// tell errors apart by *net.DNSError.
type lookups struct{ r Resolver }

func dnsError(name string, err error) error {
	if errors.Is(err, ErrNoName) {
		return &net.DNSError{Err: "no such name", Name: name, IsNotFound: true}
	}
	// Not err's own text: it goes into header fields, and may name our servers.
	return &net.DNSError{Err: "no answer", Name: name, IsTemporary: true}
}

// LookupTXT never asks for what cannot be a name.
func (l lookups) LookupTXT(ctx context.Context, name string) ([]string, error) {
	if !validName(name) {
		return nil, dnsError(name, ErrNoName)
	}
	list, err := l.r.LookupTXT(ctx, name)
	if err != nil {
		return nil, dnsError(name, err)
	}
	size := 0
	for _, text := range list {
		size += len(text)
	}
	if size > maxTXT || len(list) > maxRecords {
		return nil, &net.DNSError{Err: "answer is too large", Name: name}
	}
	return list, nil
}

func (l lookups) LookupMX(ctx context.Context, name string) ([]*net.MX, error) {
	if !validName(name) {
		return nil, dnsError(name, ErrNoName)
	}
	list, err := l.r.LookupMX(ctx, name)
	if err != nil {
		return nil, dnsError(name, err)
	}
	return list, nil
}

func (l lookups) LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error) {
	if !validName(host) {
		return nil, dnsError(host, ErrNoName)
	}
	list, err := l.r.LookupAddr(ctx, host)
	if err != nil {
		return nil, dnsError(host, err)
	}
	out := make([]net.IPAddr, 0, len(list))
	for _, a := range list[:min(len(list), maxRecords)] {
		out = append(out, net.IPAddr{IP: a.AsSlice()})
	}
	return out, nil
}

func (l lookups) LookupAddr(ctx context.Context, addr string) ([]string, error) {
	a, err := netip.ParseAddr(addr)
	if err != nil {
		return nil, dnsError(addr, ErrNoName)
	}
	list, err := l.r.LookupPTR(ctx, a)
	if err != nil {
		return nil, dnsError(addr, err)
	}
	return list[:min(len(list), maxRecords)], nil
}

// validName says whether name can be asked for: labels of 1 to 63 printable octets.
func validName(name string) bool {
	if n := len(name); n > 0 && name[n-1] == '.' {
		name = name[:n-1]
	}
	if name == "" || len(name) > 253 {
		return false
	}
	label := 0
	for i := range len(name) {
		switch c := name[i]; {
		case c == '.':
			if label == 0 {
				return false
			}
			label = 0
		case c <= ' ' || c >= 0x7f || c == '\\' || c == '"':
			return false
		default:
			if label++; label > 63 {
				return false
			}
		}
	}
	return label > 0
}
