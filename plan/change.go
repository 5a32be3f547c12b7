package plan

// Action is what a change does to its object.
type Action string

// The actions. Glyph gives the rune each is shown with.
const (
	NoOp    Action = "no-op"
	Create  Action = "create"
	Update  Action = "update"
	Replace Action = "replace"
	Delete  Action = "delete"
	Adopt   Action = "adopt" // an unmarked object that already is as wanted gets our mark
	Rotate  Action = "rotate"
	Wait    Action = "wait"
	// Forget takes our mark off an object of ours and leaves it exactly as it is:
	// the next observation must report it as Unowned or count it as foreign. Before
	// holds what was observed, After is nil. Only an Object that its provider calls
	// Forgettable gets this action, and its provider must compile an operation for it.
	Forget Action = "forget"
)

// Glyph is the rune that stands for the action in a terminal.
func (a Action) Glyph() string {
	switch a {
	case Create:
		return "+"
	case Update:
		return "~"
	case Replace:
		return "±"
	case Delete:
		return "-"
	case Adopt:
		return "="
	case Rotate:
		return "↻"
	case Wait:
		return "…"
	case Forget:
		return "○"
	}
	return " "
}

// Risk is the worst thing a change can do to mail.
type Risk string

// The risks, in rising order.
const (
	RiskNone       Risk = ""
	RiskInterrupts Risk = "interrupts mail"
	RiskLosesData  Risk = "loses data"
)

// Field is one difference inside a change. Before or After is null when the
// field appears or disappears.
type Field struct {
	Path   string `json:"path"`
	Before Value  `json:"before"`
	After  Value  `json:"after"`
	// Replaces is set when this difference alone means delete and create again.
	Replaces bool `json:"replaces,omitempty"`
}

// Block says why a change will not be applied and what would allow it.
type Block struct {
	Why   string `json:"why"`   // for people
	Allow string `json:"allow"` // the flag that lifts it: "--allow mailbox/bob@acme.example"
}

// Change is the difference at one address. A NoOp is a change too: a provider
// needs the whole picture to compile operations that cover many objects.
type Change struct {
	Address  Address `json:"address"`
	Provider string  `json:"provider"`
	Kind     string  `json:"kind"`
	Action   Action  `json:"action"`
	ID       string  `json:"id,omitempty"`

	Before  Attrs   `json:"before,omitempty"`  // observed; nil for a create
	After   Attrs   `json:"after,omitempty"`   // wanted; nil for a delete
	Fields  []Field `json:"fields,omitempty"`  // the differences; none for a create or delete, where Before or After says all
	Ignored []Field `json:"ignored,omitempty"` // differences that the spec ignores: After is what the spec would give
	Outputs Attrs   `json:"outputs,omitempty"` // what is already known of the object's outputs, and stays so

	Reason    string    `json:"reason,omitempty"`
	Risk      Risk      `json:"risk,omitempty"`
	Effect    string    `json:"effect,omitempty"`
	DependsOn []Address `json:"depends_on,omitempty"` // explicit and through references
	LeftOut   Action    `json:"left_out,omitempty"`   // of a NoOp: what it would be, were the plan not about something else
	Blocked   *Block    `json:"blocked,omitempty"`
}

// Pending reports whether the change would do something and may.
func (c Change) Pending() bool {
	return c.Action != NoOp && c.Action != Wait && c.Blocked == nil
}

// Op is one step of applying: at most one effect in one outside system. It is
// pure data; everything it needs is in Inputs, which may refer to the outputs
// of earlier operations.
type Op struct {
	ID        string    `json:"id"` // unique in the plan and the same for the same change: "alicloud.RunInstances host/mx1/instance"
	Provider  string    `json:"provider"`
	Kind      string    `json:"kind"`  // the provider's own name for it: "RunInstances"
	Title     string    `json:"title"` // for people, in the imperative: "start the instance"
	Addresses []Address `json:"addresses"`
	Inputs    Attrs     `json:"inputs,omitempty"`
	After     []string  `json:"after,omitempty"`     // ids of operations that must have succeeded
	ReadOnly  bool      `json:"read_only,omitempty"` // a wait or a look-up: needs no journal and is safe to repeat
	Removes   bool      `json:"removes,omitempty"`   // the part of a Replace that takes the old object away: goes after those of its dependents
	Seconds   int       `json:"seconds,omitempty"`   // a typical duration, for estimates
}

// Plan is what apply will do: pure data.
type Plan struct {
	FormatVersion int       `json:"format_version"`
	Stack         string    `json:"stack"`
	Destroy       bool      `json:"destroy,omitempty"`
	Asked         *Asked    `json:"asked,omitempty"`
	Changes       []Change  `json:"changes"` // sorted by address; includes NoOps
	Ops           []Op      `json:"ops"`     // sorted by id
	Foreign       []Foreign `json:"foreign,omitempty"`
}
