package transfer

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// maildirMarks is what files beside the messages of a Maildir folder say of them.
type maildirMarks struct {
	letters map[byte]string     // Dovecot's names for the letters a to z
	courier map[string][]string // Courier's keywords, by the file's name without flags
}

func readMarks(dir string) (m maildirMarks, err error) {
	if m.letters, err = dovecotKeywords(dir); err != nil {
		return m, err
	}
	m.courier, err = courierKeywords(filepath.Join(dir, courierDir))
	return m, err
}

// flags are those of a message by the name of its file.
func (m maildirMarks) flags(f file) []string {
	name, letters := f.unique()
	var flags []string
	for _, c := range []byte(letters) {
		switch c {
		case 'S':
			flags = append(flags, `\Seen`)
		case 'R':
			flags = append(flags, `\Answered`)
		case 'F':
			flags = append(flags, `\Flagged`)
		case 'D':
			flags = append(flags, `\Draft`)
		case 'T':
			flags = append(flags, `\Deleted`)
		case 'P':
			flags = append(flags, "$Forwarded")
		default:
			if k := m.letters[c]; k != "" {
				flags = append(flags, k)
			}
		}
	}
	return append(flags, m.courier[name]...)
}

// dovecotKeywords reads dovecot-keywords.
// https://doc.dovecot.org/main/core/config/mailbox_formats/maildir.html
func dovecotKeywords(dir string) (map[byte]string, error) {
	keywords := map[byte]string{}
	err := eachRecord(filepath.Join(dir, "dovecot-keywords"), func(line string) {
		number, name, ok := strings.Cut(line, " ")
		if n, err := strconv.Atoi(number); ok && err == nil && n >= 0 && n < 26 {
			keywords['a'+byte(n)] = name
		}
	})
	return keywords, err
}

const courierDir = "courierimapkeywords"

// courierKeywords reads what Courier keeps: a file ":list" of the keywords' names,
// an empty line, and "file:1 5" for each message with some; and beside it a file for
// each message that changed since, with its keywords' names, called as the message or
// ".N." and so.
func courierKeywords(dir string) (map[string][]string, error) {
	of := map[string][]string{}
	var names []string
	behind := false
	err := eachRecord(filepath.Join(dir, ":list"), func(line string) {
		switch {
		case line == "":
			behind = true
		case !behind:
			names = append(names, line)
		default:
			i := strings.LastIndexByte(line, ':')
			if i < 0 {
				return
			}
			var list []string
			for _, number := range strings.Fields(line[i+1:]) {
				if n, err := strconv.Atoi(number); err == nil && n >= 0 && n < len(names) {
					list = append(list, names[n])
				}
			}
			of[line[:i]] = list
		}
	})
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return of, nil
	}
	if err != nil {
		return nil, err
	}
	newest := map[string]int{}
	for _, e := range entries {
		name, age := e.Name(), 0
		if strings.HasPrefix(name, ":") || !e.Type().IsRegular() {
			continue
		}
		if rest, ok := strings.CutPrefix(name, "."); ok {
			number, file, ok := strings.Cut(rest, ".")
			n, err := strconv.Atoi(number)
			if !ok || err != nil {
				continue
			}
			name, age = file, n
		} else {
			age = int(^uint(0) >> 1) // not yet put in order: the last word
		}
		if age < newest[name] {
			continue
		}
		newest[name] = age
		var list []string
		if err := eachRecord(filepath.Join(dir, e.Name()), func(line string) {
			if line = strings.TrimSpace(line); line != "" {
				list = append(list, line)
			}
		}); err != nil {
			return nil, err
		}
		of[name] = list
	}
	return of, nil
}

// dovecotUIDs reads the order in which messages came from dovecot-uidlist, by the
// part of their files' names ahead of the first comma.
func dovecotUIDs(dir string) (map[string]uint32, error) {
	uids := map[string]uint32{}
	header := true
	err := eachRecord(filepath.Join(dir, "dovecot-uidlist"), func(line string) {
		if header {
			header = false
			return
		}
		number, rest, _ := strings.Cut(line, " ")
		uid, err := strconv.ParseUint(number, 10, 32)
		if err != nil {
			return
		}
		if i := strings.Index(rest, ":"); i >= 0 { // version 3; before, the name alone
			rest = rest[i+1:]
		}
		rest, _, _ = strings.Cut(rest, ":2,")
		rest, _, _ = strings.Cut(rest, ",")
		uids[rest] = uint32(uid)
	})
	return uids, err
}

// eachRecord gives the lines of a file that need not be there. Lines of more than
// 64 KiB are none that those programs write.
func eachRecord(path string, take func(line string)) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(io.LimitReader(f, 1<<30))
	for lines.Scan() {
		take(strings.TrimSuffix(lines.Text(), "\r"))
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return nil
	}
	return lines.Err()
}

// courierList is what a keyword without a letter is written to by an export.
type courierList struct {
	names []string
	of    []string // "file:1 5"
}

func (c *courierList) add(name string, keywords []string) {
	line := name + ":"
	for i, k := range keywords {
		n := slices.Index(c.names, k)
		if n < 0 {
			n = len(c.names)
			c.names = append(c.names, k)
		}
		if i > 0 {
			line += " "
		}
		line += strconv.Itoa(n)
	}
	c.of = append(c.of, line)
}

func (c *courierList) write(dir string) error {
	dir = filepath.Join(dir, courierDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	text := strings.Join(c.names, "\n") + "\n\n" + strings.Join(c.of, "\n") + "\n"
	return os.WriteFile(filepath.Join(dir, ":list"), []byte(text), 0o600)
}
