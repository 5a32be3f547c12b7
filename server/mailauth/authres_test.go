package mailauth

import (
	"bytes"
	"strings"
	"testing"
)

// RFC 8601 5: nobody but us says what we found out.
func TestStripForged(t *testing.T) {
	const id = "mail.example.com"
	for name, tc := range map[string]struct {
		header string
		strip  bool
	}{
		"ours":            {"Authentication-Results: mail.example.com; spf=pass\r\n", true},
		"capitals":        {"AUTHENTICATION-results: Mail.Example.COM; spf=pass\r\n", true},
		"final dot":       {"Authentication-Results: mail.example.com.; spf=pass\r\n", true},
		"blank at colon":  {"Authentication-Results : mail.example.com; spf=pass\r\n", true},
		"folded":          {"Authentication-Results:\r\n mail.example.com;\r\n\tspf=pass\r\n", true},
		"with version":    {"Authentication-Results: mail.example.com 1; none\r\n", true},
		"quoted":          {"Authentication-Results: \"mail.\\example.com\"; none\r\n", true},
		"behind comments": {"Authentication-Results: (a (b\\)) ) (c)mail.example.com(d); none\r\n", true},
		"alone":           {"Authentication-Results: mail.example.com\r\n", true},
		"facts":           {"X-Facts: x\r\n", true},
		"another's":       {"Authentication-Results: mx.elsewhere.example; spf=pass\r\n", false},
		"longer name":     {"Authentication-Results: mail.example.com.evil; spf=pass\r\n", false},
		"comment only":    {"Authentication-Results: (mail.example.com; spf=pass\r\n", false},
		"another field":   {"X-Authentication-Results: mail.example.com; spf=pass\r\n", false},
		"continuation":    {"X: y\r\n Authentication-Results: mail.example.com; spf=pass\r\n", false},
	} {
		before, after := "Received: x\r\n\ty\r\n", "Subject: s\r\n\r\n"
		for _, header := range []string{before + tc.header + after, tc.header + after, before + tc.header + "\r\n", before + tc.header + tc.header + after} {
			got := string(StripForged([]byte(header), id, "X-Facts"))
			want := header
			if tc.strip {
				want = strings.ReplaceAll(header, tc.header, "")
			}
			if got != want {
				t.Errorf("%s: got %q, want %q", name, got, want)
			}
		}
	}
}

func FuzzStripForged(f *testing.F) {
	f.Add([]byte("Authentication-Results: a.example; x\r\nA: b\r\n\r\n"))
	f.Add([]byte("\r\n"))
	f.Add([]byte(" x\r\nAuthentication-Results:(\\"))
	f.Fuzz(func(t *testing.T, header []byte) {
		got := StripForged(header, "a.example")
		if len(got) > len(header) {
			t.Fatalf("%q became %q", header, got)
		}
		if again := StripForged(got, "a.example"); !bytes.Equal(got, again) {
			t.Fatalf("%q: once %q, twice %q", header, got, again)
		}
	})
}
