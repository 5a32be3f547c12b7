package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/term"

	"mailform/plan/style"
)

// terminal is what a command knows about the person at the other end.
type terminal struct {
	in  io.Reader
	out *output
	err io.Writer
	// interactive: a person can answer questions. live: out is a terminal that can be redrawn.
	interactive, live bool
	color, errColor   bool        // of out and err
	style             style.Sheet // of err
	outStyle          style.Sheet
	width             int         // columns for what is wrapped, of out
	errWidth          int         // columns of err; 0 when it is not a terminal
	state             *term.State // of in, as it was found; nil when that is no terminal
}

const plainWidth = 100 // columns when the output is not a terminal

func openTerminal(getenv func(string) string) *terminal {
	t := &terminal{in: os.Stdin, out: &output{w: os.Stdout}, err: os.Stderr, width: plainWidth}
	t.state, _ = term.GetState(int(os.Stdin.Fd()))
	t.interactive = term.IsTerminal(int(os.Stdin.Fd())) && term.IsTerminal(int(os.Stderr.Fd()))
	if fd := int(os.Stderr.Fd()); term.IsTerminal(fd) {
		t.errColor = getenv("TERM") != "dumb" && getenv("NO_COLOR") == ""
		if w, _, err := term.GetSize(fd); err == nil {
			t.errWidth = w
		}
	}
	t.style = style.New(t.errColor)
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

// diagnosticWidth is how many columns findings take, which go to err.
func (t *terminal) diagnosticWidth() int {
	if t.errWidth > 0 {
		return t.errWidth
	}
	return plainWidth
}

// fold breaks text between words where a terminal would break it anywhere, with
// what follows indented. Text that goes elsewhere stays as it is.
func (t *terminal) fold(text string, indent int) string {
	if t.errWidth <= indent {
		return text
	}
	var b strings.Builder
	for i, line := range strings.Split(text, "\n") {
		if i > 0 {
			b.WriteString("\n" + strings.Repeat(" ", indent))
			line = strings.TrimPrefix(line, strings.Repeat(" ", indent))
		}
		if style.Width(line) <= t.errWidth-indent {
			b.WriteString(line)
			continue
		}
		for j, row := range style.Wrap(strings.Fields(line), " ", t.errWidth-indent) {
			if j > 0 {
				b.WriteString("\n" + strings.Repeat(" ", indent))
			}
			b.WriteString(strings.Join(row, " "))
		}
	}
	return b.String()
}

// output is stdout. It remembers the first failed write, so that no command
// ends well after what it had to say got lost.
type output struct {
	w  io.Writer
	mu sync.Mutex
	e  error
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.w.Write(p)
	if err != nil {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.e == nil {
			o.e = err
		}
	}
	return n, err
}

// lost returns the first failed write, but for that of a reader who had enough.
func (o *output) lost() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.e == nil || errors.Is(o.e, syscall.EPIPE) {
		return nil
	}
	return fmt.Errorf("the output could not be written: %w", o.e)
}

// commandLine is a command for a person to copy, with the stack's folder when it
// is not the current one.
func commandLine(command, dir string) string {
	if dir == "." {
		return command
	}
	return command + " " + shellQuote(dir)
}

// shellQuote makes one word of a path for a POSIX shell.
func shellQuote(s string) string {
	plain := func(r rune) bool {
		return r > 0x7f || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-_./,:=@%+", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// restore undoes what was set on the terminal, for ends that skip deferred calls
// such as the one that turns the echo of typed characters on again.
func (t *terminal) restore() {
	if t.state != nil {
		term.Restore(int(os.Stdin.Fd()), t.state)
	}
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

// askSecret asks for something that is not shown while it is typed.
func (t *terminal) askSecret(question string) ([]byte, error) {
	fmt.Fprint(t.err, question)
	b, err := term.ReadPassword(int(os.Stdin.Fd()))
	fmt.Fprintln(t.err)
	return b, err
}
