package summary

import (
	"strings"
	"testing"

	"mailform/server/imap/mimetree"
)

// The first lines alone give the preview that the whole text does.
func TestPreviewOfLongText(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		strings.Repeat("word ", 5000), strings.Repeat("> quoted\r\n", 150) + strings.Repeat("answer ", 1000), strings.Repeat(" ", 3000) + "late",
		strings.Repeat("a", 2047) + "é", strings.Repeat("> ", 1024) + "more", strings.Repeat("x\r\n", 2000), strings.Repeat("> q\r\n", 409) + "> q: the rest of this line is quoted, too" + strings.Repeat(" and on", 40) + "\r\nanswer",
	} {
		msg := "Subject: s\r\n\r\n" + body
		tree, err := mimetree.Parse(strings.NewReader(msg))
		if err != nil {
			t.Fatal(err)
		}
		want, _ := squeeze(mimetree.ToUTF8([]byte(body[:min(len(body), previewRead)])))
		if got := Preview(tree, strings.NewReader(msg)); got != want {
			t.Errorf("%.20q: %q, want %q", body, got, want)
		}
	}
}
