package smtp

import (
	"errors"
	"strconv"
	"strings"
)

var errSyntax = errors.New("syntax")

// cutFold is strings.CutPrefix for a prefix in capitals, whatever s is written in.
func cutFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}

// parsePath takes a path apart, RFC 5321 4.1.2, and what stands behind it. A
// source route is passed over, quotes are taken away, and the brackets may be
// missing, as some programs leave them out. An empty path is "".
func parsePath(s string) (address, rest string, err error) {
	s = strings.TrimLeft(s, " \t")
	s, bracket := strings.CutPrefix(s, "<")
	if bracket && strings.HasPrefix(s, ">") {
		return "", s[1:], nil
	}
	if strings.HasPrefix(s, "@") {
		_, after, ok := strings.Cut(s, ":")
		if !ok {
			return "", "", errSyntax
		}
		s = after
	}
	var local []byte
	i := 0
	if strings.HasPrefix(s, `"`) {
		for i = 1; ; i++ {
			if i < len(s) && s[i] == '"' {
				i++
				break
			}
			if i < len(s) && s[i] == '\\' {
				i++
			}
			if i >= len(s) {
				return "", "", errSyntax
			}
			local = append(local, s[i])
		}
	} else {
		i = strings.IndexAny(s, "@()<>[]:;\\,\" \t")
		if i < 0 {
			return "", "", errSyntax
		}
		local = []byte(s[:i])
	}
	if len(local) == 0 || i == len(s) || s[i] != '@' {
		return "", "", errSyntax
	}
	domain, rest := s[i+1:], ""
	if end := strings.IndexAny(domain, " \t>"); end >= 0 {
		domain, rest = domain[:end], domain[end:]
	}
	if bracket {
		var closed bool
		if rest, closed = strings.CutPrefix(rest, ">"); !closed {
			return "", "", errSyntax
		}
	}
	if domain == "" {
		return "", "", errSyntax
	}
	return string(local) + "@" + domain, rest, nil
}

// parameter is one of those behind a path: RFC 5321 4.1.2, esmtp-param.
type parameter struct{ name, value string } // name in capitals

func parseParameters(s string) ([]parameter, error) {
	if s != "" && s[0] != ' ' && s[0] != '\t' {
		return nil, errSyntax
	}
	var list []parameter
	for _, f := range strings.Fields(s) {
		name, value, _ := strings.Cut(f, "=")
		if name == "" {
			return nil, errSyntax
		}
		list = append(list, parameter{strings.ToUpper(name), value})
	}
	return list, nil
}

// parseBdat takes the argument of BDAT apart: RFC 3030 2.
func parseBdat(s string) (size int64, last bool, err error) {
	f := strings.Fields(s)
	if len(f) == 2 && strings.EqualFold(f[1], "LAST") {
		f, last = f[:1], true
	}
	if len(f) != 1 {
		return 0, false, errSyntax
	}
	n, err := strconv.ParseUint(f[0], 10, 40)
	if err != nil {
		return 0, false, errSyntax
	}
	return int64(n), last, nil
}
