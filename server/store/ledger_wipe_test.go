package store_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mailform/server/store"
)

// wiped is the part of a model that is about what is removed for good: by
// retention, with all of an account's mailboxes, and by an erasure with its proof.
type wiped struct {
	Note string // an annotation of the account
	// Other is what the account's other holds, in order: bodies that both were sent.
	Other []string
	// Era is how many erasures of the account were acknowledged. What it has of its
	// own carries a mark with the number, so that any trace of it can be looked for.
	Era int
}

// standard are the mailboxes that each account has.
var standard = []string{"INBOX", "Archive", "Drafts", "Junk", "Sent", "Trash"}

var errNotClean = errors.New("an erasure is not clean")

// otherOf is an account that shares bodies with the given one.
func otherOf(account string) string { return "other-of-" + account }

// mark is in all that an account has of its own, until its next erasure.
func (m *model) mark(account string) string { return markOf(account, m.Era) }

func markOf(account string, era int) string {
	return fmt.Sprintf("=%s.%d=", strings.ReplaceAll(account, "@", "."), era)
}

// empty leaves the mailboxes that each account has, made anew.
func (m *model) empty() {
	m.Boxes = map[string]*modelBox{}
	for _, n := range standard {
		m.Boxes[n] = &modelBox{Next: 1, Above: m.MaxValidity, Messages: map[store.UID]modelMessage{}}
	}
}

// wipe is apply's for the actions of this file.
func (m *model) wipe(a action) {
	switch a.Kind {
	case "retain":
		for _, uid := range a.UIDs {
			delete(m.Boxes[a.Box].Messages, uid)
		}
	case "note":
		m.Note = a.Text
	case "empty":
		m.empty()
	case "erase":
		m.empty()
		m.Note = ""
		clear(m.Queue)
		m.Era++
	case "erase other":
		m.Other = nil
	}
}

// chooseWipe makes the action one of this file's, now and then.
func (m *model) chooseWipe(rng *rand.Rand, account string, a *action, uids []store.UID) bool {
	switch k := rng.IntN(100); {
	case k < 6:
		a.Kind, a.UIDs = "retain", uids
	case k < 9:
		*a = action{Kind: "note", Text: fmt.Sprintf("note %d %s", a.N, m.mark(account)), N: a.N}
	case k < 10:
		*a = action{Kind: "empty", N: a.N}
	case k < 11 || k < 30 && m.crowded() && len(m.Other) > 30:
		*a = action{Kind: "erase other", N: a.N}
	case k < 12:
		*a = action{Kind: "erase", N: a.N}
	default:
		return false
	}
	return true
}

// steps says that an action is more than one commit: a failure may leave a part of it.
func (a action) steps() bool { return a.Kind == "empty" || strings.HasPrefix(a.Kind, "erase") }

// halfErased is what an erasure may leave when it ends in the middle: queued messages
// go before the annotations, and both before the mailboxes.
func (m *model) halfErased(got *model) *model {
	half := m.clone()
	maps.DeleteFunc(half.Queue, func(id, _ string) bool { _, there := got.Queue[id]; return !there })
	if len(half.Queue) == 0 && got.Note == "" {
		half.Note = ""
	}
	return half
}

// performWipe is perform's for the actions of this file.
func performWipe(ctx context.Context, s store.Store, account string, a action) error {
	switch a.Kind {
	case "retain":
		_, err := s.ExpungeOld(ctx, account, store.Named(a.Box), a.UIDs, time.Now().Add(time.Hour))
		return err
	case "note":
		return s.SetMetadata(ctx, account, "", []store.MetadataEntry{{Name: "/private/comment", Value: []byte(a.Text)}})
	case "empty":
		return errors.Join(s.EmptyAccount(ctx, account), s.EnsureAccount(ctx, account, 0))
	case "erase other":
		account = otherOf(account)
	}
	e, err := s.(*store.Log).Erase(ctx, account, store.CompactOptions{})
	if err == nil && !e.Clean() {
		err = fmt.Errorf("%w: %+v", errNotClean, e)
	}
	if err == nil {
		err = s.EnsureAccount(ctx, account, 0)
	}
	return err
}

// readWiped is read's for what is in this file.
func (m *model) readWiped(ctx context.Context, s store.Store, account string) error {
	list, err := s.Metadata(ctx, account, "")
	if err != nil {
		return err
	}
	for _, e := range list {
		m.Note += string(e.Value)
	}
	snap, w, err := s.Open(ctx, otherOf(account), "INBOX")
	if errors.Is(err, store.ErrNoMailbox) {
		return nil // a test without it
	}
	if err != nil {
		return err
	}
	w.Close()
	for _, msg := range snap.Messages.All() {
		text, err := content(s.Read(ctx, otherOf(account), *msg))
		if err != nil {
			return fmt.Errorf("the other's UID %d: %w", msg.UID, err)
		}
		m.Other = append(m.Other, summary(text))
	}
	return nil
}

// ensure makes the workers' accounts when they are missing.
func ensure(ctx context.Context, s store.Store, ws []*worker) error {
	for _, w := range ws {
		for _, a := range []string{w.account, otherOf(w.account)} {
			if err := s.EnsureAccount(ctx, a, 0); err != nil {
				return err
			}
		}
	}
	return nil
}

// disk can be searched for octets.
type disk interface {
	// Find says where a text stands in a file; "" for nowhere.
	Find(text string) string
}

// gone says what a disk still has of accounts' erased eras.
func gone(d disk, ws []*worker) error {
	for _, w := range ws {
		for era := range w.model.Era {
			if at := d.Find(markOf(w.account, era)); at != "" {
				return fmt.Errorf("%s was erased, and era %d of it is in %s", w.account, era, at)
			}
		}
	}
	return nil
}

// folder is a disk of the machine's.
type folder string

func (f folder) Find(text string) (found string) {
	err := filepath.WalkDir(string(f), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if at := strings.Index(string(b), text); at >= 0 {
			found = fmt.Sprintf("%s at %d", path, at)
		}
		return err
	})
	if err != nil {
		panic(err)
	}
	return found
}
