package hostsim

import (
	"errors"
	"fmt"
	"strings"
)

// maxCommand bounds a command line, in bytes.
const maxCommand = 64 << 10

// splitWords splits a command line as a POSIX shell would, for the part of its
// language that a bootstrap needs: words, quotes and backslashes. Everything
// else a shell would act on is refused rather than guessed.
func splitWords(line string) ([]string, error) {
	if len(line) > maxCommand {
		return nil, errors.New("command line is too long")
	}
	var (
		words []string
		word  strings.Builder
		begun bool
	)
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case c == 0:
			return nil, errors.New("command line holds a NUL")
		case c == ' ' || c == '\t':
			if begun {
				words = append(words, word.String())
				word.Reset()
				begun = false
			}
			continue
		case c == '\'':
			end := strings.IndexByte(line[i+1:], '\'')
			if end < 0 {
				return nil, errors.New("a quote is not closed")
			}
			word.WriteString(line[i+1 : i+1+end])
			i += end + 1
		case c == '"':
			end := strings.IndexByte(line[i+1:], '"')
			if end < 0 {
				return nil, errors.New("a quote is not closed")
			}
			text := line[i+1 : i+1+end]
			if strings.ContainsAny(text, "$`\\") {
				return nil, fmt.Errorf("expansion in %q is not simulated", text)
			}
			word.WriteString(text)
			i += end + 1
		case c == '\\':
			i++
			if i == len(line) || line[i] == '\n' {
				return nil, errors.New("a backslash ends the line")
			}
			word.WriteByte(line[i])
		case strings.IndexByte("|&;<>()$`*?[]{}!\n\r", c) >= 0, !begun && (c == '#' || c == '~'):
			return nil, fmt.Errorf("%q is not simulated", c)
		default:
			word.WriteByte(c)
		}
		begun = true
	}
	if begun {
		words = append(words, word.String())
	}
	if len(words) == 0 {
		return nil, errors.New("the command is empty")
	}
	if name, _, ok := strings.Cut(words[0], "="); ok && name != "" && !strings.Contains(name, "/") {
		return nil, errors.New("assignments are not simulated")
	}
	return words, nil
}
