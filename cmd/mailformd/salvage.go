package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"mailform/server/agent"
	"mailform/server/store"
	"mailform/server/store/seal"
	"mailform/server/transfer"
)

// salvaged is what a salvage has come to.
type salvaged struct {
	Accounts int      `json:"accounts"`
	Messages int      `json:"messages"`
	Bytes    int64    `json:"bytes"`
	Unplaced int      `json:"unreferenced"`
	Lost     []string `json:"lost"` // messages that cannot be read, and why
	Damage   []string `json:"damage"`
}

func (k *storeKeeper) salvage() *cobra.Command {
	var unreferenced bool
	cmd := &cobra.Command{
		Use: "salvage DIR", Short: "write every message that can be read to Maildirs", Args: cobra.ExactArgs(1),
		Long: `Write every message of the store that can be read to Maildirs in the new directory DIR, one for each account, with
folders, flags and dates. The store is only read: it may be damaged, or on a disk that cannot be written to any more.
mailformd import ADDRESS maildir:DIR/ADDRESS brings the mail into another store. The exit code is 2 when something could
not be read.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := k.open(cmd, store.Options{FS: store.ReadOnly(), ReserveBytes: -1})
			var key *seal.RootError
			if errors.As(err, &key) || errors.Is(err, seal.ErrRing) {
				fmt.Fprintf(cmd.ErrOrStderr(), "Messages that are encrypted are left out: %v\n", err)
				l, err = k.open(cmd, store.Options{FS: store.ReadOnly(), ReserveBytes: -1, Keyless: true})
			}
			if err != nil {
				return err
			}
			s, err := salvage(cmd.Context(), l, args[0], unreferenced)
			if err == nil {
				err = transfer.OnDisk(args[0])
			}
			if err = errors.Join(err, l.Close()); err != nil {
				return err
			}
			if *k.json {
				err = answer(cmd, s)
			} else {
				err = printSalvaged(cmd.OutOrStdout(), s, args[0])
			}
			if err == nil && len(s.Lost)+len(s.Damage) > 0 {
				err = &agent.Error{Code: exitDamaged, Msg: fmt.Sprintf("%d messages could not be read; %d parts of the store are damaged", len(s.Lost), len(s.Damage))}
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&unreferenced, "unreferenced", false, "also messages that are in no mailbox: those whose place was lost to damage, and expunged ones that are still there; to DIR/unreferenced")
	return cmd
}

func printSalvaged(w io.Writer, s salvaged, dir string) error {
	for _, d := range s.Damage {
		fmt.Fprintf(w, "damaged: %s\n", d)
	}
	for _, m := range s.Lost {
		fmt.Fprintf(w, "lost: %s\n", m)
	}
	_, err := fmt.Fprintf(w, "%d messages (%s) of %d accounts written to %s\n", s.Messages, octets(s.Bytes), s.Accounts, dir)
	if s.Unplaced > 0 {
		fmt.Fprintf(w, "%d messages that are in no mailbox written to %s\n", s.Unplaced, filepath.Join(dir, "unreferenced"))
	}
	return err
}

// salvage writes what can be read to dir.
func salvage(ctx context.Context, l *store.Log, dir string, unreferenced bool) (s salvaged, err error) {
	s = salvaged{Lost: []string{}, Damage: []string{}}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return s, err
	}
	for _, d := range l.Damage() {
		if !d.Tail {
			s.Damage = append(s.Damage, d.String())
		}
	}
	accounts, err := l.Accounts(ctx)
	if err != nil {
		return s, err
	}
	for _, a := range accounts {
		if err := s.account(ctx, l, a, filepath.Join(dir, url.PathEscape(a))); err != nil {
			return s, err
		}
	}
	if !unreferenced {
		return s, nil
	}
	sink, err := transfer.NewMaildirSink(filepath.Join(dir, "unreferenced"))
	if err != nil {
		return s, err
	}
	err = sink.Mailbox("INBOX")
	if err == nil {
		err = l.Unreferenced(ctx, func(ref store.BodyRef, r io.Reader) error {
			body, err := io.ReadAll(r)
			if errors.Is(err, store.ErrNoKey) {
				return nil // whose it was cannot be told either
			}
			// Header lines that were added at delivery have no end of a header.
			if err != nil || !bytes.Contains(body, []byte("\r\n\r\n")) {
				return err
			}
			s.Unplaced++
			return sink.Message("INBOX", uint32(s.Unplaced), nil, time.Now(), ref.Size, bytes.NewReader(body))
		})
	}
	return s, errors.Join(err, sink.Close())
}

func (s *salvaged) account(ctx context.Context, l *store.Log, account, dir string) (err error) {
	boxes, err := l.Mailboxes(ctx, account)
	if err != nil {
		return err
	}
	sink, err := transfer.NewMaildirSink(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sink.Close()) }()
	s.Accounts++
	for _, b := range boxes {
		if err := sink.Mailbox(b.Name); err != nil {
			return err
		}
		snap, watch, err := l.Open(ctx, account, b.Name)
		if err != nil {
			return err
		}
		watch.Close()
		for _, m := range snap.Messages.All() {
			if err := ctx.Err(); err != nil {
				return err
			}
			body, err := whole(ctx, l, account, *m)
			if err != nil {
				s.Lost = append(s.Lost, fmt.Sprintf("%s, %s, UID %d: %s", account, b.Name, m.UID, oneLine(err)))
				continue
			}
			err = sink.Message(b.Name, uint32(m.UID), m.Flags, m.InternalDate, m.Size, body)
			if err = errors.Join(err, body.Close()); err != nil {
				return err
			}
			s.Messages++
			s.Bytes += m.Size
		}
	}
	return nil
}

// whole opens a message that can be read to its end.
func whole(ctx context.Context, l *store.Log, account string, m store.Message) (io.ReadCloser, error) {
	r, err := l.Read(ctx, account, m)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(io.Discard, r)
	if err == nil {
		seeker, ok := r.(io.Seeker)
		if !ok {
			return nil, errors.Join(errors.New("a message cannot be read twice"), r.Close())
		}
		_, err = seeker.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}
