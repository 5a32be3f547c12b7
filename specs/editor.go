package specs

import (
	"encoding/json"
	"strings"

	"github.com/zclconf/go-cty/cty"
)

// EditorSchema describes the language for editors and other tools: a JSON Schema
// (draft 2020-12) of a spec in HCL's JSON form, where each label of a block is a
// level of objects: {"domain": {"acme.example": {"mailbox": {"alice": {}}}}}.
// What JSON Schema cannot say stands in "x-hcl" ("block" or "attribute"),
// "x-hcl-labels", "x-kind" and "x-default". It is made from the schema that Load
// checks against, and ends in a newline.
func EditorSchema() []byte {
	root := rootSchema()
	s := root.editorBody()
	s.Schema = "https://json-schema.org/draft/2020-12/schema"
	s.Title = "mailform spec"
	s.Comment = "Generated from mailform's own schema. Any value of an attribute may also be an expression."
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	_ = enc.Encode(s) // strings, numbers and bools only, into memory: cannot fail
	return []byte(b.String())
}

// editorSchema is the part of JSON Schema that is used here; maps are written
// in the order of their names.
type editorSchema struct {
	Schema      string                   `json:"$schema,omitempty"`
	Comment     string                   `json:"$comment,omitempty"`
	Title       string                   `json:"title,omitempty"`
	Description string                   `json:"description,omitempty"`
	HCL         string                   `json:"x-hcl,omitempty"`
	Labels      []string                 `json:"x-hcl-labels,omitempty"`
	Kind        string                   `json:"x-kind,omitempty"`
	DefaultIs   string                   `json:"x-default,omitempty"`
	Type        any                      `json:"type,omitempty"` // a name or a list of names
	Default     any                      `json:"default,omitempty"`
	Enum        []string                 `json:"enum,omitempty"`
	Minimum     *int64                   `json:"minimum,omitempty"`
	Maximum     *int64                   `json:"maximum,omitempty"`
	MaxLength   int                      `json:"maxLength,omitempty"`
	MinItems    int64                    `json:"minItems,omitempty"`
	Items       *editorSchema            `json:"items,omitempty"`
	Examples    []string                 `json:"examples,omitempty"`
	WriteOnly   bool                     `json:"writeOnly,omitempty"`
	Required    []string                 `json:"required,omitempty"`
	Properties  map[string]*editorSchema `json:"properties,omitempty"`
	// Additional is false where nothing else may stand, or the schema of what a label names.
	Additional any             `json:"additionalProperties,omitempty"`
	OneOf      []*editorSchema `json:"oneOf,omitempty"`
}

// editorBlock describes a block with its labels.
func (b *blockSchema) editorBlock() *editorSchema {
	s := b.editorBody()
	switch {
	case b.Variants != nil:
		s = &editorSchema{Type: "object", Additional: false, Properties: map[string]*editorSchema{}}
		for _, v := range b.Variants {
			s.Properties[v.Name] = v.editorBody()
		}
	case len(b.Labels) > 0:
		for range b.Labels {
			s = &editorSchema{Type: "object", Additional: s}
		}
	case b.Many:
		s = &editorSchema{OneOf: []*editorSchema{s, {Type: "array", Items: s}}}
	}
	for _, lb := range b.Labels {
		s.Labels = append(s.Labels, lb.Name)
	}
	s.HCL, s.Description = "block", b.Doc
	if b.Example != "" {
		s.Examples = []string{b.Example}
	}
	return s
}

// editorBody describes what stands between a block's braces.
func (b *blockSchema) editorBody() *editorSchema {
	s := &editorSchema{Type: "object", Description: b.Doc, Properties: map[string]*editorSchema{}}
	if !b.FreeForm {
		s.Additional = false
	}
	for i := range b.Attrs {
		a := &b.Attrs[i]
		s.Properties[a.Name] = a.editorAttr()
		if a.Required {
			s.Required = append(s.Required, a.Name)
		}
	}
	for _, c := range b.Blocks {
		s.Properties[c.Name] = c.editorBlock()
		if c.Required {
			s.Required = append(s.Required, c.Name)
		}
	}
	if b.Dynamic {
		s.Properties["dynamic"] = &editorSchema{HCL: "block", Labels: []string{"type"}, Type: "object", Description: dynamicText}
	}
	return s
}

// editorAttr describes an attribute.
func (a *attrSchema) editorAttr() *editorSchema {
	one := &editorSchema{Type: "string", Enum: a.Choices}
	number := false
	switch a.Kind {
	case kindBool:
		one.Type = "boolean"
	case kindInt:
		one.Type, number = "integer", true
	case kindSize, kindGiB, kindBandwidth, kindPorts, kindPercent:
		one.Type = []string{"string", "integer"}
	case kindExpr:
		one.Type = nil
	case kindString:
		if one.MaxLength = a.MaxLen; a.MaxLen == 0 && len(a.Choices) == 0 {
			one.MaxLength = defaultMaxLen
		}
	}
	if number {
		one.Minimum = &a.Min
		if a.Max > 0 {
			one.Maximum = &a.Max
		}
	}
	s := one
	if a.List {
		s = &editorSchema{Type: "array", Items: one, MinItems: a.Min}
	}
	s.HCL, s.Kind, s.Description, s.WriteOnly = "attribute", a.typeText(), a.Doc, a.Sensitive
	s.DefaultIs = a.DefaultIs
	if a.Default != cty.NilVal {
		s.Default = plainValue(a.Default)
	}
	if a.Example != "" {
		s.Examples = []string{a.Example}
	}
	return s
}

// plainValue gives a default of the schema as JSON's own types.
func plainValue(v cty.Value) any {
	switch v.Type() {
	case cty.String:
		return v.AsString()
	case cty.Bool:
		return v.True()
	case cty.Number:
		n, _ := v.AsBigFloat().Int64()
		return n
	}
	var list []any
	for it := v.ElementIterator(); it.Next(); {
		_, e := it.Element()
		list = append(list, plainValue(e))
	}
	return list
}
