package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"mailform/plan/style"
)

// terminal is what a command knows about the person at the other end.
type terminal struct {
	in       io.Reader
	out, err io.Writer
	// interactive: a person can answer questions. live: out is a terminal that can be redrawn.
	interactive, live bool
	color             bool        // of out
	style             style.Sheet // of err
	outStyle          style.Sheet
	width             int
}

const plainWidth = 100 // columns when the output is not a terminal

func openTerminal(getenv func(string) string) *terminal {
	t := &terminal{in: os.Stdin, out: os.Stdout, err: os.Stderr, width: plainWidth}
	t.interactive = term.IsTerminal(int(os.Stdin.Fd())) && term.IsTerminal(int(os.Stderr.Fd()))
	t.style = style.New(term.IsTerminal(int(os.Stderr.Fd())) && getenv("TERM") != "dumb" && getenv("NO_COLOR") == "")
	if fd := int(os.Stdout.Fd()); term.IsTerminal(fd) {
		t.live = getenv("TERM") != "dumb"
		t.color = t.live && getenv("NO_COLOR") == ""
		if w, _, err := term.GetSize(fd); err == nil && w > 0 {
			t.width = w
		}
	}
	t.outStyle = style.New(t.color)
	return t
}

// ask prints a question and returns the answered line, without its newline.
func (t *terminal) ask(question string) (string, error) {
	fmt.Fprint(t.err, question)
	line, err := bufio.NewReader(io.LimitReader(t.in, 4096)).ReadString('\n')
	if err != nil && (!errors.Is(err, io.EOF) || line == "") {
		fmt.Fprintln(t.err)
		return "", fmt.Errorf("no answer could be read: %w", err)
	}
	return strings.TrimSpace(line), nil
}
