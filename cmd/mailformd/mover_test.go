package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/cobra"

	"mailform/server/transfer"
)

// What people read at the end of an import.
func TestPrintImported(t *testing.T) {
	c := transfer.Counts{Imported: 12_345, Bytes: 5 << 20, Present: 3, Skipped: 1, Deleted: 2, Failed: 1, Folders: map[string]transfer.Folder{"INBOX": {Messages: 12_344, Bytes: 5<<20 - 1000}, "Work/发票": {Messages: 1, Bytes: 1000}}}
	var b bytes.Buffer
	if err := printImported(&b, c, false, 4*time.Second); err != nil {
		t.Fatal(err)
	}
	if got, want := b.String(), `INBOX          12,344  5.0 MiB
Work/发票        1       1 KiB
imported       12,345  5.0 MiB  in 4s, 3,086/s
there already  3
left out       1    by --map
deleted        2    in the mail program whose files these are
did not come   1
`; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// breaking is a source whose connection breaks behind each message.
type breaking struct {
	next *int
	most int
}

func (breaking) Name() string { return "breaking" }

func (b breaking) Walk(_ context.Context, want func(string) bool, visit func(*transfer.Message) error) error {
	for i := range *b.next {
		want(string(rune('a' + i)))
	}
	if *b.next == b.most {
		return nil
	}
	*b.next++
	if err := visit(&transfer.Message{Mailbox: "INBOX", ID: string(rune('a' + *b.next)), Body: bytes.NewReader([]byte("a: b\r\n"))}); err != nil {
		return err
	}
	return &transfer.BrokenError{Err: errors.New("the line is dead")}
}

// kept takes all batches.
type kept struct{}

func (kept) Begin(context.Context, string) error                { return nil }
func (kept) Imported(context.Context, string) ([]string, error) { return nil, nil }

func (kept) Import(_ context.Context, _ string, frames io.Reader, _ int64) error {
	_, err := bytes.NewBuffer(nil).ReadFrom(frames)
	return err
}

// A connection that breaks is made anew, with more time each time that nothing comes;
// what came before counts once.
func TestMoverGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next, opened := 0, 0
		cmd := &cobra.Command{}
		cmd.SetErr(&bytes.Buffer{})
		p := &mover{cmd: cmd, im: &transfer.Importer{Server: kept{}, Account: "a"}, verb: "imported", start: time.Now()}
		source := breaking{&next, 3}
		c, err := p.run(t.Context(), source, func() {}, func() (transfer.Source, func(), error) {
			if opened++; opened%2 == 1 {
				return nil, nil, &transfer.BrokenError{Err: errors.New("refused")}
			}
			return source, func() {}, nil
		})
		if err != nil || c.Imported != 3 || opened != 6 || c.Folders["INBOX"].Messages != 3 {
			t.Errorf("%+v, %v, opened %d times", c, err, opened)
		}
		next = 0
		p = &mover{cmd: cmd, im: &transfer.Importer{Server: kept{}, Account: "a"}, verb: "imported", start: time.Now()}
		_, err = p.run(t.Context(), breaking{&next, 2}, func() {}, func() (transfer.Source, func(), error) {
			return nil, nil, &transfer.BrokenError{Err: errors.New("refused")}
		})
		if err == nil || time.Since(p.start) > 3*time.Minute {
			t.Errorf("a source that stays away: %v after %s", err, time.Since(p.start))
		}
	})
}
