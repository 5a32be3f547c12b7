package agent

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"mailform/server/manifest"
)

// manifestDifference says field by field what distinguishes two manifests; old may
// be nil. Of a secret it only says that it changes.
func manifestDifference(old, want *manifest.Manifest) ([]string, error) {
	before := map[string]string{}
	if old != nil {
		if err := flattenManifest(before, old); err != nil {
			return nil, err
		}
	}
	after := map[string]string{}
	if err := flattenManifest(after, want); err != nil {
		return nil, err
	}
	var out []string
	for path, value := range after {
		switch is, there := before[path]; {
		case !there:
			out = append(out, path+" + "+shown(path, value))
		case is != value && secretField(path):
			out = append(out, path+" changes")
		case is != value:
			out = append(out, path+" "+is+" → "+value)
		}
	}
	for path, value := range before {
		if _, there := after[path]; !there {
			out = append(out, path+" - "+shown(path, value))
		}
	}
	slices.Sort(out)
	return out, nil
}

// secretField reports whether the value at a path is never shown.
func secretField(path string) bool {
	name := path[strings.LastIndexByte(path, '.')+1:]
	return name == "password_hash" || name == "password" || name == "secret_access_key"
}

func shown(path, value string) string {
	if secretField(path) {
		return "(secret)"
	}
	return value
}

func flattenManifest(into map[string]string, m *manifest.Manifest) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	var v map[string]any
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	flatten(into, "", v)
	return nil
}

// flatten gives every value a path. Members of a list go by what names them, so that
// a mailbox that comes in between does not change those behind it.
func flatten(into map[string]string, path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for name, field := range v {
			flatten(into, strings.TrimPrefix(path+"."+name, "."), field)
		}
	case []any:
		for i, member := range v {
			fields, ok := member.(map[string]any)
			if !ok {
				into[path] = fmt.Sprint(v)
				return
			}
			name := fmt.Sprint(i)
			for _, key := range []string{"name", "local", "selector"} {
				if s, ok := fields[key].(string); ok && (key != "name" || fields["local"] == nil) {
					name = s
					break
				}
			}
			flatten(into, path+"["+name+"]", member)
		}
	case float64:
		into[path] = fmt.Sprintf("%.0f", v)
	case string:
		into[path] = fmt.Sprintf("%q", v)
	default:
		into[path] = fmt.Sprint(v)
	}
}
