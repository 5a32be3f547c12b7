package cloudflare

import (
	"errors"
	"fmt"
	"strings"

	"mailform/plan"
	"mailform/specs"
)

// spf is a sender policy record, RFC 7208 section 4.6.
type spf struct {
	terms     []string // mechanisms before "all" in canonical text, in order
	modifiers []string // other than redirect
	redirect  string   // RFC 7208 6.1
	all       string   // "-all", "~all", "?all", "+all" or ""
}

// maxSPFLookups is how many mechanisms may ask the DNS (RFC 7208 4.6.4).
const maxSPFLookups = 10

// isSPF reports whether a TXT text is an SPF record (RFC 7208 4.5).
func isSPF(text string) bool {
	const version = "v=spf1"
	return len(text) >= len(version) && strings.EqualFold(text[:len(version)], version) &&
		(len(text) == len(version) || text[len(version)] == ' ')
}

// parseSPF reads a record. It refuses what it does not understand: such a record
// must not be joined with another.
func parseSPF(text string) (spf, error) {
	if !isSPF(text) {
		return spf{}, errors.New(`not an SPF record: it does not begin with "v=spf1"`)
	}
	var s spf
	for _, word := range strings.Fields(text)[1:] {
		if name, value, ok := modifier(word); ok {
			if name == "redirect" {
				s.redirect = canonicalName(value)
			} else {
				s.modifiers = append(s.modifiers, name+"="+value)
			}
			continue
		}
		term, err := mechanism(word)
		if err != nil {
			return spf{}, err
		}
		switch {
		case s.all != "":
			return spf{}, fmt.Errorf("%q stands after %q, where it has no effect", word, s.all)
		case strings.TrimLeft(term, "-~?") == "all":
			s.all = term
			if term == "all" {
				s.all = "+all"
			}
		default:
			s.terms = append(s.terms, term)
		}
	}
	return s, nil
}

// modifier splits name=value. Mechanisms have no "=" before ":" or "/".
func modifier(word string) (name, value string, ok bool) {
	i := strings.IndexAny(word, "=:/")
	if i <= 0 || word[i] != '=' {
		return "", "", false
	}
	return strings.ToLower(word[:i]), word[i+1:], true
}

// mechanism gives a mechanism its canonical text: lower case, no "+", host
// addresses without their prefix length.
func mechanism(word string) (string, error) {
	qualifier := ""
	switch word[0] {
	case '+':
		word = word[1:]
	case '-', '~', '?':
		qualifier, word = word[:1], word[1:]
	}
	word = strings.ToLower(word)
	name := word
	if i := strings.IndexAny(word, ":/"); i >= 0 {
		name = word[:i]
	}
	switch name {
	case "all":
		if word != "all" {
			return "", fmt.Errorf("%q is not a mechanism", word)
		}
	case "a", "mx", "ptr":
	case "include", "exists", "ip4", "ip6":
		if !strings.HasPrefix(word, name+":") {
			return "", fmt.Errorf("%q needs a value", word)
		}
		word = strings.TrimSuffix(word, ".")
		if name == "ip4" {
			word = strings.TrimSuffix(word, "/32")
		}
		if name == "ip6" {
			word = strings.TrimSuffix(word, "/128")
		}
	default:
		return "", fmt.Errorf("%q is not a mechanism of RFC 7208", word)
	}
	return qualifier + word, nil
}

// String writes the record.
func (s spf) String() string {
	words := append([]string{"v=spf1"}, s.terms...)
	if s.redirect != "" {
		words = append(words, "redirect="+s.redirect)
	}
	words = append(words, s.modifiers...)
	if s.all != "" {
		words = append(words, s.all)
	}
	return strings.Join(words, " ")
}

// lookups counts the terms that ask the DNS.
func (s spf) lookups() int {
	n := 0
	if s.redirect != "" {
		n++
	}
	for _, t := range s.terms {
		name := strings.TrimLeft(t, "-~?")
		if i := strings.IndexAny(name, ":/"); i >= 0 {
			name = name[:i]
		}
		switch name {
		case "include", "a", "mx", "ptr", "exists":
			n++
		}
	}
	return n
}

// same reports whether two records say the same, whatever their order.
func (s spf) same(o spf) bool {
	return s.all == o.all && s.redirect == o.redirect &&
		len(without(s.terms, o.terms)) == 0 && len(without(o.terms, s.terms)) == 0 &&
		len(without(s.modifiers, o.modifiers)) == 0 && len(without(o.modifiers, s.modifiers)) == 0
}

// others gives what of the record is someone else's: the terms that are not in
// own. A redirect becomes an include, because ours ends in "all", which would
// make it void (RFC 7208 6.1).
func (s spf) others(own func(term string) bool) []string {
	var out []string
	for _, t := range s.terms {
		if !own(t) {
			out = append(out, t)
		}
	}
	if s.redirect != "" && s.all == "" {
		out = append(out, "include:"+s.redirect)
	}
	for _, m := range s.modifiers {
		if !own(m) {
			out = append(out, m)
		}
	}
	return out
}

// join adds someone else's terms to ours. Ours come first and the policy for
// everybody else (all) is ours; see theirPolicy for when it is not.
func (s spf) join(others []string) spf {
	out := spf{terms: append([]string{}, s.terms...), modifiers: append([]string{}, s.modifiers...), all: s.all}
	for _, t := range without(others, append(out.terms, out.modifiers...)) {
		if _, _, ok := modifier(t); ok {
			out.modifiers = append(out.modifiers, t)
		} else {
			out.terms = append(out.terms, t)
		}
	}
	return out
}

// without gives the elements of list that are not in other.
func without(list, other []string) []string {
	in := make(map[string]bool, len(other))
	for _, t := range other {
		in[t] = true
	}
	var out []string
	for _, t := range list {
		if !in[t] {
			out = append(out, t)
		}
	}
	return out
}

// spfText is the record a spec asks for.
func spfText(s *specs.SPF) string {
	rec := spf{terms: []string{"mx"}, all: "-all"}
	for _, d := range s.Include {
		rec.terms = append(rec.terms, "include:"+d)
	}
	for _, p := range s.IP {
		term := "ip4:"
		if p.Addr().Is6() {
			term = "ip6:"
		}
		if p.IsSingleIP() {
			term += p.Addr().String()
		} else {
			term += p.String()
		}
		rec.terms = append(rec.terms, term)
	}
	switch s.All {
	case "softfail":
		rec.all = "~all"
	case "neutral":
		rec.all = "?all"
	}
	return rec.String()
}

// Merge implements plan.Merger. An SPF record that other services are in keeps
// their mechanisms beside ours; a record that differs in nothing but its TTL is
// taken over. Settings of a zone belong to who names them in a spec.
func (p *Provider) Merge(want plan.Resource, have plan.Object) (plan.Resource, bool) {
	if want.Kind == kindSettings {
		return want, have.Owner == plan.Unowned
	}
	if have.Owner != plan.Unowned || want.Kind != kindRecord || len(have.Attrs["others"].Items()) > 0 {
		return want, false
	}
	kind, text := want.Attrs["type"], want.Attrs["content"]
	if !kind.Equal(have.Attrs["type"]) {
		return want, false
	}
	if kind.Str() == "TXT" && isSPF(text.Str()) {
		own, err := parseSPF(text.Str())
		if err != nil {
			return want, false
		}
		theirs, err := parseSPF(have.Attrs["content"].Str())
		if err != nil {
			return want, false
		}
		joined := own.join(theirs.others(func(t string) bool { return contains(own.terms, t) }))
		if all, left := have.Attrs["all"]; left {
			joined.all = all.Str()
		}
		if joined.lookups() > maxSPFLookups {
			return want, false
		}
		result := joined.String()
		if theirs.same(joined) {
			result = have.Attrs["content"].Str()
		}
		return withContent(want, result), true
	}
	for name, v := range want.Attrs {
		if name != "ttl" && !v.Equal(have.Attrs[name]) {
			return want, false
		}
	}
	return want, true
}

func withContent(r plan.Resource, content string) plan.Resource {
	attrs := make(plan.Attrs, len(r.Attrs))
	for k, v := range r.Attrs {
		attrs[k] = v
	}
	attrs["content"] = plan.String(content)
	r.Attrs = attrs
	return r
}

func contains(list []string, s string) bool {
	for _, e := range list {
		if e == s {
			return true
		}
	}
	return false
}
