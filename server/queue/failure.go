package queue

import (
	"fmt"
	"strings"
)

// failure is why a recipient did not get a message, in the words of RFC 3464.
type failure struct {
	permanent bool
	enhanced  string // RFC 3463 status: "4.4.1"
	text      string
	remote    string // name of the server that said it; "" when none did
	reply     string // its reply: "550 5.1.1 unknown"; "" when none
}

func (f *failure) Error() string {
	if f.remote != "" {
		return f.remote + ": " + f.text
	}
	return f.text
}

func permanent(enhanced, format string, args ...any) *failure {
	return &failure{permanent: true, enhanced: enhanced, text: fmt.Sprintf(format, args...)}
}

func temporary(enhanced, format string, args ...any) *failure {
	return &failure{enhanced: enhanced, text: fmt.Sprintf(format, args...)}
}

// refusal makes a failure of a server's reply to a command.
func refusal(server, command string, r smtpReply) *failure {
	f := &failure{permanent: r.code/100 == 5, enhanced: r.enhanced, remote: server, reply: r.String(),
		text: fmt.Sprintf("%s: %s", command, r)}
	class := byte('4')
	if f.permanent {
		class = '5'
	}
	if f.enhanced == "" || f.enhanced[0] != class {
		f.enhanced = string(class) + ".0.0"
	}
	return f
}

// oneLine makes text from elsewhere fit for a log line, a header field or a notice.
func oneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > 500 {
		text = strings.ToValidUTF8(text[:500], "") + "…"
	}
	return text
}
