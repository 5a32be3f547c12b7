package imap

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each capability that is offered is used by a test, and what is not offered is not in
// the list.
func TestEveryCapabilityIsUsed(t *testing.T) {
	// By which command, item or answer a test uses a capability.
	uses := map[string]string{
		"IMAP4rev1":             `(?m)SELECT INBOX$`,
		"IMAP4rev2":             `ENABLE IMAP4rev2`,
		"LITERAL+":              `LOGIN \{17\+\}`,
		"ID":                    `ID \("name" "client"\)`,
		"SASL-IR":               `AUTHENTICATE PLAIN \S+`,
		"ENABLE":                `ENABLED UTF8=ACCEPT`,
		"STARTTLS":              `2 STARTTLS`,
		"AUTH=PLAIN":            `AUTHENTICATE PLAIN`,
		"AUTH=LOGIN":            `AUTHENTICATE LOGIN`,
		"AUTH=SCRAM-SHA-256":    `SCRAM-SHA-256`,
		"IDLE":                  `\d IDLE`,
		"NOTIFY":                `NOTIFY SET`,
		"NAMESPACE":             `\d NAMESPACE`,
		"CHILDREN":              `\\HasChildren`,
		"UNSELECT":              `\d UNSELECT`,
		"UIDPLUS":               `UID EXPUNGE`,
		"MOVE":                  `\d (UID )?MOVE`,
		"LIST-EXTENDED":         `LIST \(SUBSCRIBED\)`,
		"LIST-STATUS":           `RETURN \(.*STATUS \(`,
		"STATUS=SIZE":           `STATUS .*SIZE`,
		"SPECIAL-USE":           `\(SPECIAL-USE\)|RETURN \(.*SPECIAL-USE`,
		"CREATE-SPECIAL-USE":    `CREATE .*\(USE \(`,
		"ESEARCH":               `SEARCH RETURN \(\)`,
		"SEARCHRES":             `SEARCH RETURN \(SAVE\)`,
		"CONTEXT=SEARCH":        `UID SEARCH RETURN \(UPDATE`,
		"I18NLEVEL=1":           `UID SEARCH CHARSET UTF-8`,
		"WITHIN":                `SEARCH YOUNGER`,
		"CONDSTORE":             `UNCHANGEDSINCE`,
		"QRESYNC":               `SELECT INBOX \(QRESYNC`,
		"BINARY":                `BINARY\.(PEEK|SIZE)?\[?`,
		"MULTIAPPEND":           `APPENDUID \* 1:2`,
		"REPLACE":               `UID REPLACE`,
		"UTF8=ACCEPT":           `APPEND INBOX UTF8 \(~`,
		"SORT":                  `SORT \(SUBJECT REVERSE DATE\)`,
		"SORT=DISPLAY":          `SORT \(DISPLAYFROM\)`,
		"ESORT":                 `SORT RETURN \(MIN`,
		"THREAD=REFERENCES":     `THREAD REFERENCES UTF-8`,
		"THREAD=REFS":           `THREAD REFS UTF-8`,
		"THREAD=ORDEREDSUBJECT": `THREAD ORDEREDSUBJECT UTF-8`,
		"METADATA":              `GETMETADATA \(DEPTH infinity\)`,
		"INPROGRESS":            `OK \[INPROGRESS \("1" 63 130\)\]`,
		"OBJECTID":              `SEARCH THREADID T0`,
		"SAVEDATE":              `SEARCH SAVEDSINCE`,
		"PREVIEW":               `PREVIEW \(LAZY\)`,
		"PREVIEW=FUZZY":         `PREVIEW \(LAZY=FUZZY\)`,
		"SNIPPET=FUZZY":         `SNIPPET \(FUZZY\)`,
		"PARTIAL":               `\(PARTIAL -1:-1\)`,
		"UNAUTHENTICATE":        `\d UNAUTHENTICATE`,
		"QUOTA":                 `GETQUOTAROOT INBOX`,
		"QUOTA=RES-STORAGE":     `\(STORAGE 1 100\)`,
		"QUOTA=RES-MESSAGE":     `\(MESSAGE 1 1\)`,
		"APPENDLIMIT":           `NO \[TOOBIG\]`,
		"COMPRESS=DEFLATE":      `COMPRESS DEFLATE`,
	}

	l := newWorld(t).dial("a")
	greeting := l.read()
	l.send("1 LOGIN alice@example.org s3cret\r\n")
	l.expect("1 OK *")
	l.send("2 CAPABILITY\r\n")
	offered := map[string]bool{}
	_, before, _ := strings.Cut(greeting, "[CAPABILITY ")
	before, _, _ = strings.Cut(before, "]")
	for _, name := range strings.Fields(before + " " + strings.TrimPrefix(l.read(), "* CAPABILITY ")) {
		if strings.HasPrefix(name, "APPENDLIMIT=") {
			name = "APPENDLIMIT"
		}
		offered[name] = true
	}
	files, err := filepath.Glob("testdata/*.imap")
	if err != nil {
		t.Fatal(err)
	}
	tests, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, name := range append(files, tests...) {
		if name == "capability_test.go" {
			continue
		}
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text.Write(b)
	}
	for name := range offered {
		if use, ok := uses[name]; !ok || !regexp.MustCompile(use).MatchString(text.String()) {
			t.Errorf("no test uses %s (%s)", name, use)
		}
	}
	for name := range uses {
		if !offered[name] && !strings.HasPrefix(name, "AUTH=SCRAM") {
			t.Errorf("%s is not offered", name)
		}
	}
}
