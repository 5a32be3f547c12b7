package plan

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// MarshalJSON writes the canonical form: plain JSON for known values, and an
// object with one reserved key for the rest: {"$ref":"ADDRESS#ATTR"},
// {"$concat":[…]}, {"$secret":"FINGERPRINT"}. An Object whose only field starts
// with "$" is wrapped as {"$object":{…}} so that it is never mistaken for one.
func (v Value) MarshalJSON() ([]byte, error) { return v.appendJSON(nil, false), nil }

// appendJSON appends the canonical form to b. With hide a secret is
// {"$secret":true}, without its fingerprint.
func (v Value) appendJSON(b []byte, hide bool) []byte {
	switch v.kind {
	case KindString:
		return appendText(b, v.str)
	case KindInt:
		return strconv.AppendInt(b, v.num, 10)
	case KindBool:
		return strconv.AppendBool(b, v.num == 1)
	case KindSecret:
		if hide {
			return append(b, `{"$secret":true}`...)
		}
		b = append(b, `{"$secret":`...)
		return append(appendText(b, v.str), '}')
	case KindUnknown:
		b = append(b, `{"$ref":`...)
		return append(appendText(b, string(v.ref.Address)+"#"+v.ref.Attr), '}')
	case KindConcat:
		b = append(b, `{"$concat":`...)
		return append(appendList(b, v.list, hide), '}')
	case KindList:
		return appendList(b, v.list, hide)
	case KindObject:
		if reserved(v.fields) {
			b = append(b, `{"$object":`...)
			return append(appendFields(b, v.fields, hide), '}')
		}
		return appendFields(b, v.fields, hide)
	}
	return append(b, "null"...)
}

func appendList(b []byte, list []Value, hide bool) []byte {
	b = append(b, '[')
	for i, e := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = e.appendJSON(b, hide)
	}
	return append(b, ']')
}

func appendFields(b []byte, fields map[string]Value, hide bool) []byte {
	b = append(b, '{')
	for i, k := range sortedKeys(fields) {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendText(b, k), ':')
		b = fields[k].appendJSON(b, hide)
	}
	return append(b, '}')
}

// reserved reports whether plain JSON for these fields would read as one of the
// special forms.
func reserved(fields map[string]Value) bool {
	if len(fields) != 1 {
		return false
	}
	for k := range fields {
		return strings.HasPrefix(k, "$")
	}
	return false
}

// appendText appends a JSON string as encoding/json writes it without HTML escapes.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			var buf bytes.Buffer
			enc := json.NewEncoder(&buf)
			enc.SetEscapeHTML(false)
			if err := enc.Encode(s); err != nil {
				panic(err) // a string always encodes
			}
			return append(b, bytes.TrimRight(buf.Bytes(), "\n")...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// UnmarshalJSON reads the canonical form.
func (v *Value) UnmarshalJSON(b []byte) error {
	b = bytes.TrimSpace(b)
	*v = Value{}
	if len(b) == 0 {
		return fmt.Errorf("plan value: empty")
	}
	switch b[0] {
	case 'n':
		return nil
	case '"':
		v.kind = KindString
		return json.Unmarshal(b, &v.str)
	case 't', 'f':
		var t bool
		if err := json.Unmarshal(b, &t); err != nil {
			return err
		}
		*v = Bool(t)
		return nil
	case '[':
		v.kind = KindList
		return json.Unmarshal(b, &v.list)
	case '{':
		var m map[string]json.RawMessage
		if err := json.Unmarshal(b, &m); err != nil {
			return err
		}
		if len(m) == 1 {
			for k, raw := range m {
				if strings.HasPrefix(k, "$") {
					return v.unmarshalSpecial(k, raw)
				}
			}
		}
		return v.unmarshalFields(m)
	}
	n, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil {
		return fmt.Errorf("plan value: %q is not a whole number", b)
	}
	*v = Int(n)
	return nil
}

func (v *Value) unmarshalFields(m map[string]json.RawMessage) error {
	fields := make(map[string]Value, len(m))
	for k, raw := range m {
		var e Value
		if err := e.UnmarshalJSON(raw); err != nil {
			return err
		}
		fields[k] = e
	}
	*v = Value{kind: KindObject, fields: fields}
	return nil
}

func (v *Value) unmarshalSpecial(key string, raw json.RawMessage) error {
	switch key {
	case "$secret":
		v.kind = KindSecret
		return json.Unmarshal(raw, &v.str)
	case "$ref":
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return err
		}
		// A local part may hold "#", an attribute's name never does.
		i := strings.LastIndexByte(s, '#')
		if i < 0 {
			return fmt.Errorf("plan value: reference %q has no attribute", s)
		}
		*v = Unknown(Address(s[:i]), s[i+1:])
		return nil
	case "$concat":
		var parts []Value
		if err := json.Unmarshal(raw, &parts); err != nil {
			return err
		}
		*v = Concat(parts...)
		return nil
	case "$object":
		var m map[string]json.RawMessage
		if err := json.Unmarshal(raw, &m); err != nil {
			return err
		}
		return v.unmarshalFields(m)
	}
	return fmt.Errorf("plan value: unknown form %q", key)
}
