package specs

// Severity of a Diagnostic.
type Severity string

// The severities. Only errors stop a command.
const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
)

// Diagnostic is one finding about a spec.
type Diagnostic struct {
	Severity Severity
	Code     string // stable, "MF1203"
	Summary  string // one line: what is wrong
	Detail   string // what was found, what was expected, what to do
	Subject  *Range // the offending place; nil when there is none
	Context  *Range // a wider place to show; may be nil
}

// Diagnostics are all findings of a command, in source order.
type Diagnostics []Diagnostic

// HasErrors reports whether one of them is an error.
func (ds Diagnostics) HasErrors() bool {
	for _, d := range ds {
		if d.Severity == SeverityError {
			return true
		}
	}
	return false
}
