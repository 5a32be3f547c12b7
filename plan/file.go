package plan

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Bounds of a plan file.
const (
	maxFileBytes = 256 << 20 // 5,000 mailboxes take about 3 MiB
	maxFileDepth = 64        // nesting of JSON
)

// Encode writes a plan as a plan file: canonical JSON, byte-identical for the
// same plan, with one newline at the end. There is no secret in it.
func Encode(p *Plan) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(p); err != nil {
		panic(err) // plain data always encodes
	}
	return b.Bytes()
}

// Decode reads a plan file. It takes only what Encode writes, byte for byte: a
// file of another version, a damaged or an edited one is an error.
func Decode(file []byte) (*Plan, error) {
	if len(file) > maxFileBytes {
		return nil, fmt.Errorf("plan file: larger than %d MiB", maxFileBytes>>20)
	}
	if err := checkDepth(file); err != nil {
		return nil, err
	}
	var version struct {
		FormatVersion int `json:"format_version"`
	}
	if err := json.Unmarshal(file, &version); err != nil {
		return nil, fmt.Errorf("plan file: %w", jsonError(err))
	}
	switch {
	case version.FormatVersion == 0:
		return nil, errors.New("plan file: this is not a plan: it has no format_version")
	case version.FormatVersion != FormatVersion:
		return nil, fmt.Errorf("plan file: format %d, but this mailform reads format %d: make the plan again with this version", version.FormatVersion, FormatVersion)
	}
	dec := json.NewDecoder(bytes.NewReader(file))
	dec.DisallowUnknownFields()
	p := new(Plan)
	if err := dec.Decode(p); err != nil {
		return nil, fmt.Errorf("plan file: %w", jsonError(err))
	}
	if !bytes.Equal(Encode(p), file) {
		return nil, errors.New("plan file: not as mailform wrote it: it was edited or damaged, make the plan again")
	}
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("plan file: %w", err)
	}
	return p, nil
}

func jsonError(err error) error {
	var syntax *json.SyntaxError
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &syntax) && syntax.Error() == "unexpected end of JSON input" {
		return errors.New("it ends too early")
	}
	return err
}

// checkDepth refuses nesting that decoding, which reads a value once per level,
// would spend its time on.
func checkDepth(file []byte) error {
	depth, quoted := 0, false
	for i := 0; i < len(file); i++ {
		switch c := file[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > maxFileDepth {
				return fmt.Errorf("plan file: nested deeper than %d levels", maxFileDepth)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}

// check holds a plan from a file to what Build promises, so that apply can rely
// on it: sorted, unique, known words, and operations that can be walked.
func (p *Plan) check() error {
	for i, c := range p.Changes {
		switch {
		case i > 0 && p.Changes[i-1].Address >= c.Address:
			return fmt.Errorf("changes are not sorted at %s", c.Address)
		case !slices.Contains([]Action{NoOp, Create, Update, Replace, Delete, Adopt, Rotate, Wait, Forget}, c.Action):
			return fmt.Errorf("%s: unknown action %q", c.Address, c.Action)
		case !slices.Contains([]Risk{RiskNone, RiskInterrupts, RiskLosesData}, c.Risk):
			return fmt.Errorf("%s: unknown risk %q", c.Address, c.Risk)
		}
	}
	number := make(map[string]int, len(p.Ops))
	for i, op := range p.Ops {
		if i > 0 && p.Ops[i-1].ID >= op.ID {
			return fmt.Errorf("operations are not sorted at %s", op.ID)
		}
		number[op.ID] = i
		for _, a := range op.Addresses {
			if _, ok := p.Change(a); !ok {
				return fmt.Errorf("operation %s serves %s, which is not in the plan", op.ID, a)
			}
		}
	}
	preds := make([][]int, len(p.Ops))
	for i, op := range p.Ops {
		for _, id := range op.After {
			n, ok := number[id]
			if !ok {
				return fmt.Errorf("operation %s comes after %s, which is not in the plan", op.ID, id)
			}
			preds[i] = append(preds[i], n)
		}
	}
	if _, cycles := sortGraph(len(preds), func(o int) []int { return preds[o] }); len(cycles) > 0 {
		return fmt.Errorf("operation %s waits for itself", p.Ops[cycles[0][0]].ID)
	}
	return nil
}

// Hash names what a plan does: 32 hexadecimal characters of SHA-256. Two plans
// with the same hash have the same changes and operations; the reasons, which
// depend on what the machine at hand remembers, and what is left alone do not count.
func Hash(p *Plan) string {
	sum := sha256.Sum256(Encode(essence(p)))
	return hex.EncodeToString(sum[:16])
}

// essence is the part of a plan that a person approves: what changes, and what
// is known of the things that the operations refer to.
func essence(p *Plan) *Plan {
	e := &Plan{FormatVersion: p.FormatVersion, Stack: p.Stack, Destroy: p.Destroy, Ops: p.Ops}
	read := p.readByOps()
	for _, c := range p.Changes {
		switch {
		case c.Action != NoOp:
			c.Reason, c.Ignored = "", nil
			e.Changes = append(e.Changes, c)
		case read[c.Address]:
			e.Changes = append(e.Changes, Change{Address: c.Address, Action: NoOp, ID: c.ID, Outputs: c.Outputs})
		}
	}
	return e
}

// readByOps returns the addresses whose outputs operations refer to.
func (p *Plan) readByOps() map[Address]bool {
	read := map[Address]bool{}
	for _, op := range p.Ops {
		for _, r := range op.Inputs.Refs() {
			read[r.Address] = true
		}
	}
	return read
}
