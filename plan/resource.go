package plan

import (
	"time"

	"mailform/specs"
)

// Resource is one thing the spec wants, as a provider declared it.
type Resource struct {
	Address  Address
	Provider string // the provider's Name
	Kind     string // the provider's own type, for example "instance" or "record"

	// Attrs are the wanted values in canonical form. Every attribute named here is
	// compared with the observed object's attribute of the same name, unless it is
	// listed in CreateOnly. Attributes only the object has are not managed.
	Attrs      Attrs
	CreateOnly []string // used when creating, never compared
	ReplaceOn  []string // a change of one of these means delete and create again
	Outputs    []string // attributes the world decides, which other resources may refer to
	// SameAs names, for an output, another resource's output that it equals whenever
	// there is one: what refers to it knows it while that other resource stays, also
	// when this one is made anew. Also a dependency.
	SameAs map[string]Ref

	DependsOn []Address // order beyond what references in Attrs already say
	Within    Address   // what this exists inside of and is lost with ("host/mx1/instance"); "" when nothing. Also a dependency.
	Lookup    bool      // must already exist, is never created, changed or deleted (a DNS zone)

	Protected  string // why deleting or replacing it must be allowed by name; "" when it is free
	Interrupts string // why an in-place update interrupts mail; "" when it does not
	// InterruptsOn are the fields whose update Interrupts speaks of ("type", or
	// "storage" for all within it); empty means every field.
	InterruptsOn []string
	Waits        string // set by a Scheduler: what it waits for while it is as wanted, and until when; "" when for nothing
	Effect       string // what it means for mail, in words: "mail for acme.example reaches mx1"
	Origin       specs.Range
}

// Ownership says whose an observed object is.
type Ownership uint8

// Who an object belongs to.
const (
	Unowned    Ownership = iota // no mark: a person or another tool made it
	Ours                        // carries this stack's mark
	OtherStack                  // carries another stack's mark
)

func (o Ownership) String() string {
	return [...]string{"unowned", "ours", "other stack"}[o]
}

// Object is one thing that was found in the world. Objects that carry no mark
// and stand in no wanted slot are not listed but counted in Observed.Foreign.
type Object struct {
	Address  Address
	Provider string
	Kind     string
	ID       string // the vendor's id; "" for things on a host
	Owner    Ownership
	OwnedBy  string // the other stack's name

	// Attrs are canonical and comparable with Resource.Attrs. Further attributes
	// may be there for the provider's own use (Change.Before has them all).
	Attrs   Attrs
	Outputs Attrs // what Resource.Outputs named

	// Within is what it was found inside of, when that can be other than what the
	// spec wants (mail that is to move to a data disk); "" is where Resource.Within says.
	Within    Address
	DependsOn []Address // what must outlive it, for ordering deletes of things no longer in the spec
	Protected string    // as Resource.Protected, for things no longer in the spec
	Tainted   string    // why it is broken and must be replaced; "" when it is sound
	// Forgettable is set when the provider can take our mark off and leave the
	// object as it is; see Forget. What lives inside our own server cannot be forgotten.
	Forgettable bool
	Due         string // why it must be renewed in place now: "expires in 20 days"; "" when it need not
	// Renews is when it will be due, the zero time when never; RenewsWhy is who chose
	// that time, for people. Both are shown beside a plan and are no part of it.
	Renews    time.Time
	RenewsWhy string
}

// Foreign counts what was seen in a scope and left alone.
type Foreign struct {
	Scope string `json:"scope"` // "zone acme.example", "security group sg-123"
	Count int    `json:"count"` // how many
}

// Observed is what one provider found: complete, or the observation is an error.
type Observed struct {
	Objects []Object
	Foreign []Foreign
	Calls   int // requests made to the outside system
}
