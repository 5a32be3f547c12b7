// Package webpage recognises a web page that came where the answer of an API was
// expected: of a vendor's front that has trouble, of a proxy that refuses, of a
// network that wants its guests to log in. A person is told of its title and
// nothing else. It imports nothing of mailform.
package webpage

import (
	"bytes"
	"html"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

const (
	// Enough is how many bytes of an answer say whether it is a page, and which.
	Enough   = 64 << 10
	maxTitle = 100 // characters
)

var (
	begins  = regexp.MustCompile(`(?i)^(<!--|<!doctype\s+html|<html|<head|<body|<title)`)
	heading = regexp.MustCompile(`(?is)<title[^>]*>(.*?)</title|<h1[^>]*>(.*?)</h1`)
	tags    = regexp.MustCompile(`<[^>]*>`)
)

// Describe says in words what page an answer is, "" when it is none. body may be
// cut off.
func Describe(contentType string, body []byte) string {
	body = bytes.TrimSpace(body[:min(len(body), Enough)])
	kind, _, _ := strings.Cut(contentType, ";")
	if kind = strings.ToLower(strings.TrimSpace(kind)); kind != "text/html" && kind != "application/xhtml+xml" && !begins.Match(body) {
		return ""
	}
	if bytes.HasPrefix(body, []byte("{")) { // sent as a page, and none
		return ""
	}
	const page = "a web page in place of the API's answer"
	if title := titleOf(body); title != "" {
		return page + ", " + strconv.Quote(title)
	}
	return page
}

// titleOf is the first title or heading that says something, on one line.
func titleOf(body []byte) string {
	for _, m := range heading.FindAllSubmatch(body, 8) {
		if line := Line(html.UnescapeString(tags.ReplaceAllString(string(m[1])+string(m[2]), " ")), maxTitle); line != "" {
			return line
		}
	}
	return ""
}

// Line makes text from outside fit to be shown: printable, on one line, of at most
// so many characters.
func Line(text string, limit int) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, ""))
	words := []rune(strings.Join(strings.Fields(text), " "))
	if len(words) > limit {
		return string(words[:limit]) + "…"
	}
	return string(words)
}
