package specs

import (
	"encoding/json"
	"slices"
	"testing"
)

// mailform.schema.json describes every block and attribute of the language, and
// its defaults are values that it allows itself.
func TestEditorSchema(t *testing.T) {
	text := EditorSchema()
	goldenFile(t, "../mailform.schema.json", string(text))
	var doc map[string]any
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	walkEditor(t, "", rootSchema(), doc)
}

func walkEditor(t *testing.T, path string, b *blockSchema, doc map[string]any) {
	t.Helper()
	props, _ := doc["properties"].(map[string]any)
	want := len(b.Attrs) + len(b.Blocks) + len(b.Variants)
	if b.Dynamic {
		want++
	}
	if len(props) != want {
		t.Errorf("%s: %d properties for %d attributes and blocks", path, len(props), want)
	}
	if _, open := doc["additionalProperties"]; open == b.FreeForm {
		t.Errorf("%s: whether other attributes may stand is wrong", path)
	}
	for _, a := range b.Attrs {
		p, ok := props[a.Name].(map[string]any)
		if !ok {
			t.Errorf("%s.%s is missing", path, a.Name)
			continue
		}
		required, _ := doc["required"].([]any)
		if slices.Contains(required, any(a.Name)) != a.Required {
			t.Errorf("%s.%s: required %v", path, a.Name, !a.Required)
		}
		if d, has := p["default"]; has && !fitsEditor(p, d) {
			t.Errorf("%s.%s: the default %v does not fit %v", path, a.Name, d, p)
		}
	}
	for _, c := range b.children() {
		p, ok := props[c.Name].(map[string]any)
		if !ok {
			t.Errorf("%s.%s is missing", path, c.Name)
			continue
		}
		for range c.Labels {
			if inner, labelled := p["additionalProperties"].(map[string]any); labelled {
				p = inner
			}
		}
		if one, several := p["oneOf"].([]any); several {
			p = one[0].(map[string]any)
		}
		walkEditor(t, path+"."+c.Name, c, p)
	}
}

// fitsEditor is the little of JSON Schema that attributes use.
func fitsEditor(p map[string]any, v any) bool {
	if enum, ok := p["enum"].([]any); ok && !slices.Contains(enum, v) {
		return false
	}
	types, _ := p["type"].([]any)
	if one, ok := p["type"].(string); ok {
		types = []any{one}
	}
	if len(types) == 0 {
		return true
	}
	for _, ty := range types {
		switch x := v.(type) {
		case string:
			if ty == "string" {
				return true
			}
		case bool:
			if ty == "boolean" {
				return true
			}
		case float64:
			if lo, ok := p["minimum"].(float64); ty == "integer" && (!ok || lo <= x) {
				return true
			}
		case []any:
			items, ok := p["items"].(map[string]any)
			return ok && ty == "array" && !slices.ContainsFunc(x, func(e any) bool { return !fitsEditor(items, e) })
		}
	}
	return false
}
