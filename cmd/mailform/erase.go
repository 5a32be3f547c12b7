package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"mailform/server/manifest"
)

// erasedDocument is the document of mailform mailbox erase --json.
type erasedDocument struct {
	FormatVersion int       `json:"format_version"` // 1
	Address       string    `json:"address"`        // the mailbox
	Host          string    `json:"host"`           // that kept its mail
	Time          time.Time `json:"time"`           // when it was read again, RFC 3339 in UTC
	Clean         bool      `json:"clean"`          // nothing of it was found then
	Messages      int64     `json:"messages"`       // that were erased
	Octets        int64     `json:"octets"`         // of those
	Queued        int       `json:"queued"`         // messages of its own that waited to be sent, erased with it
	Segments      int       `json:"segments"`       // files of the store that were removed
	Freed         int64     `json:"freed_bytes"`    // octets of those
	Files         int       `json:"files_read"`     // that were read again
	Records       int       `json:"records_read"`   // in those
	Key           bool      `json:"key_destroyed"`  // the key of its encrypted mail
	Remains       []string  `json:"remains"`        // what was found of it
	Waiting       int       `json:"waiting"`        // files that go when a backup that reads them has ended
	Shared        int       `json:"shared"`         // messages that others were sent, too, and have
	BackupsUntil  string    `json:"backups_until"`  // until when backups may have copies, RFC 3339 in UTC; "" without backups
}

func erasedView(host string, e manifest.Erased) erasedDocument {
	doc := erasedDocument{
		FormatVersion: 1, Address: e.Account, Host: host, Time: e.Time.UTC(), Clean: e.Clean, Messages: e.Messages, Octets: e.Octets, Queued: e.Queued,
		Segments: e.Segments, Freed: e.Freed, Files: e.Files, Records: e.Records, Key: e.Key, Remains: e.Remains, Waiting: e.Waiting, Shared: e.Shared,
	}
	if doc.Remains == nil {
		doc.Remains = []string{}
	}
	if !e.BackupsUntil.IsZero() {
		doc.BackupsUntil = e.BackupsUntil.UTC().Format(time.RFC3339)
	}
	return doc
}

func (a *app) mailboxEraseCommand() *cobra.Command {
	var stack stackFlags
	var approve, asJSON bool
	c := &cobra.Command{
		Use: "erase MAILBOX [FOLDER]", Short: "erase a removed mailbox now, and prove it",
		Long: `erase removes all that a host has of a removed mailbox, such as bob@example.com, without
waiting for its 30 days: its mail, its indexes and its password. Files of the store that
told of it are written anew without it, then everything is read again; what is found is
listed, and the exit code is 1. What others were sent, too, is theirs. Backups have
copies until they are given up.`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := a.open(&stack, args[1:], false)
			if err != nil {
				return err
			}
			defer s.Close()
			ctx, cancel := a.interruptible(c.Context())
			defer cancel()
			if err := s.Lock(ctx, "mailform mailbox erase"); err != nil {
				return err
			}
			kept, err := s.Kept(ctx, "erase", args[0])
			if err != nil {
				return interrupted(ctx, err)
			}
			if !approve {
				question := fmt.Sprintf("All mail of %s on %s is erased; it cannot be brought back. Only its address goes ahead: ", kept.Address, kept.Host)
				if err := a.confirm(ctx, gate{question: question, answer: kept.Address}); err != nil {
					return err
				}
			}
			erased, err := s.EraseMailbox(ctx, kept)
			if err != nil {
				return interrupted(ctx, err)
			}
			if asJSON {
				enc := json.NewEncoder(a.term.out)
				enc.SetEscapeHTML(false)
				enc.SetIndent("", "  ")
				err = enc.Encode(erasedView(kept.Host, erased))
			} else {
				a.showErased(kept.Host, erased)
			}
			if err == nil && !erased.Clean {
				err = &codeError{exitError, errors.New("it is not erased whole; the same command goes on with it")}
			}
			return err
		},
	}
	stack.add(c)
	c.Flags().BoolVar(&approve, "auto-approve", false, "do not ask")
	c.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	return c
}

func (a *app) showErased(host string, e manifest.Erased) {
	w := a.term.out
	fmt.Fprintf(w, "%s on %s: %s of %d octets erased, %s that waited to be sent.\n", e.Account, host, count(int(e.Messages), "message"), e.Octets, count(e.Queued, "message"))
	fmt.Fprintf(w, "%s of the store removed; %s in %s read again.\n", count(e.Segments, "file"), count(e.Records, "record"), count(e.Files, "file"))
	if e.Shared > 0 {
		fmt.Fprintf(w, "%s others were sent, too: theirs stay.\n", count(e.Shared, "message"))
	}
	if e.Key {
		fmt.Fprintln(w, "Its key is destroyed: copies of its encrypted mail open with a keyring from before and the storage key of that time only.")
	}
	if !e.BackupsUntil.IsZero() {
		fmt.Fprintf(w, "Backups may have copies until %s UTC.\n", e.BackupsUntil.Format(time.DateTime))
	}
	if e.Waiting > 0 {
		fmt.Fprintf(w, "%s go when the backup that reads them has ended.\n", count(e.Waiting, "file"))
	}
	for _, r := range e.Remains {
		fmt.Fprintf(w, "remains: %s\n", r)
	}
	if e.Clean {
		fmt.Fprintln(w, "Nothing of it was found afterwards.")
	}
}
