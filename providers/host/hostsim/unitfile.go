package hostsim

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// unit is a parsed unit file: values by section and key, in order.
type unit map[string]map[string][]string

// maxUnit bounds a unit file, in bytes.
const maxUnit = 1 << 20

// parseUnit reads a unit file, systemd.syntax(7): sections, comments, line
// continuation; an empty value clears what came before.
func parseUnit(text string) (unit, error) {
	if len(text) > maxUnit {
		return nil, errors.New("unit file is too long")
	}
	u := unit{}
	section := ""
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		first := i + 1
		line := strings.TrimSpace(lines[i])
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		for strings.HasSuffix(line, "\\") && i+1 < len(lines) {
			i++
			next := strings.TrimSpace(lines[i])
			if next != "" && (next[0] == '#' || next[0] == ';') {
				continue
			}
			line = strings.TrimSuffix(line, "\\") + " " + next
		}
		if line[0] == '[' {
			if !strings.HasSuffix(line, "]") || len(line) < 3 {
				return nil, fmt.Errorf("line %d: bad section header", first)
			}
			section = line[1 : len(line)-1]
			if u[section] == nil {
				u[section] = map[string][]string{}
			}
			continue
		}
		k, v, ok := strings.Cut(line, "=")
		k, v = strings.TrimSpace(k), strings.TrimSpace(v)
		switch {
		case section == "":
			return nil, fmt.Errorf("line %d: assignment outside a section", first)
		case !ok || k == "":
			return nil, fmt.Errorf("line %d: not an assignment", first)
		case v == "":
			delete(u[section], k)
		default:
			u[section][k] = append(u[section][k], v)
		}
	}
	return u, nil
}

// get returns the last value of a key, "" when it is not set.
func (u unit) get(section, key string) string {
	vs := u[section][key]
	if len(vs) == 0 {
		return ""
	}
	return vs[len(vs)-1]
}

// list returns all words of all values of a key.
func (u unit) list(section, key string) []string {
	var out []string
	for _, v := range u[section][key] {
		out = append(out, strings.Fields(v)...)
	}
	return out
}

// seconds reads a time span in plain seconds or with the unit "s", "ms" or "min".
func (u unit) seconds(section, key string, byDefault time.Duration) time.Duration {
	v := u.get(section, key)
	if v == "" {
		return byDefault
	}
	if n, err := strconv.ParseFloat(v, 64); err == nil && n >= 0 && n < 1e6 {
		return time.Duration(n * float64(time.Second))
	}
	if d, err := time.ParseDuration(strings.ReplaceAll(v, "min", "m")); err == nil && d >= 0 {
		return d
	}
	return byDefault
}
