package plan

import (
	"bytes"
	"encoding/json"
	"io"
)

// JSONFormatVersion is the version of the document that RenderJSON writes. It
// changes when a reader of an older version would misread the document; new
// keys alone do not change it.
const JSONFormatVersion = 1

// jsonPlan is the document of `mailform plan --json`. No key is ever left out but
// id, stats and a price's note. Values in before, after and fields are plain JSON,
// null when absent, and three forms with one reserved key:
//
//	{"$ref": "ADDRESS#OUTPUT"}   known once that address is applied
//	{"$concat": [PART, …]}       text with such parts in it
//	{"$secret": true}            sensitive: neither shown nor fingerprinted
//
// An object with a single key that starts with "$" is {"$object": {…}}.
type jsonPlan struct {
	FormatVersion int          `json:"format_version"`  // 1
	Stack         string       `json:"stack"`           // the stack's name
	Destroy       bool         `json:"destroy"`         // whether it is a plan to delete everything
	Hash          string       `json:"hash"`            // what apply --approve takes
	Summary       Summary      `json:"summary"`         // counts
	Changes       []jsonChange `json:"changes"`         // sorted by address; what stays as it is is left out
	Ops           []jsonOp     `json:"ops"`             // sorted by id
	LeftOut       []jsonLeft   `json:"left_out"`        // changes that --only or --except put off, by address
	Foreign       []Foreign    `json:"foreign"`         // seen and left alone, by scope
	Upcoming      []Upcoming   `json:"upcoming"`        // renewals whose time has not come, soonest first
	Cost          []Total      `json:"cost"`            // what the plan adds to the bill, by currency; empty when it adds nothing or prices are not known
	CostNote      string       `json:"cost_note"`       // why prices are missing; "" when none are
	Advice        []Advice     `json:"advice"`          // what a person should do, because mailform cannot
	Stats         *Stats       `json:"stats,omitempty"` // with --stats
}

type jsonLeft struct {
	Address Address `json:"address"` // of what is put off
	Action  Action  `json:"action"`  // what would be done
}

// Stats is what it cost to make a plan.
type Stats struct {
	Calls map[string]int `json:"calls"` // requests to the outside systems, by provider
	Total int            `json:"total"` // requests to all of them
	Depth int            `json:"depth"` // longest chain of providers that had to wait for each other
}

type jsonChange struct {
	Address   Address     `json:"address"`      // identity in mail, such as "dns/acme.example/spf"
	Provider  string      `json:"provider"`     // whose business it is: "alicloud", "cloudflare", "host" or "acme"
	Kind      string      `json:"kind"`         // the provider's own type
	Action    Action      `json:"action"`       // what is done
	ID        string      `json:"id,omitempty"` // the vendor's id
	Before    publicAttrs `json:"before"`       // observed; null for a create
	After     publicAttrs `json:"after"`        // wanted; null for a delete and when it is forgotten
	Fields    []jsonField `json:"fields"`       // the differences of an update, a replacement or a conflict
	Ignored   []jsonField `json:"ignored"`      // differences that the spec ignores: after is what it would give
	Reason    string      `json:"reason"`       // why, for people
	Risk      Risk        `json:"risk"`         // the worst it can do to mail
	Effect    string      `json:"effect"`       // what it means for mail; may be ""
	DependsOn []Address   `json:"depends_on"`   // what it needs
	Blocked   *Block      `json:"blocked"`      // null unless it will not be applied
	Price     *Price      `json:"price"`        // null unless it costs something that is known
}

type jsonField struct {
	Path     string      `json:"path"`     // "content", "rules[smtp].source", "disk.size"
	Before   publicValue `json:"before"`   // observed
	After    publicValue `json:"after"`    // wanted
	Replaces bool        `json:"replaces"` // this difference alone means delete and create again
}

type jsonOp struct {
	ID        string    `json:"id"`        // unique in the plan, and the same for the same change
	Provider  string    `json:"provider"`  // who does it
	Kind      string    `json:"kind"`      // the provider's own name for it
	Title     string    `json:"title"`     // for people, in the imperative
	Addresses []Address `json:"addresses"` // the changes it serves
	After     []string  `json:"after"`     // ids of operations that come before
	ReadOnly  bool      `json:"read_only"` // a wait or a look-up
	Seconds   int       `json:"seconds"`   // typical duration; 0 when unknown
}

// publicValue and publicAttrs are marshalled without fingerprints.
type publicValue struct{ Value }

func (v publicValue) MarshalJSON() ([]byte, error) { return v.appendJSON(nil, true), nil }

type publicAttrs Attrs

func (a publicAttrs) MarshalJSON() ([]byte, error) {
	if a == nil {
		return []byte("null"), nil
	}
	return appendFields(nil, a, true), nil
}

// RenderJSON writes the plan as a document for other programs, with what it
// cost to make it when stats is not nil. Its shape is that of the types above,
// which FORMATS.md describes.
func RenderJSON(w io.Writer, p *Plan, e Estimate, stats *Stats) error {
	sum := p.Summary()
	sum.Seconds = e.seconds(p)
	doc := jsonPlan{
		FormatVersion: JSONFormatVersion,
		Stack:         p.Stack,
		Destroy:       p.Destroy,
		Hash:          Hash(p),
		Summary:       sum,
		Changes:       []jsonChange{},
		Ops:           jsonOps(p),
		LeftOut:       []jsonLeft{},
		Foreign:       list(p.Foreign),
		Upcoming:      list(e.Upcoming),
		Cost:          e.totals(),
		CostNote:      e.PriceNote,
		Advice:        list(e.Advice),
		Stats:         stats,
	}
	for _, c := range p.Changes {
		if c.LeftOut != "" {
			doc.LeftOut = append(doc.LeftOut, jsonLeft{c.Address, c.LeftOut})
		}
		if c.Action == NoOp {
			continue
		}
		var cost *Price
		if price, ok := e.price(c.Address); ok {
			cost = &price
		}
		doc.Changes = append(doc.Changes, jsonChange{
			Address: c.Address, Provider: c.Provider, Kind: c.Kind, Action: c.Action, ID: c.ID,
			Before: publicAttrs(c.Before), After: publicAttrs(c.After), Fields: jsonFields(c.Fields), Ignored: jsonFields(c.Ignored),
			Reason: c.Reason, Risk: c.Risk, Effect: c.Effect, DependsOn: list(c.DependsOn), Blocked: c.Blocked, Price: cost,
		})
	}
	return writeJSON(w, doc)
}

func jsonFields(fields []Field) []jsonField {
	out := make([]jsonField, len(fields))
	for i, f := range fields {
		out[i] = jsonField{f.Path, publicValue{f.Before}, publicValue{f.After}, f.Replaces}
	}
	return out
}

func jsonOps(p *Plan) []jsonOp {
	ops := make([]jsonOp, len(p.Ops))
	for i, op := range p.Ops {
		ops[i] = jsonOp{op.ID, op.Provider, op.Kind, op.Title, list(op.Addresses), list(op.After), op.ReadOnly, op.Seconds}
	}
	return ops
}

// list makes an absent list an empty one.
func list[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}

func writeJSON(w io.Writer, doc any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(doc); err != nil {
		return err
	}
	_, err := w.Write(b.Bytes())
	return err
}
