package host

import (
	"testing"

	"mailform/plan"
)

// TestReadOnly: a provider that only reads sends a machine no other command. It
// refuses before there is a connection, so none is needed here.
func TestReadOnly(t *testing.T) {
	p := New(Config{ReadOnly: true})
	for _, words := range [][]string{
		{paths.Binary(), "converge"}, {paths.Binary(), "observe", "--repair"}, {paths.Binary(), "lease", "acquire"}, {"rm", "-rf", "/"}, {"uname -sm; reboot"},
	} {
		if _, err := p.run(t.Context(), target{host: "mx1"}, commandLine(words...), nil, nil); plan.ClassOf(err) != plan.ErrBlocked {
			t.Errorf("%q: %v", words, err)
		}
	}
	for _, words := range [][]string{{"uname", "-sm"}, {paths.Binary(), "observe"}, {paths.Binary(), "status", "--json"}, {"sha256sum", paths.Binary()}} {
		if !onlyReads(commandLine(words...)) {
			t.Errorf("%q only reads, but is refused", words)
		}
	}
}
