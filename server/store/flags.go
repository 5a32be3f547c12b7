package store

import (
	"slices"
	"strings"
)

// systemFlags are the flags of RFC 9051 2.3.2 and well-known keywords in the
// case they are kept in.
var canonicalFlags = []string{
	`\Answered`, `\Deleted`, `\Draft`, `\Flagged`, `\Seen`,
	"$Forwarded", "$Important", "$Junk", "$MDNSent", "$NotJunk", "$Phishing", "$Sent", "$Submitted", "$SubmitPending",
}

// canonicalFlag returns the case the flag is kept in; "" when it cannot be stored.
func canonicalFlag(f string) string {
	if f == "" || len(f) > 255 {
		return ""
	}
	for _, c := range canonicalFlags {
		if len(c) == len(f) && strings.EqualFold(c, f) {
			return c
		}
	}
	if f[0] == '\\' {
		return "" // \Recent and what else is not a client's to set
	}
	for i := range len(f) {
		// RFC 9051 9, flag-keyword is an atom.
		if f[i] <= ' ' || f[i] >= 0x7f || strings.IndexByte(`(){%*"\]`, f[i]) >= 0 {
			return ""
		}
	}
	return f
}

// canonicalList brings flags into canonical case and order, each once. Flags
// that cannot be stored are left out.
func canonicalList(flags []string) []string {
	var l []string
	for _, f := range flags {
		if c := canonicalFlag(f); c != "" && !hasFlag(l, c) {
			l = append(l, c)
		}
	}
	slices.Sort(l)
	return l
}

// hasFlag compares without regard to case, as keywords do.
func hasFlag(flags []string, f string) bool {
	for _, v := range flags {
		if v == f || len(v) == len(f) && strings.EqualFold(v, f) {
			return true
		}
	}
	return false
}

// changeFlags returns have after the change; want is canonical.
func changeFlags(have []string, op FlagOp, want []string) []string {
	switch op {
	case FlagsSet:
		return want
	case FlagsAdd:
		return canonicalList(slices.Concat(have, want))
	default:
		return slices.DeleteFunc(slices.Clone(have), func(f string) bool { return hasFlag(want, f) })
	}
}
