package imap

import (
	"context"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"mailform/server/store"
)

// A client that cannot be told in time is told that it missed something, and
// nothing more until it asks again.
func TestNotifyOverflow(t *testing.T) {
	w := newWorld(t)
	l := w.dial("a")
	l.login()
	l.send("1 NOTIFY SET (PERSONAL (SubscriptionChange))\r\n")
	l.expect("1 OK *")
	l.send("2 APPEND INBOX {4}\r\n")
	l.expect("+ *")
	for i := range 1001 {
		if err := w.store.Subscribe(t.Context(), alice, "Work", i%2 == 0); err != nil {
			t.Fatal(err)
		}
	}
	l.send("a: b\r\n")
	l.expect("* OK [NOTIFICATIONOVERFLOW] *")
	l.expect("2 OK *")
	if err := w.store.Subscribe(t.Context(), alice, "Other", true); err != nil {
		t.Fatal(err)
	}
	l.send("3 NOOP\r\n")
	l.expect("3 OK *")
	l.send("4 NOTIFY SET (PERSONAL (SubscriptionChange))\r\n")
	l.expect("4 OK *")
	if err := w.store.Subscribe(t.Context(), alice, "Other", false); err != nil {
		t.Fatal(err)
	}
	l.expect(`* LIST (\NonExistent) "/" "Other"`)
}

// What one client may follow is bounded.
func TestNotifyTooMuch(t *testing.T) {
	w := newWorld(t)
	l := w.dial("a")
	l.login()
	for name, arguments := range map[string]string{
		"names":  "(MAILBOXES (" + strings.TrimSpace(strings.Repeat("x ", maxEventNames+1)) + ") (MailboxName))",
		"groups": strings.TrimSpace(strings.Repeat("(PERSONAL (MailboxName)) ", maxEventGroups+1)),
	} {
		l.send(name + " NOTIFY SET " + arguments + "\r\n")
		l.expect(name + " NO [NOTIFICATIONOVERFLOW] *")
	}
}

// Whatever happens in an account, who has followed it knows which mailboxes there
// are and what is in them.
func TestNotifyTellsAll(t *testing.T) {
	status := regexp.MustCompile(`^\* STATUS (\S+) \((.*)\)$`)
	list := regexp.MustCompile(`^\* LIST \((.*?)\) "/" (\S+)(?: \("OLDNAME" \((\S+)\)\))?$`)
	for seed := range uint64(8) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			w, ctx := newWorld(t), context.Background()
			r := rand.New(rand.NewPCG(seed, 5465))
			l := w.dial("a")
			l.login()
			known := map[string]map[string]int{} // mailbox -> item -> number
			read := func(tag string) {
				for {
					text := l.read()
					if m := status.FindStringSubmatch(text); m != nil {
						name := strings.Trim(m[1], `"`)
						if known[name] == nil {
							known[name] = map[string]int{}
						}
						f := strings.Fields(m[2])
						for i := 0; i+1 < len(f); i += 2 {
							known[name][f[i]], _ = strconv.Atoi(f[i+1])
						}
					} else if m := list.FindStringSubmatch(text); m != nil {
						name, old := strings.Trim(m[2], `"`), strings.Trim(m[3], `"`)
						if old != "" {
							known[name] = known[old]
							delete(known, old)
						}
						if strings.Contains(m[1], `\NonExistent`) {
							delete(known, name)
						} else if known[name] == nil {
							known[name] = map[string]int{}
						}
					} else if strings.HasPrefix(text, tag+" OK") {
						return
					} else {
						t.Fatalf("told %q", text)
					}
				}
			}
			l.send("s NOTIFY SET STATUS (PERSONAL (MessageNew MessageExpunge FlagChange MailboxName))\r\n")
			read("s")
			var boxes []store.MailboxInfo
			for step := range 150 {
				var err error
				if boxes, err = w.store.Mailboxes(ctx, alice); err != nil {
					t.Fatal(err)
				}
				box := boxes[r.IntN(len(boxes))].Name
				uid := []store.UID{store.UID(1 + r.IntN(5))}
				switch r.IntN(9) {
				case 0, 1, 2:
					w.deliver(box, "a: b\n\nx")
				case 3:
					_, err = w.store.UpdateFlags(ctx, alice, store.Named(box), uid, store.FlagsAdd, []string{`\Seen`})
				case 4:
					if _, err = w.store.UpdateFlags(ctx, alice, store.Named(box), uid, store.FlagsAdd, []string{`\Deleted`}); err == nil {
						_, err = w.store.Expunge(ctx, alice, store.Named(box), uid)
					}
				case 5:
					_, err = w.store.CreateMailbox(ctx, alice, fmt.Sprintf("new%d", step), "")
				case 6:
					if box != "INBOX" {
						err = w.store.DeleteMailbox(ctx, alice, box)
					}
				case 7:
					if box != "INBOX" {
						err = w.store.RenameMailbox(ctx, alice, box, fmt.Sprintf("other%d", step))
					}
				case 8:
					_, _, _, err = w.store.Move(ctx, alice, store.Named(box), uid, store.Named(boxes[r.IntN(len(boxes))].Name))
				}
				if err != nil {
					t.Fatal(err)
				}
				if r.IntN(10) == 0 {
					l.send("n NOOP\r\n")
					read("n")
				}
			}
			l.send("n NOOP\r\n")
			read("n")
			boxes, err := w.store.Mailboxes(ctx, alice)
			if err != nil {
				t.Fatal(err)
			}
			if len(boxes) != len(known) {
				t.Errorf("%d mailboxes are known, there are %d", len(known), len(boxes))
			}
			for _, b := range boxes {
				k := known[b.Name]
				if k == nil || k["MESSAGES"] != int(b.Messages) || k["UNSEEN"] != int(b.Unseen) || b.Messages > 0 && k["UIDNEXT"] != int(b.UIDNext) {
					t.Errorf("%s is believed to have %v, and has %d messages, %d unseen, UIDNEXT %d", b.Name, k, b.Messages, b.Unseen, b.UIDNext)
				}
			}
		})
	}
}
