package plan

import "strings"

// Address names one managed thing by its identity in mail, for example
// "host/mx1/instance", "dns/acme.example/spf" or "mailbox/alice@acme.example".
// It is stable when a spec is reorganised, and it is what ownership marks carry.
type Address string

// Kind returns the first segment of the address: "host", "dns", "mailbox", …
func (a Address) Kind() string {
	k, _, _ := strings.Cut(string(a), "/")
	return k
}

// Segments returns the parts of the address.
func (a Address) Segments() []string { return strings.Split(string(a), "/") }

// Addr joins segments into an address.
func Addr(segments ...string) Address { return Address(strings.Join(segments, "/")) }

// Ref points at an output of another resource that may only be known once that
// resource has been applied, such as {"host/mx1/address", "ip"}.
type Ref struct {
	Address Address
	Attr    string
}

func (r Ref) String() string { return string(r.Address) + "." + r.Attr }
