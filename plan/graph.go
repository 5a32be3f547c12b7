package plan

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"mailform/plan/style"
)

// WriteDot writes the operations and their order in Graphviz's language:
// an arrow points from what comes first to what waits for it.
func WriteDot(w io.Writer, p *Plan) error {
	var b bytes.Buffer
	quote := func(s string) string {
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(style.Clean(s)) + `"`
	}
	fmt.Fprintf(&b, "digraph %s {\n\trankdir=LR;\n\tnode [shape=box];\n", quote(p.Stack))
	for _, op := range p.Ops {
		fmt.Fprintf(&b, "\t%s [label=%s];\n", quote(op.ID), quote(graphLabel(op)))
	}
	for _, op := range p.Ops {
		for _, id := range op.After {
			fmt.Fprintf(&b, "\t%s -> %s;\n", quote(id), quote(op.ID))
		}
	}
	b.WriteString("}\n")
	_, err := w.Write(b.Bytes())
	return err
}

// WriteMermaid writes the same as a Mermaid flowchart, which Git hosting sites draw.
func WriteMermaid(w io.Writer, p *Plan) error {
	var b bytes.Buffer
	quote := func(s string) string {
		return `"` + strings.NewReplacer(`"`, "#quot;", "#", "#35;", "<", "#lt;", ">", "#gt;", "`", "#96;").Replace(style.Clean(s)) + `"`
	}
	b.WriteString("flowchart LR\n")
	number := make(map[string]int, len(p.Ops))
	for i, op := range p.Ops {
		number[op.ID] = i
		fmt.Fprintf(&b, "  op%d[%s]\n", i, quote(graphLabel(op)))
	}
	for i, op := range p.Ops {
		for _, id := range op.After {
			fmt.Fprintf(&b, "  op%d --> op%d\n", number[id], i)
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

// GraphFormatVersion is the version of the document that WriteGraphJSON writes.
const GraphFormatVersion = 1

// jsonGraph is the document of `mailform graph --format json`.
type jsonGraph struct {
	FormatVersion int        `json:"format_version"` // 1
	Stack         string     `json:"stack"`          // the stack's name
	Nodes         []jsonOp   `json:"nodes"`          // the operations, sorted by id
	Edges         []jsonEdge `json:"edges"`          // what waits for what
}

type jsonEdge struct {
	From string `json:"from"` // id of the operation that comes first
	To   string `json:"to"`   // id of the one that waits for it
}

// WriteGraphJSON writes the same as a list of nodes and a list of edges.
func WriteGraphJSON(w io.Writer, p *Plan) error {
	doc := jsonGraph{GraphFormatVersion, p.Stack, jsonOps(p), []jsonEdge{}}
	for _, op := range p.Ops {
		for _, id := range op.After {
			doc.Edges = append(doc.Edges, jsonEdge{id, op.ID})
		}
	}
	return writeJSON(w, doc)
}

func graphLabel(op Op) string {
	label := op.Title
	if label == "" {
		label = op.ID
	}
	if len(op.Addresses) == 1 {
		return label + " · " + string(op.Addresses[0])
	}
	return fmt.Sprintf("%s · %s addresses", label, thousands(len(op.Addresses)))
}
