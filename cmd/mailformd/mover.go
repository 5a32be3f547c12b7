package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"mailform/server/daemon"
	"mailform/server/transfer"
)

// mover runs an import or an export before somebody's eyes.
type mover struct {
	cmd   *cobra.Command
	im    *transfer.Importer // nil for an export
	verb  string
	quiet bool
	start time.Time

	done  transfer.Counts // by attempts before this one
	last  time.Time       // something was shown
	shown bool            // there is a line on the terminal to be cleared
}

// attempts bounds how often in a row nothing comes before it is given up.
const attempts = 6

// run imports. When the connection to the source breaks, or the server is started
// anew, it goes on as soon as it can, as the same command would, given again.
func (p *mover) run(ctx context.Context, source transfer.Source, release func(), open func() (transfer.Source, func(), error)) (transfer.Counts, error) {
	defer func() { release() }()
	for fails := 0; ; {
		c, err := p.im.Run(ctx, source)
		c = after(p.done, c)
		if c.Imported > p.done.Imported {
			fails = 0
		}
		p.done = c
		if err == nil {
			return c, nil
		}
		for err != nil {
			if !passes(err) || ctx.Err() != nil || fails == attempts || c.Imported == 0 {
				return c, err
			}
			fails++
			wait := min(time.Second<<fails, 30*time.Second)
			p.end()
			fmt.Fprintf(p.cmd.ErrOrStderr(), "mailformd: %v; going on in %s\n", err, wait)
			select {
			case <-ctx.Done():
				return c, ctx.Err()
			case <-time.After(wait):
			}
			release()
			if source, release, err = open(); err != nil {
				release = func() {}
			}
		}
	}
}

// passes says whether an error may be over soon.
func passes(err error) bool {
	var broken *transfer.BrokenError
	var away *daemon.AwayError
	return errors.As(err, &broken) || errors.As(err, &away)
}

// after is what two attempts have come to: what the first brought the second finds
// there.
func after(before, c transfer.Counts) transfer.Counts {
	c.Present = max(0, c.Present-before.Imported)
	c.Imported += before.Imported
	c.Bytes += before.Bytes
	folders := maps.Clone(before.Folders)
	if folders == nil {
		folders = map[string]transfer.Folder{}
	}
	for name, f := range c.Folders {
		folders[name] = transfer.Folder{Messages: folders[name].Messages + f.Messages, Bytes: folders[name].Bytes + f.Bytes}
	}
	c.Folders = folders
	return c
}

// show says how far it is: on one line of a terminal, or a line each ten seconds; of
// what is over within a second, nothing.
func (p *mover) show(c transfer.Counts) {
	now := time.Now()
	pause := 10 * time.Second
	terminal := term.IsTerminal(int(os.Stderr.Fd()))
	if terminal {
		pause = 200 * time.Millisecond
	}
	if p.quiet || now.Sub(p.start) < time.Second || now.Sub(p.last) < pause || !terminal && now.Sub(p.start) < pause {
		return
	}
	p.last = now
	c = after(p.done, c)
	line := fmt.Sprintf("%s messages, %s %s, %s", thousands(c.Imported), octets(c.Bytes), p.verb, rate(c, now.Sub(p.start)))
	if c.Present > 0 {
		line += fmt.Sprintf(", %s were there already", thousands(c.Present))
	}
	if terminal {
		fmt.Fprintf(p.cmd.ErrOrStderr(), "\r\033[K%s", line)
		p.shown = true
	} else {
		fmt.Fprintln(p.cmd.ErrOrStderr(), line)
	}
}

// end takes the line that show has left off the terminal.
func (p *mover) end() {
	if p.shown {
		fmt.Fprint(p.cmd.ErrOrStderr(), "\r\033[K")
		p.shown = false
	}
}

// rate is messages a second.
func rate(c transfer.Counts, in time.Duration) string {
	return thousands(int(float64(c.Imported)/max(in.Seconds(), 0.001))) + "/s"
}

func thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func printImported(w io.Writer, c transfer.Counts, dry bool, in time.Duration) error {
	verb := "imported"
	if dry {
		verb = "to import"
	}
	t := printFolders(w, c, verb, in)
	for _, l := range []struct {
		n          int
		what, more string
	}{
		{c.Present, "there already", ""},
		{c.Skipped, "left out", "by --map"},
		{c.Deleted, "deleted", "in the mail program whose files these are"},
		{c.Failed, "did not come", ""},
	} {
		if l.n > 0 {
			more := ""
			if l.more != "" {
				more = "\t\t" + l.more
			}
			fmt.Fprintf(t, "%s\t%s%s\n", l.what, thousands(l.n), more)
		}
	}
	return t.Flush()
}

func printExported(w io.Writer, c transfer.Counts, dir string, in time.Duration) error {
	t := printFolders(w, c, "exported", in)
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "All of it is in %s.\n", dir)
	return err
}

// printFolders prints a line for each mailbox, and their sum.
func printFolders(w io.Writer, c transfer.Counts, verb string, in time.Duration) *tabwriter.Writer {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, name := range slices.Sorted(maps.Keys(c.Folders)) {
		f := c.Folders[name]
		fmt.Fprintf(t, "%s\t%s\t%s\n", name, thousands(f.Messages), octets(f.Bytes))
	}
	fmt.Fprintf(t, "%s\t%s\t%s\tin %s", verb, thousands(c.Imported), octets(c.Bytes), in.Round(10*time.Millisecond))
	if in > time.Second && c.Imported > 0 {
		fmt.Fprintf(t, ", %s", rate(c, in))
	}
	fmt.Fprintln(t)
	return t
}
