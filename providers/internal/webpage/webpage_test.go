package webpage

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestDescribe(t *testing.T) {
	const page = "a web page in place of the API's answer"
	for _, c := range []struct{ kind, body, want string }{
		{"application/json", `{"errors":[]}`, ""},
		{"text/html", `{"errors":[]}`, ""},
		{"application/xml", `<?xml version="1.0"?><Error><Code>NoSuchBucket</Code></Error>`, ""},
		{"", "", ""},
		{"text/plain", "upstream timed out", ""},
		{"text/html", "", page},
		{"text/html; charset=utf-8", "<h1>It works</h1>", page + `, "It works"`},
		{"", "  <!DOCTYPE html><title>Sign in\n\t to  the <b>hotel&#39;s</b> network</title><h1>x</h1>", page + `, "Sign in to the hotel's network"`},
		{"text/plain", "<HTML><TITLE></TITLE><H1 class=x>503 Service Temporarily Unavailable</H1>", page + `, "503 Service Temporarily Unavailable"`},
		{"text/html", "<title>" + strings.Repeat("x", 300) + "</title>", page + `, "` + strings.Repeat("x", 100) + `…"`},
		{"text/html", "<title>\x1b[31mred</title>", page + `, "[31mred"`},
		{"text/html", "<title>cut o", page},
	} {
		if got := Describe(c.kind, []byte(c.body)); got != c.want {
			t.Errorf("%s %q:\n got %s\nwant %s", c.kind, c.body, got, c.want)
		}
	}
}

func FuzzDescribe(f *testing.F) {
	f.Add("text/html", []byte("<title>x</title>"))
	f.Add("", []byte("<html><h1>&lt;\xff</h1>"))
	f.Fuzz(func(t *testing.T, kind string, body []byte) {
		got := Describe(kind, body)
		if len(got) > 700 || !utf8.ValidString(got) || strings.ContainsAny(got, "\n\r\x1b") {
			t.Errorf("%q", got)
		}
	})
}
