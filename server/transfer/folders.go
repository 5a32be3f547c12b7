package transfer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// folderNames says, in an export of ours, which mailboxes the files are whose
// names cannot say it: too long, or with something in them that file systems or
// the format take. That it is there says that names are to stay as they are.
type folderNames map[string]string

// followed is where a path leads to: what walks directories follows no links.
func followed(path string) (string, error) {
	root, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("there is nothing at %s (the path is one of this machine)", path)
	}
	return root, err
}

const folderNamesFile = "mailform-folders.json"

func readFolderNames(dir string) (folderNames, error) {
	text, err := os.ReadFile(filepath.Join(dir, folderNamesFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	names := folderNames{}
	if err == nil {
		err = json.Unmarshal(text, &names)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", folderNamesFile, err)
	}
	return names, nil
}

func (n folderNames) write(dir string) error {
	text, err := json.MarshalIndent(n, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, folderNamesFile), append(text, '\n'), 0o600)
}

// name is the mailbox of a path below the directory; or is what its name says.
func (n folderNames) name(rel string, or func() string) string {
	if name, ok := n[rel]; ok {
		return name
	}
	return or()
}

// place remembers a mailbox whose path cannot be natural, and returns one that can be.
func (n folderNames) place(mailbox, natural, meant, pattern string) string {
	tooLong := slices.ContainsFunc(strings.Split(natural, "/"), func(l string) bool { return len(l) > 250 })
	if meant == mailbox && !tooLong && len(natural) < 3000 {
		return natural
	}
	rel := fmt.Sprintf(pattern, len(n)+1)
	n[rel] = mailbox
	return rel
}

// possible makes a mailbox's name one that the store takes.
func possible(name string) string {
	name = strings.Map(func(c rune) rune {
		if c == '%' || c == '*' || c == '\u2028' || c == '\u2029' || unicode.IsControl(c) {
			return '_'
		}
		return c
	}, strings.ToValidUTF8(name, "_"))
	levels := slices.DeleteFunc(strings.Split(name, "/"), func(l string) bool { return l == "" })
	if len(levels) == 0 {
		return "_"
	}
	const depth, octets = 50, 1000 // as the store has them
	if len(levels) > depth {
		levels = append(levels[:depth-1], strings.Join(levels[depth-1:], "_"))
	}
	name = strings.Join(levels, "/")
	for len(name) > octets {
		_, size := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-size]
	}
	return strings.TrimSuffix(name, "/")
}
