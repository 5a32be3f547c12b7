package summary

import (
	"io"
	"strings"
	"unicode"

	"mailform/server/imap/mimetree"
)

const (
	previewChars = 200 // RFC 8970 3.1: at most 256
	previewRead  = 16 << 10
	previewFirst = 2 << 10
)

// Preview returns the beginning of a message's text, RFC 8970: of the first
// plain text, or else of the first HTML.
func Preview(tree *mimetree.Part, at io.ReaderAt) string {
	var best *mimetree.Part
	tree.Walk(func(p *mimetree.Part) {
		if p.Type != "text" || p.Multipart() || p.Subtype != "plain" && p.Subtype != "html" {
			return
		}
		if v, _ := mimetree.ParseValue(p.Fields.Get("Content-Disposition")); strings.EqualFold(v, "attachment") {
			return
		}
		if best == nil || best.Subtype == "html" && p.Subtype == "plain" {
			best = p
		}
	})
	if best == nil {
		return ""
	}
	body := io.NewSectionReader(at, best.Body.Start, best.Body.Len())
	r, _ := mimetree.CharsetReader(best.Params["charset"], mimetree.Decoded(best.Encoding(), body))
	// Of most texts the first lines are enough, whatever comes behind them.
	b := make([]byte, previewFirst)
	n, err := io.ReadFull(r, b)
	if b = b[:n]; n == previewFirst {
		if text := string(b); best.Subtype == "plain" && isASCII(text) {
			if line, full := squeeze(text); full {
				return line
			}
		}
		var more []byte
		more, err = io.ReadAll(io.LimitReader(r, previewRead-previewFirst))
		b = append(b, more...)
	}
	if err != nil && len(b) == 0 {
		return "" // a character set that breaks off
	}
	text := mimetree.ToUTF8(b)
	if len(b) == previewRead {
		text = strings.ToValidUTF8(string(b), "")
	}
	if best.Subtype == "html" {
		text = stripHTML(text)
	}
	line, _ := squeeze(text)
	return line
}

// squeeze makes a text one line of bounded length; quoted lines are left out. full
// says that more of it would not matter.
func squeeze(text string) (line string, full bool) {
	var b strings.Builder
	n, space := 0, false
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, ">") {
			continue
		}
		for _, r := range line {
			if unicode.IsSpace(r) || unicode.IsControl(r) {
				space = n > 0
				continue
			}
			if space {
				b.WriteByte(' ')
				n++
				space = false
			}
			if n++; n > previewChars {
				return b.String(), true
			}
			b.WriteRune(r)
		}
	}
	return b.String(), false
}

// stripHTML leaves out tags, and what is in those that are not shown.
func stripHTML(s string) string {
	var b strings.Builder
	for s != "" {
		i := strings.IndexByte(s, '<')
		if i < 0 {
			b.WriteString(s)
			break
		}
		b.WriteString(s[:i])
		b.WriteByte(' ')
		s = s[i:]
		end := ">"
		lower := strings.ToLower(s[:min(len(s), 10)])
		for _, hidden := range []struct{ open, end string }{{"<!--", "-->"}, {"<style", "</style>"}, {"<script", "</script>"}, {"<title", "</title>"}} {
			if strings.HasPrefix(lower, hidden.open) {
				end = hidden.end
			}
		}
		j := indexFold(s, end)
		if j < 0 {
			break
		}
		s = s[j+len(end):]
	}
	return strings.NewReplacer("&nbsp;", " ", "&lt;", "<", "&gt;", ">", "&quot;", `"`, "&#39;", "'", "&amp;", "&").Replace(b.String())
}

// indexFold is strings.Index for ASCII without regard to case.
func indexFold(s, sub string) int {
	for i := 0; i+len(sub) <= len(s); i++ {
		if strings.EqualFold(s[i:i+len(sub)], sub) {
			return i
		}
	}
	return -1
}
