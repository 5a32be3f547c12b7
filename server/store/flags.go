package store

import (
	"fmt"
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
		c := canonicalFlag(f)
		if c == "" || len(flags) <= 16 && hasFlag(l, c) {
			continue
		}
		l = append(l, c)
	}
	if len(flags) > 16 { // the first of those that differ in case only stays
		slices.SortStableFunc(l, func(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) })
		l = slices.CompactFunc(l, strings.EqualFold)
	}
	slices.Sort(l)
	return l
}

// MaxFlags is how many flags and keywords a message can have.
const MaxFlags = 256

// fewEnough refuses a change by which a message would have too many flags.
func fewEnough(before, after []string) error {
	if len(after) > MaxFlags && len(after) > len(before) {
		return fmt.Errorf("%w: %d", ErrFlags, len(after))
	}
	return nil
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
