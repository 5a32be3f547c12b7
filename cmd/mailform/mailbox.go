package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mailform/server/manifest"
	"mailform/specs"
)

func (a *app) mailboxCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "mailbox",
		Short: "mailboxes that were removed: list, restore and erase them",
		Long: `A mailbox that is taken out of the spec is kept on its host for 30 days, disabled:
nobody can log in to it and mail for it is refused. Then its mail is deleted.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.mailboxListCommand(), a.mailboxRestoreCommand(), a.mailboxEraseCommand())
	return c
}

// retainedDocument is the document of mailform mailbox list --json.
type retainedDocument struct {
	FormatVersion int            `json:"format_version"` // 1
	Stack         string         `json:"stack"`          // its name
	Mailboxes     []retainedView `json:"mailboxes"`      // removed and kept, by address
}

// retainedView is a mailbox in it.
type retainedView struct {
	Address  string    `json:"address"`   // the mailbox
	Host     string    `json:"host"`      // that keeps its mail
	Since    time.Time `json:"since"`     // when it was removed, RFC 3339 in UTC
	DaysLeft int       `json:"days_left"` // until its mail is deleted
}

func (a *app) mailboxListCommand() *cobra.Command {
	var stack stackFlags
	var asJSON bool
	c := &cobra.Command{
		Use: "list [FOLDER]", Short: "list the removed mailboxes whose mail is kept", Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := a.open(&stack, args, true)
			if err != nil {
				return err
			}
			defer s.Close()
			ctx, cancel := a.interruptible(c.Context())
			defer cancel()
			sink, done := a.readingSink(asJSON)
			list, err := s.Retained(ctx, sink)
			done()
			if err != nil {
				return interrupted(ctx, err)
			}
			if asJSON {
				doc := retainedDocument{1, s.Spec.Stack.Name, []retainedView{}}
				for _, r := range list {
					doc.Mailboxes = append(doc.Mailboxes, retainedView{r.Address, r.Host, r.Since, r.DaysLeft})
				}
				enc := json.NewEncoder(a.term.out)
				enc.SetEscapeHTML(false)
				enc.SetIndent("", "  ")
				return enc.Encode(doc)
			}
			if len(list) == 0 {
				fmt.Fprintln(a.term.out, "No removed mailbox is kept.")
			}
			width := 0
			for _, r := range list {
				width = max(width, len(r.Address))
			}
			for _, r := range list {
				fmt.Fprintf(a.term.out, "%-*s  on %s  removed %s  %s left\n", width, r.Address, r.Host, r.Since.Format(time.DateOnly), count(r.DaysLeft, "day"))
			}
			return nil
		},
	}
	stack.add(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return c
}

func (a *app) mailboxRestoreCommand() *cobra.Command {
	var stack stackFlags
	c := &cobra.Command{
		Use: "restore MAILBOX [FOLDER]", Short: "put a removed mailbox back, with its mail",
		Long: `restore puts a removed mailbox, such as bob@example.com, back on its host: its mail is
there as it was, and it receives mail again. It prints the lines for the spec; until
they stand there, plan wants to remove it again, which is blocked without --allow.`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := a.open(&stack, args[1:], false)
			if err != nil {
				return err
			}
			ctx, cancel := a.interruptible(c.Context())
			defer cancel()
			if err := s.Lock(ctx, "mailform mailbox restore"); err != nil {
				return err
			}
			defer s.Close()
			restored, err := s.RestoreMailbox(ctx, args[0])
			if err != nil {
				return err
			}
			_, domain, _ := strings.Cut(args[0], "@")
			fmt.Fprintf(a.term.err, "%s is back with its mail. Put it into the spec, or the next plan wants to remove it:\n\n", args[0])
			fmt.Fprint(a.term.out, specLines(domain, restored))
			return nil
		},
	}
	stack.add(c)
	return c
}

// specLines are the lines of a mailbox in the spec.
func specLines(domain string, r manifest.Restored) string {
	var b strings.Builder
	m := r.Mailbox
	fmt.Fprintf(&b, "domain %q {\n  mailbox %q {\n", domain, m.Local)
	attr := func(name, value string) { fmt.Fprintf(&b, "    %s = %s\n", name, value) }
	if m.Name != "" {
		attr("name", hclQuote(m.Name))
	}
	if m.QuotaBytes > 0 {
		attr("quota", quotaText(m.QuotaBytes))
	}
	if m.QuotaMessages > 0 {
		attr("quota_messages", fmt.Sprint(m.QuotaMessages))
	}
	if len(m.Aliases) > 0 {
		var names []string
		for _, n := range m.Aliases {
			names = append(names, hclQuote(n))
		}
		attr("aliases", "["+strings.Join(names, ", ")+"]")
	}
	if r.Password == "spec" {
		b.WriteString("    password_hash = \"\" # the one that stood here before\n")
	}
	b.WriteString("  }\n}\n")
	text, diags := specs.Format("mailbox.hcl", []byte(b.String()))
	if diags.HasErrors() {
		return b.String()
	}
	return string(text)
}

// hclQuote writes text so that nothing in it is a template.
func hclQuote(s string) string {
	return strings.NewReplacer("${", "$${", "%{", "%%{").Replace(strconv.Quote(s))
}

// quotaText writes a quota as the spec does, in the largest unit that fits.
func quotaText(n int64) string {
	for _, u := range []struct {
		shift int
		name  string
	}{{40, "TiB"}, {30, "GiB"}, {20, "MiB"}, {10, "KiB"}} {
		if n >= 1<<u.shift && n%(1<<u.shift) == 0 {
			return strconv.Quote(strconv.FormatInt(n>>u.shift, 10) + u.name)
		}
	}
	return strconv.FormatInt(n, 10)
}
