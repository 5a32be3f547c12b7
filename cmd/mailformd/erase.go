package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"mailform/server/agent"
	"mailform/server/daemon"
	"mailform/server/manifest"
	"mailform/server/search"
	"mailform/server/store"
)

func (k *storeKeeper) erase() *cobra.Command {
	return &cobra.Command{
		Use: "erase ACCOUNT", Short: "remove all of an account, and prove it", Args: cobra.ExactArgs(1),
		Long: `Remove an account's mailboxes, annotations and messages that wait to be sent, every file of the log that tells of them
(what is there of others is copied first), and its search index and caches. Then all that is stored is read again to the
last octet, and what is still there of the account is listed. The exit code is 0 when nothing is, 2 otherwise.

The account must not be in the spec any more. What others were sent, too, is theirs and stays. Backups have copies until
they are given up, and so have snapshots of the disk; the blocks of removed files are the file system's to use again.
The key of encrypted mail is destroyed; backups have it, wrapped by the storage key, until they are given up: mailformd store
key rotate, and the loss of all copies of the key before, makes those useless, too. Of the account stay its name and the highest numbers it has given out, so that no mail program confuses messages, and,
until its 30 days are over, a password made here; mailform mailbox erase removes that, too.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var e manifest.Erased
			asked, err := k.ask(cmd.Context(), http.MethodPost, "/v1/store/erase?account="+url.QueryEscape(args[0]), &e)
			if err == nil && !asked {
				e, err = k.eraseHere(cmd, args[0])
			}
			if err != nil {
				return err
			}
			if *k.json {
				err = answer(cmd, e)
			} else {
				err = printErased(cmd.OutOrStdout(), e)
			}
			if err == nil && !e.Clean {
				err = &agent.Error{Code: exitDamaged, Msg: fmt.Sprintf("%s is not erased whole", args[0])}
			}
			return err
		},
	}
}

// eraseHere erases without a server that runs.
func (k *storeKeeper) eraseHere(cmd *cobra.Command, account string) (e manifest.Erased, err error) {
	owner, err := ownerOf(k.path())
	if err != nil {
		return e, err
	}
	var served *manifest.Manifest
	if text, err := os.ReadFile(layout().ManifestFile()); err == nil && *k.dir == "" {
		if served, err = manifest.ReadManifest(text); err != nil {
			return e, err
		}
	} else if err != nil && !errors.Is(err, os.ErrNotExist) {
		return e, err
	}
	if serves(served, account) {
		return e, fmt.Errorf("%s is a mailbox of the spec: take it out and apply, then erase it", account)
	}
	l, err := k.open(cmd, store.Options{Version: version, ReserveBytes: -1})
	if err != nil {
		return e, err
	}
	done, err := l.Erase(cmd.Context(), account, store.CompactOptions{})
	if err = errors.Join(err, l.Close()); err != nil {
		return e, err
	}
	e = daemon.NewErased(done)
	e.BackupsUntil = daemon.BackupsUntil(served, time.Now())
	return e, errors.Join(
		search.EraseFiles(filepath.Join(k.path(), "search"), account, &e.Indexes),
		os.RemoveAll(filepath.Join(k.path(), "summary", url.PathEscape(account))),
		owner.give(k.path()))
}

// serves says whether an account is one of a manifest's mailboxes.
func serves(m *manifest.Manifest, account string) bool {
	if m == nil {
		return false
	}
	for _, d := range m.Domains {
		for _, b := range d.Mailboxes {
			if b.Local+"@"+d.Name == account {
				return true
			}
		}
	}
	return false
}

func printErased(w io.Writer, e manifest.Erased) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "erased:\t%s: %d mailboxes, %d messages of %s", e.Account, e.Mailboxes, e.Messages, octets(e.Octets))
	if e.Queued > 0 {
		fmt.Fprintf(t, ", %d that waited to be sent", e.Queued)
	}
	fmt.Fprintf(t, "\nremoved:\t%d files of the log with %s, of which %s of others were copied first; search index of %s\n", e.Segments, octets(e.Freed), octets(e.Moved), octets(e.Indexes))
	fmt.Fprintf(t, "read again:\t%d records of %s in %d files\n", e.Records, octets(e.Scanned), e.Files)
	if e.Shared > 0 {
		fmt.Fprintf(t, "theirs:\t%d messages of %s that others were sent, too\n", e.Shared, octets(e.SharedOctets))
	}
	if e.Key {
		fmt.Fprintf(t, "key:\tdestroyed: copies of its mail elsewhere open with a keyring from before and the storage key of that time only\n")
	}
	if !e.BackupsUntil.IsZero() {
		fmt.Fprintf(t, "backups:\tmay have copies until %s UTC\n", e.BackupsUntil.Format(time.DateTime))
	}
	if e.Waiting > 0 {
		fmt.Fprintf(t, "waiting:\t%d files go when the backup that reads them has ended; erase it again then\n", e.Waiting)
	}
	for _, r := range e.Remains {
		fmt.Fprintf(t, "remains:\t%s\n", r)
	}
	if e.Clean {
		fmt.Fprintf(t, "stays:\tits name and the highest numbers it gave out, so that no mail program confuses messages\n")
		fmt.Fprintf(t, "proof:\tno message, mailbox, annotation or index of it was found at %s UTC\n", e.Time.Format(time.DateTime))
	}
	return t.Flush()
}
